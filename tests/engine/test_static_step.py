"""A pass of one token with fixed shapes gives what any other pass gives; on a processor nothing is recorded."""

from __future__ import annotations

import torch

from engine.model.language_model import LanguageModel
from engine.model.static_step import StaticStep


def test_rows_of_different_lengths_give_the_states_of_other_passes(random_pair, monkeypatch):
    found, runs, real = [], [], StaticStep._run
    monkeypatch.setattr(StaticStep, "_run", lambda step: runs.append(len(step._ids)) or real(step))
    for graphs in (False, True):
        model = LanguageModel(random_pair.llm.model, "large", 259, graphs=graphs)
        cache = model.new_cache(4, 600)
        model.feed(cache, [2, 0, 3], [[7] * 5, [1, 2, 3], list(range(200)) + list(range(55))])
        states = []
        for token in range(4):  # row 3 grows past 256 tokens
            states += model.feed(cache, [3, 0, 2], [[token], [token + 1], [token + 2]])
            states += model.feed(cache, [2], [[9]])
        found.append((torch.cat(states), list(cache.lengths), model.fed))
    (expected, *counts), (states, *counted) = found
    torch.testing.assert_close(states, expected, rtol=1e-4, atol=1e-4)
    assert counts == counted
    assert runs == [3, 1] * 4
