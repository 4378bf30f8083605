"""What follows a text: the conversation with it, as it is sent, taken along, and refused."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest

from app.fields import FIELDS, turns_text
from app.handlers import Handlers
from app.running.session import Session
from app.running.sessions import Sessions
from engine import InvalidRequest, Role, load_settings
from engine.request import Turn
from tests.support.fake_pair import request

TALK = (
    Turn("user", "echo one <b>two</b>"),
    Turn("assistant", "one ⟦two⟧ 😀 three", ((Role.SLM, 4), (Role.LLM, 7), (Role.SLM, 6))),
)


def test_a_text_is_followed_with_who_wrote_what(host):
    run = Session().begin(request("echo one two three four", turns=TALK, threshold=0.8), host)
    assert run.finished.wait(60) and run.events[-1].text == "", "its end is no part of what was said"
    *before, asked, answer = run.conversation()
    assert before == [*TALK] and asked == Turn("user", "echo one two three four")
    assert answer.text == "one two three four" and all(length for _, length in answer.authors)
    spans = [(role, length) for role, length in answer.authors]
    letters = [role for role, length in spans for _ in range(length)]
    assert letters == [event.role for event in run.events for _ in event.text] and len({*letters}) == 2
    assert json.loads(turns_text((*before, asked, answer)))[0] == {"role": "user", "text": TALK[0].text}


@pytest.mark.parametrize(
    ("options", "why"), [({"raw": True}, "raw = True"), ({"turns": (Turn("user", "x"),) * 999}, "1,001")]
)
def test_what_cannot_be_followed_is_refused_by_name(host, options, why):
    run = Session().begin(request("echo one", **options), host)
    assert run.finished.wait(60)
    with pytest.raises(InvalidRequest, match=why):
        run.conversation()


def test_a_window_follows_no_text_of_another(host):
    sessions = Sessions()
    handlers = Handlers(host, sessions, load_settings(), [None] * len(FIELDS))
    for name in ("mine", "theirs"):
        assert sessions.get(name).begin(request(f"echo {name}"), host).finished.wait(60)
    run = sessions.get("theirs").run

    def follow(name: str) -> Any:
        asked: Any = SimpleNamespace(session_hash=name)
        event: Any = SimpleNamespace(_data={"run": run.id if run else ""})
        return handlers.follow_up(asked, event)

    assert not isinstance(follow("mine"), str)
    assert [turn["text"] for turn in json.loads(follow("theirs"))] == ["echo theirs", "theirs"]
