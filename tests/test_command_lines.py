"""Every command line where its output goes nowhere and its input is no text: a word and a status, never a traceback."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest

from engine.errors import InvalidRequest, check_number, shown
from engine.pairs.presets import PRESETS, GgufModel
from tests.support.browser import eventually
from tests.support.paths import ROOT

ENGINE = [sys.executable, "-m", "engine"]
TEXT = ["What is 1 + 1?", "--preset", "tiny", "--max-new-tokens", "3"]
ANSWER = ["answer", "--preset", "tiny", "--questions", "1", "--max-new-tokens", "2", "--out"]
SLM = PRESETS["cpu"].slm
assert isinstance(SLM, GgufModel)
GGUF = SLM.file.name
WEIGHTS = [sys.executable, "-m", "engine.weights"]
COMMANDS = [
    [*ENGINE, *TEXT],
    [sys.executable, "-m", "engine.settings"],
    [sys.executable, "-m", "engine.benchmark", "report"],
    [sys.executable, "-m", "trainer", *ANSWER],
]


def run(command, cwd, **streams):
    if command[-1] == "--out":
        command = [*command, str(cwd / "out")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CITER_CACHE_DIR": str(cwd / "cache")}
    if command == WEIGHTS:  # something to speak of
        (cwd / "cache" / "gguf").mkdir(parents=True)
        (cwd / "cache" / "gguf" / GGUF).write_bytes(b"x")
    streams = {"stdout": subprocess.PIPE, **streams}
    return subprocess.run(
        command, cwd=cwd, env=environment, stderr=subprocess.PIPE, timeout=120, check=False, **streams
    )


@pytest.mark.parametrize("command", [*COMMANDS, WEIGHTS], ids=lambda each: " ".join(each[2:])[:40])
def test_a_full_device_is_called_so(command, tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = run(command, tmp_path, stdout=full)
    assert ended.returncode == 2, ended.stderr
    assert b"No space left on device" in ended.stderr and b"Traceback" not in ended.stderr


@pytest.mark.parametrize("command", COMMANDS, ids=lambda each: " ".join(each[2:])[:40])
def test_a_reader_that_has_gone_ends_it_quietly(command, tmp_path):
    reader, writer = os.pipe()
    os.close(reader)
    ended = run(command, tmp_path, stdout=writer)
    os.close(writer)
    assert ended.returncode == 141
    assert b"Traceback" not in ended.stderr and b"Broken" not in ended.stderr


def test_the_page_calls_a_full_device_so(tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = run([sys.executable, str(ROOT / "app.py")], tmp_path, stdout=full)
    assert ended.returncode == 1
    assert b"No space left on device" in ended.stderr and b"Traceback" not in ended.stderr


def answers(port: int) -> bool:
    with socket.socket() as asking:
        return asking.connect_ex(("127.0.0.1", port)) == 0


@pytest.mark.slow
def test_the_page_is_served_where_there_is_no_output(tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {"CITER_PRESET": "tiny", "CITER_SERVER__HOST": "127.0.0.1", "CITER_SERVER__PORT": str(port)}
    command = ["sh", "-c", f"exec '{sys.executable}' '{ROOT / 'app.py'}' >&-"]
    environment = {**os.environ, **settings, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE) as process:
        try:
            eventually(lambda: process.poll() is not None or answers(port), 60)
            assert process.poll() is None
        finally:
            process.terminate()
            told = process.communicate()[1]
    assert b"Traceback" not in told


@pytest.mark.parametrize("module", ["engine", "engine.benchmark", "trainer"])
def test_help_that_nobody_can_read_is_no_fault(module, tmp_path):
    with open("/dev/full", "w") as full:  # noqa: PTH123
        ended = run([sys.executable, "-m", module, "--help"], tmp_path, stdout=full)
    assert b"Traceback" not in ended.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([*ENGINE, b"caf\xe9", "--preset", "tiny"], b"The prompt holds half a surrogate pair at character 4"),
        ([*ENGINE, "1", "--system", b"\xff"], b"system holds half a surrogate pair"),
        ([*ENGINE, "1", "--stop", b"\xff"], b"stop holds half a surrogate pair"),
        ([*ENGINE, "1", "--threshold", "x" * 5000], b"xx\xe2\x80\xa6"),
        ([*ENGINE, "1", "--threshold", b"\x1b[31m\xff"], b"invalid float value"),
        ([*ENGINE, "1", "--max-draft", "9" * 4000], b"max_draft"),
        ([*ENGINE, "1", "--seed", "9" * 5000], b"invalid int value"),
        ([sys.executable, "-m", "trainer", "fit", "--labels", b"no\xff", "--out", "x"], b"no\\udcff"),
    ],
)
def test_what_is_no_text_or_far_too_long_is_refused_in_one_short_line(arguments, told, tmp_path):
    ended = run(arguments, tmp_path)
    assert ended.returncode == 2 and ended.stdout == b""
    assert told in ended.stderr and b"Traceback" not in ended.stderr and b"\x1b" not in ended.stderr
    assert len(ended.stderr.splitlines()[-1]) < 500


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
    with pytest.raises(InvalidRequest, match=r"n = a value of type int must be a number from 0 to 1 \(h\)"):
        check_number("n", 10**5000, 0, 1, "h")
