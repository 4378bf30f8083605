"""Command lines whose output goes nowhere and whose input is no text: a word and a status, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import engine.benchmark.__main__ as benchmark
import engine.pair
import engine.weights.__main__ as weights
import trainer.__main__ as trainer
from engine.__main__ import main as write
from engine.errors import InvalidRequest, check_number, shown
from engine.pairs.presets import PRESETS, GgufModel
from tests.support.paths import ROOT

SLM = PRESETS["cpu"].slm
assert isinstance(SLM, GgufModel)
NAME = SLM.file.name
COMMANDS = {
    "engine": lambda: write(["What is 1 + 1?", "--preset", "tiny", "--max-new-tokens", "3"]),
    "engine.weights": lambda: weights.main([]),
    "engine.benchmark": lambda: benchmark.main(["report"]),
}


@pytest.fixture(autouse=True)
def _something_to_say(tiny_pair, tmp_path, monkeypatch):
    monkeypatch.setattr(engine.pair, "load", lambda *_, **__: tiny_pair)
    monkeypatch.setenv("CITER_CACHE_DIR", str(tmp_path))
    (tmp_path / "gguf").mkdir()
    (tmp_path / "gguf" / NAME).write_bytes(b"x")


@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_device_is_called_so(name, monkeypatch, capsys):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert COMMANDS[name]() == 2
    said = capsys.readouterr().err
    assert "No space left" in said and "Traceback" not in said


@pytest.mark.parametrize("name", COMMANDS)
def test_a_reader_that_has_gone_ends_it_quietly(name, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as gone:
        monkeypatch.setattr(sys, "stdout", gone)
        assert COMMANDS[name]() == 141
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(("target", "status", "said"), [("/dev/full", 2, b"No space"), ("gone", 141, b"")])
def test_so_it_is_when_python_itself_ends_and_writes_what_is_left(target, status, said):
    reader, writer = os.pipe()
    os.close(reader)
    stdout = writer if target == "gone" else os.open(target, os.O_WRONLY)
    command = [sys.executable, "-m", "engine.settings"]
    ended = subprocess.run(command, cwd=ROOT, stdout=stdout, stderr=subprocess.PIPE, check=False)
    os.close(stdout)
    assert ended.returncode == status and said in ended.stderr
    assert b"Traceback" not in ended.stderr and b"Broken" not in ended.stderr


@pytest.mark.parametrize(
    ("command", "arguments", "told"),
    [
        (write, ["1", "--threshold", "x" * 5000], "xx…"),
        (write, ["1", "--threshold", "\x1b[31m\udcff"], "--threshold"),
        (write, ["1", "--seed", "9" * 5000], "--seed"),
        (write, ["1", "--max-draft", "\x1b[31m"], "max_draft"),
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


def test_a_value_is_shown_in_one_line_of_at_most_80_printable_characters():
    hostile = [
        "x" * 10**6,
        "\x1b[2J\n" * 50,
        "\ud800" * 90,
        list(range(10**5)),
        10**5000,
        {"a": "\0" * 500},
        b"\0" * 999,
    ]
    for value in hostile:
        for quoted in (False, True):
            text = shown(value, quoted)
            assert len(text) <= 80 and text.isprintable()
    assert shown("as it is") == "as it is" and shown("as it is", True) == "'as it is'"
    with pytest.raises(InvalidRequest, match="int"):
        check_number("n", 10**5000, 0, 1, "h")
