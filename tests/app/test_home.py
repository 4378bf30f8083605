"""What names the project elsewhere: its preview and icon, the header's links, and what is taken away."""

from __future__ import annotations

import re
import threading
from html import escape
from io import BytesIO

import httpx
from PIL import Image

from app.header import header_html
from app.running.host import Host
from app.share.home import home_address
from tests.support.browser import serve
from tests.support.fake_pair import FakePair

HOME = "https://example.org/citer?a=1&b=2"


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


def test_the_header_links_home_and_no_address_becomes_markup(monkeypatch):
    host = Host(lambda preset, progress: FakePair())
    host.wait(threading.Event())
    assert f'<a href="{escape(HOME)}"' in header_html(host, HOME)
    monkeypatch.setenv("SPACE_ID", "me/citer")
    assert 'href="https://huggingface.co/spaces/me/citer"' in header_html(host, home_address())
    monkeypatch.setenv("SPACE_ID", 'me/"><script>')
    assert home_address() == ""
