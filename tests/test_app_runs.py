"""Host, runs, sessions and what is sent of them, without a browser."""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time

import pytest
from browser import eventually
from fake_pair import FakePair

import app.feed
import app.sessions
from app.feed import Feeds
from app.forms import page_request, stop_strings
from app.header import header_html, pair_name
from app.host import Host
from app.live import Known
from app.page import NEWS
from app.sessions import Session, Sessions
from app.token_stream import token_message
from engine import InvalidRequest, Prices, Request, SettingsError, WeightsError


@pytest.fixture
def pair():
    return FakePair(300)


@pytest.fixture
def host(pair):
    host = Host(lambda preset, progress: pair)
    host.start()
    return host


def request(prompt: str = "a palindrome", **options) -> Request:
    return Request(prompt, **{"max_new_tokens": 30, **options})


# ---- thresholds of texts that were asked for while the models loaded ----


def test_a_text_asked_for_before_the_models_are_there_starts_at_the_routers_own_threshold(host, pair):
    pair.threshold = 0.9
    run = Session().begin(request(threshold=0.5), host, untouched=True)
    assert run.finished.wait(10)
    assert {event.threshold for event in run.events} == {0.9}
    assert run.request.threshold == 0.9


def test_a_threshold_that_someone_chose_stays(host, pair):
    pair.threshold = 0.9
    chosen = Session().begin(request(threshold=0.5), host)
    assert chosen.finished.wait(10)
    assert {event.threshold for event in chosen.events} == {0.5}
    ready, slow = threading.Event(), FakePair(300)
    slow.threshold = 0.9
    waiting = Session().begin(request(threshold=0.5), Host(lambda *_, **__: ready.wait(10) and slow), untouched=True)
    waiting.dial.threshold = 0.2  # turned while it waits
    ready.set()
    assert waiting.finished.wait(10)
    assert {event.threshold for event in waiting.events} == {0.2}


# ---- host ----


def test_weights_that_cannot_be_had_give_the_tiny_pair_and_the_reason():
    asked = []

    def load(preset, progress):
        asked.append(preset)
        if preset != "tiny":
            raise WeightsError("Hub and mirror are <unreachable>.")
        return FakePair(preset="tiny")

    host = Host(load, "cpu")
    assert host.wait(threading.Event()).preset == "tiny"
    assert asked == ["cpu", "tiny"]
    assert "Hub and mirror are <unreachable>." in (host.status.warning or "")
    assert "&lt;unreachable&gt;" in header_html(host) and "<unreachable>" not in header_html(host)


@pytest.mark.parametrize(
    "fault", [WeightsError("no tiny pair either"), SettingsError("a bad setting"), ValueError("a bug")]
)
def test_no_models_at_all_is_said_and_every_run_fails_with_the_reason(fault):
    def load(preset, progress):
        raise fault

    host = Host(load, "cpu")
    run = Session().begin(request(), host)
    assert run.finished.wait(5) and run.state == "failed" and str(fault) in (run.error or "")
    assert host.status.phase == "failed" and str(fault) in header_html(host)


def test_the_models_are_loaded_once_however_many_ask():
    calls = []
    host = Host(lambda preset, progress: calls.append(1) or FakePair())
    for _ in range(5):
        host.start()
    host.wait(threading.Event())
    assert calls == [1]


def test_runs_have_their_turn_in_the_order_they_came_and_never_two_at_once(host, pair):
    pair.tokens_per_second = 100
    runs = [Session().begin(request(max_new_tokens=10), host) for _ in range(4)]
    eventually(lambda: host.ahead(runs[3]) == 3)
    most = 0
    while not runs[-1].finished.is_set():
        most = max(most, pair.open_streams)
        time.sleep(0.002)
    assert most == 1 and [len(run.events) for run in runs] == [10] * 4
    begun = [asked.prompt for asked in pair.requests]
    assert len(begun) == 4


def test_a_run_that_is_cancelled_in_line_leaves_it(host, pair):
    pair.tokens_per_second = 20
    first, second, third = (Session().begin(request(), host) for _ in range(3))
    eventually(lambda: host.ahead(third) == 2)
    second.cancel.set()
    assert second.finished.wait(1) and second.state == "stopped" and second.events == []
    assert host.ahead(third) == 1
    first.cancel.set()
    eventually(lambda: third.events)
    third.cancel.set()
    assert third.finished.wait(1)


@pytest.mark.parametrize(
    ("slm", "llm", "name"),
    [
        ("Qwen2.5-Coder 0.5B", "Qwen2.5-Coder 1.5B", "Qwen2.5-Coder 0.5B ⇄ 1.5B"),
        ("tiny SLM", "tiny LLM", "tiny SLM ⇄ LLM"),
        ("a", "b", "a ⇄ b"),
        ("same", "same", "same ⇄ same"),
    ],
)
def test_the_names_of_a_pair_are_said_once(slm, llm, name):
    assert pair_name(slm, llm) == name


# ---- runs and sessions ----


def test_stopping_takes_one_step_and_leaves_no_thread(host, pair):
    pair.tokens_per_second = 20
    session = Session()
    run = session.begin(request(), host)
    eventually(lambda: run.events)
    session.stop()
    session.stop()
    assert run.finished.wait(0.5) and run.state == "stopped" and pair.open_streams == 0
    eventually(lambda: not [t for t in threading.enumerate() if t.name.startswith("citer-run")])


def test_a_second_run_stops_the_first_and_loses_none_of_its_events(host, pair):
    pair.tokens_per_second = 50
    session = Session()
    first = session.begin(request(), host)
    eventually(lambda: len(first.events) > 2)
    second = session.begin(request("echo x"), host)
    assert second.number > first.number
    assert second.finished.wait(5) and second.state == "done" and first.state == "stopped"
    assert [event.index for event in first.events] == list(range(len(first.events)))
    assert [event.text for event in second.events] == ["x", ""]


def test_the_dial_applies_to_the_next_token(host, pair):
    pair.tokens_per_second = 50
    run = Session().begin(request(threshold=0.0), host)
    eventually(lambda: len(run.events) > 3)
    run.dial.threshold = 1.01
    assert run.finished.wait(5)
    thresholds = [event.threshold for event in run.events]
    assert thresholds == sorted(thresholds) and set(thresholds) == {0.0, 1.01}
    with pytest.raises(InvalidRequest):
        run.dial.threshold = float("nan")


def test_sessions_are_bounded_and_the_least_recently_used_one_is_stopped(host, pair):
    pair.tokens_per_second = 20
    sessions = Sessions(limit=2)
    run = sessions.get("a").begin(request(), host)
    sessions.get("b")
    sessions.get("c")
    assert len(sessions) == 2 and run.finished.wait(2) and run.state == "stopped"
    assert sessions.get("a").run is None


def test_dropping_a_session_stops_also_the_runs_of_its_api_calls(host, pair):
    from app.runs import Run

    pair.tokens_per_second = 20
    sessions = Sessions()
    run = sessions.get("a").adopt(Run(request()))
    run.start(host)
    eventually(lambda: run.events)
    sessions.drop("a")
    assert run.finished.wait(1)
    sessions.drop("a")


def test_a_run_is_found_by_its_id_only(host):
    sessions = Sessions()
    run = sessions.get("a").begin(request(), host)
    found = sessions.find(run.id)
    assert found is not None and found[1] is run
    assert sessions.find("") is None and sessions.find(str(run.number)) is None
    assert run.finished.wait(5)


def test_a_bug_in_the_models_ends_the_run_with_a_message(host, pair, monkeypatch):
    def broken(*args, **options):
        raise RuntimeError("tensor trouble")
        yield

    monkeypatch.setattr(pair, "stream", broken)
    run = Session().begin(request(), host)
    assert run.finished.wait(5) and run.state == "failed" and "tensor trouble" in (run.error or "")
    monkeypatch.undo()
    assert Session().begin(request(), host).finished.wait(5), "the next one has its turn"


# ---- what is sent ----


@pytest.fixture
def told(host, monkeypatch):
    """Follows a session's feed to its end, and returns [panel, message] in order; `then` is called after each."""
    monkeypatch.setattr(app.feed, "LINGER_SECONDS", 0.1)

    def follow(session: Session, known=None, then=lambda: None) -> list[tuple[str, dict]]:
        async def listen() -> list[tuple[str, dict]]:
            found = []
            async for event in Feeds(Sessions(), host, NEWS).follow(session, known or {}):
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


def test_a_feed_opened_again_sends_only_what_the_window_lacks(host, told):
    session = Session()
    run = session.begin(request(), host)
    assert run.finished.wait(5)
    session.shown = run  # some feed has sent the first tokens
    found = told(session, {"stream": Known(run.number, 12), "dashboard": Known(run.number, 9)})
    assert [(m["from"], m["count"], m["state"]) for m in of(found, "stream")] == [(12, 18, "done")]
    assert [(m["from"], m["count"]) for m in of(found, "dashboard")] == [(9, 21)]
    known = {"stream": Known(run.number, 30, True), "dashboard": Known(run.number, 30, True)}
    assert told(session, known) == []


def test_a_window_that_says_nothing_sensible_of_what_it_has_gets_everything(host, told):
    for text in (None, "", "1.2", "a.b.c", "-1.2.0", "1.2.0.0", "٣.1.0", "9" * 20 + ".1.0"):
        assert app.feed._known(text) == Known()
    assert app.feed._known("1700000000000.12.1") == Known(1700000000000, 12, True)


def test_a_token_is_sent_as_soon_as_it_is_written(host, pair, told, monkeypatch):
    monkeypatch.setattr(app.feed, "_LOOK_SECONDS", 30)  # so that only the run itself can be what wakes the feed
    pair.tokens_per_second = 40
    session = Session()
    session.begin(request(max_new_tokens=20), host)
    monkeypatch.setattr(app.feed, "LINGER_SECONDS", 0)
    monkeypatch.setattr(app.feed, "FLUSH_SECONDS", 0)
    threading.Timer(2, session.bell.ring).start()  # lets the feed end
    messages = of(told(session), "stream")
    assert len(messages) >= 15, "nearly every token has a message of its own"


def test_news_come_at_most_25_times_a_second(host, pair, told):
    pair.tokens_per_second = 300
    session = Session()
    session.begin(request(max_new_tokens=300), host)
    started = time.monotonic()
    messages = of(told(session), "stream")
    assert len(messages) <= 2 + 25 * (time.monotonic() - started)
    assert app.feed.FLUSH_SECONDS >= 1 / 25


def test_a_feed_stays_open_while_something_is_on_and_then_says_that_it_is_quiet(host, pair, told, monkeypatch):
    pair.prefill_seconds, pair.tokens_per_second = 0.6, 100
    session = Session()
    run = session.begin(request(), host)
    last = []

    async def listen() -> None:
        async for event in Feeds(Sessions(), host, NEWS).follow(session, {}):
            last[:] = [event]

    asyncio.run(listen())
    assert run.state == "done" and last == ["event: quiet\ndata:\n\n"]
    assert not session.bell._heard, "nobody is left listening"


def test_what_nobody_listens_to_is_stopped(host, pair, told, monkeypatch):
    monkeypatch.setattr(app.sessions, "UNHEARD_SECONDS", 0.2)
    pair.tokens_per_second = 20
    gone, heard = Session(), Session()
    run = gone.begin(request(), host)
    assert run.finished.wait(2) and run.state == "stopped" and len(run.events) < 15
    run = heard.begin(request(), host)
    assert of(told(heard), "stream")[-1]["state"] == "done" and len(run.events) == 30


def test_figures_go_out_at_most_twice_a_second_and_only_with_new_points(host, pair, told):
    pair.tokens_per_second = 60
    session = Session()
    session.begin(request(max_new_tokens=120), host)
    messages = of(told(session), "dashboard")
    assert 3 <= len(messages) <= 7, "two seconds, and the last"
    assert messages[0]["from"] == 0 and messages[0]["figures"] and not messages[1]["figures"]
    assert sum(m["count"] for m in messages) == 120
    assert messages[-1]["meter"]["tokens"] == "120"


def test_a_new_view_sends_all_points_again_without_running_anything(host, pair, told):
    pair.tokens_per_second = 60
    session = Session()
    run = session.begin(request(max_new_tokens=60), host)
    messages = of(told(session, then=lambda: len(run.events) > 20 and session.look("price", Prices(1, 2))), "dashboard")
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
    again = session.turn(wanted, host)
    assert again is not None and again.finished.wait(5)
    known = {"stream": Known(run.number, 30, True), "dashboard": Known(run.number, 30, True)}
    found = told(session, known)
    assert [(m["kept"], m["from"], m["count"]) for m in of(found, "stream")] == [([run.number, flip], flip, 30 - flip)]
    assert [m["from"] for m in of(found, "dashboard")] == [flip]


def test_a_feed_is_opened_by_its_own_key_only(host):
    from starlette.applications import Starlette
    from starlette.testclient import TestClient

    sessions = Sessions()
    keys = {sessions.get(name).key for name in "abc"}
    assert len(keys) == 3 and all(len(key) >= 20 for key in keys)
    client = TestClient(Starlette(routes=[Feeds(sessions, host, NEWS).route]))
    for wrong in ("a", "", "x" * 24):
        assert client.get(f"/gradio_api/citer/feed/{wrong}").status_code == 404


def test_a_browser_that_cannot_open_its_feed_gets_the_finished_text_whole(host, pair):
    pair.tokens_per_second = 100
    session = Session()
    run = session.begin(request(), host)
    found = asyncio.run(Feeds(Sessions(), host, NEWS).whole(session))
    assert run.state == "done" and set(found) == {"stream", "dashboard"}
    message = json.loads(found["stream"])
    assert message["from"] == 0 and message["count"] == 30 and message["state"] == "done"


def test_a_message_sent_again_is_the_same_message(host):
    run = Session().begin(request(), host)
    assert run.finished.wait(5)
    whole, rest = json.loads(token_message(run, 0)), json.loads(token_message(run, 12))
    assert rest["tokens"] == whole["tokens"][12:] and rest["from"] == 12
    assert json.loads(token_message(run, 0, 5))["count"] == 5


def test_candidates_learned_later_are_sent_for_the_token_they_belong_to(host):
    run = Session().begin(request(alternatives=5), host)
    assert run.finished.wait(5)
    message = json.loads(token_message(run, 0))
    llm = [i for i, token in enumerate(message["tokens"]) if token[1] == 1]
    late = {index for index, author, _, _ in message["revealed"] if author == 1}
    assert late == set(range(max(llm))) - set(llm)


# ---- forms ----

FORM = {
    "prompt": "hello",
    "threshold": 0.5,
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
}


def test_a_filled_form_is_a_request():
    made = page_request(**{**FORM, "system": "Be brief.", "stop": "END\n\\n\\n"})
    assert made.system == "Be brief." and made.stop == ("END", "\n\n") and made.seed == 7 and made.alternatives == 5
    assert page_request(**FORM).system is None and page_request(**FORM).stop == ()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("prompt", "  \n", "prompt is empty"),
        ("prompt", None, "prompt is empty"),
        ("threshold", float("nan"), "threshold = nan"),
        ("threshold", -0.1, "threshold = -0.1"),
        ("threshold", None, "threshold = None"),
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


# ---- long jobs ----


def test_a_long_job_lets_those_who_wait_go_first_and_then_has_its_turn_again(host):
    order, cancel = [], threading.Event()

    def long() -> None:
        with host.turn("long", cancel):
            for n in range(2):
                host.give_way("long", cancel)
                order.append(f"long {n}")
                eventually(lambda: "short" in order or host.ahead("short") == 1)

    def short() -> None:
        with host.turn("short", cancel):
            order.append("short")

    threads = [threading.Thread(target=long), threading.Thread(target=short)]
    threads[0].start()
    eventually(lambda: order == ["long 0"])
    threads[1].start()
    for thread in threads:
        thread.join(5)
    assert order == ["long 0", "short", "long 1"]


def test_a_long_job_that_is_cancelled_while_it_gives_way_leaves_the_line(host):
    cancel, held = threading.Event(), threading.Event()

    def long() -> None:
        with host.turn("long", cancel):
            eventually(lambda: host.ahead("short") == 1)
            host.give_way("long", cancel)

    thread = threading.Thread(target=long)
    thread.start()
    eventually(lambda: "long" in host._line)
    with host.turn("short", held):
        cancel.set()
        thread.join(5)
        assert not thread.is_alive() and "long" not in host._line
