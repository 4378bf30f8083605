"""`make soak` in small: it holds on the page as it is, and fails where a text is lost or a prompt is in the log."""

from __future__ import annotations

import json
import random
from collections import Counter
from types import SimpleNamespace
from typing import Any

import httpx
import pytest

from tests.support.paths import ROOT
from tools.soak import __main__ as soak
from tools.soak import kills as soak_kills
from tools.soak import page as soak_page
from tools.soak.floods import Flooder
from tools.soak.mutations import counting
from tools.soak.page import BareWindow, Lost, Refused, lines_of
from tools.soak.tally import FEW, HOUR, Sample, Tally, growth, judged, samples_table

SHORT = ["--minutes", "0.05", "--visitors", "2", "--mutations", "0", "--kills", "0"]

# A page whose texts all break off, and which tells its log what it was asked for.
FAULTY = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}]
from tests.support.fake_pair import FakePair
from app.page import build, launch_options
from app.running.host import Host
from engine import load_settings

class Faulty(FakePair):
    def write(self, row, seconds):
        print(row.request.prompt)
        event = super().write(row, seconds)
        row.finish_reason = row.finish_reason or ("length" if event.index == 5 else None)
        return event

settings = load_settings()
demo = build(Host(lambda preset, progress: Faulty(1000)), settings)
demo.launch(**launch_options(demo, settings))
"""


@pytest.mark.slow  # it measures a server in a process of its own, which busy machines disturb
def test_the_command_holds_and_says_what_it_tried(capsys: pytest.CaptureFixture[str]):
    status = soak.main([*SHORT, "--attackers", "1", "--seed", "1"])
    said = capsys.readouterr().out
    assert status == 0 and said.startswith("Nothing lost."), said
    for row in ("texts by the feed, with attackers", "(attack)", "no prompt in the log", "descriptors", "--seed 1"):
        assert row in said


@pytest.mark.slow
def test_lost_texts_and_a_prompt_in_the_log_fail_it(tmp_path, capsys: pytest.CaptureFixture[str]):
    app = tmp_path / "faulty.py"
    app.write_text(FAULTY)
    status = soak.main([*SHORT, "--attackers", "0", "--app", str(app)])
    said = capsys.readouterr().out
    assert status == 1
    assert "**lost**: texts by the feed: a text ended as 'stopped'" in said
    assert "**lost**: no prompt in the log" in said


def test_a_property_counts_what_becomes_of_its_examples():
    counts: Counter[str] = Counter()

    def holds(value: int) -> None:
        if value == 1:
            raise KeyError("x")
        assert value != 2, "taken"

    for value in (0, 1, 2, 3):
        counting(holds, counts)(value)
    assert counts == {"tried": 4, "crash: KeyError: 'x'": 1, "accepted: taken assert 2 != 2": 1}


def visitors(first_token: float, refused: int = 0, tried: int = 2 * FEW) -> Tally:
    tally = Tally()
    for n in range(tried):
        tally.time("first token, by the feed", first_token)
        if n < refused:
            tally.refused("texts by the feed", "Come back later.")
        else:
            tally.held("texts by the feed")
    return tally


def curve(grown: float) -> list[Sample]:
    """An hour's, with all gone at the end of each half; the highest moment of a half says nothing."""
    memory = [1e9 * (grown if n >= 50 else 1) * (2 if n == 60 else 1) for n in range(100)]
    return [Sample(int(each), 9, 9, 36.0 * n, n in (49, 99)) for n, each in enumerate(memory)]


@pytest.mark.parametrize(
    ("after", "refused", "grown", "seconds", "lost"),
    [
        (0.4, 5, 1.04, HOUR, []),
        (0.6, 0, 1.0, HOUR, ["first token, by the feed: within 5 times"]),
        (0.6, 0, 1.0, HOUR / 2, []),
        (2.1, 0, 1.0, HOUR / 2, ["first token, by the feed: within 5 times"]),
        (0.4, 6, 1.0, HOUR, ["texts by the feed, with attackers: 25% refused at most"]),
        (0.4, 0, 1.06, HOUR, ["memory after the second half within 5% of that after the first"]),
        (0.4, 0, 1.2, HOUR / 2, []),
        (0.4, 0, 1.3, HOUR / 2, ["memory after the second half within 25% of that after the first"]),
    ],
)
def test_what_is_slow_refused_or_growing_beyond_its_bound_is_lost(after, refused, grown, seconds, lost):
    parts = {"without attackers": visitors(0.1), "with attackers": visitors(after, refused)}
    assert growth(curve(grown)) == pytest.approx(grown - 1)
    limits, silent = judged(parts, curve(grown), seconds)
    assert [what for what, row in limits.rows.items() if row.lost] == lost
    assert silent == [] and len(limits.rows) == 4


def test_a_bound_that_cannot_be_judged_says_so():
    parts = {"without attackers": visitors(0.1, tried=FEW - 1), "with attackers": visitors(9.0, tried=FEW)}
    limits, silent = judged(parts, [], HOUR)
    assert limits.losses == 0 and [*limits.rows] == ["texts by the feed, with attackers: 25% refused at most"]
    assert [each.split(":")[0] for each in silent] == [
        "first token, by the feed",
        "texts by the feed, without attackers, share refused",
        "memory",
    ]


def test_memory_is_a_curve_of_twelve_steps():
    rows = samples_table(curve(1.5)).splitlines()[2:]
    assert len(rows) == 14 and rows[0].startswith("| 0.0 | 1000 MB") and rows[12].startswith("| 59.4 | 1500 MB")


def test_a_loss_keeps_the_numbers_of_its_first():
    tally = Tally()
    for seconds in (31, 12):
        tally.lost("texts", f"nothing after {seconds} s")
    assert tally.errors == {"**lost**: texts: nothing after ## s": 2}
    assert tally.first == {"**lost**: texts: nothing after ## s": "nothing after 31 s"}


class Broken(Flooder):
    def attack(self, until: float, pause: float = 1.0) -> None:
        raise KeyError("a fault of the rehearsal")


def test_an_attacker_that_dies_is_a_loss():
    attacks = Tally()
    served: Any = SimpleNamespace(url="http://127.0.0.1:1/")
    soak._side_by_side([], [Broken(served, attacks, {}, [], "x", 0, 0)], 0.0)
    assert attacks.losses == 1 and "KeyError" in str(attacks.errors)


def test_a_stream_is_split_at_line_feeds_alone():
    text = 'data: {"a": "one\u2028two\u0085three"}'
    content = f"event: stream\r\n{text}\n\n".encode()
    parts = [content[n : n + 3] for n in range(0, len(content), 3)]
    assert [*lines_of(httpx.Response(200, content=iter(parts)))] == ["event: stream", text, ""]


@pytest.fixture
def window(monkeypatch: pytest.MonkeyPatch):
    """A window whose results come from a list in place of a server."""
    told: list[dict[str, Any]] = []
    monkeypatch.setattr(soak_page, "server_events", lambda *_: (("", json.dumps(each)) for each in told))
    shown: Any = BareWindow.__new__(BareWindow)
    shown.client, shown.session, shown.number, shown.state, shown.note = None, "s", 7, "running", "waiting"
    return shown, told


def completed(event: str, success: bool = True) -> dict[str, Any]:
    return {"msg": "process_completed", "event_id": event, "success": success, "output": {"error": "No room now."}}


def test_a_window_waits_for_the_outcome_of_its_own_event(window):
    shown, told = window
    told[:] = [completed("other", success=False), completed("mine")]
    shown.outcome("mine")
    told[:] = [completed("other"), completed("mine", success=False)]
    with pytest.raises(Refused, match="No room now"):
        shown.outcome("mine")
    told[:] = [completed("other")]
    with pytest.raises(Lost, match=r"no outcome; number 7 is 'running' \(waiting\) after 0 s"):
        shown.outcome("mine")


def test_downloads_from_a_server_that_misbehaves_come_right_or_say_why(tmp_path):
    tally = Tally()
    soak_kills._download_often(tmp_path, 3, random.Random(1), tally)
    row = tally.rows["downloads from a server that misbehaves"]
    assert row.tried == 3 and row.lost == 0


@pytest.mark.slow
def test_what_is_killed_and_run_again_leaves_the_same_bytes(tmp_path):
    tally = Tally()
    soak_kills.run(2, 0, tally)
    assert tally.losses == 0 and {row.tried for row in tally.rows.values()} == {2}


def test_other_bytes_after_a_kill_are_lost(tmp_path):
    program = 'import os, sys, time; print("ready", flush=True); os.makedirs(sys.argv[1], exist_ok=True); '
    program += 'open(sys.argv[1] + "/made", "a").write("x"); time.sleep(0.2)'
    tally = Tally()
    soak_kills._kill_often("killed", program, tmp_path, 2, random.Random(0), tally)
    assert tally.losses == 2 and "other bytes than undisturbed in made" in str(tally.errors)
