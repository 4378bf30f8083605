"""The host, without a browser: loading once, and many texts at once."""

from __future__ import annotations

import runpy
import threading
from contextlib import contextmanager

import pytest

import engine
from app.api import ApiRun
from app.figures import pair_name
from app.header import header_html
from app.running.host import Host
from app.running.session import Session
from app.running.sessions import Sessions
from app.stream.updates import waiting_for
from engine import SettingsError, WeightsError
from tests.support.browser import eventually
from tests.support.converted_pair import Files
from tests.support.fake_pair import FakePair, request
from tests.support.mutations import no_file_larger_than
from tests.support.paths import ROOT


@pytest.fixture
def pair():
    return FakePair(300)


def test_weights_that_cannot_be_had_give_the_tiny_pair_and_the_reason():
    asked = []

    def load(preset, progress):
        asked.append(preset)
        if preset != "tiny":
            raise WeightsError("Hub and mirror are <unreachable>.")
        return FakePair(preset="tiny")

    host = Host(load, "cpu")
    assert host.wait(threading.Event()).preset == "tiny"
    assert asked == ["cpu", "tiny"]
    assert "Hub and mirror are <unreachable>." in (host.status.warning or "")
    assert "&lt;unreachable&gt;" in header_html(host) and "<unreachable>" not in header_html(host)


def test_a_disk_that_fills_up_in_mid_conversion_gives_the_tiny_pair_and_the_reason(tmp_path):
    files = Files(tmp_path)

    def load(preset, progress):
        return files.load()[0] if preset != "tiny" else FakePair(preset="tiny")

    host = Host(load, "cpu")
    with no_file_larger_than(20_000):
        assert host.wait(threading.Event()).preset == "tiny"
    said = host.status.warning or ""
    assert said.startswith("Running the tiny pair instead. no space in ") and "CITER_CACHE_DIR" in said
    assert host.status.phase == "ready" and "CITER_CACHE_DIR" in header_html(host)


def test_the_tiny_pair_that_stands_in_has_its_own_router_and_not_the_one_of_the_settings(monkeypatch):
    """Which is for another pair, or is what could not be had."""
    asked = []
    monkeypatch.setenv("CITER_ROUTER", "someone/router")
    monkeypatch.setenv("CITER_PRESET", "cpu")
    load = runpy.run_path(str(ROOT / "app.py"))["load"]
    monkeypatch.setattr(engine, "load", lambda preset, settings, progress: asked.append((preset, settings.router)))
    load("cpu", None)
    load("tiny", None)
    assert asked == [("cpu", "someone/router"), ("tiny", "auto")]


@pytest.mark.parametrize(
    "fault", [WeightsError("no tiny pair either"), SettingsError("a bad setting"), ValueError("a bug")]
)
def test_no_models_at_all_is_said_and_every_run_fails_with_the_reason(fault):
    def load(preset, progress):
        raise fault

    host = Host(load, "cpu")
    run = Session().begin(request(), host)
    assert run.finished.wait(5) and run.state == "failed" and str(fault) in (run.error or "")
    assert host.status.phase == "failed" and str(fault) in header_html(host)


def test_the_models_are_loaded_once_however_many_ask():
    calls = []
    host = Host(lambda preset, progress: calls.append(1) or FakePair())
    for _ in range(5):
        host.start()
    host.wait(threading.Event())
    assert calls == [1]


@pytest.mark.parametrize(
    ("slm", "llm", "name"),
    [
        ("Qwen2.5-Coder 0.5B", "Qwen2.5-Coder 1.5B", "Qwen2.5-Coder 0.5B ⇄ 1.5B"),
        ("tiny SLM", "tiny LLM", "tiny SLM ⇄ LLM"),
        ("a", "b", "a ⇄ b"),
        ("same", "same", "same ⇄ same"),
    ],
)
def test_the_names_of_a_pair_are_said_once(slm, llm, name):
    assert pair_name(slm, llm) == name


# ---- many at once ----


def test_visitors_texts_are_written_at_the_same_time(host, pair):
    pair.tokens_per_second = 20
    runs = [Session().begin(request(seed=n), host) for n in range(5)]
    eventually(lambda: pair.open_streams == 5)
    pair.tokens_per_second = 2000
    for n, run in enumerate(runs):
        assert run.finished.wait(10)
        assert run.state == "done"
        assert facts(run.events) == facts(FakePair(1e6).stream(request(seed=n)))


def test_a_run_that_is_cancelled_in_line_leaves_it(pair):
    pair.tokens_per_second = 20
    with hosting(pair, rows=1) as host:
        first = Session().begin(request(), host)
        eventually(lambda: first.events)
        second = Session().begin(request(), host)
        eventually(lambda: second.place[0] == 1)
        third = Session().begin(request(), host)
        eventually(lambda: third.place[0] == 2)
        second.cancel.set()
        assert second.finished.wait(1) and second.state == "stopped" and second.events == []
        assert third.place[0] == 1
        first.cancel.set()
        eventually(lambda: third.events)


def test_who_waits_hears_the_place_in_line_and_about_how_long(pair):
    pair.tokens_per_second = 2000
    with hosting(pair, rows=1) as host:
        for _ in range(2):
            assert Session().begin(request(), host).finished.wait(10)
        pair.tokens_per_second = 20
        runs = []
        for n in range(3):
            runs.append(Session().begin(request(), host))
            eventually(lambda n=n: runs[n].place[0] == n if n else runs[n].events)
        assert waiting_for(runs[0], host) == ""
        host.scheduler._mean_text = 80.0
        assert waiting_for(runs[1], host) == "Waiting: place 1 in line, about 1 min."
        assert waiting_for(runs[2], host) == "Waiting: place 2 in line, about 3 min."
        host.scheduler._mean_text = 0.0
        assert waiting_for(runs[2], host) == "Waiting: place 2 in line."


def test_a_visitor_need_not_wait_for_all_calls_of_the_api(pair):
    pair.tokens_per_second = 20
    with hosting(pair, rows=2) as host:
        calls = [ApiRun(request()) for _ in range(5)]
        for run in calls:
            run.owner = "api"
            run.start(host)
        eventually(lambda: pair.open_streams == 2)
        visitor = Session().begin(request(), host)
        eventually(lambda: visitor.events, 2)
        assert sum(not run.finished.is_set() for run in calls) == 5


def test_who_leaves_frees_the_rows_and_the_caches(host, pair):
    pair.tokens_per_second = 20
    sessions = Sessions(leave=host.leave)
    run = sessions.get("a").begin(request(), host)
    other = sessions.get("b").begin(request(), host)
    eventually(lambda: run.events and other.events)
    sessions.drop("a")
    assert run.finished.wait(1) and run.state == "stopped" and other.active
    eventually(lambda: host.scheduler.rows == 1 and host.scheduler._held.resting == [])


def facts(events) -> list[tuple[object, ...]]:
    return [(event.index, event.id, event.text, event.role, event.slm_fed, event.llm_fed) for event in events]


@contextmanager
def hosting(pair, rows: int):
    host = Host(lambda preset, progress: pair, rows=rows)
    try:
        yield host
    finally:
        host.wait(threading.Event())
        host.close()
