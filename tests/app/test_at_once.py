"""Texts written beside each other on the tiny pair, as the page's meter and the server's own figures tell of them."""

from __future__ import annotations

import threading

import httpx
import pytest

from app.entrance.metrics import metrics_text
from app.running.host import Host
from app.running.run import Run
from engine import Request, Setting, load_settings
from tests.support.browser import serve


@pytest.fixture
def host(tiny_pair):
    host = Host(lambda preset, progress: tiny_pair, rows=4)
    host.wait(threading.Event())
    yield host
    host.close()


def asked(number: int = 0) -> Request:
    setting, prompt = Setting(threshold=0.9, max_draft=8), f"Mia has {12 + number} shells. Mia finds 7 more."
    return Request(prompt, setting, seed=number, max_new_tokens=40)


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
