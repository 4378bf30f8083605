"""What passes take is measured once on a machine, and again where it is not so any more."""

from __future__ import annotations

import json
from itertools import count
from types import SimpleNamespace

import pytest

from engine.model import language_model
from engine.model.language_model import HEADS, LENGTHS
from engine.pair import Pair


@pytest.fixture
def pair(random_pair):
    return Pair(random_pair.slm.model, random_pair.llm.model, random_pair.tokenizer, slm_name="s", llm_name="l")


def test_the_second_start_takes_the_times_of_the_first(pair, tmp_path, monkeypatch):
    path = tmp_path / "passes.json"
    monkeypatch.setattr(language_model, "_BELIEVED", 1e9)  # however busy the machine is
    pair.calibrate(path)
    costs = pair.slm_cost, pair.llm_cost
    assert len(json.loads(path.read_text())) == 2
    known = {id(model): model.cost.pass_seconds for model in pair.models}
    again = Pair(pair.slm.model, pair.llm.model, pair.tokenizer, slm_name="s", llm_name="l")
    monkeypatch.setattr(language_model.LanguageModel, "calibrate", None)  # nothing is measured again
    seconds = iter(known.values())
    monkeypatch.setattr(language_model, "_shortest", lambda run: [next(seconds)])
    again.calibrate(path)
    assert (again.slm_cost, again.llm_cost) == costs
    assert again.slm.fed == again.llm.fed == 0


def test_where_no_two_tries_of_a_pass_are_alike_times_are_neither_believed_nor_kept(pair, tmp_path, monkeypatch):
    tries = count(1)
    monkeypatch.setattr(language_model, "time", SimpleNamespace(perf_counter=lambda: 2.0 ** next(tries)))
    pair.calibrate(tmp_path / "passes.json")
    assert not pair.timed and not (tmp_path / "passes.json").exists()
    monkeypatch.setattr(language_model, "time", SimpleNamespace(perf_counter=lambda: float(next(tries))))
    pair.calibrate(tmp_path / "passes.json")
    assert pair.timed and (tmp_path / "passes.json").exists()


@pytest.mark.parametrize("factor, again", [(0.5, True), (0.9, False), (3.0, False)])
def test_where_a_pass_is_faster_than_it_was_all_are_measured_again(pair, tmp_path, monkeypatch, factor, again):
    path = tmp_path / "passes.json"
    monkeypatch.setattr(language_model, "_shortest", lambda run: [0.1, 0.1])
    pair.calibrate(path)
    monkeypatch.setattr(language_model, "_shortest", lambda run: [0.1 * factor] * 2)
    pair.calibrate(path)
    seconds = 0.1 * factor if again else 0.1
    assert pair.slm_cost.pass_table == tuple((length, seconds) for length in LENGTHS)
    assert [positions for positions, _ in pair.slm_cost.head_table] == list(HEADS)
    kept = json.loads(path.read_text())
    assert len(kept) == 2 and all(times["passes"][0] == seconds for times in kept.values())
