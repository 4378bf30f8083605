"""What is sent of a text, and when: to the page's own channel, run by node, and to feeds that are followed here."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import threading
import time
from collections import defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from starlette.applications import Starlette
from starlette.testclient import TestClient

import app.running.session
import app.stream.feed
from app.page import UPDATES
from app.running.host import Host
from app.running.run import Run
from app.running.session import Session
from app.running.sessions import Sessions
from app.stream.feed import MAX_FEEDS, Feeds, Updates
from tests.support.browser import eventually, told
from tests.support.fake_pair import FakePair, SteppedPair, request
from tests.support.paths import ROOT

PANELS = ("stream",)
SECONDS = 60


@pytest.fixture
def pair(monkeypatch):
    monkeypatch.setattr(app.stream.feed, "LINGER_SECONDS", 0.1)
    return FakePair(300)


def ended(run: Run) -> Run:
    assert run.finished.wait(SECONDS)
    return run


# ---- whatever happens on the way -------------------------------------------------------------------------------------

CHANNEL = """
import { createInterface } from 'node:readline';
globalThis.document = Object.assign(new EventTarget(), { querySelector: () => ({}) });
const { openChannel } = await import(process.argv[1]);
const tell = (type, detail) => document.dispatchEvent(new CustomEvent(type, { detail }));
let items;
const start = (panel) => {
  const element = { isConnected: true };   // of this window only
  const show = ({ cut, count, tokens }) => {
    if (cut + count > 0) items[panel] = [...items[panel].slice(0, cut), ...tokens];
  };
  openChannel({ element, props: { panel }, trigger() {}, watch() {} }, show).receive();
  return element;
};
let open = [];
for await (const line of createInterface({ input: process.stdin })) {
  const { panel, data } = JSON.parse(line), have = {};
  if (panel === 'new') {
    for (const element of open) element.isConnected = false;
    items = { stream: [] };
    open = [start('stream')];
  } else if (panel) tell('citer-news', { panel, data });
  tell('citer-have', have);
  console.log(JSON.stringify({ items, have }));
}
"""
"""Puts together what comes, as `stream.js` does, by `channel.js` itself."""


class Stepped(SteppedPair):
    """Says when it waits for its next step."""

    waits = False

    def pause(self, seconds: float) -> None:
        self.waits = True
        super().pause(seconds)
        self.waits = False


class Following(RuleBasedStateMachine):
    """A window whose texts are written, changed and undone, over a connection that breaks."""

    def __init__(self, host: Host, pair: Stepped, node: Any) -> None:
        super().__init__()
        self.host, self.pair, self.node, self.session = host, pair, node, Session()
        self.updates: dict[str, Updates] = {}
        self.hear("new")
        self.connect()

    def hear(self, panel: str, data: str = "") -> None:
        """The page takes a message."""
        self.node.stdin.write(json.dumps({"panel": panel, "data": data}) + "\n")
        self.node.stdin.flush()
        self.page = json.loads(self.node.stdout.readline())

    def going_on(self) -> bool:
        run = self.session.run
        return run is not None and not run.finished.is_set()

    @rule(is_lost=st.booleans())
    def connect(self, is_lost: bool = False) -> None:
        """A feed is opened, by a window that says what it has; what was sent before may have been lost."""
        for updates in self.updates.values() if is_lost else ():
            list(updates.due())
        seen = {panel: self.page["have"].get(panel, -1) for panel in PANELS}
        self.updates = {panel: UPDATES[panel](self.session, seen[panel]) for panel in PANELS}

    @rule()
    def look(self) -> None:
        for panel, updates in self.updates.items():
            for message in updates.due():
                self.hear(panel, message)

    @precondition(lambda self: not self.going_on())
    @rule(threshold=st.sampled_from([0.2, 0.5, 0.9]), acceptance=st.sampled_from([0.0, 0.8, 0.8]))
    def write(self, threshold: float, acceptance: float) -> None:
        asked = request(threshold=threshold, acceptance=acceptance, max_new_tokens=25)
        self.session.begin(asked, self.host)
        self.more(1)

    @rule(steps=st.sampled_from([1, 3, 6, 99]), looks=st.booleans())
    def more(self, steps: int, looks: bool = False) -> None:
        """So many steps are taken, if there is something to write, and each is sent or none."""
        for _ in range(steps):
            if not self.going_on():
                return
            self.pair.let(1)
            eventually(lambda: not self.going_on() or (self.pair.waits and not self.pair._steps._value), SECONDS)
            if looks:
                self.look()

    @precondition(lambda self: self.session.run is not None)
    @rule(threshold=st.sampled_from([0.2, 0.5, 0.7, 0.9]), acceptance=st.sampled_from([0.0, 0.8]))
    def turn(self, threshold: float, acceptance: float) -> None:
        if self.session.set_dials(threshold, acceptance, self.host) is not None:
            self.more(1)  # the text before gives way to this one

    @rule(by=st.sampled_from([-1, 1]))
    def step(self, by: int) -> None:
        self.session.step(by)
        self.more(1)

    def teardown(self) -> None:
        """At the end the page has the text, whatever it heard before."""
        if (run := self.session.run) is None:
            return
        self.more(1000, looks=True)
        self.look()
        self.look()
        tokens = [[t[0], ["slm", "llm"][t[1]], t[8]] for t in self.page["items"]["stream"]]
        assert tokens == [[e.text, e.role.value, e.ratio] for e in run.folded]
        while self.pair._steps.acquire(blocking=False):
            pass


def test_whatever_is_lost_changed_or_undone_the_page_ends_with_the_text(monkeypatch):
    monkeypatch.setattr("app.stream.updates.FIGURE_SECONDS", 0.0)
    driver = pytest.importorskip("playwright", reason="its node runs the page's scripts").__path__[0]
    script = (ROOT / "assets/page/lib/channel.js").as_uri()
    command = [f"{driver}/driver/node", "--input-type=module", "-e", CHANNEL, script]
    pair = Stepped()
    host = Host(lambda preset, progress: pair)
    host.wait(threading.Event())
    wanted = settings(settings(), max_examples=30, stateful_step_count=18, phases=[Phase.generate])
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as node:
        try:
            machine: Any = lambda: Following(host, pair, node)  # noqa: E731  # hypothesis asks for a class
            run_state_machine_as_test(machine, settings=wanted)
        finally:
            node.kill()
            pair.let()
            host.close()


def test_a_text_that_goes_on_from_another_sends_what_the_window_lacks_and_one_that_is_seen_nothing(host):
    session = Session()
    page = ended(session.begin(request(threshold=0.2), host))
    updates = UPDATES["stream"](session, -1)
    (whole,) = map(json.loads, updates.due())
    assert (whole["cut"], whole["count"]) == (0, len(page.events)) and list(updates.due()) == []
    assert list(UPDATES["stream"](session, page.number).due()) == []
    again = session.set_dials(0.5, 0.0, host)
    assert again is not None and ended(again)
    (change,) = map(json.loads, updates.due())
    flip = next(n for n, (a, b) in enumerate(zip(page.events, again.events, strict=False)) if a.role is not b.role)
    assert (change["cut"], change["count"]) == (flip, len(again.events) - flip) and flip > 0
    assert {"asked", "cost"} <= change.keys()


def follow(session: Session, then=lambda panel: None, panels=UPDATES) -> dict[str, list[Any]]:
    """Follows a session's feed to its end: what came, by panel; `then` is told of each, "" where nothing came."""

    async def listen() -> dict[str, list[Any]]:
        found = defaultdict(list)
        async for event in Feeds(Sessions(), panels).follow(session, {}):
            assert not found["quiet"], "it is the last"
            if (parts := re.match(r"event: (\S+)\ndata: ?(\{.*)?\n\n|: ", event)) is not None:
                found[parts[1] or ""].append(json.loads(parts[2] or "{}"))
                then(parts[1] or "")
        return found

    return asyncio.run(asyncio.wait_for(listen(), SECONDS))


def test_while_a_text_is_written_its_trouble_is_said(host, pair):
    session = Session()
    run = session.begin(request(max_new_tokens=60), host)

    def meanwhile(panel: str) -> None:
        pair.trouble = "The LLM's server is away" if len(run.events) < 40 else ""

    told = follow(session, meanwhile)
    texts = told["stream"]
    assert any("server" in message["note"] and message["state"] == "running" for message in texts)
    assert texts[-1]["note"] == "" and texts[-1]["cut"] + texts[-1]["count"] == 60
    assert len(pair.requests) == 1


def test_candidates_that_are_learned_late_stand_at_their_token_and_only_the_llms_own_choice_has_a_ratio_of_1(host):
    run = ended(Session().begin(request(alternatives=5), host))
    tokens = told(run)["tokens"]
    llm = [i for i, token in enumerate(tokens) if token[1] == 1]
    assert all(token[5] for token in tokens[: max(llm) + 1])
    for ratio in (1.0, 1 - 1e-12):
        run.events[0] = replace(run.events[0], ratio=ratio)
        assert (told(run)["tokens"][0][8] == 1) == (ratio == 1)


def test_every_token_wakes_the_feed_and_messages_and_costs_keep_their_distance(host, pair, monkeypatch):
    monkeypatch.setattr(app.stream.feed, "_LOOK_SECONDS", 10 * SECONDS)  # so that only the text itself wakes the feed
    monkeypatch.setattr(app.stream.feed, "LINGER_SECONDS", 0)
    session, started = Session(), time.monotonic()
    run = session.begin(request(max_new_tokens=300), host)
    told = follow(session, lambda _: run.finished.is_set() and session.listeners.notify())  # lets the feed end
    seconds = time.monotonic() - started
    texts = told["stream"]
    costs = [message["cost"] for message in texts if "cost" in message]
    assert texts[-1]["cut"] + texts[-1]["count"] == 300 and texts[-1]["state"] == "done"
    assert len(texts) <= 3 + 8 * seconds, "a dozen browsers of a slow machine can follow"
    assert len(costs) <= 3 + seconds and costs[-1][0] == texts[-1]["cost"][0]


def test_a_text_that_somebody_follows_is_written_to_its_end_however_long_nothing_comes(host, pair, monkeypatch):
    monkeypatch.setattr(app.stream.feed, "KEEP_ALIVE_SECONDS", 0.3)  # longer than a feed lingers
    silent, session = threading.Event(), Session()
    monkeypatch.setattr(pair, "pause", lambda seconds: silent.wait(SECONDS))
    run = session.begin(request(), host)

    def hear(panel: str) -> None:
        monkeypatch.setattr(app.running.session, "KEPT_SECONDS", 0.0)
        if not panel:
            silent.set()

    told = follow(session, hear)
    assert silent.is_set(), "else proxies close the connection"
    assert run.state == "done" and len(run.events) == 30 and told["quiet"]
    assert not session.listeners._events, "nobody is left listening"


def test_what_nobody_waits_for_is_stopped_and_says_why(host, pair, monkeypatch):
    monkeypatch.setattr(app.running.session, "KEPT_SECONDS", 0.2)
    pair.tokens_per_second, session = 10, Session()
    run = session.begin(request(max_new_tokens=1000), host)
    assert ended(run).state == "stopped" and len(run.events) < 1000
    assert "connected" in follow(session)["stream"][-1]["note"]


@pytest.mark.parametrize("ends_at_once", [False, True])
def test_a_text_that_is_begun_while_the_feed_looks_is_brought_by_it(host, ends_at_once):
    session, started, opened = Session(), threading.Event(), time.monotonic()

    def due(self):
        if not started.is_set() and time.monotonic() - opened > 0.15:  # it lingers no longer
            started.set()
            run = session.begin(request(max_new_tokens=5), host)
            assert not ends_at_once or ended(run)
        return []

    late = type("Late", (), {"due": due})
    told = follow(session, panels={**dict(reversed(UPDATES.items())), "late": lambda *_: late()})
    assert started.is_set() and told["stream"] and told["quiet"]


def test_a_feed_is_opened_by_its_own_key_only_and_a_window_has_few(host):
    sessions = Sessions()
    session, other = sessions.get("a"), sessions.get("b")
    client = TestClient(Starlette(routes=Feeds(sessions, UPDATES).routes))
    for wrong in ("a", "", "x" * 24):
        assert client.get(f"/gradio_api/citer/feed/{wrong}").status_code == 404
    session.listeners._events = dict.fromkeys([object() for _ in range(MAX_FEEDS)])  # type: ignore[assignment]
    assert client.get(f"/gradio_api/citer/feed/{session.key}").status_code == 429
    assert session.key != other.key
    session.listeners._events = {}
    run = ended(session.begin(request(), host))
    for text, there in (("", 1), ("-1", 1), ("1.2.0", 1), ("٣", 1), ("9" * 20, 1), (str(run.number), 0)):
        answer = client.get(f"/gradio_api/citer/feed/{session.key}", params={"stream": text}).text
        assert answer.count("event: stream") == there, "what makes no sense is nothing that the window has"
