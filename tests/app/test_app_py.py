"""`python app.py` as a user starts it, with the shipped tiny pair; and what it says where it cannot be started."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import urllib.request

import pytest
from gradio_client import Client

from app.page import host_fault
from tests.support.browser import eventually
from tests.support.paths import ROOT

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"


@pytest.fixture
def url():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {**os.environ, "CITER_PRESET": "tiny", "CITER_SERVER__PORT": str(port)}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{port}/"

    def answers() -> bool:
        assert process.poll() is None, "app.py ended"
        try:
            return urllib.request.urlopen(url, timeout=30).status == 200
        except OSError:
            return False

    try:
        eventually(answers, 300)
        yield url
    finally:
        process.terminate()
        process.wait(60)


def test_it_serves_the_page_and_answers_with_the_trace_that_the_engine_gives(url: str, tiny_pair):
    assert b"CITER" in urllib.request.urlopen(url).read()
    client = Client(url, verbose=False)
    trace = client.predict(PROMPT, 0.5, policy="router", max_new_tokens=80, api_name="/generate")
    client.close()
    expected = tiny_pair.generate(PROMPT, policy="router", threshold=0.5, max_new_tokens=80)
    assert (trace["preset"], trace["text"]) == ("tiny", expected.text)
    assert set(trace["cost"]) >= {"bytes", "flops", "seconds", "price"}


def test_an_address_that_is_none_is_told_by_its_variable():
    assert host_fault(None) is None and host_fault("127.0.0.1") is None and host_fault("localhost") is None
    for host in ("192.0.2.7", "no.such.host.invalid", "x" * 200):
        assert f"CITER_SERVER__HOST = {host[:79]}" in str(host_fault(host))
