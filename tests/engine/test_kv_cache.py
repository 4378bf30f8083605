"""The ragged cache: rows of uneven length agree with the uncached forward pass."""

from __future__ import annotations

import random

import torch


def test_uneven_chunks_in_any_order_equal_the_uncached_forward_pass(random_pair):
    model, chance = random_pair.llm, random.Random(0)
    texts = [[chance.randrange(259) for _ in range(size)] for size in (40, 7, 23, 31)]
    cache = model.new_cache(4, 40)
    states = [[] for _ in texts]
    while any(cache.lengths[row] < len(text) for row, text in enumerate(texts)):
        rows = [r for r, text in enumerate(texts) if cache.lengths[r] < len(text) and chance.random() < 0.6]
        if not rows:
            continue
        chance.shuffle(rows)
        chunks = [texts[r][cache.lengths[r] : cache.lengths[r] + chance.randint(1, 9)] for r in rows]
        hidden = model.feed(cache, rows, chunks)
        for row, chunk, found in zip(rows, chunks, hidden, strict=True):
            assert len(found) == len(chunk)
            states[row].append(found)
    for text, found in zip(texts, states, strict=True):
        with torch.inference_mode():
            whole = model.model.get_decoder()(input_ids=torch.tensor([text])).last_hidden_state[0]
        torch.testing.assert_close(torch.cat(found), whole, rtol=1e-4, atol=1e-4)


def test_a_row_can_be_filled_to_the_last_slot_beside_a_row_with_a_long_chunk(random_pair):
    model = random_pair.slm
    cache = model.new_cache(2, 10)
    model.feed(cache, [0], [[1] * 9])
    hidden = model.feed(cache, [0, 1], [[2], [3] * 8])
    assert cache.lengths == [10, 8]
    with torch.inference_mode():
        alone = model.model.get_decoder()(input_ids=torch.tensor([[1] * 9 + [2]])).last_hidden_state[0, -1]
    torch.testing.assert_close(hidden[0][0], alone, rtol=1e-4, atol=1e-4)


def test_a_fork_is_independent_of_its_source(random_pair):
    model = random_pair.slm
    cache = model.new_cache(2, 12)
    model.feed(cache, [0], [[5, 6, 7]])
    cache.fork(0, 1)
    model.feed(cache, [1], [[8]])
    model.feed(cache, [0], [[9]])
    ends = {row: model.feed(cache, [row], [[10]])[0][0] for row in (0, 1)}
    for row, token in ((0, 9), (1, 8)):
        with torch.inference_mode():
            alone = model.model.get_decoder()(input_ids=torch.tensor([[5, 6, 7, token, 10]])).last_hidden_state[0, -1]
        torch.testing.assert_close(ends[row], alone, rtol=1e-4, atol=1e-4)
