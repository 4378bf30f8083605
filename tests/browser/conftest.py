"""The page in Chromium, module by module: Playwright's loop must not outlive the module.

A module with another pair in front of it has a fixture `pair` of its own.
"""

from __future__ import annotations

import pytest

from tests.support.browser import chromium, serve, window


@pytest.fixture(scope="module")
def pair():
    """A pair that needs no models."""
    from tests.support.fake_pair import FakePair

    return FakePair()


@pytest.fixture(scope="module")
def site(pair, request):
    """A served page in front of the pair; a module's `TOKENS`, if it has some, is the longest text by default."""
    from engine import load_settings

    tokens = getattr(request.module, "TOKENS", 60)
    with serve(lambda preset, progress: pair, settings=load_settings(max_new_tokens=tokens)) as site:
        yield site


@pytest.fixture(scope="module")
def browser():
    """Chromium."""
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site_window(browser, site):
    """One window of the page, which tests open anew: a new session with the scripts cached."""
    with window(browser, site) as shown:
        yield shown


@pytest.fixture
def shown(site_window, pair):
    """The page with a finished text at threshold 0.5; a module that begins otherwise has a fixture of this name."""
    pair.tokens_per_second = 2000
    site_window.open()
    site_window.page.wait_for_selector("text=fake-r1")
    site_window.write("a palindrome")
    yield site_window
    assert site_window.errors == []
