"""The soak judges rightly: what is slow, refused, growing or broken is lost, and nothing else."""

from __future__ import annotations

import httpx
import pytest

from tools.soak.page import lines_of
from tools.soak.tally import FEW, HOUR, Sample, Tally, growth, judged


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
        (0.4, 6, 1.0, HOUR, ["texts by the feed, with attackers: 25% refused at most"]),
        (0.4, 0, 1.06, HOUR, ["memory after the second half within 5% of that after the first"]),
        (0.4, 0, 1.3, HOUR / 2, ["memory after the second half within 25% of that after the first"]),
    ],
)
def test_what_is_slow_refused_or_growing_beyond_its_bound_is_lost(after, refused, grown, seconds, lost):
    parts = {"without attackers": visitors(0.1), "with attackers": visitors(after, refused)}
    assert growth(curve(grown)) == pytest.approx(grown - 1)
    limits, silent = judged(parts, curve(grown), seconds)
    assert [what for what, row in limits.rows.items() if row.lost] == lost
    assert silent == [] and len(limits.rows) == 4


def test_a_stream_is_split_at_line_feeds_alone():
    text = 'data: {"a": "one\u2028two\u0085three"}'
    content = f"event: stream\r\n{text}\n\n".encode()
    parts = [content[n : n + 3] for n in range(0, len(content), 3)]
    assert [*lines_of(httpx.Response(200, content=iter(parts)))] == ["event: stream", text, ""]
