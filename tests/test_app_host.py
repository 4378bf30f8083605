"""The host, without a browser: loading once, turns in order, long jobs that give way."""

from __future__ import annotations

import runpy
import threading
import time

import pytest
from browser import eventually
from conftest import ROOT
from converted_pair import Files
from fake_pair import FakePair, request
from mutations import no_file_larger_than

import engine
from app.api import ApiRun
from app.figures import pair_name
from app.header import header_html
from app.running.host import Host
from app.running.places import TurnTimes
from app.running.run import Run
from app.running.sessions import Session
from app.stream.updates import waiting_for
from engine import SettingsError, WeightsError


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


def test_runs_have_their_turn_in_the_order_they_came_and_never_two_at_once(host, pair):
    pair.tokens_per_second = 1
    runs = []
    for n in range(4):
        runs.append(Session().begin(request(max_new_tokens=10), host))
        eventually(lambda n=n: len(host._queue) == n + 1)
    assert host.ahead(runs[3]) == 3
    pair.tokens_per_second = 100
    most = 0
    while not runs[-1].finished.is_set():
        most = max(most, pair.open_streams)
        time.sleep(0.002)
    assert most == 1 and [len(run.events) for run in runs] == [10] * 4
    begun = [asked.prompt for asked in pair.requests]
    assert len(begun) == 4


def test_a_run_that_is_cancelled_in_line_leaves_it(host, pair):
    pair.tokens_per_second = 20
    first, second, third = (Session().begin(request(), host) for _ in range(3))
    eventually(lambda: host.ahead(third) == 2)
    second.cancel.set()
    assert second.finished.wait(1) and second.state == "stopped" and second.events == []
    assert host.ahead(third) == 1
    first.cancel.set()
    eventually(lambda: third.events)
    third.cancel.set()
    assert third.finished.wait(1)


def test_calls_of_the_api_and_the_page_take_turns_where_both_wait(host, pair):
    pair.tokens_per_second = 20
    runs = [Run(request()), *(ApiRun(request()) for _ in range(3)), *(Run(request()) for _ in range(3))]
    for n, run in enumerate(runs):
        run.start(host)
        eventually(lambda n=n: len(host._queue) == n + 1)
    assert [runs.index(run) for run in host._queue] == [0, 1, 4, 2, 5, 3, 6]
    for run in runs:
        run.cancel.set()
    eventually(lambda: not host._queue)


def test_who_waits_hears_how_long_by_the_turns_before_and_nothing_that_was_made_up(host, pair):
    pair.tokens_per_second = 20
    first, second, third = (Run(request()) for _ in range(3))
    for n, run in enumerate((first, second, third)):
        run.start(host)
        eventually(lambda n=n: len(host._queue) == n + 1)
    assert waiting_for(second, host) == "Waiting: 1 text before yours."
    host._turns.add(first, 70.0)
    host._turns.add(first, 90.0)
    assert waiting_for(second, host) == "Waiting: 1 text before yours, about 1 min."
    assert waiting_for(third, host) == "Waiting: 2 texts before yours, about 3 min."
    assert TurnTimes().ahead([first], 0.0) is None
    for run in (first, second, third):
        run.cancel.set()
        assert run.finished.wait(5)
    assert len(host._turns._seconds[Run]) == 2, "turns that were cut short tell nothing"


def test_an_estimate_goes_by_the_kind_of_job_and_ends_where_it_was_wrong():
    times, text, tuning = TurnTimes(), "a text", 3
    times.add(text, 10.0)
    times.add(text, 20.0)
    assert times.ahead([text, text], held=5.0) == 25.0
    assert times.ahead([text, tuning], held=5.0) is None
    assert times.ahead([text, text], held=16.0) is None
    times.add(tuning, 100.0)
    assert times.ahead([tuning, text], held=40.0) == 75.0


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


# ---- long jobs ----


def test_a_long_job_lets_those_who_wait_go_first_and_then_has_its_turn_again(host):
    order, cancel = [], threading.Event()

    def long() -> None:
        with host.hold_models("long", cancel):
            for n in range(2):
                host.give_way("long", cancel)
                order.append(f"long {n}")
                eventually(lambda: "short" in order or host.ahead("short") == 1)

    def short() -> None:
        with host.hold_models("short", cancel):
            order.append("short")

    threads = [threading.Thread(target=long), threading.Thread(target=short)]
    threads[0].start()
    eventually(lambda: order == ["long 0"])
    threads[1].start()
    for thread in threads:
        thread.join(5)
    assert order == ["long 0", "short", "long 1"]


def test_a_long_job_that_is_cancelled_while_it_gives_way_leaves_the_line(host):
    cancel, held = threading.Event(), threading.Event()

    def long() -> None:
        with host.hold_models("long", cancel):
            eventually(lambda: host.ahead("short") == 1)
            host.give_way("long", cancel)

    thread = threading.Thread(target=long)
    thread.start()
    eventually(lambda: "long" in host._queue)
    with host.hold_models("short", held):
        cancel.set()
        thread.join(5)
        assert not thread.is_alive() and "long" not in host._queue
