"""Texts written through few rows are those that are written alone, and share what they have in common."""

from __future__ import annotations

import pytest

from engine import InvalidRequest, Request
from engine.decoding import Decoding
from engine.policy import ConfidencePolicy
from trainer.continuous_batch import WantedText, write, write_each

PROMPTS = [f"Start with {n}. Add {3 * n}. Double it. What is the result?" for n in range(2, 9)]
THRESHOLDS = (0.0, 0.7, 0.95, 1.01)


@pytest.fixture
def most(monkeypatch):
    """The most rows that took part in any step."""
    counts, step = [0], Decoding.step

    def counted(self, *args):
        counts[0] = max(counts[0], sum(row.unfinished for row in self.rows))
        return step(self, *args)

    monkeypatch.setattr(Decoding, "step", counted)
    return counts


def test_groups_through_few_rows_are_the_texts_that_are_written_alone(tiny_pair, most):
    policy = ConfidencePolicy()
    groups = [[WantedText(Request(p, threshold=t, max_new_tokens=60), policy) for t in THRESHOLDS] for p in PROMPTS]
    written = write(tiny_pair, groups, rows=9)
    assert 8 <= most[0] <= 9, "two groups, and a third one only where rows have ended"
    for group, rows in zip(groups, written, strict=True):
        for text, row in zip(group, rows, strict=True):
            alone = tiny_pair.start([text.request], [policy])
            alone.finish()
            assert [e.id for e in row.events] == [e.id for e in alone.rows[0].events]
            assert row.finish_reason == alone.rows[0].finish_reason


def test_a_group_that_is_larger_than_the_bound_is_written_alone(tiny_pair, most):
    group = [WantedText(Request(PROMPTS[0], policy="confidence", threshold=t, max_new_tokens=20)) for t in THRESHOLDS]
    assert [len(rows) for rows in write(tiny_pair, [group, group], rows=1)] == [4, 4]
    assert most == [4]


def test_a_group_reads_its_prompt_once(tiny_pair):
    texts = [
        WantedText(Request(PROMPTS[0], policy="confidence", threshold=t, max_new_tokens=1)) for t in (0.0, 0.0, 0.0)
    ]
    before = tiny_pair.slm.fed
    write(tiny_pair, [texts], rows=3)
    together = tiny_pair.slm.fed - before
    write_each(tiny_pair, texts[:1], rows=3)
    assert tiny_pair.slm.fed - before == 2 * together


def test_it_is_told_how_many_texts_are_written(tiny_pair, monkeypatch):
    monkeypatch.setattr("trainer.continuous_batch.EVERY", 0.0)
    texts = [WantedText(Request(PROMPTS[0], policy="slm", max_new_tokens=limit)) for limit in (1, 3)]
    told: list[str] = []
    write_each(tiny_pair, texts, 2, told.append)
    assert told[0] == "1 of 2 texts are written" and told[-1] == "2 of 2 texts are written"


def test_a_text_goes_on_from_token_ids(tiny_pair):
    whole = tiny_pair.generate(PROMPTS[0], policy="slm", max_new_tokens=30)
    _, prompt = tiny_pair.prepare(Request(PROMPTS[0], policy="slm"))
    begun = [event.id for event in whole.events[:5]]
    (row,) = write_each(
        tiny_pair, [WantedText(Request(PROMPTS[0], policy="slm", max_new_tokens=25), None, prompt + begun)], 1
    )
    assert begun + [event.id for event in row.events] == [event.id for event in whole.events]


def test_what_cannot_be_served_is_refused_before_any_text_is_written(tiny_pair, most):
    with pytest.raises(InvalidRequest, match="tokens"):
        write_each(tiny_pair, [WantedText(Request("5 " * 5000, policy="slm"))], rows=4)
    assert most == [0]
