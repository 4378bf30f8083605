"""What names the project elsewhere: its preview and icon, the header's links, and what is taken away."""

from __future__ import annotations

import json
import re
from io import BytesIO
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from PIL import Image

from app.header import header_html
from app.running.host import Status
from app.share.export import html_page, markdown, trace_json
from app.share.home import PAPER, home_address
from engine import Request, SettingsError, Trace, load_settings
from tests.support.browser import serve
from tests.support.fake_pair import FakePair

HOME = "https://example.org/citer?a=1&b=2"


@pytest.fixture(scope="module")
def trace() -> Trace:
    return FakePair(1e6).generate(Request("echo one two", max_new_tokens=9, alternatives=5))


def metas(page: str) -> dict[str, list[str]]:
    """What the page's head says of itself, by name."""
    found: dict[str, list[str]] = {}
    for name, content in re.findall(r'<meta\s+(?:name|property)="([^"]+)"\s+content="([^"]*)"', page):
        found.setdefault(name, []).append(content)
    return found


def test_a_link_to_the_page_is_shown_with_its_own_words_picture_and_icon():
    with serve(lambda preset, progress: FakePair()) as site:
        said = metas(httpx.get(site.url).text)
        assert all(len(said[key]) == 1 for key in said if key.startswith(("og:", "twitter:"))), "gradio's are gone"
        assert said["og:title"] == ["CITER Playground"]
        (address,) = said["og:image"]
        assert address.startswith(site.url), "whole, as sites that show previews need it"
        image = Image.open(BytesIO(httpx.get(address).content))
        assert image.size == (int(said["og:image:width"][0]), int(said["og:image:height"][0]))
        assert Image.open(BytesIO(httpx.get(f"{site.url}favicon.ico").content)).format == "PNG"


def test_the_header_links_paper_home_and_the_models_that_the_hub_has(tiny_pair):
    host: Any = SimpleNamespace(pair=FakePair(), status=Status("ready"))
    linked = header_html(host, HOME)
    assert f'href="{PAPER}"' in linked and 'href="https://example.org/citer?a=1&amp;b=2"' in linked
    host.pair.preset = "cpu"
    for size in ("0.5B", "1.5B"):
        assert f'href="https://huggingface.co/Qwen/Qwen2.5-Coder-{size}-Instruct-GGUF"' in linked
    host.pair = tiny_pair
    assert header_html(host).count("<a ") == 1, "nothing is invented"


def test_what_is_taken_away_links_home_and_to_the_paper(trace: Trace):
    assert f"(<{HOME}>)" in markdown(trace, HOME) and f"(<{PAPER}>)" in markdown(trace, HOME)
    assert "](<>)" not in markdown(trace)
    page = html_page(trace, HOME)
    assert '<a href="https://example.org/citer?a=1&amp;b=2">CITER Playground</a>' in page and PAPER in page
    assert "@@" not in html_page(trace) and HOME in json.loads(trace_json(trace, HOME))["made_by"]
    assert Trace.from_json(trace_json(trace, HOME)) == trace


def test_home_is_the_setting_or_the_space_and_never_a_script(monkeypatch):
    assert home_address(load_settings()) == ""
    monkeypatch.setenv("SPACE_ID", "someone/citer")
    assert home_address(load_settings()) == "https://huggingface.co/spaces/someone/citer"
    assert home_address(load_settings(server={"home": HOME})) == HOME
    for bad in ("javascript:alert(1)", "https://x.example/<b>", "https://x.example/a b"):
        with pytest.raises(SettingsError, match="CITER_SERVER__HOME"):
            load_settings(server={"home": bad})
