"""The page's fields, read as a request; what they may hold is in `test_limits`."""

from __future__ import annotations

import pytest

from app.fields import page_request, read_turns, stop_strings, turns_text
from engine import InvalidRequest, Role
from engine.request import Turn
from tests.support.limits import FORM


def test_a_filled_form_is_a_request():
    made = page_request(**{**FORM, "system": "Be brief.", "stop": "END\n\\n\\n"})
    assert made.system == "Be brief." and made.stop == ("END", "\n\n") and made.seed == 7 and made.alternatives == 5
    assert made.max_draft == "auto" and page_request(**{**FORM, "max_draft": 3.0}).max_draft == 3
    assert page_request(**FORM).system is None and page_request(**FORM).stop == ()


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
        (7, "7"),
        ("{", "JSON"),
        ("[" * 100_000, "JSON"),
        ("7", "all of it"),
        ('[{"role": "user"}]', "0.text"),
        ('[{"role": "robot", "text": "a"}]', "0.role"),
        ('[{"role": "user", "text": "a", "authors": [["me", 1]]}]', "authors"),
        ('[{"role": "user", "text": "a", "authors": [["slm", 2]]}]', "author = 2"),
        ("x" * 2_000_001, "2,000,001"),
    ],
)
def test_what_is_no_conversation_is_refused_in_a_few_words(text, said):
    with pytest.raises(InvalidRequest) as refused:
        page_request(**{**FORM, "turns": text})
    assert said in str(refused.value) and len(str(refused.value)) < 300
