"""What is sent of a run, and when, without a browser."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from itertools import pairwise
from typing import Any

import pytest

import app.running.session
import app.stream.feed
import app.stream.updates
from app.entrance.callers import Callers
from app.page import UPDATES
from app.running.run import Change, Run
from app.running.session import Session
from app.running.sessions import Sessions
from app.share.open_trace import opened_run
from app.stream.dashboard import dashboard_message
from app.stream.feed import KEEP_ALIVE_SECONDS, MAX_FEEDS, Feeds
from app.stream.token_stream import token_message
from app.stream.updates import FigureUpdates, PanelState, TextUpdates, shared_prefix
from engine import InvalidRequest, Prices
from tests.support.browser import eventually
from tests.support.fake_pair import FakePair, request


@pytest.fixture
def pair():
    return FakePair(300)


@pytest.fixture
def told(host, monkeypatch):
    """Follows a session's feed to its end, and returns [panel, message] in order; `then` is called after each."""
    monkeypatch.setattr(app.stream.feed, "LINGER_SECONDS", 0.1)

    def follow(session: Session, known=None, then=lambda: None) -> list[tuple[str, dict]]:
        async def listen() -> list[tuple[str, dict]]:
            found = []
            async for event in Feeds(Sessions(), host, UPDATES).follow(session, known or {}):
                found_event = re.match(r"(?:event|retry): (\S+)\n(?:data:(.*)\n)?\n", event)
                assert found_event is not None
                name, data = found_event.groups()
                if data and data.strip():
                    found.append((name, json.loads(data)))
                    then()
            return found

        return asyncio.run(listen())

    return follow


def of(told: list[tuple[str, dict]], panel: str) -> list[dict]:
    return [message for name, message in told if name == panel]


def test_a_feed_sends_every_token_once_and_in_order(host, told):
    session = Session()
    run = session.begin(request(max_new_tokens=120), host)
    messages = of(told(session), "stream")
    at = 0
    for message in messages:
        assert message["from"] == at and message["count"] == len(message["tokens"])
        at += message["count"]
    assert at == 120 and messages[-1]["state"] == "done"
    assert "".join(token[0] for message in messages for token in message["tokens"]) == "".join(
        e.text for e in run.events
    )


def test_what_keeps_the_llm_from_writing_is_said_while_the_text_stays(host, told, pair):
    session = Session()
    run = session.begin(request(max_new_tokens=60), host)

    def fail_for_a_while():
        pair.trouble = "The LLM's server has not answered for 3 s; waiting for it …" if len(run.events) < 40 else ""

    messages = of(told(session, then=fail_for_a_while), "stream")
    assert any("waiting for it" in message["note"] and message["state"] == "running" for message in messages)
    assert messages[-1]["note"] == "" and sum(message["count"] for message in messages) == 60


def test_a_dial_that_the_llm_cannot_serve_is_refused_and_moves_nothing(host, pair, monkeypatch):
    def refuse(acceptance):
        if acceptance:
            raise InvalidRequest("set the acceptance to 0")

    session = Session()
    run = session.begin(request(), host)
    assert run.finished.wait(5)
    monkeypatch.setattr(pair, "check_acceptance", refuse, raising=False)
    with pytest.raises(InvalidRequest):
        session.set_dials(0.7, 0.5, host)
    assert session.run is run and session.set_dials(0.7, 0.0, host) is not None


def test_a_feed_opened_again_sends_only_what_the_window_lacks(host, told):
    session = Session()
    run = session.begin(request(), host)
    assert run.finished.wait(5)
    session.shown = run  # some feed has sent the first tokens
    found = told(session, {"stream": PanelState(run.number, 12), "dashboard": PanelState(run.number, 9)})
    assert [(m["from"], m["count"], m["state"]) for m in of(found, "stream")] == [(12, 18, "done")]
    assert [(m["from"], m["count"]) for m in of(found, "dashboard")] == [(9, 21)]
    known = {"stream": PanelState(run.number, 30, True), "dashboard": PanelState(run.number, 30, True)}
    assert told(session, known) == []


def test_a_window_that_says_nothing_sensible_of_what_it_has_gets_everything(host, told):
    for text in (None, "", "1.2", "1.2.0", "a.b.c.d", "-1.2.0.0", "1.2.0.0.0", "٣.1.0.0", "9" * 20 + ".1.0.0"):
        assert app.stream.feed._panel_state(text) == PanelState()
    assert app.stream.feed._panel_state("1700000000000.12.1.3") == PanelState(1700000000000, 12, True, 3)


def test_a_token_is_sent_as_soon_as_it_is_written(host, pair, told, monkeypatch):
    monkeypatch.setattr(app.stream.feed, "_LOOK_SECONDS", 30)  # so that only the run itself can be what wakes the feed
    pair.tokens_per_second = 10
    session = Session()
    session.begin(request(max_new_tokens=20), host)
    monkeypatch.setattr(app.stream.feed, "LINGER_SECONDS", 0)
    monkeypatch.setattr(app.stream.feed, "FLUSH_SECONDS", 0)
    threading.Timer(4, session.listeners.notify).start()  # lets the feed end
    messages = of(told(session), "stream")
    assert len(messages) >= 15, "nearly every token has a message of its own"


def test_messages_come_at_most_eight_times_a_second(host, pair, told):
    pair.tokens_per_second = 300
    session = Session()
    session.begin(request(max_new_tokens=300), host)
    started = time.monotonic()
    messages = of(told(session), "stream")
    assert len(messages) <= 3 + 8 * (time.monotonic() - started)
    assert app.stream.feed.FLUSH_SECONDS >= 1 / 8


def test_a_feed_stays_open_while_something_is_on_and_then_says_that_it_is_quiet(host, pair, told, monkeypatch):
    pair.prefill_seconds, pair.tokens_per_second = 0.6, 100
    session = Session()
    run = session.begin(request(), host)
    last = []

    async def listen() -> None:
        async for event in Feeds(Sessions(), host, UPDATES).follow(session, {}):
            last[:] = [event]

    asyncio.run(listen())
    assert run.state == "done" and last == ["event: quiet\ndata:\n\n"]
    assert not session.listeners._events, "nobody is left listening"


def test_what_nobody_listens_to_is_stopped(host, pair, told, monkeypatch):
    monkeypatch.setattr(app.running.session, "UNHEARD_SECONDS", 0.2)
    pair.tokens_per_second = 20
    gone, heard = Session(), Session()
    run = gone.begin(request(), host)
    assert run.finished.wait(2) and run.state == "stopped" and len(run.events) < 15
    assert "this window was not connected" in of(told(gone), "stream")[-1]["note"]
    monkeypatch.setattr(app.running.session, "UNHEARD_SECONDS", 1)  # listening begins sooner, the text takes longer
    run = heard.begin(request(), host)
    assert of(told(heard), "stream")[-1]["state"] == "done" and len(run.events) == 30


def test_figures_go_out_at_most_once_a_second_and_only_with_new_points(host, pair, told, monkeypatch):
    monkeypatch.setattr(
        app.stream.updates, "_FOLDING_SHARE", 1.0
    )  # so that a busy machine does not make them rarer still
    pair.tokens_per_second = 60
    session = Session()
    session.begin(request(max_new_tokens=120), host)
    started = time.monotonic()
    messages = of(told(session), "dashboard")
    assert 3 <= len(messages) <= 3 + (time.monotonic() - started), "one a second, the first and the last"
    assert messages[0]["from"] == 0 and messages[0]["figures"] and not messages[1]["figures"]
    assert sum(m["count"] for m in messages) == 120
    assert messages[-1]["meter"]["tokens"] == "120"


def test_a_texts_cost_is_told_with_its_policy_and_dials_unless_they_were_turned_while_it_was_written(host, pair):
    pair.tokens_per_second = 100
    session = Session()
    turned = session.begin(request(threshold=0.2), host)
    eventually(lambda: len(turned.events) > 3)
    session.set_dials(0.9, 0.3, host)
    pair.tokens_per_second = 2000
    assert turned.finished.wait(5)
    assert json.loads(dashboard_message(turned, session.view) or "")["cost"] is None
    plain = session.begin(request(threshold=0.9, acceptance=0.3), host)
    assert plain.finished.wait(5)
    cost = json.loads(dashboard_message(plain, session.view) or "")["cost"]
    assert (cost["policy"], cost["threshold"], cost["acceptance"]) == ("router", 0.9, 0.3) and cost["times"] > 0


def test_no_cost_is_told_of_a_text_that_the_models_here_did_not_write(host, pair):
    session = Session()
    run = session.begin(request(), host)
    assert run.finished.wait(5)
    opened = opened_run(pair.trace(run.request, run.events).to_json())
    assert json.loads(dashboard_message(run, session.view) or "")["cost"] is not None
    session.retire(pair)
    for text in (run, opened):
        assert json.loads(dashboard_message(text, session.view) or "")["cost"] is None


def test_a_new_view_sends_all_points_again_without_running_anything(host, pair, told):
    pair.tokens_per_second = 60
    session = Session()
    run = session.begin(request(max_new_tokens=60), host)
    messages = of(
        told(session, then=lambda: len(run.events) > 20 and session.set_view("price", Prices(1, 2))), "dashboard"
    )
    first = next(m for m in messages if m["view"] == 1)
    assert first["from"] == 0 and first["figures"] and first["meter"]["unit"] == "price"
    assert len(pair.requests) == 1


def test_a_feed_goes_over_to_the_run_that_takes_the_place_of_another(host, pair, told):
    pair.tokens_per_second = 30
    session = Session()
    first = session.begin(request(), host)

    def supersede() -> None:
        if session.run is first and len(first.events) > 3:
            session.begin(request("echo x"), host)

    numbers = [m["n"] for m in of(told(session, then=supersede), "stream")]
    assert session.run is not None and session.run is not first
    assert numbers == sorted(numbers) and set(numbers) == {first.number, session.run.number}


def test_a_run_that_goes_on_from_the_text_on_the_page_sends_only_what_is_new(host, told):
    session = Session()
    run = session.begin(request(threshold=0.5), host)
    assert run.finished.wait(5)
    told(session)
    wanted = next(e.score for e in run.events if e.index > 9 and e.score is not None and e.score >= 0.5) + 1e-4
    flip = next(e.index for e in run.events if e.score is not None and 0.5 <= e.score < wanted)
    again = session.set_dials(wanted, 0, host)
    assert again is not None and again.finished.wait(5)
    known = {"stream": PanelState(run.number, 30, True), "dashboard": PanelState(run.number, 30, True)}
    found = told(session, known)
    assert [(m["kept"], m["from"], m["count"]) for m in of(found, "stream")] == [([run.number, flip], flip, 30 - flip)]
    assert [m["from"] for m in of(found, "dashboard")] == [flip]


def test_an_open_feed_brings_a_text_again_that_undo_brings_back_from_a_sweep(host):
    session = Session()
    run = session.begin(request(), host)
    assert run.finished.wait(5)
    panels = [make(session, host, PanelState()) for make in (TextUpdates, FigureUpdates)]
    before = [json.loads(message) for panel in panels for message in panel.due()]
    session.scrubbing = True
    assert not [message for panel in panels for message in panel.due()]
    assert session.step(-1) is run
    again = [json.loads(message) for panel in panels for message in panel.due()]
    assert [(m["from"], m["count"], m["kept"]) for m in again] == [(0, 30, None)] * 2
    assert {m["n"] for m in again} == {run.number} and before[0]["n"] < run.number
    assert not [message for panel in panels for message in panel.due()], "once"


def shown_by(messages: list[dict]) -> list[list]:
    """The tokens, or points, that a browser has after the messages, as `lib/channel.js` puts them together."""
    items: list = []
    for message in messages:
        new = message["tokens"] if "tokens" in message else list(zip(*message["points"][1][1].values(), strict=True))
        assert message["from"] <= len(items)
        items = [*items[: message["from"]], *new]
    return items


def test_a_text_that_is_taken_back_while_it_is_sent_ends_as_the_traces(host, pair, told):
    pair.tokens_per_second = 60
    session = Session()
    run = session.begin(request(threshold=0.2, acceptance=0.8, max_new_tokens=80), host)
    found = told(session)
    texts, figures = of(found, "stream"), of(found, "dashboard")
    assert any(b["cuts"] > a["cuts"] for a, b in pairwise(texts)) and texts[-1]["cuts"] == len(run.written.cuts) > 3
    assert all(b["cuts"] > a["cuts"] or b["from"] == a["from"] + a["count"] for a, b in pairwise(texts))
    assert [token[0] for token in shown_by(texts)] == [event.text for event in run.events]
    ratios = {index: ratio for message in texts for index, ratio in message["verdicts"]}
    kept = {i: ratios.get(i, token[13]) for i, token in enumerate(shown_by(texts))}
    assert kept == {event.index: event.ratio for event in run.folded}
    assert [point[0] for point in shown_by(figures)] == [event.index + 1 for event in run.events]
    whole = json.loads(dashboard_message(run, session.view) or "")
    assert figures[-1]["meter"] == whole["meter"] and shown_by(figures) == shown_by([whole])


def test_a_window_that_missed_what_was_taken_back_gets_the_text_from_there_on(host, told):
    session = Session()
    run = session.begin(request(threshold=0.2, acceptance=0.8), host)
    assert run.finished.wait(5)
    session.shown = run
    cuts = run.written.cuts
    assert len(cuts) > 2
    for seen in range(len(cuts) + 1):
        known = {panel: PanelState(run.number, 20, False, seen) for panel in ("stream", "dashboard")}
        found = told(session, known)
        for panel in ("stream", "dashboard"):
            assert [m["from"] for m in of(found, panel)] == [min((20, *cuts[seen:]))]


def test_a_run_keeps_nothing_of_the_page_that_the_last_text_had_taken_back(host):
    page = Session().begin(request(threshold=0.2, acceptance=0.8), host)
    assert page.finished.wait(5)
    first, *later = page.written.cuts
    again = Run(page.request, change=Change(page, lambda origin: (origin.request, origin.folded)))
    again.events = list(page.folded)
    assert shared_prefix(page, again, 30, len(later) + 1).count == 30
    assert shared_prefix(page, again, 30, len(later)).count == later[-1]
    assert shared_prefix(page, again, 30, 0).count == min(first, *later)


def test_a_feed_is_opened_by_its_own_key_only(host):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    sessions = Sessions()
    keys = {sessions.enter(name).key for name in "abc"}
    assert len(keys) == 3 and all(len(key) >= 20 for key in keys)
    client = TestClient(Starlette(routes=[Feeds(sessions, host, UPDATES).route]))
    for wrong in ("a", "", "x" * 24):
        assert client.get(f"/gradio_api/citer/feed/{wrong}").status_code == 404


def test_a_feed_says_something_while_nothing_happens(host, pair, monkeypatch):
    assert KEEP_ALIVE_SECONDS < 20
    monkeypatch.setattr("app.stream.feed.KEEP_ALIVE_SECONDS", 0.1)
    session, said = Session(), []

    async def follow() -> None:
        async for event in Feeds(Sessions(), host, UPDATES).follow(session, {}):
            said.append(event)
            if said.count(": still here\n\n") == 3:
                return

    host.wait(threading.Event())  # or the note would change, from what is loaded to what is waited for
    session.run = Run(request())  # it waits, and is never begun
    asyncio.run(asyncio.wait_for(follow(), 30))
    assert said[0].startswith("retry") and len([each for each in said if each.startswith("event: stream")]) == 1


def test_a_window_has_few_feeds(host):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    sessions = Sessions()
    session = sessions.enter("a")
    client = TestClient(Starlette(routes=[Feeds(sessions, host, UPDATES).route]))
    session.listeners._events = dict.fromkeys([object() for _ in range(MAX_FEEDS)])  # type: ignore[assignment]
    assert client.get(f"/gradio_api/citer/feed/{session.key}").status_code == 429


def test_a_window_that_reads_its_feed_no_more_is_taken_for_gone(host, monkeypatch):
    from starlette.applications import Starlette

    monkeypatch.setattr("engine.endpoint.routes.STALL_SECONDS", 0.05)
    sessions, sent, heard = Sessions(), [], []
    session = sessions.enter("a")
    path = f"/gradio_api/citer/feed/{session.key}"
    scope = {"type": "http", "method": "GET", "path": path, "root_path": "", "query_string": b"", "headers": []}

    async def receive() -> Any:
        await asyncio.sleep(60)

    async def send(message: Any) -> None:
        sent.append(message["type"])
        if sent[-1] == "http.response.body":
            heard.append(len(session.listeners))
            await asyncio.sleep(60)  # as where all that a connection holds is full

    async def follow() -> None:
        with pytest.raises((TimeoutError, ExceptionGroup)):
            await Starlette(routes=[Feeds(sessions, host, UPDATES).route])(scope, receive, send)
        heard.append(len(session.listeners))

    asyncio.run(asyncio.wait_for(follow(), 30))
    assert sent == ["http.response.start", "http.response.body"] and heard == [1, 0]


def test_a_browser_that_cannot_open_its_feed_gets_the_finished_text_whole(host, pair):
    pair.tokens_per_second = 100
    session = Session()
    run = session.begin(request(), host)
    found = asyncio.run(Feeds(Sessions(), host, UPDATES).whole(session))
    assert run.state == "done" and set(found) == {"stream", "dashboard"}
    message = json.loads(found["stream"])
    assert message["from"] == 0 and message["count"] == 30 and message["state"] == "done"


def test_nobody_is_brought_a_text_who_does_not_wait_for_it(host, pair, monkeypatch):
    for module in (app.running.session, app.stream.feed):
        monkeypatch.setattr(module, "UNHEARD_SECONDS", 1.0)
    pair.tokens_per_second = 5
    callers, session = Callers(), Session()
    callers.watched = True  # and no stream is open
    run = session.begin(request(max_new_tokens=1000), host)
    asyncio.run(asyncio.wait_for(Feeds(Sessions(), host, UPDATES, callers).whole(session, "gone"), 60))
    assert run.finished.wait(20) and run.state == "stopped"


def test_a_message_sent_again_is_the_same_message(host):
    run = Session().begin(request(), host)
    assert run.finished.wait(5)
    whole, rest = json.loads(token_message(run, 0)), json.loads(token_message(run, 12))
    assert rest["tokens"] == whole["tokens"][12:] and rest["from"] == 12
    part = json.loads(token_message(run, 0, 5))
    assert part["count"] == 5 and part["state"] == "running", "an end is told with all that there is"


def test_candidates_learned_later_are_sent_for_the_token_they_belong_to(host):
    run = Session().begin(request(alternatives=5), host)
    assert run.finished.wait(5)
    message = json.loads(token_message(run, 0))
    llm = [i for i, token in enumerate(message["tokens"]) if token[1] == 1]
    late = {index for index, author, _, _ in message["revealed"] if author == 1}
    assert late == set(range(max(llm))) - set(llm)


def test_a_window_waits_for_its_finished_texts_once_and_who_asks_again_ends_the_older(host, pair):
    pair.tokens_per_second = 20
    session, feeds = Session(), Feeds(Sessions(), host, UPDATES)

    async def ask_often() -> list[dict[str, str]]:
        session.begin(request(max_new_tokens=200), host)
        asked = [asyncio.create_task(feeds.whole(session)) for _ in range(50)]
        await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.sleep(0.1)
        assert [task.done() for task in asked] == [True] * 49 + [False] and len(session.listeners) == 1
        session.stop()
        return await asyncio.gather(*asked)

    found = asyncio.run(ask_often())
    assert found[:-1] == [{}] * 49 and "stream" in found[-1]


@pytest.mark.parametrize("ends_at_once", [False, True])
def test_a_text_that_is_begun_while_the_feed_looks_is_brought_by_it(host, told, ends_at_once):
    session = Session()
    started = threading.Event()

    def due(self):
        if not started.is_set() and time.monotonic() - opened > 0.15:  # it lingers no longer
            started.set()
            run = session.begin(request(max_new_tokens=5), host)
            assert not ends_at_once or run.finished.wait(5)
        return []

    updates = type("Late", (), {"due": due})
    opened = time.monotonic()

    async def listen() -> list[str]:
        panels = {"late": lambda *_: updates(), **UPDATES}
        return [event async for event in Feeds(Sessions(), host, dict(reversed(panels.items()))).follow(session, {})]

    found = asyncio.run(listen())
    assert started.is_set() and any(event.startswith("event: stream") for event in found[:-1])
    assert found[-1].startswith("event: quiet")
