"""The recorded text that a visitor finds: what is in the file, and what is sent of it."""

from __future__ import annotations

import json
import lzma
from dataclasses import replace
from itertools import pairwise

import pytest

from app.recorded import Recorded, load_recorded
from app.scale import pair_scale
from engine import InvalidRequest, Request, build_request
from engine.events import role_at
from engine.grading import is_right
from tools.record import record

PROMPT = "Add 47 and 38, then take away 19."
"""The tiny models disagree about it at many tokens."""


@pytest.fixture(scope="module")
def recorded(tiny_pair) -> Recorded:
    scale = tuple(pair_scale(tiny_pair, "router"))
    traces = tuple(record(tiny_pair, Request(PROMPT, max_new_tokens=60), scale))
    return Recorded(tiny_pair.threshold, scale, "python -m tools.record", "abc", "2 threads of a machine", traces)


def test_the_shipped_texts_are_of_one_pair_from_slm_only_to_llm_only_and_whole():
    shipped = load_recorded()
    assert shipped is not None and shipped.command.startswith("python -m") and shipped.hardware
    assert (shipped.traces[0].llm_share, shipped.traces[-1].llm_share) == (0, 1)
    assert len({(trace.preset, trace.prompt) for trace in shipped.traces}) == 1
    assert len({trace.text for trace in shipped.traces}) > 1
    right = [is_right(trace.text, shipped.answer) for trace in shipped.traces]
    assert not right[0] and all(right[shipped.start :]), "from where the slider stands on, the answer stays right"
    assert {trace.finish_reason for trace in shipped.traces[1:]} == {"eos"}


def test_the_three_texts_of_the_verdicts_are_the_race_that_compare_shows(recorded):
    race = json.loads(replace(recorded, answer="66").race())
    chosen = [recorded.traces[n] for n in (0, recorded.start, -1)]
    for key, trace in zip(("slm", "middle", "llm"), chosen, strict=True):
        assert "".join(token[1] for token in race["tokens"] if token[0] == key) == trace.text
        assert race["verdicts"][key].startswith("✓" if is_right(trace.text, "66") else "✗")
    assert race["costs"]["llm"][0] == [0, 1] and race["state"] == "done"


def test_each_recorded_text_is_what_the_engine_writes_there_and_differs_from_the_one_before(recorded, tiny_pair):
    assert recorded.traces[0].threshold == 0 and recorded.traces[-1].threshold > 1
    for before, after in pairwise(recorded.traces[:-1]):
        assert before.threshold < after.threshold
        assert after.threshold in recorded.scale
        assert any(role_at(e.score or 0.0, after.threshold) is not e.role for e in before.events)
    for trace in recorded.traces[::4]:
        alone = tiny_pair.generate(build_request(PROMPT, threshold=trace.threshold, max_new_tokens=60))
        assert [(e.id, e.role) for e in trace.events] == [(e.id, e.role) for e in alone.events]


def test_what_is_saved_is_loaded_again_and_anything_else_is_refused(recorded, tmp_path):
    path = tmp_path / "recorded.json.xz"
    recorded.save(path)
    assert load_recorded(path) == recorded and load_recorded(tmp_path / "none") is None
    whole = path.read_bytes()
    _, texts = lzma.decompress(whole).split(b"\n", 1)
    for junk in (b"junk", lzma.compress(b"{}"), lzma.compress(b"[1]"), lzma.compress(b"[1]\n" + texts), whole[:-50]):
        path.write_bytes(junk)
        with pytest.raises(InvalidRequest, match="python -m tools"):
            load_recorded(path)
