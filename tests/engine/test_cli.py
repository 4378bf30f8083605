"""`python -m engine`: text and meter, or one JSON object; errors on stderr with status 2.

The limits of its options are in `tests.support.limits`.
"""

from __future__ import annotations

import itertools
import re
import sys

import pytest

import engine.pair
from engine import Trace, fold_revealed
from engine.__main__ import main, plain, show
from engine.events import SettledEvents, taken_back
from tests.support.routers import make_router

VERIFIED = ("hello", "--setting", "confidence < 0 @ 0.02/4")
SAME = {"policy": "confidence", "threshold": 0.0, "acceptance": 0.02, "max_draft": 4}


@pytest.fixture(autouse=True)
def _random_pair(random_pair, monkeypatch):
    monkeypatch.setattr(engine.pair, "load", lambda *_, **__: random_pair)


def run(capsys, *arguments) -> tuple[int, str, str]:
    status = main(["--setting", "confidence", "--max-new-tokens", "12", *arguments])
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_text_is_streamed_without_colour_when_piped_and_ends_with_the_meter(capsys, random_pair):
    status, out, err = run(capsys, *VERIFIED)
    text, _, meter = out.rpartition("\n\n")
    trace = random_pair.generate("hello", max_new_tokens=12, **SAME)
    assert (status, err) == (0, "") and "\x1b" not in out
    assert text == plain(trace.text) and f"{len(trace.events)} tokens" in meter
    assert taken_back(trace.events) > 0 and f" {taken_back(trace.events)} taken back, " in meter
    assert f" {sum(event.llm_fed > 0 for event in trace.events)} LLM passes, " in meter
    assert all(unit in meter for unit in ("GB moved", "GFLOP", "seconds"))


def test_both_dials_are_the_routers_own_unless_they_are_given_or_set(capsys, random_pair, monkeypatch):
    def dials(*arguments):
        assert main(["hello", "--json", "--max-new-tokens", "3", *arguments]) == 0
        trace = Trace.from_json(capsys.readouterr().out)
        return trace.threshold, trace.acceptance, trace.max_draft

    random_pair.use_router(make_router(random_pair, threshold=0.77, acceptance=0.4))
    try:
        assert dials() == (0.77, 0.4, "auto") and dials("--setting", "confidence") == (0.5, 0.0, "auto")
        monkeypatch.setenv("CITER_SETTING", "< 0.3 @ 0.25/6")
        assert dials() == (0.3, 0.25, 6)
        assert dials("--setting", "0.2@0/auto") == (0.2, 0.0, "auto")
    finally:
        random_pair.use_router(None)


def test_a_terminal_strikes_through_what_was_taken_back_where_it_stood(capsys, random_pair, monkeypatch):
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, out, _ = run(capsys, *VERIFIED)
    struck = re.findall(r"\x1b\[38;5;74m\x1b\[9m(.*?)\x1b\[0m", out, re.DOTALL)
    trace = random_pair.generate("hello", max_new_tokens=12, **SAME)
    assert struck == [plain(lost.text) for event in trace.events for lost in event.taken_back if lost.text]
    rest = re.sub(r"\x1b\[38;5;74m\x1b\[9m.*?\x1b\[0m", "", out, flags=re.DOTALL)
    assert re.sub(r"\x1b\[[0-9;]*m", "", rest).rpartition("\n\n")[0] == plain(trace.text)


def test_a_draft_is_printed_once_the_llm_has_read_it_or_the_text_is_stopped(capsys, random_pair):
    text, out = SettledEvents(), ""
    for event in random_pair.stream("hello", max_new_tokens=40, **SAME):
        show(text.add(event), False)
        out += capsys.readouterr().out
        settled = itertools.takewhile(lambda each: not each.provisional, fold_revealed(text.events))
        assert out == plain("".join(each.text for each in settled))
        if text.events[-1].provisional and len(text.events) > 20:
            break
    show(text.rest(), False)
    assert out + capsys.readouterr().out == plain("".join(each.text for each in text.events))


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_what_cannot_be_written_is_said_on_stderr_with_status_2_and_nothing_on_stdout(capsys, form):
    for arguments, message in ((["x", "--setting", "router"], "router"), (["x" * 3000], "2,048")):
        status, out, err = run(capsys, *arguments, *form)
        assert (status, out) == (2, "") and message in err


def test_control_characters_of_model_text_do_not_reach_the_terminal():
    assert plain("a\x1b[31mb\x07\x7f\x9b\r\n\tc日") == "a␛[31mb␇\ufffd\ufffd␍\n\tc日"
