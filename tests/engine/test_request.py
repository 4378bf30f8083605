"""Bad requests are refused with a message that names the value and the way out, before any model is touched."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from engine import Dial, Forced, InvalidRequest, Request, Role, Sampling, build_request
from engine.request import (
    MAX_FORCED,
    MAX_PROMPT_CHARACTERS,
    MAX_STOP_CHARACTERS,
    MAX_STOPS,
    MAX_SYSTEM_CHARACTERS,
    MAX_TURNS,
    Turn,
)


@pytest.mark.parametrize("prompt", ["", "   ", "\n\t ", None, 5])
def test_an_empty_prompt_is_refused(prompt):
    with pytest.raises(InvalidRequest, match="prompt is empty"):
        Request(prompt)


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), -0.01, 2.1, "0.5", None, True])
def test_a_threshold_that_is_no_number_in_range_is_refused_by_request_and_dial(threshold):
    with pytest.raises(InvalidRequest, match=r"threshold = .*SLM-only"):
        Request("x", threshold=threshold)
    with pytest.raises(InvalidRequest, match="threshold"):
        Dial(0.5).threshold = threshold


@pytest.mark.parametrize(
    "bad",
    [
        {"policy": "best"},
        {"max_new_tokens": 0},
        {"max_new_tokens": 1.5},
        {"seed": -1},
        {"alternatives": -1},
        {"alternatives": 51},
        {"stop": ("",)},
    ],
)
def test_other_values_out_of_range_are_refused_by_name(bad):
    (name,) = bad
    with pytest.raises(InvalidRequest, match=name):
        Request("x", **bad)


@pytest.mark.parametrize(
    ("large", "said"),
    [
        ({"prompt": "x" * (MAX_PROMPT_CHARACTERS + 1)}, "The prompt has 1,000,001 characters; at most 1,000,000"),
        ({"system": "x" * (MAX_SYSTEM_CHARACTERS + 1)}, "system has 100,001 characters; at most 100,000"),
        ({"stop": ("x",) * (MAX_STOPS + 1)}, "stop has 101 entries; at most 100"),
        ({"stop": ("x" * (MAX_STOP_CHARACTERS + 1),)}, "stop has 1,001 characters; at most 1,000"),
        ({"forced": (Forced(0, Role.SLM),) * (MAX_FORCED + 1)}, "forced has 100,001 entries; at most 100,000"),
        ({"policy": "x" * 5_000_000}, "is unknown"),
        ({"stop": 5}, "stop = 5 is no tuple"),
        ({"seed": 10**5000}, "seed = "),
        ({"turns": (Turn("user", "x"),) * (MAX_TURNS + 1)}, "turns has 1,001 entries; at most 1,000 turns"),
        ({"turns": (Turn("user", "x" * 600_000),) * 2}, "The turns have 1,200,000 characters; at most 1,000,000"),
        ({"turns": (Turn("user", "x"),), "raw": True}, "raw = True continues a text as it is"),
    ],
)
def test_every_field_has_a_limit_and_what_is_too_large_is_not_said_back(large, said):
    with pytest.raises(InvalidRequest, match=said) as refused:
        Request(**{"prompt": "x", **large})
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("authors", "said"),
    [
        ([(Role.SLM, 3)], "is no tuple of authors"),
        (((Role.SLM, 1),) * 4, "authors has 4 entries; at most 3"),
        ((("slm", 3),), "give a Role"),
        ((Role.SLM,), "give a Role"),
        (((Role.SLM, 0), (Role.LLM, 3)), "characters of an author = 0"),
        (((Role.SLM, 1), (Role.LLM, 1)), "are of 2 characters, and its text has 3"),
    ],
)
def test_who_wrote_what_of_a_message_fits_its_text(authors, said):
    with pytest.raises(InvalidRequest, match=said):
        Turn("assistant", "abc", authors)
    assert Turn("assistant", "abc", ((Role.SLM, 1), (Role.LLM, 2))).text == "abc"


@pytest.mark.parametrize("role", ["llm", "slm", "user", None, 1])
def test_the_author_of_a_forced_token_is_a_role_and_not_its_name(role):
    with pytest.raises(InvalidRequest, match=f"role of a forced token = {role!r}: give Role.SLM"):
        Forced(3, role)
    assert Forced(3, Role("llm")).role is Role.LLM


def test_the_largest_of_all_is_accepted():
    stops = ("x" * MAX_STOP_CHARACTERS,) * MAX_STOPS
    Request("x" * MAX_PROMPT_CHARACTERS, system="x" * MAX_SYSTEM_CHARACTERS, stop=stops)


@pytest.mark.parametrize(
    ("ids", "said"),
    [([], "has no token"), ([1, 259], "token id = 259"), ([-1], "token id = -1"), ([1] * 2048, "too long")],
)
def test_a_prompt_of_token_ids_that_cannot_be_read_is_refused_before_any_model_runs(random_pair, ids, said):
    asked, decoding = Request("x", policy="confidence"), random_pair.open()
    with pytest.raises(InvalidRequest, match=said):
        random_pair.start([asked], prompts=[ids])
    with pytest.raises(InvalidRequest, match=said):
        random_pair.add(decoding, [asked, asked], prompts=[[1], ids])
    assert not decoding.rows


def test_an_unknown_option_is_refused_with_the_known_ones(random_pair):
    with pytest.raises(InvalidRequest, match=r"treshold is not an option.*threshold"):
        random_pair.stream("x", treshold=0.5)


def test_a_request_is_changed_by_the_same_options_that_make_one():
    first = build_request("x", top_p=0.9, threshold=0.4, stop="y", turns=[Turn("user", "before")])
    changed = build_request(first, temperature=0.5, stop="z", turns=[])
    assert changed == build_request("x", temperature=0.5, top_p=0.9, threshold=0.4, stop=("z",))
    assert build_request(first, seed=3) == replace(first, seed=3)
    given = build_request(first, sampling=Sampling(top_k=7), temperature=0.5)
    assert given.sampling == Sampling(temperature=0.5, top_k=7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"treshold": 0.5}, r"treshold is not an option; known are .*temperature"),
        ({"temperature": -1}, "temperature = -1"),
        ({"sampling": None, "temperature": 0.5}, "sampling = None must be a Sampling"),
        ({"stop": 5}, "stop = 5"),
    ],
)
@pytest.mark.parametrize("prompt", ["x", Request("x")], ids=["prompt", "request"])
def test_options_that_make_no_request_are_refused_by_name(prompt, options, said):
    with pytest.raises(InvalidRequest, match=said):
        build_request(prompt, **options)


def test_the_public_names_do_not_import_torch():
    code = "import sys, engine; engine.Request('x'); engine.Trace; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
