"""Shared by all tests: no network, a cache of their own, and a random pair for the engine."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import HealthCheck, settings

from tests.support.paths import ROOT

# Before any library reads them: tests never reach a hub, and a developer's own settings do not change their outcome.
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error", GRADIO_ANALYTICS_ENABLED="False")
for name in [name for name in os.environ if name.startswith("CITER_")]:
    del os.environ[name]

# Property-based tests draw the same few examples in every run; `pytest --hypothesis-profile=many` draws 1,000 new ones.
settings.register_profile(
    "suite",
    max_examples=60,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large],
)
settings.register_profile("many", settings.get_profile("suite"), max_examples=1000, derandomize=False)
settings.load_profile("suite")


MOST_LINES, MOST_IN_THE_BROWSER = 18_000, 150
"""How large the suite may be. More is a decision: change these in the commit that needs it, and say why."""

FIRST = ("test_pipeline.py",)
"""The longest modules: as the last of two processes' work they would end minutes after all others."""


def pytest_collection_modifyitems(items):
    """Holds the size of the suite, and has the longest modules run first."""
    folder = ROOT / "tests"
    files = [path for path in folder.rglob("*") if path.suffix in (".py", ".js", ".mjs")]
    lines = sum(len(path.read_bytes().splitlines()) for path in files)
    in_the_browser = sum(folder / "browser" in item.path.parents for item in items)
    for what, number, most in (
        ("lines of tests", lines, MOST_LINES),
        ("tests in the browser", in_the_browser, MOST_IN_THE_BROWSER),
    ):
        if number > most:
            raise pytest.UsageError(f"{number:,} {what}, where {most:,} are the most (tests/conftest.py)")
    items.sort(key=lambda item: item.path.name not in FIRST)


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Models of a few thousand parameters run slower on two threads than on one."""
    import torch

    import engine.scheduler  # noqa: F401  # takes seconds, which no test is to wait for in a host's first text

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def random_pair():
    """A pair of random fp32 models, 259 byte tokens, with no router."""
    from engine.pair import Pair
    from tests.support.random_pair import byte_tokenizer, random_model

    slm, llm = random_model(1, layers=2, width=32, padding=5), random_model(2, layers=3, width=48, padding=69)
    return Pair(slm, llm, byte_tokenizer(), slm_name="small", llm_name="large")


@pytest.fixture(scope="session")
def tiny_pair():
    """The shipped tiny pair with its router.

    Its passes take what is said here, not what they took: "auto" drafts go by it, and where a draft ends almost by
    chance, as it may with measured times, the rounding of a batch decides.
    """
    from engine.pair import load

    pair = load("tiny")
    for model, ms in zip(
        pair.models, ((0.7, 0.7, 0.72, 0.74, 0.77, 0.85), (2.1, 2.2, 2.5, 2.8, 3.2, 3.6)), strict=True
    ):
        model.use_times([each / 1000 for each in ms], [0.0, 1e-5, 2e-5, 4e-5])
    return pair


@pytest.fixture(scope="module")
def cpu_pair():
    """The real pair; where its weights are not to be had, the test is skipped."""
    import torch

    from engine import WeightsError
    from engine.pair import load

    torch.set_num_threads(2)
    try:
        return load("cpu")
    except WeightsError as error:
        pytest.skip(f"the real pair's weights are not to be had: {error}")


# The page in Chromium, module by module: Playwright's loop must not outlive the module. A module with another pair in
# front of it has a fixture `pair` of its own.


@pytest.fixture(scope="module")
def pair():
    """A pair that needs no models."""
    from tests.support.fake_pair import FakePair

    return FakePair()


@pytest.fixture
def host(pair):
    """What runs the models for the page, with the module's pair."""
    from app.running.host import Host

    host = Host(lambda preset, progress: pair)
    host.start()
    yield host
    host.close()


@pytest.fixture
def stepped():
    """A pair that takes a step when it may, and its host, which writes one text at a time."""
    from app.running.host import Host
    from tests.support.fake_pair import SteppedPair

    pair = SteppedPair()
    host = Host(lambda preset, progress: pair, rows=1)
    host.wait(threading.Event())
    yield pair, host
    pair.let()
    host.close()


@pytest.fixture(scope="module")
def site(pair, request):
    """A served page in front of the pair; a module's `TOKENS`, if it has some, is the longest text by default."""
    from engine import load_settings
    from tests.support.browser import serve

    tokens = getattr(request.module, "TOKENS", 60)
    with serve(lambda preset, progress: pair, settings=load_settings(max_new_tokens=tokens)) as site:
        yield site


@pytest.fixture(scope="module")
def browser():
    """Chromium."""
    from tests.support.browser import chromium

    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def site_window(browser, site):
    """One window of the page, which tests open anew: a new session with the scripts cached."""
    from tests.support.browser import window

    with window(browser, site) as shown:
        yield shown


@pytest.fixture
def shown(site_window, pair):
    """The page with a finished text at threshold 0.5; a module that begins otherwise has a fixture of this name."""
    pair.tokens_per_second = 2000
    site_window.open()
    site_window.page.wait_for_selector(".models")
    site_window.write("a palindrome")
    yield site_window
    assert site_window.errors == []


@pytest.fixture(scope="module")
def served(tiny_pair):
    """The endpoint's own server in front of the tiny pair (`served_endpoint.Served`)."""
    from tests.support.served_endpoint import serve_endpoint  # late: most tests need no server

    with serve_endpoint(tiny_pair) as served:
        yield served


@pytest.fixture(scope="module")
def converted(tmp_path_factory):
    """A random pair's GGUF files, converted once per module (`converted_pair.Files`)."""
    from tests.support.converted_pair import Files  # late: most tests need no GGUF file

    files = Files(tmp_path_factory.mktemp("cache"))
    files.load()
    return files


@pytest.fixture
def files(converted, tmp_path):
    """A converted pair that the test may spoil."""
    return converted.copied_to(tmp_path / "cache")
