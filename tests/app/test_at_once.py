"""Texts written beside each other on the tiny pair, as the page's meter and the server's own figures tell of them."""

from __future__ import annotations

import threading

import httpx
import pytest

from app.entrance.metrics import metrics_text
from app.figures import meter
from app.running.host import Host
from app.running.run import Run
from app.running.session import Session
from engine import Request, costs, load_settings
from tests.support.browser import eventually, paused, serve


@pytest.fixture
def host(tiny_pair, monkeypatch):
    monkeypatch.setattr("app.running.session.UNHEARD_SECONDS", 600)  # nothing here has a feed
    host = Host(lambda preset, progress: tiny_pair, rows=4)
    host.wait(threading.Event())
    yield host
    host.close()


def asked(number: int = 0) -> Request:
    return Request(f"Mia has {12 + number} shells. Mia finds 7 more.", 0.9, seed=number, max_new_tokens=40, max_draft=8)


def modelled(run: Run, pair) -> str:
    """What the meter says of seconds that were not measured."""
    assert run.finished.wait(60)
    cost = costs(run.events, run.prompt_tokens, pair.slm_cost, pair.llm_cost)
    return meter(run.events, cost, "seconds", run.beside)["modelled"]


def test_the_meter_says_how_much_of_a_text_was_written_beside_others(host, tiny_pair):
    with paused(host):  # until all four have a place
        runs = [Session().begin(asked(n), host) for n in range(4)]
        assert eventually(lambda: all(run.handle for run in runs))
    for run in runs:
        said = modelled(run, tiny_pair)
        assert f"{run.beside} of {len(run.events)}" in said and run.beside > 0
    alone = Run(asked()).start(host)
    assert "beside" not in modelled(alone, tiny_pair)


def test_the_servers_own_figures_are_given_where_a_setting_says_so_and_nowhere_else(host, tiny_pair):
    def load(preset, progress):
        return tiny_pair

    assert "citer_tokens_total 0\n" in metrics_text(Host(load))
    assert Run(asked()).start(host).finished.wait(60)
    said = dict(line.split() for line in metrics_text(host).splitlines() if not line.startswith("#"))
    assert said["citer_texts_total"] == "1" and said["citer_bound"] == "4" and float(said["citer_seconds_total"]) > 0
    assert int(said["citer_tokens_total"]) >= int(said["citer_steps_total"]) > 0
    for on in (False, True):
        with serve(load, settings=load_settings(server={"metrics": on})) as site:
            answer = httpx.get(f"{site.url}metrics")
            assert ("citer_rows" in answer.text, answer.status_code) == (on, 200 if on else 404)
