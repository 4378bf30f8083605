"""Tune on my prompts, in Chromium in front of the shipped tiny pair: what a person does, sees and takes away."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest

from app.tune.tuning import Tuning
from engine import Role, costs, load_settings
from engine.events.cost import modelled_seconds
from engine.grading import agreement, is_right
from engine.operating_points import OperatingPoint
from tests.support.browser import Site, eventually, expect, move, serve, window
from tests.support.paths import TINY
from tests.support.tune_tab import CSV, MANY, QUESTIONS, TOKENS, Tab, curve_of, no_job_threads

pytestmark = pytest.mark.skipif(not (TINY / "llm").is_dir(), reason="the tiny pair is not in assets/tiny")


@pytest.fixture(scope="module")
def pair(tiny_pair):
    """The page is served in front of the tiny pair."""
    return tiny_pair


@pytest.fixture(scope="module")
def measured_tab(browser, site):
    """A window in which the four questions were measured; tests only look at it and move its handles."""
    with window(browser, site) as shown:
        tab = Tab(shown).open()
        tab.paste(CSV)
        tab.run()
        tab.wait("done")
        tab.page.wait_for_selector(".tune-plot .point")
        yield tab


@pytest.fixture
def measured(measured_tab):
    measured_tab.page.check('[name="tune-kind"][value="right"]')
    measured_tab.page.check('[name="tune-unit"][value="bytes"]')
    yield measured_tab
    assert measured_tab.window.errors == []


@pytest.fixture
def tab(site_window):
    site_window.open()
    yield Tab(site_window).open()
    assert site_window.errors == []


# ---- a whole visit ----


_LISTEN = """() => {
  const state = document.querySelector('.tune-state');
  window.said = [];
  const observer = new MutationObserver(() => window.said.push(state.textContent));
  observer.observe(state, { childList: true, characterData: true, subtree: true });
}"""


def test_a_person_measures_their_prompts_moves_lambda_and_takes_the_settings_with_them(browser, site: Site):
    with window(browser, site, permissions=["clipboard-read", "clipboard-write"]) as shown:
        tab = Tab(shown).open()
        tab.paste("\n".join([CSV, *MANY.splitlines()[:40]]))
        eventually(lambda: tab.says(".tune-read") == "44 prompts, 4 with an answer · CSV")
        tab.page.fill("#tune-count input[type=number]", "15")
        tab.page.evaluate(_LISTEN)  # what it says on the way may be there for a moment only
        tab.run()
        tab.wait("done")
        said = " | ".join(tab.page.evaluate("window.said"))
        assert "of 44 prompts" in said and "about" in said and " left" in said
        tab.page.wait_for_selector(".tune-plot .point")
        assert tab.says(".tune-state") == "done · 44 of 44 prompts"
        assert tab.page.locator(".tune-plot .errorbars path, .tune-plot .errorbar").count() > 0
        assert "44 of 44 (4 with an answer)" in tab.says(".tune-about >> nth=0")
        assert "right answers on 400 questions (arithmetic)" in tab.says(".tune-beside"), "the router's shipped curve"

        tab.type("weight", 0)
        best = {name: tab.number(name) for name in ("threshold", "share", "budget")}
        tab.type("weight", 1000)
        assert (tab.number("threshold"), tab.number("share")) == (0, 0), "cost is all that counts"
        assert tab.number("budget") < best["budget"] and best["threshold"] > 0
        assert tab.says(".tune-said").startswith("Threshold 0: ")
        tab.type("weight", 0)
        assert {name: tab.number(name) for name in best} == best

        tab.page.click('.tune [data-copy="settings"]')
        eventually(lambda: tab.says(".tune-done") == "Copied.")
        copied = tab.page.evaluate("navigator.clipboard.readText()")
        assert copied.splitlines()[0] == "CITER_POLICY=router"
        names = dict(line.split("=") for line in copied.split())
        settings = load_settings(policy=names["CITER_POLICY"], threshold=float(names["CITER_THRESHOLD"]))
        assert settings.threshold == best["threshold"]
        assert shown.errors == []
        assert not [url for url in shown.requests if not url.startswith((site.url, "data:", "blob:"))]


# ---- the numbers ----


def test_the_numbers_are_those_of_the_texts_that_the_pair_writes(measured: Tab, pair):
    exported = measured.json()
    assert [p["threshold"] for p in exported["curve"]][:1] == [0] and exported["curve"][-1]["threshold"] == 1.01
    llm = [pair.generate(prompt, policy="llm", max_new_tokens=TOKENS) for prompt, _ in QUESTIONS]
    for place, policy in ((0, "slm"), (1, "router"), (3, "router"), (-1, "llm")):
        point = exported["curve"][place]
        threshold = point["threshold"]
        traces = [pair.generate(p, policy=policy, threshold=threshold, max_new_tokens=TOKENS) for p, _ in QUESTIONS]
        right = [is_right(trace.text, answer) for trace, (_, answer) in zip(traces, QUESTIONS, strict=True)]
        assert point["quality"] == sum(right) / 4
        tokens = sum(len(trace.events) for trace in traces)
        written = sum(event.role is Role.LLM for trace in traces for event in trace.events)
        assert point["llm_share"] == pytest.approx(written / tokens, rel=1e-6)
        folds = [costs(t.events, t.prompt_tokens, pair.slm_cost, pair.llm_cost).run for t in traces]
        assert point["bytes"] == pytest.approx(sum(f.bytes for f in folds) / 4, rel=1e-6)
        assert point["flops"] == pytest.approx(sum(f.flops for f in folds) / 4, rel=1e-6)
        seconds = sum(modelled_seconds(t.events, pair.slm_cost, pair.llm_cost) for t in traces) / 4
        assert point["seconds"] == pytest.approx(seconds, rel=1e-6)
        measured.page.check('[name="tune-kind"][value="same"]')
        same = [
            agreement([e.id for e in t.events], [e.id for e in alone.events])
            for t, alone in zip(traces, llm, strict=True)
        ]
        assert measured.json()["curve"][place]["quality"] == pytest.approx(sum(same) / 4, rel=1e-6)
        measured.page.check('[name="tune-kind"][value="right"]')


def test_the_sentence_says_what_the_picked_point_gave(measured: Tab):
    exported = measured.json()
    for point in exported["curve"][1:3]:
        measured.type("threshold", point["threshold"])
        share = point["bytes"] / exported["curve"][-1]["bytes"]
        assert measured.says(".tune-said") == (
            f"Threshold {point['threshold']}: {100 * point['quality']:.0f} % right "
            f"(LLM alone {100 * exported['curve'][-1]['quality']:.0f} %), "
            f"{100 * point['llm_share']:.0f} % LLM tokens, {100 * share:.0f} % of its bytes, on 4 prompts."
        )
        assert f"95 % interval {100 * point['low']:.0f} % to {100 * point['high']:.0f} %" in measured.says(".tune-how")
    assert measured.says(".tune-advice").startswith("4 prompts are few"), "and none of them was cut off"


def test_a_point_is_used_in_the_playground_with_its_length(measured: Tab):
    measured.type("threshold", measured.json()["curve"][2]["threshold"])
    measured.page.click("text=Use in Playground")
    measured.page.wait_for_selector("#generate", state="visible")
    there = "Number(document.querySelector('#threshold input[type=range]').value)"
    measured.page.wait_for_function(f"Math.abs({there} - {measured.number('threshold')}) < 1e-4")
    measured.open()


def test_where_the_limit_cut_most_answers_nothing_is_recommended_and_why_is_said(tab: Tab):
    tab.paste(CSV)
    tab.page.fill("#tune-limit input", "4")
    tab.run()
    tab.page.wait_for_selector("text=Nothing can be recommended from this run.", timeout=60_000)
    tab.wait("done")
    said = tab.says(".tune-advice")
    assert "No setting gave one right answer." in said and "100 % of the texts were cut off at 4 tokens" in said
    expect(tab.page.locator(".tune-use").first).to_be_disabled()
    expect(tab.page.locator('[data-save="json"]').first).to_be_disabled()
    tab.type("threshold", 0.5)
    assert tab.says(".tune-said").startswith("Threshold 0.5:")
    expect(tab.page.locator(".tune-use").first).to_be_enabled()


def test_the_handles_read_the_curve_as_the_engine_does(measured: Tab):
    curve = curve_of(measured.json())
    thresholds = [point.threshold for point in curve.measured]
    for threshold in (0, thresholds[1], 0.9, (thresholds[3] + thresholds[4]) / 2, 1, 1.01):
        measured.type("threshold", threshold)
        there = curve.at(threshold)
        assert measured.number("share") == pytest.approx(100 * there.llm_share, abs=0.06)
        assert measured.number("budget") == pytest.approx(100 * there.bytes / curve.llm.bytes, abs=0.06)
    for share in (0, 5, 12.5, 40, 100):
        measured.type("share", share)
        there = curve.for_share(share / 100)
        assert measured.number("threshold") == pytest.approx(
            there.threshold, abs=2e-3 * (1.0001 - there.threshold) + 1e-6
        )
        assert measured.number("budget") == pytest.approx(100 * there.bytes / curve.llm.bytes, abs=0.06)
    for unit in ("bytes", "flops", "seconds"):
        measured.page.check(f'[name="tune-unit"][value="{unit}"]')
        for weight in (0, 0.05, 0.5, 3, 50):
            measured.type("weight", weight)
            best = curve.best(weight, unit)
            assert measured.number("threshold") == best.threshold, (unit, weight)
            assert measured.number("share") == pytest.approx(100 * best.llm_share, abs=0.06)


def test_a_budget_buys_the_best_that_it_can_and_says_where_more_buys_nothing(measured: Tab):
    curve = curve_of(measured.json())

    def cost(point: OperatingPoint) -> float:
        return 100 * point.bytes / curve.llm.bytes

    best = max(curve.measured, key=lambda p: (p.accuracy, -p.bytes))
    measured.type("budget", 300)
    assert measured.number("threshold") == best.threshold and "buys no more" in measured.says(".tune-how")
    measured.type("budget", 0)
    assert measured.number("threshold") == 0 and "Nothing on this curve is so cheap" in measured.says(".tune-how")
    half = (cost(curve.measured[0]) + cost(curve.measured[1])) / 2
    measured.type("budget", half)
    there = 100 * curve.at(measured.number("threshold")).bytes / curve.llm.bytes
    assert there <= half + 0.2, "never more than the budget"


def test_dragging_one_handle_moves_the_others(measured: Tab):
    before = {name: measured.at(name) for name in ("threshold", "share", "budget", "weight")}
    for name in before:
        measured.type("share", 30)
        others = {other: measured.at(other) for other in before if other != name}
        low, high = (
            float(measured.page.get_attribute(f'[data-handle="{name}"] input[type=range]', end))
            for end in ("min", "max")
        )
        move(measured.page, f'[data-handle="{name}"] input[type=range]', high if name == "weight" else low)
        eventually(lambda others=others: all(measured.at(other) != value for other, value in others.items()))
        assert measured.says(".tune-said").startswith("Threshold 0:")
    for name in before:
        measured.page.focus(f'[data-handle="{name}"] input[type=range]')
        said = measured.says(".tune-said") + str(measured.at(name))
        measured.page.keyboard.press("ArrowRight" if name != "weight" else "ArrowLeft")
        eventually(lambda name=name, said=said: measured.says(".tune-said") + str(measured.at(name)) != said)


def test_a_click_on_a_measured_point_picks_it(measured: Tab):
    measured.type("share", 50)
    before = measured.says(".tune-said")
    box = measured.page.locator(".tune-plot .scatterlayer .trace >> nth=1").locator(".point >> nth=1").bounding_box()
    measured.page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    measured.page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    eventually(lambda: measured.says(".tune-said") != before)
    assert measured.number("threshold") == measured.json()["curve"][1]["threshold"]


# ---- taking it away ----


def test_json_has_the_point_its_interval_and_what_it_was_measured_on(measured: Tab, pair):
    threshold = measured.json()["curve"][2]["threshold"]
    measured.type("threshold", threshold)
    name, content = measured.download("json")
    taken = json.loads(content)
    assert name == "citer-operating-point.json"
    settings = {"CITER_POLICY": "router", "CITER_THRESHOLD": threshold, "CITER_ACCEPTANCE": 0}
    assert taken["settings"] == settings
    assert taken["point"] == {**taken["curve"][2], "measured": True}
    assert taken["point"]["low"] <= taken["point"]["quality"] <= taken["point"]["high"]
    about = taken["measured_on"]
    assert (about["prompts"], about["prompts_given"], about["router"]) == (4, 4, pair.router.name)
    assert about["pair"].startswith("tiny SLM ⇄") and about["quality"] == "accuracy" and about["preset"] == "tiny"
    measured.type("threshold", (taken["curve"][2]["threshold"] + taken["curve"][3]["threshold"]) / 2)
    assert measured.json()["point"]["measured"] is False and "straight line" in measured.says(".tune-how")


def test_a_comma_is_a_point_in_a_handle_too_and_an_emptied_one_says_what_it_was(measured: Tab):
    box = measured.page.locator('[data-handle="share"] input[type=number]')
    box.click(click_count=3)
    measured.page.keyboard.type("12,5")
    expect(box).to_have_value("12.5")
    box.fill("")
    expect(measured.page.locator('[data-handle="share"] .number-kept')).to_have_text("empty: still 12.5")
    measured.page.keyboard.press("Tab")
    expect(box).to_have_value("12.5")


def test_the_link_names_threshold_and_policy_and_the_ends_are_the_models_alone(measured: Tab, site: Site):
    for threshold, policy in ((0, "slm"), (1.01, "llm"), (0.9, "router")):
        measured.type("threshold", threshold)
        link = measured.page.input_value('.tune [data-take="link"]')
        assert link == f"{site.url}?threshold={threshold}&acceptance=0&policy={policy}"
        expect(measured.page.locator('.tune [data-take="settings"]').first).to_have_value(
            f"CITER_POLICY={policy}\nCITER_THRESHOLD={threshold}\nCITER_ACCEPTANCE=0\n"
        )


def test_the_playgrounds_acceptance_is_measured_said_and_taken_away(tab: Tab, pair):
    tab.page.click('role=tab[name="Playground"]')
    tab.window.slide("#acceptance", 0.6)
    tab.page.click("text=Sampling and prompt format")
    tab.page.fill("#max-draft input", "3")
    tab.open()
    eventually(lambda: tab.says(".tune-acceptance") == "acceptance 0.6, as on the Playground")
    tab.paste(CSV)
    tab.page.fill("#tune-count input[type=number]", "2")
    tab.run()
    tab.wait("done")
    tab.type("threshold", 0)
    eventually(lambda: tab.says(".tune-said").startswith("Threshold 0, acceptance 0.6: "))
    eventually(lambda: "no router" in tab.says(".tune-how") and "acceptance 0.6" in tab.says(".tune-about >> nth=0"))
    assert "at acceptance 0," in tab.says(".tune-beside"), "as the shipped router was measured"
    exported = tab.json()
    settings = {"policy": "slm", "threshold": 0, "acceptance": 0.6, "max_draft": 3}
    assert exported["settings"] == {f"CITER_{name.upper()}": value for name, value in settings.items()}
    taken = tab.page.input_value('.tune [data-take="settings"]').split()
    assert taken == ["CITER_POLICY=slm", "CITER_THRESHOLD=0", "CITER_ACCEPTANCE=0.6", "CITER_MAX_DRAFT=3"]
    assert tab.page.input_value('.tune [data-take="link"]').endswith(
        "?threshold=0&acceptance=0.6&policy=slm&max_draft=3"
    )
    for point, policy in zip(exported["curve"], ("slm", "router", "router", "llm"), strict=True):
        dials = {**settings, "policy": policy, "threshold": point["threshold"], "max_new_tokens": TOKENS}
        traces = [pair.generate(prompt, **dials) for prompt, _ in QUESTIONS]
        run = [costs(t.events, t.prompt_tokens, pair.slm_cost, pair.llm_cost).run for t in traces]
        assert point["bytes"] == pytest.approx(sum(cost.bytes for cost in run) / 4, rel=1e-6)


def test_csv_has_the_curve_as_numbers(measured: Tab):
    name, content = measured.download("csv")
    rows = list(csv.DictReader(io.StringIO(content)))
    curve = measured.json()["curve"]
    assert name == "citer-curve.csv" and len(rows) == len(curve)
    for row, point in zip(rows, curve, strict=True):
        assert float(row["threshold"]) == point["threshold"] and float(row["accuracy"]) == point["quality"]
        assert float(row["bytes"]) == point["bytes"] and row["prompts"] == "4"
        assert row["acceptance"] == "0"
    assert [row["policy"] for row in rows] == ["slm", *["router"] * (len(rows) - 2), "llm"]


def test_no_cell_of_the_csv_is_a_formula(browser, site: Site, pair, monkeypatch):
    monkeypatch.setattr(pair, "slm_name", '=HYPERLINK("http://x","y")')
    with window(browser, site) as shown:
        tab = Tab(shown).open()
        tab.paste(QUESTIONS[0][0])
        tab.page.fill("#tune-count input[type=number]", "1")
        tab.page.fill("#tune-limit input", "4")
        tab.run()
        tab.wait("done")
        rows = list(csv.reader(io.StringIO(tab.download("csv")[1])))
        cells = [cell for row in rows for cell in row]
        assert any(cell.startswith('\'=HYPERLINK("http://x"') for cell in cells)
        assert not [cell for cell in cells if cell.startswith(("=", "+", "-", "@", "\t", "\r"))]


# ---- stopping, leaving, others ----


def test_stop_keeps_what_is_there_and_the_curve_of_it(tab: Tab):
    tab.paste(MANY)
    tab.run()
    tab.page.wait_for_selector(".tune-plot .point", timeout=120_000)
    expect(tab.page.locator("#tune-stop")).to_be_enabled()
    tab.page.click("#tune-stop")
    tab.wait("stopped")
    eventually(no_job_threads)
    done = int(tab.page.get_attribute(".tune progress", "value"))
    assert 0 < done < 80 and tab.says(".tune-state") == f"stopped · {done} of 80 prompts"
    assert (
        tab.json()["measured_on"] | {"prompts": done, "prompts_done": done, "prompts_given": 80}
        == tab.json()["measured_on"]
    )
    assert f"on {done} prompt" in tab.says(".tune-said")
    eventually(lambda: tab.page.is_disabled("#tune-stop") and tab.page.is_enabled("#tune-run"))
    tab.paste(QUESTIONS[0][0])
    tab.run()
    tab.page.wait_for_selector('.tune-state:has-text("done · 1 of 1 prompt")', timeout=120_000)
    assert tab.json()["measured_on"]["prompts"] == 1, "the next one begins anew"


def test_a_second_run_takes_the_place_of_the_first(tab: Tab):
    tab.paste(MANY)
    tab.run()
    tab.page.wait_for_selector('.tune-state[data-state="running"]')
    tab.paste("\n".join(prompt for prompt, _ in QUESTIONS[:2]))
    tab.run()
    tab.page.wait_for_selector('.tune-state:has-text("done · 2 of 2")', timeout=120_000)
    eventually(no_job_threads)


def test_closing_the_window_leaves_no_thread(browser, site: Site):
    with window(browser, site) as shown:
        tab = Tab(shown).open()
        tab.paste(MANY)
        tab.run()
        tab.page.wait_for_selector('.tune-state[data-state="running"]')
        assert not no_job_threads()
    eventually(no_job_threads, 10)


def test_another_window_sees_nothing_of_it(browser, site: Site, measured: Tab):
    with window(browser, site) as shown:
        tab = Tab(shown).open()
        tab.paste("What is 3 + 4?")
        tab.page.fill("#tune-limit input", "8")
        tab.run()
        tab.wait("done")
        tab.page.click(".tune-list summary")
        expect(tab.page.locator(".tune-item")).to_have_count(1)
        assert "Ann has" not in tab.page.content()
    measured.page.evaluate("document.querySelector('.tune-list').open = true")
    eventually(lambda: measured.page.locator(".tune-item").count() == 4)
    assert "3 + 4" not in measured.page.content()
    measured.page.evaluate("document.querySelector('.tune-list').open = false")


def test_another_tab_and_back_changes_nothing(measured: Tab):
    measured.type("share", 20)
    said = measured.says(".tune-said")
    measured.page.click('role=tab[name="Playground"]')
    measured.page.wait_for_selector("#generate")
    measured.open()
    assert measured.says(".tune-said") == said
    expect(measured.page.locator(".tune-plot .point >> nth=0")).to_be_visible()
    expect(measured.page.locator("#tune-prompts textarea")).to_have_value(CSV)


# ---- without answers, other policies, texts ----


def test_without_answers_the_curve_is_of_agreement_with_the_llm(tab: Tab):
    tab.paste("\n".join(prompt for prompt, _ in QUESTIONS[:2]))
    tab.page.fill("#tune-count input[type=number]", "3")
    tab.run()
    tab.wait("done")
    expect(tab.page.locator('[name="tune-kind"][value="right"]').first).to_be_disabled()
    assert tab.page.is_checked('[value="same"]')
    assert "edit distance" in tab.says(".tune-rule")
    exported = tab.json()
    assert exported["measured_on"]["quality"] == "agreement with the LLM-only text"
    assert exported["curve"][-1]["quality"] == 1 and exported["curve"][0]["quality"] < 1
    tab.type("threshold", 0)
    assert "agreement with the LLM-only text" in tab.says(".tune-said")


def test_a_shipped_curve_of_agreement_is_not_called_right_answers(tab: Tab, monkeypatch):
    plain = Tuning.shipped

    def of_free_text(tuning, acceptance):
        curve = plain(tuning, acceptance)
        return curve and replace(curve, task="free-text", quality="same")

    monkeypatch.setattr(Tuning, "shipped", of_free_text)
    tab.paste(CSV)
    tab.page.fill("#tune-count input[type=number]", "2")
    tab.run()
    tab.wait("done")
    tab.page.check('[name="tune-kind"][value="same"]')
    eventually(lambda: "agreement with the LLM-only text on 400 prompts (text of any kind)" in tab.says(".tune-beside"))
    assert "compare the shapes" not in tab.says(".tune-beside")
    tab.page.check('[name="tune-kind"][value="right"]')
    eventually(lambda: "; not right answers, so compare the shapes" in tab.says(".tune-beside"))


@pytest.mark.parametrize(("label", "policy"), [("SLM's own confidence", "confidence"), ("chance", "random")])
def test_other_policies_have_thresholds_of_their_own_and_no_shipped_curve(tab: Tab, label: str, policy: str):
    tab.paste(CSV)
    tab.page.fill("#tune-count input[type=number]", "4")
    tab.page.click("#tune-policy input")
    tab.page.click(f'[role="option"] >> text="{label}"')
    tab.run()
    tab.wait("done")
    exported = tab.json()
    thresholds = [point["threshold"] for point in exported["curve"][1:-1]]
    shares = [point["llm_share"] for point in exported["curve"]]
    assert exported["measured_on"]["policy"] == policy and exported["measured_on"]["router"] is None
    expect(tab.page.locator(".tune-shipped").first).to_be_hidden()
    assert tab.says(".tune-beside") == ""
    if policy == "random":
        assert thresholds == [0.2, 0.4, 0.6, 0.8]
    assert shares == sorted(shares) and 0 < shares[1] < shares[-2] < 1


def test_a_pair_without_a_router_offers_none(browser, pair, monkeypatch):
    monkeypatch.setattr(pair, "router", None)
    with serve(lambda preset, progress: pair) as site, window(browser, site) as shown:
        tab = Tab(shown).open()
        eventually(lambda: tab.page.input_value("#tune-policy input") == "SLM's own confidence")
        tab.page.click("#tune-policy input")
        offered = eventually(lambda: tab.page.locator('[role="option"]').all_inner_texts())
        assert [text.split("\n")[-1] for text in offered] == ["SLM's own confidence", "chance"]


def test_texts_of_prompts_are_there_on_demand(measured: Tab, pair):
    measured.type("threshold", 0)
    measured.page.click(".tune-list summary")
    eventually(lambda: measured.page.locator(".tune-mark").first.inner_text() in ("✓ right", "✗ wrong"))
    measured.page.click(".tune-item button >> nth=1")
    alone = pair.generate(QUESTIONS[1][0], policy="slm", max_new_tokens=TOKENS).text
    eventually(lambda: measured.page.locator(".tune-text >> nth=1").text_content() == f"{QUESTIONS[1][0]}\n\n{alone}")
    measured.type("threshold", 1.01)
    alone = pair.generate(QUESTIONS[1][0], policy="llm", max_new_tokens=TOKENS).text
    eventually(lambda: measured.page.locator(".tune-text >> nth=1").text_content() == f"{QUESTIONS[1][0]}\n\n{alone}")
    measured.page.click(".tune-list summary")
