"""Many visitors at once, on the tiny pair: each text is what it is alone; stops and sweeps leave the others be."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest

from app.entrance.metrics import metrics_text
from app.figures import meter
from app.running.host import Host
from app.running.job import Job
from app.running.run import Run
from app.running.session import Session
from app.sweep import Sweep
from engine import Prices, Request, costs, load_settings
from engine.events import fold_revealed
from engine.events.cost import modelled_seconds
from tests.support.browser import eventually, paused, serve

PROMPTS = (
    "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?",
    "Mia has 12 shells. Mia finds 7 more.",
    "Tom has 3 boxes. Tom buys 4 more boxes.",
)


@pytest.fixture(scope="module")
def pair(tiny_pair):
    return tiny_pair


@pytest.fixture
def host(pair) -> Iterator[Host]:
    host = Host(lambda preset, progress: pair, rows=4)
    host.wait(threading.Event())
    yield host
    host.close()


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """Nothing here has a feed."""
    monkeypatch.setattr("app.running.session.UNHEARD_SECONDS", 600)


@contextmanager
def held(job: Job, count: int, host: Host) -> Iterator[None]:
    """A job begins, and the scheduler stands still once it has so many tokens, until the block is left."""
    reached, go_on = threading.Event(), threading.Event()

    def look() -> None:
        if job._pending is not None and len(job._pending.stream) >= count:
            reached.set()
            assert go_on.wait(60)

    job.look = look
    job.start(host)
    assert reached.wait(60)
    try:
        yield
    finally:
        go_on.set()


def asked(number: int = 0, threshold: float = 0.5, **options) -> Request:
    options = {"max_new_tokens": 40, "max_draft": 8, **options}  # "auto" depends on the clock
    return Request(PROMPTS[number % 3], threshold, seed=number, **options)


def facts(events) -> list[tuple[object, ...]]:
    """What a text is, and what it made each model read, whoever was beside it."""
    return [(e.id, e.role, e.slm_fed, e.llm_fed, len(e.taken_back)) for e in fold_revealed(events)]


def alone(pair, request: Request) -> list[tuple[object, ...]]:
    return facts(pair.generate(request).events)


def test_a_sweep_gives_way_to_a_visitors_text_and_goes_on_afterwards(host, pair):
    sweep = Sweep(asked(), [], Prices(), "both")
    with held(sweep, 10, host):
        assert host.scheduler.waiting > 20
        run = Session().begin(asked(1), host)
        eventually(lambda: run.handle)
        assert run.place == (0, 0.0)
    assert run.finished.wait(60)
    assert sweep.active
    assert facts(run.folded) == alone(pair, asked(1))
    assert sweep.finished.wait(60) and sweep.state == "done"
    for row, events in enumerate(sweep.events):
        assert facts(events) == alone(pair, sweep.at(row))


def test_a_stop_ends_its_own_text_only(host, pair):
    run = Run(asked(2, 0.0))
    with held(run, 5, host):
        others = [Session().begin(asked(n, 0.9), host) for n in range(2)]
        run.cancel.set()
    assert run.finished.wait(60) and run.state == "stopped" and len(run.events) == 5
    for n, other in enumerate(others):
        assert other.finished.wait(60) and other.state == "done"
        assert facts(other.folded) == alone(pair, asked(n, 0.9))


def test_the_meter_says_what_a_text_costs_alone_also_where_others_were_written_beside_it(host, pair):
    with paused(host):  # until all four have a place
        runs = [Session().begin(asked(n, 0.9), host) for n in range(4)]
        assert eventually(lambda: all(run.handle for run in runs))
    assert all(run.finished.wait(60) for run in runs)
    for run in runs:
        modelled = [modelled_seconds([event], pair.slm_cost, pair.llm_cost) for event in run.events]
        assert sum(event.seconds == value for event, value in zip(run.events, modelled, strict=True)) == run.beside > 0
        cost = costs(run.events, run.prompt_tokens, pair.slm_cost, pair.llm_cost)
        assert f"{run.beside} of {len(run.events)}" in meter(run.events, cost, "seconds", run.beside)["modelled"]
    by_itself = Run(asked(0, 0.9)).start(host)
    assert by_itself.finished.wait(60)
    assert by_itself.beside == 0
    cost = costs(by_itself.events, by_itself.prompt_tokens, pair.slm_cost, pair.llm_cost)
    assert "beside" not in meter(by_itself.events, cost, "seconds")["modelled"]


def test_the_servers_own_figures_are_given_where_a_setting_says_so_and_nowhere_else(host, pair):
    assert "citer_tokens_total 0\n" in metrics_text(Host(lambda preset, progress: pair))
    assert Run(asked()).start(host).finished.wait(60)
    said = dict(line.split() for line in metrics_text(host).splitlines() if not line.startswith("#"))
    assert said["citer_texts_total"] == "1" and said["citer_bound"] == "4" and float(said["citer_seconds_total"]) > 0
    assert int(said["citer_tokens_total"]) >= int(said["citer_steps_total"]) > 0
    for on in (False, True):
        settings = load_settings(server={"metrics": on})
        with serve(lambda preset, progress: pair, settings=settings) as site:
            answer = httpx.get(f"{site.url}metrics")
            assert ("citer_rows" in answer.text) == on and answer.status_code == (200 if on else 404)
            if on:
                assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
                assert httpx.get(f"{site.url}metrics", headers={"host": "evil.example"}).status_code == 403
