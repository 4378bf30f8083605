"""How the page looks and behaves as a page: layout, contrast, themes, and that it keeps to this machine."""

from __future__ import annotations

import pytest

from tests.support.browser import Site, check_contrast, eventually, paused, window


def test_no_request_leaves_the_machine(browser, site: Site):
    with window(browser, site) as shown:
        shown.write("a palindrome")
        shown.see_plots()
        eventually(lambda: shown.page.locator('[data-plot="score"] .point').count())
        for name in ("Compare", "Tune on my prompts", "How it works"):
            shown.page.click(f'role=tab[name="{name}"]')
        shown.page.wait_for_selector("text=Two models, one text")
        away = [url for url in shown.requests if not url.startswith((site.url, "data:", "blob:"))]
        assert shown.requests and away == []


def test_at_360_px_every_tab_is_in_sight(browser, site: Site):
    with window(browser, site, 360, 760) as shown:
        tabs = shown.page.locator("#tabs > .tab-wrapper [role=tab]")
        assert [tabs.nth(n).inner_text().replace("\n", " ") for n in range(tabs.count())] == [
            "Playground",
            "Compare",
            "Tune on my prompts",
            "How it works",
        ]
        assert tabs.last.bounding_box()["x"] + tabs.last.bounding_box()["width"] <= 360


@pytest.mark.parametrize("width", [360, 390, 768, 1280])
def test_nothing_moves_while_a_text_is_written_and_nothing_sticks_out(browser, site: Site, pair, width: int):
    def places(page):
        return page.evaluate(
            "['#prompt-card', '#threshold-card', '#stream', '.rendered-toggle', '#dashboard', '#view-card']"
            ".map(part => { const box = document.querySelector(part).getBoundingClientRect();"
            "return [box.x, box.y + scrollY, box.width, box.height]})"
        )

    pair.tokens_per_second = 60
    with window(browser, site, width=width) as shown:
        eventually(lambda: shown.page.locator("text=fake-r1").count())
        shown.page.fill("#prompt textarea", "a palindrome")
        before = places(shown.page)
        shown.page.click("#generate")
        shown.page.wait_for_selector(".t >> nth=20")
        during = places(shown.page)
        shown.wait_state("done")
        shown.page.hover(".t.llm >> nth=0")
        assert during == before and places(shown.page) == before
        assert shown.page.evaluate("document.documentElement.scrollWidth") <= width


def test_text_on_tints_has_enough_contrast(browser, site: Site):
    with window(browser, site) as shown:
        shown.write("a palindrome")
        with paused(site.host):  # so that the text stays not yet true
            shown.slide("#threshold", 0.6)
            shown.page.wait_for_selector(".t.stale")
            check_contrast(
                shown.page, ".t.slm", ".t.llm", ".t.stale", ".key-llm b", ".key-slm b", ".stream-state",
                ".stream-preview", ".models", ".meter-headline", ".gauge-labels .key-slm", ".hint", ".ends span",
            )  # fmt: skip
            tint = "getComputedStyle(document.querySelector('.t.stale:not(.flip)')).backgroundColor"
            assert shown.page.evaluate(tint) == "rgba(0, 0, 0, 0)", "what is not yet true has no author's colour"


def test_the_toggle_switches_between_light_and_dark_and_is_remembered(browser, site: Site):
    with window(browser, site, color_scheme="light") as shown:
        dark = "document.body.classList.contains('dark')"
        assert not shown.page.evaluate(dark)
        shown.page.click(".theme-toggle")
        assert shown.page.evaluate(dark)
        shown.reload()
        shown.page.wait_for_selector(".stream-state")
        eventually(lambda: shown.page.evaluate(dark))
