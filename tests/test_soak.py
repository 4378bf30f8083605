"""`make soak` in small: it holds on the page as it is, and fails where a text is lost or a prompt is in the log."""

from __future__ import annotations

from collections import Counter

import pytest
import soak
from conftest import ROOT
from soak_mutations import counting
from soak_tally import Sample, Tally, growth, judged

pytestmark = pytest.mark.slow  # it measures a server in a process of its own, which busy machines disturb

SHORT = ["--minutes", "0.05", "--visitors", "2", "--mutations", "0"]

# A page whose texts all break off, and which tells its log what it was asked for.
FAULTY = f"""
import sys
sys.path[:0] = [{str(ROOT)!r}, {str(ROOT / "tests")!r}]
from fake_pair import FakePair
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


def test_the_command_holds_and_says_what_it_tried(capsys: pytest.CaptureFixture[str]):
    status = soak.main([*SHORT, "--attackers", "1", "--seed", "1"])
    said = capsys.readouterr().out
    assert status == 0 and said.startswith("Nothing lost."), said
    for row in ("texts by the feed, with attackers", "(attack)", "no prompt in the log", "descriptors", "--seed 1"):
        assert row in said


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


@pytest.mark.parametrize(("after", "grown", "losses"), [(0.4, 1.0, 0), (0.6, 1.0, 1), (0.4, 1.1, 1)])
def test_a_slow_first_token_and_memory_that_grows_are_losses(after: float, grown: float, losses: int):
    without, with_attackers = Tally(), Tally()
    for _ in range(20):
        without.time("first token, by the feed", 0.1)
        with_attackers.time("first token, by the feed", after)
    samples = [Sample(1000, 9, 9)] * 50 + [Sample(int(1000 * grown), 9, 9)] * 50
    assert growth(samples) == pytest.approx(grown - 1)
    assert judged(without, with_attackers, samples, 1800).losses == losses
    assert judged(without, with_attackers, samples, 60).losses == (losses if after > 0.5 else 0), "too short to tell"
