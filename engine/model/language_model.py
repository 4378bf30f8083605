"""One language model as the decode loop needs it: feed tokens, get hidden states; apply `lm_head` only where asked."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch

from engine.events.cost import ModelCost
from engine.model.config import config_of, skeleton
from engine.model.forward import Trunk, size_of
from engine.model.kv_cache import PLACES, RaggedAttention, RaggedCache, head_dim
from engine.models.files import read_json, write_json
from engine.provenance import hardware

LENGTHS = (1, 2, 4, 8, 16, 32)  # tokens of the passes that are timed
HEADS = LENGTHS[:4]  # positions to which `lm_head` is applied at once, for its time
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_MOST_TIMES, _ALIKE = 12, 1.1
"""A pass is timed until its two shortest times are alike, or so many times: the machine may be busy."""
_BELIEVED = 1.25
"""Times are believed where the two shortest of a pass of one token are within this factor."""
_FASTER = 1.25
"""Stored times are measured again where a pass is faster by this factor: the machine was busy when they were taken."""

ALONE_UP_TO = 16 * PLACES
"""So many first tokens of a text each attend as if read alone, even where many are read at once."""


class LanguageModel:
    """A causal language model split into its trunk and its `lm_head`.

    Attributes:
        vocabulary: Length of the tokenizer; logits are cut to it, since embeddings are padded differently per model.
        fed: Tokens fed so far over all rows, for tests and benchmarks.
        context: Tokens that a text may have.
        local: Whether it runs in this process, so that it reads in pieces, and knows its candidates at every token.
    """

    local = True

    def __init__(self, model: Any, name: str, vocabulary: int) -> None:
        """Wraps a model of the store, or of transformers, which stays usable. `config_of` checks what is supported."""
        self.name = name
        self.model = model
        self.vocabulary = vocabulary
        self.config: Any = model.config
        self._trunk = Trunk(model)
        self._head = model.lm_head
        self.hidden_size: int = self.config.hidden_size
        self.context: int | None = self.config.max_position_embeddings
        embedding: torch.Tensor = model.model.embed_tokens.weight
        self.device = embedding.device
        self.dtype = self._trunk.dtype
        self.fed = 0
        self.cost = cost_of(self.config, self.dtype, self._trunk.size, size_of(self._head), embedding)
        # Bytes of memory beyond those that passes are charged.
        self.extra_bytes = sum(getattr(part, "extra_bytes", 0) for part in (*self._trunk.products, self._head))

    def new_cache(self, rows: int, capacity: int) -> RaggedCache:
        return RaggedCache(self.config, rows, capacity, self.dtype, self.device)

    @torch.inference_mode()
    def feed(
        self,
        cache: RaggedCache,
        rows: Sequence[int],
        chunks: Sequence[Sequence[int]],
        looks: Sequence[int] | None = None,
    ) -> list[torch.Tensor]:
        """Reads new tokens in one pass, and adds them to the cache.

        Args:
            rows: Rows of the cache that take part, each once.
            chunks: Each row's new token ids, at least one.
            looks: For each row, at how many of its last new tokens hidden states are returned; None is all of them.

        Returns:
            For each row the hidden states after the final norm [looks, d].
        """
        # Rows that follow each other in the cache with chunks of one length attend in one call.
        order = sorted(range(len(rows)), key=lambda n: (len(chunks[n]), rows[n]))
        sizes = [len(chunks[n]) for n in order]
        placed, ids = [rows[n] for n in order], [token for n in order for token in chunks[n]]
        wanted = [len(chunk) for chunk in chunks] if looks is None else looks
        together = None
        if self._trunk.batch_invariant:
            together = [_together(cache.lengths[rows[n]], len(chunks[n]), wanted[n]) for n in order]
        attention = RaggedAttention(cache, placed, sizes, together)
        states = self._trunk(torch.tensor(ids, device=self.device), attention).split(sizes)
        for row, chunk in zip(rows, chunks, strict=True):
            cache.lengths[row] += len(chunk)
        self.fed += len(ids)
        hidden = dict(zip(order, states, strict=True))
        return [hidden[n][len(hidden[n]) - wanted[n] :] for n in range(len(rows))]

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Applies `lm_head`: hidden states [n, d] → float32 logits [n, vocabulary]."""
        return self._head(hidden)[:, : self.vocabulary].float()

    def calibrate(self) -> bool:
        """Times passes by their length, with `lm_head` at one position, and `lm_head` at many; warms up as well.

        Returns whether two tries of a pass of one token were alike. Else the machine is too busy to be timed.
        """
        cache = self.new_cache(1, LENGTHS[-1])
        hidden = self.feed(cache, [0], [[0] * LENGTHS[-1]])[0]  # the first pass is not typical
        self.logits(hidden[:1])
        timed = [_shortest(partial(self._pass, cache, length)) for length in LENGTHS]
        passes = [*accumulate((each[0] for each in reversed(timed)), min)][::-1]  # what disturbs only adds
        heads = [_shortest(partial(self._predict, hidden[:length]))[0] for length in HEADS]
        self.use_times(passes, [max(each, heads[0]) for each in heads])
        return timed[0][1] <= _BELIEVED * timed[0][0]

    def recall(self, path: Path) -> bool:
        """Takes the times that a file has for this model and machine; returns False if it has none that hold.

        They hold unless a pass of one token is faster now. Where it is slower, the machine is busy.
        """
        times = read_json(path).get(self._key, {})
        passes, heads = times.get("passes", ()), times.get("lm_head", ())
        if (len(passes), len(heads)) != (len(LENGTHS), len(HEADS)):
            return False
        cache = self.new_cache(1, 1)
        self._pass(cache, 1)  # the first is not typical
        if _shortest(partial(self._pass, cache, 1))[0] * _FASTER < passes[0]:
            return False
        self.use_times(passes, heads)
        return True

    def keep(self, path: Path) -> None:
        """Stores the times. Where the file cannot be written, the next start measures again."""
        tables = {"passes": self.cost.pass_table, "lm_head": self.cost.head_table}
        times = {name: [seconds for _, seconds in table] for name, table in tables.items()}
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, {**read_json(path), self._key: times}, indent=1)

    @property
    def _key(self) -> str:
        """What times depend on: weights and their product, machine and torch."""
        size = self.cost.trunk_bytes + self.cost.head_bytes
        held = f"{self.dtype}, {type(self._head).__name__}, {self.device.type}"
        return f"{self.name}, {size} bytes, {held}; {hardware()}, torch {torch.__version__}"

    def use_times(self, passes: Sequence[float], heads: Sequence[float]) -> None:
        """Uses seconds of passes over `LENGTHS` tokens with `lm_head` at one position, and of it at `HEADS`."""
        self.fed = 0
        self.cost = replace(
            self.cost,
            pass_seconds=passes[0],
            token_seconds=max(0.0, passes[-1] - passes[0]) / (LENGTHS[-1] - 1),
            pass_table=tuple(zip(LENGTHS, passes, strict=True)),
            head_table=tuple(zip(HEADS, heads, strict=True)),
        )

    def _pass(self, cache: RaggedCache, tokens: int) -> None:
        cache.truncate(0, 0)
        self._predict(self.feed(cache, [0], [[0] * tokens])[0][-1:])

    def _predict(self, hidden: torch.Tensor) -> None:
        self.logits(hidden).argmax().item()


def _together(before: int, tokens: int, looks: int) -> range:
    """Which of a row's new tokens, numbered from 0, attend in one call: those of a long chunk from `ALONE_UP_TO` on.

    The others attend as if each were read alone, so that a text does not depend on the texts beside it.
    """
    few = before and tokens <= LENGTHS[-1]
    first = max(0, ALONE_UP_TO - before)
    return range(first, first if few else max(first, tokens - max(0, looks - 1)))


def cost_of(
    config: Any, dtype: torch.dtype, trunk: tuple[int, int], head: tuple[int, int], embedding: torch.Tensor
) -> ModelCost:
    """What a pass of a model with a KV cache in `dtype` moves and computes; `trunk` and `head` are from `size_of`."""
    width = head_dim(config)
    return ModelCost(
        trunk_bytes=trunk[0],
        head_bytes=head[0],
        embedding_bytes=embedding.element_size() * embedding.shape[-1],
        kv_bytes=2 * config.num_hidden_layers * config.num_key_value_heads * width * dtype.itemsize,
        trunk_flops=2 * trunk[1],
        head_flops=2 * head[1],
        attention_flops=4 * config.num_hidden_layers * config.num_attention_heads * width,
    )


def cost_by_config(values: Mapping[str, Any]) -> ModelCost:
    """What a pass of a model elsewhere costs, by its `config.json`, with weights in its number format.

    Raises ValueError, TypeError or WeightsError for values that no model is made of.
    """
    model: Any = skeleton(config_of("the model", values))
    dtype = _DTYPES.get(str(values.get("dtype") or values.get("torch_dtype")), torch.bfloat16)
    model = model.to(dtype)
    embedding, (size, weights) = model.get_input_embeddings().weight, size_of(model.get_decoder())
    trunk = size - embedding.nbytes, weights
    return cost_of(model.config, dtype, trunk, size_of(model.get_output_embeddings()), embedding)


def _shortest(run: Callable[[], object]) -> list[float]:
    """Seconds that something takes when nothing disturbs it: of several tries, the shortest first."""
    times: list[float] = []
    while len(times) < 2 or (times[1] > _ALIKE * times[0] and len(times) < _MOST_TIMES):
        started = time.perf_counter()
        run()
        times = sorted([*times, time.perf_counter() - started])
    return times
