"""`python -m engine`: text and meter, or one JSON object; errors on stderr with status 2."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys

import pytest

import engine.pair
from engine import Trace, fold_revealed
from engine.__main__ import Terminal, main, plain
from engine.events import taken_back


@pytest.fixture(autouse=True)
def _random_pair(random_pair, monkeypatch):
    monkeypatch.setattr(engine.pair, "load", lambda *_, **__: random_pair)


def run(capsys, *arguments):
    status = main(["--policy", "confidence", "--max-new-tokens", "12", *arguments])
    return status, *capsys.readouterr()


def test_the_text_is_streamed_without_colour_when_piped_and_ends_with_the_meter(capsys, random_pair):
    status, out, err = run(capsys, "hello", "--threshold", "0.3")
    text, _, meter = out.rpartition("\n\n")
    expected = random_pair.generate("hello", policy="confidence", threshold=0.3, max_new_tokens=12)
    assert (status, err) == (0, "")
    assert text == plain(expected.text)
    assert "\x1b" not in out
    assert f"{len(expected.events)} tokens" in meter
    for unit in ("GB moved", "GFLOP", "seconds"):
        assert unit in meter


def dials(trace: Trace):
    return trace.threshold, trace.acceptance


def test_both_dials_are_the_routers_own_unless_they_are_given(capsys, random_pair):
    from tests.engine.test_router import make_router

    random_pair.use_router(make_router(random_pair, threshold=0.77, acceptance=0.4))
    try:
        found = []
        given = ([], ["--threshold", "0.2"], ["--acceptance", "0"], ["--policy", "confidence"])
        for arguments in given:
            assert main(["hello", "--json", "--policy", "router", "--max-new-tokens", "3", *arguments]) == 0
            found.append(dials(Trace.from_json(capsys.readouterr().out)))
    finally:
        random_pair.use_router(None)
    assert found == [(0.77, 0.4), (0.2, 0.4), (0.77, 0.0), (0.5, 0.0)]


def test_the_settings_name_both_dials_and_the_longest_draft_unless_they_are_given(capsys, monkeypatch):
    for name, value in {"THRESHOLD": "0.3", "ACCEPTANCE": "0.25", "MAX_DRAFT": "6"}.items():
        monkeypatch.setenv(f"CITER_{name}", value)
    _, out, _ = run(capsys, "hello", "--json")
    trace = Trace.from_json(out)
    assert (*dials(trace), trace.max_draft) == (0.3, 0.25, 6)
    _, out, _ = run(capsys, "hello", "--json", "--acceptance", "0", "--max-draft", "auto")
    trace = Trace.from_json(out)
    assert (*dials(trace), trace.max_draft) == (0.3, 0.0, "auto")


VERIFIED = ("hello", "--threshold", "0", "--acceptance", "0.02", "--max-draft", "4")


def written(random_pair):
    options = {"policy": "confidence", "threshold": 0.0, "acceptance": 0.02, "max_draft": 4, "max_new_tokens": 12}
    return random_pair.generate("hello", **options)


def test_a_text_whose_tokens_are_taken_back_is_printed_as_it_ends_up(capsys, random_pair):
    status, out, err = run(capsys, *VERIFIED)
    text, _, meter = out.rpartition("\n\n")
    trace = written(random_pair)
    assert (status, err) == (0, "")
    assert text == plain(trace.text)
    assert taken_back(trace.events) > 0
    assert f" {taken_back(trace.events)} taken back, " in meter
    assert f" {sum(event.llm_fed > 0 for event in trace.events)} LLM passes, " in meter


def test_a_terminal_strikes_through_what_was_taken_back_where_it_stood(capsys, random_pair, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out, _ = run(capsys, *VERIFIED)
    struck = re.findall(r"\x1b\[38;5;74m\x1b\[9m(.*?)\x1b\[0m", out, re.DOTALL)
    events = written(random_pair).events
    assert struck == [plain(lost.text) for event in events for lost in event.taken_back if lost.text]
    rest = re.sub(r"\x1b\[38;5;74m\x1b\[9m.*?\x1b\[0m", "", out, flags=re.DOTALL)
    rest = re.sub(r"\x1b\[[0-9;]*m", "", rest).rpartition("\n\n")[0]
    assert rest == plain(written(random_pair).text)


def test_a_draft_is_printed_once_the_llm_has_read_it_or_the_text_is_stopped(capsys, random_pair):
    terminal = Terminal(colour=False)
    options = {"policy": "confidence", "threshold": 0.0, "acceptance": 0.02, "max_draft": 4, "max_new_tokens": 40}
    out = ""
    for event in random_pair.stream("hello", **options):
        terminal.add(event)
        out += capsys.readouterr().out
        settled = itertools.takewhile(lambda each: not each.provisional, fold_revealed(terminal.events))
        assert out == plain("".join(each.text for each in settled))
        if terminal.events[-1].provisional and len(terminal.events) > 20:
            break
    terminal.finish()
    assert out + capsys.readouterr().out == plain("".join(each.text for each in terminal.events))


def test_json_prints_one_object_that_loads_as_a_trace(capsys):
    status, out, _ = run(capsys, "hello", "--json", "--alternatives", "3", "--seed", "4", "--temperature", "0.9")
    trace = Trace.from_json(out)
    assert status == 0
    assert json.loads(out)["events"][0]["role"] in ("slm", "llm")
    assert (trace.seed, trace.sampling.temperature, len(trace.events[0].slm_alternatives)) == (4, 0.9, 3)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["  "], "prompt is empty"),
        (["x", "--threshold", "nan"], "threshold = nan"),
        (["x", "--threshold", "-1"], "threshold = -1"),
        (["x", "--top-p", "1.5"], "top_p = 1.5"),
        (["x", "--temperature", "-1"], "temperature = -1"),
        (["x", "--max-new-tokens", "0"], "max_new_tokens = 0"),
        (["x", "--acceptance", "1.5"], "acceptance = 1.5"),
        (["x", "--acceptance", "nan"], "acceptance = nan"),
        (["x", "--max-draft", "0"], "max_draft = 0"),
        (["x", "--max-draft", "never"], "max_draft = 'never'"),
        (["x", "--policy", "router"], "needs a router"),
        (["x" * 3000], "tokens, but the context holds 2,048"),
    ],
)
@pytest.mark.parametrize("form", [[], ["--json"]])
def test_bad_input_is_said_on_stderr_with_status_2_and_nothing_on_stdout(capsys, arguments, message, form):
    status, out, err = run(capsys, *arguments, *form)
    assert (status, out) == (2, "")
    assert message in err


@pytest.mark.parametrize("bad", [["--policy", "best"], ["--threshold", "high"], []])
def test_unknown_choices_end_with_status_2(capsys, bad):
    with pytest.raises(SystemExit) as ended:
        main([*bad] if not bad else ["x", *bad])
    assert ended.value.code == 2
    assert capsys.readouterr().out == ""


def test_a_bad_setting_is_said_by_its_variables_name_before_anything_is_loaded():
    environment = {**os.environ, "CITER_PRICE__SLM": "-1"}
    done = subprocess.run(
        [sys.executable, "-m", "engine", "x"], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "CITER_PRICE__SLM" in done.stderr


def test_control_characters_of_model_text_do_not_reach_the_terminal():
    assert plain("a\x1b[31mb\x07\x7f\x9b\r\n\tc日") == "a␛[31mb␇\ufffd\ufffd␍\n\tc日"
