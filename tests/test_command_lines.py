"""Command lines whose output goes nowhere and whose input is no text: a word and a status, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import httpx
import pytest

import engine.pair
import trainer.__main__ as trainer
from engine import SettingsError
from engine.__main__ import main as write
from engine.errors import shown
from engine.guard.server import listen
from tests.support.browser import eventually
from tests.support.paths import ROOT


def output_to(target: str) -> int:
    """What is written to a full device, or to a reader that has "gone"."""
    if target != "gone":
        return os.open(target, os.O_WRONLY)
    reader, writer = os.pipe()
    os.close(reader)
    return writer


@pytest.fixture(autouse=True)
def _something_to_say(tiny_pair, monkeypatch):
    monkeypatch.setattr(engine.pair, "load", lambda *_, **__: tiny_pair)


@pytest.mark.parametrize(("target", "status", "said"), [("/dev/full", 2, "No space"), ("gone", 141, "")])
def test_a_full_device_is_called_so_and_a_reader_that_has_gone_ends_it_quietly(
    target, status, said, monkeypatch, capsys
):
    with os.fdopen(output_to(target), "w") as output:
        monkeypatch.setattr(sys, "stdout", output)
        assert write(["What is 1 + 1?", "--preset", "tiny", "--max-new-tokens", "3"]) == status
    err = capsys.readouterr().err
    assert said in err and "Traceback" not in err and (said or not err)


@pytest.mark.parametrize(("target", "status", "said"), [("/dev/full", 2, b"No space"), ("gone", 141, b"")])
def test_so_it_is_when_python_itself_ends_and_writes_what_is_left(target, status, said):
    with os.fdopen(output_to(target), "w") as output:
        command = [sys.executable, "-m", "engine.settings"]
        ended = subprocess.run(command, cwd=ROOT, stdout=output, stderr=subprocess.PIPE, check=False)
    assert ended.returncode == status and said in ended.stderr
    assert b"Traceback" not in ended.stderr and b"Broken" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        (write, ["1", "--setting", "x" * 5000], "xx…"),
        (write, ["1", "--setting", "\x1b[31m\udcff"], "setting"),
        (write, ["1", "--seed", "9" * 5000], "--seed"),
        (trainer.main, ["fit", "--labels", "no\udcff", "--out", "x"], "no\\udcff"),
    ],
)
def test_what_is_no_text_or_far_too_long_is_refused_in_one_short_line(command, arguments, told, capsys):
    try:
        status = command(arguments)
    except SystemExit as ended:
        status = ended.code
    out, said = capsys.readouterr()
    assert status == 2 and out == "" and told in said and "Traceback" not in said and "\x1b" not in said
    assert len(said.splitlines()[-1]) < 500


@pytest.mark.parametrize("quoted", [False, True])
def test_a_value_is_shown_in_one_line_of_at_most_80_printable_characters(quoted):
    hostile = "x" * 10**6, "\x1b[2J\n" * 50, "\ud800" * 90, [*range(10**5)], 10**5000, {"a": "\0" * 500}, b"\0" * 999
    for value in hostile:
        text = shown(value, quoted)
        assert len(text) <= 80 and text.isprintable()
    assert shown("as it is", quoted) == ("'as it is'" if quoted else "as it is")


# ---- python app.py, with the shipped tiny pair ----

PROMPT = "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?"


def test_it_serves_the_page_and_answers_with_the_text_that_the_engine_gives(tiny_pair):
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environment = {**os.environ, "CITER_PRESET": "tiny", "CITER_SERVER__PORT": str(port)}
    process = subprocess.Popen([sys.executable, "app.py"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    try:
        eventually(lambda: process.poll() is not None or opens(port), 300)
        url = f"http://127.0.0.1:{port}/v1/"
        eventually(lambda: httpx.get(f"{url}models", timeout=60).status_code == 200, 300)
        asked = {"model": "tiny:0.5@0", "messages": [{"role": "user", "content": PROMPT}], "max_tokens": 80}
        reply = httpx.post(f"{url}chat/completions", json=asked, timeout=300).json()
    finally:
        process.terminate()
        process.wait(60)
    expected = tiny_pair.generate(PROMPT, policy="router", threshold=0.5, max_new_tokens=80)
    assert reply["choices"][0]["message"]["content"] == expected.text
    assert set(reply["citer"]["cost"]) >= {"bytes", "flops", "seconds", "price"}


def opens(port: int) -> bool:
    return socket.socket().connect_ex(("127.0.0.1", port)) == 0


def test_an_address_that_is_none_is_told_by_its_variable():
    for host in ("127.0.0.1", "localhost"):
        listen(host, [0]).close()
    for host in ("192.0.2.7", "no.such.host.invalid", "x" * 200):
        with pytest.raises(SettingsError, match=rf"CITER_SERVER__HOST = {host[:79]}"):
            listen(host, [0])
