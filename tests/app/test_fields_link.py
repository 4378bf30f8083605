"""Links: what was asked for a text goes through an address and back into the fields; what will not do is named."""

from __future__ import annotations

import json
from dataclasses import replace
from urllib.parse import parse_qsl

import pytest

from app.fields import FIELDS, MAX_TEXT, link_query, page_request, read_query, stop_strings, stop_text, trace_fields
from app.share.buttons import taken
from engine import POLICIES, Request, Role, Sampling, Trace
from engine.request import Forced, Turn
from tests.support.fake_pair import FakePair

STARTS = dict(zip(FIELDS, ("", 0.5, 0, "router", "", False, 0, 1, 0, 1, 0, 256, "", 0, ""), strict=True))


def trace_of(**asked) -> Trace:
    return FakePair(1e6).generate(Request(**{"prompt": "echo a b", "max_new_tokens": 9, **asked}))


def through_a_link(trace: Trace) -> Request:
    """The request of a page that was opened with the link."""
    values, refused = read_query(dict(parse_qsl(link_query(trace)[0], strict_parsing=True)), POLICIES)
    assert refused == []
    filled = {**STARTS, **values}
    return replace(page_request(*(filled[name] for name in FIELDS)), alternatives=0)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"threshold": 0.123456789, "policy": "confidence", "seed": 2**53 - 1, "max_new_tokens": 1},
        {"sampling": Sampling(0.7, 0.01, 40, 1.15), "system": "Be brief.", "raw": True},
        {
            "prompt": "a&b=c#d?é\u2028\ufeff%20+\n\t</script>${x}\\",
            "system": " \n",
            "stop": ("\n\n", "a\\n", "\t|", " "),
        },
        {"threshold": 2.0, "policy": "random"},
        {"threshold": 0.7, "acceptance": 0.35, "max_draft": 12},
        {"turns": (Turn("user", "a&b\n"), Turn("assistant", "é"))},
    ],
)
def test_a_link_brings_back_what_was_asked(asked: dict):
    trace = trace_of(**asked)
    original = Request(**{"prompt": "echo a b", "max_new_tokens": 9, **asked})
    if original.system is not None and not original.system.strip():
        original = replace(original, system=None)  # to the page a blank system prompt is none
    assert through_a_link(trace) == original


def test_what_every_page_starts_with_is_not_in_the_link():
    names = [name for name, _ in parse_qsl(link_query(trace_of())[0])]
    assert names == ["prompt", "threshold", "acceptance", "policy", "seed", "max_new_tokens", "max_draft"], (
        "these differ from server to server"
    )


@pytest.mark.parametrize("texts", [("\n",), ("a\nb", "c"), ("\\", "\\n"), (" ",), ("\t",), ("###",)])
def test_stop_strings_are_written_as_the_field_reads_them(texts: tuple[str, ...]):
    assert stop_strings(stop_text(texts)) == texts


def test_stop_strings_that_the_field_cannot_hold_are_left_out_by_name():
    query, missing = link_query(trace_of(stop=("a\rb",)))
    assert "stop=" not in query and len(missing) == 1 and missing[0].startswith("stop: ")


@pytest.mark.parametrize(("letter", "fits"), [("x", MAX_TEXT), ("é", MAX_TEXT // 6)])
def test_a_prompt_too_long_for_a_link_is_left_out_by_name(letter: str, fits: int):
    assert link_query(trace_of(prompt=letter * fits))[1] == []
    query, missing = link_query(trace_of(prompt=letter * (fits + 1)))
    assert missing == ["The prompt is too long for a link."] and query.startswith("threshold=")


def test_where_texts_do_not_fit_together_the_prompt_is_left_out():
    query, missing = link_query(trace_of(prompt="p" * 4000, system="s" * 4000))
    assert missing == ["The prompt is too long for a link."] and "s" * 4000 in query


def test_a_conversation_that_does_not_fit_beside_its_prompt_is_left_out_by_name():
    long = trace_of(turns=(Turn("user", "a" * 6000), Turn("assistant", "b")))
    query, missing = link_query(long)
    assert missing == ["The conversation before it is too long for a link."] and "prompt=echo%20a%20b" in query
    assert link_query(replace(long, turns=(Turn("assistant", "b", ((Role.LLM, 1),)),)))[1] == []


def test_a_link_says_what_no_field_holds():
    trace = trace_of()
    (first, *others) = trace.events
    by_hand = replace(trace, forced=(Forced(0, Role.LLM),), events=(replace(first, forced=True), *others))
    assert link_query(by_hand)[1] == ["Tokens chosen by hand are not in the link."]
    said = json.loads(taken(by_hand, None, "program") or "")["notes"]
    assert said == ["Tokens chosen by hand are not in the program."]
    score = first.score
    assert score is not None
    turned = replace(trace, events=(replace(first, role=Role.LLM, threshold=score + 0.1), *others))
    assert any("threshold was turned while" in said for said in link_query(turned)[1])
    said = json.loads(taken(turned, None, "program") or "")["notes"]
    assert said == ["The threshold was turned while this text was written; the program has the last one."]
    kept = replace(
        trace, events=(replace(first, acceptance=0.5, ratio=0.1), *others[:-1], replace(others[-1], acceptance=0.5))
    )
    assert any("acceptance was turned while" in said for said in link_query(kept)[1])
    assert link_query(trace)[1] == json.loads(taken(trace, None, "program") or "")["notes"] == []


def test_the_threshold_of_a_link_is_the_one_last_in_force():
    trace = trace_of()
    turned = replace(trace, events=(*trace.events[:-1], replace(trace.events[-1], threshold=0.25)))
    assert trace_fields(turned)["threshold"] == 0.25 and "threshold=0.25&" in link_query(turned)[0]


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [
        ("threshold", "high", "threshold = 'high' is not a number"),
        ("acceptance", "1.5", "acceptance = 1.5 must be a number from 0 to 1"),
        ("max_draft", "auto", "max_draft = 'auto' is not a whole number"),
        ("max_draft", "-1", "max_draft = -1 must be a whole number"),
        ("threshold", "nan", "threshold = nan must be a number from 0 to 2"),
        ("threshold", "80", "threshold = 80.0 must be a number from 0 to 2"),
        ("policy", "magic", "policy = 'magic' is unknown: choose one of"),
        ("policy", "llm", "policy = 'llm' is not there with these models"),
        ("temperature", "-1", "temperature = -1.0 must be"),
        ("top_p", "0", "top_p = 0 keeps no token"),
        ("top_k", "1.5", "top_k = '1.5' is not a whole number"),
        ("seed", "-3", "seed = -3 must be a whole number"),
        ("seed", str(2**53), "seed = 9007199254740992 is more than"),
        ("max_new_tokens", "0", "max_new_tokens = 0 must be"),
        ("raw", "perhaps", "raw = 'perhaps' must be 1 or 0"),
        ("prompt", " ", "The prompt is empty"),
        ("seed", "9" * 5000, "seed = '99999999999999999999…' is not a whole number"),
        ("policy", "x" * 5000, "policy = 'xxx"),
    ],
)
def test_a_bad_value_is_refused_by_name_and_the_others_stay(name: str, text: str, reason: str):
    values, refused = read_query({"repetition_penalty": "1.2", name: text}, ("router", "confidence", "slm"))
    assert values == {"repetition_penalty": 1.2}
    assert len(refused) == 1 and refused[0].startswith(reason) and len(refused[0]) < 200


def test_parameters_that_are_not_ours_are_none_of_our_business():
    assert read_query({"__theme": "dark", "view": "api", "threshhold": "x"}, POLICIES) == ({}, [])
