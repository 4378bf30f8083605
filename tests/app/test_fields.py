"""The form of a request, read."""

from __future__ import annotations

import pytest

from app.fields import page_request, read_turns, stop_strings, turns_text
from engine import InvalidRequest, Role
from engine.request import Turn

FORM = {
    "prompt": "hello",
    "threshold": 0.5,
    "acceptance": 0,
    "policy": "router",
    "system": "",
    "raw": False,
    "temperature": 0,
    "top_p": 1,
    "top_k": 0.0,
    "repetition_penalty": 1,
    "seed": 7.0,
    "max_new_tokens": 20.0,
    "stop": "",
    "max_draft": 0,
    "turns": "",
}


def test_a_filled_form_is_a_request():
    made = page_request(**{**FORM, "system": "Be brief.", "stop": "END\n\\n\\n"})
    assert made.system == "Be brief." and made.stop == ("END", "\n\n") and made.seed == 7 and made.alternatives == 5
    assert made.max_draft == "auto" and page_request(**{**FORM, "max_draft": 3.0}).max_draft == 3
    assert page_request(**FORM).system is None and page_request(**FORM).stop == ()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompt", "  \n", "prompt is empty"),
        ("prompt", None, "prompt is empty"),
        ("threshold", float("nan"), "threshold = nan"),
        ("threshold", -0.1, "threshold = -0.1"),
        ("threshold", None, "threshold = None"),
        ("acceptance", float("nan"), "acceptance = nan"),
        ("acceptance", 1.5, "acceptance = 1.5"),
        ("max_draft", 2000.0, "max_draft = 2000"),
        ("max_draft", None, "max_draft = None"),
        ("policy", "magic", "policy = 'magic'"),
        ("temperature", float("inf"), "temperature = inf"),
        ("top_p", 0, "top_p = 0"),
        ("top_p", 1.5, "top_p = 1.5"),
        ("top_k", 2.5, "top_k = 2.5"),
        ("repetition_penalty", 0, "repetition_penalty = 0"),
        ("seed", -1.0, "seed = -1"),
        ("seed", None, "seed = None"),
        ("max_new_tokens", float("nan"), "max_new_tokens = nan"),
    ],
)
def test_a_bad_field_is_refused_by_name(field, value, message):
    with pytest.raises(InvalidRequest, match=message.replace("(", r"\(")):
        page_request(**{**FORM, field: value})


@pytest.mark.parametrize(
    ("text", "strings"),
    [("", ()), (None, ()), ("a\n\nb", ("a", "b")), (r"\n", ("\n",)), (r"\\n", (r"\n",)), (r"x\ty\q", ("x\ty\\q",))],
)
def test_stop_strings_are_lines_with_escapes(text, strings):
    assert stop_strings(text) == strings


def test_a_conversation_is_the_same_after_its_way_through_the_field():
    turns = (Turn("system", ""), Turn("user", 'é"\u2028</b>'), Turn("assistant", "ab", ((Role.LLM, 1), (Role.SLM, 1))))
    assert (
        read_turns(turns_text(turns)) == turns and page_request(**{**FORM, "turns": turns_text(turns)}).turns == turns
    )
    assert turns_text(()) == "" and read_turns("") == read_turns(None) == ()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (7, "is not a text"),
        ("{", "it is no JSON"),
        ("[" * 100_000, "it is no JSON"),
        ("7", "all of it: Input should be a valid"),
        ('[{"role": "user"}]', "0.text: Field required"),
        ('[{"role": "robot", "text": "a"}]', "0.role: Input should be"),
        ('[{"role": "user", "text": "a", "authors": [["me", 1]]}]', "authors"),
        ('[{"role": "user", "text": "a", "authors": [["slm", 2]]}]', "characters of an author = 2"),
        (turns_text([Turn("user", "x")] * 5000), "turns has 1,001 entries; at most 1,000 turns"),
        (turns_text([Turn("user", "x" * 600_000)] * 2), "The turns have 1,200,000 characters; at most 1,000,000"),
        ("x" * 2_000_001, "has 2,000,001 characters; at most 2,000,000"),
    ],
)
def test_what_is_no_conversation_is_refused_in_a_few_words(text, said):
    with pytest.raises(InvalidRequest) as refused:
        page_request(**{**FORM, "turns": text})
    assert said in str(refused.value) and len(str(refused.value)) < 300
