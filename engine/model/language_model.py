"""One language model as the decode loop needs it: feed tokens, get hidden states; apply `lm_head` only where asked."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.rnn import pad_sequence

from engine.events.cost import ModelCost
from engine.model import pass_times
from engine.model.any_model import AnyCache, AnyModel
from engine.model.forward import Trunk
from engine.model.int8 import Int8Linear
from engine.model.kv_cache import PLACES, RaggedAttention, RaggedCache, head_dim, prefix_keys
from engine.model.linear import Linear
from engine.model.packed import PackedLinear
from engine.model.pass_times import HEADS, LENGTHS, PassTimes
from engine.model.static_step import MOST_ROWS, StaticStep, round_end
from engine.model.stored import StoredModel
from engine.provenance import hardware

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_MOST_TIMES, _ALIKE = 6, 1.1
"""A pass is timed until its two shortest times are alike, so once or twice more where the machine was busy."""
_FASTER = 1.25
"""Where a pass is faster than it was by this factor, the times that were kept had been disturbed."""

_COPIES = {torch.int8: "int8", torch.bfloat16: "bf16", torch.float32: "fp32", None: "none"}

ALONE_UP_TO = 16 * PLACES
"""Tokens of a text that attend each as if it were read alone, also where many are read at once."""


class LanguageModel:
    """A causal language model split into its trunk and its `lm_head`.

    Attributes:
        weights: The model that was given.
        vocabulary: Length of the tokenizer; logits are cut to it, since embeddings are padded differently per model.
        fed: Tokens fed so far over all rows, for tests and benchmarks.
        context, local, judges, rereads, gone: See `engine.model.any_model.AnyModel`.
    """

    local, judges, rereads, gone = True, True, False, False

    def __init__(
        self,
        model: PreTrainedModel | StoredModel,
        name: str,
        vocabulary: int,
        copy: torch.dtype | None = None,
        graphs: bool = False,
    ) -> None:
        """Wraps a loaded model; one of transformers' stays usable.

        Args:
            model: Raises WeightsError if `engine.model.forward` does not reproduce its architecture.
            name: For people.
            vocabulary: The tokenizer's length.
            copy: Number format of a copy of 4-bit weights, if one is kept; see `engine.model.linear`.
            graphs: Whether passes of one token a row go through `engine.model.static_step`.
        """
        self.name = name
        self.weights: Any = model.eval()
        self.vocabulary = vocabulary
        self.config: Any = model.config
        decoder: Any = model.get_decoder()
        self._trunk = Trunk(decoder, model.config, name, copy)
        self._head = Linear([model.get_output_embeddings()], copy)
        self.hidden_size: int = self.config.hidden_size
        self.context: int | None = self.config.max_position_embeddings
        self.device: torch.device = model.device
        self.dtype = self._trunk.dtype
        self.fed = 0
        self.cost = cost_of(model, self.dtype)
        self._copy, self._graphs = copy, graphs

    @cached_property
    def model(self) -> PreTrainedModel:
        """The same weights as transformers runs them; what the store holds is read again for it."""
        return self.weights.plain() if isinstance(self.weights, StoredModel) else self.weights

    def make_copies(self) -> None:
        """Makes the copies of its weights now (`engine.model.linear`), and not once passes have paid for them."""
        for product in (*self._trunk.products, self._head):
            product.make_copy()

    @property
    def weights_copy(self) -> str:
        """What the copy of the weights is kept in, e.g. "int8", or "none"; texts of two kinds part at near ties."""
        return _COPIES[self._copy]

    @property
    def copy_bytes(self) -> int:
        """Memory that the copies take which are made by now."""
        return sum(product.copy_bytes for product in (*self._trunk.products, self._head))

    def new_cache(self, rows: int, capacity: int) -> RaggedCache:
        """An empty cache for `rows` rows of `capacity` tokens."""
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
            cache: Of this model.
            rows: Rows of the cache that take part, each once.
            chunks: Each row's new token ids, at least one.
            looks: At how many of each row's last tokens somebody looks; None is at all.

        Returns:
            Per row its last-layer hidden states after the final norm, there: [looks, d].
        """
        # Rows that follow each other in the cache with chunks of one length attend in one call.
        order = sorted(range(len(rows)), key=lambda n: (len(chunks[n]), rows[n]))
        sizes = [len(chunks[n]) for n in order]
        placed, ids = [rows[n] for n in order], [token for n in order for token in chunks[n]]
        wanted = [len(chunk) for chunk in chunks] if looks is None else looks
        if self._graphs and len(placed) == len(ids) <= MOST_ROWS:
            states = self._step_of(cache, placed)(ids, placed, [cache.lengths[row] for row in placed])
        else:
            together = None
            if self._trunk.batch_invariant:
                together = [_together(cache.lengths[rows[n]], len(chunks[n]), wanted[n]) for n in order]
            attention = RaggedAttention(cache, placed, sizes, together)
            states = self._trunk(torch.tensor(ids, device=self.device), attention)
        states = states.split(sizes)
        for row, chunk in zip(rows, chunks, strict=True):
            cache.extend(row, prefix_keys(cache.prefixes[row], chunk))
        self.fed += len(ids)
        hidden = dict(zip(order, states, strict=True))
        return [hidden[n][len(hidden[n]) - wanted[n] :] for n in range(len(rows))]

    def _step_of(self, cache: RaggedCache, rows: Sequence[int]) -> StaticStep:
        """What reads one token of each of these rows."""
        key = len(rows), round_end(max(cache.lengths[row] for row in rows) + 1, cache.capacity)
        if key not in cache.steps:
            cache.steps[key] = StaticStep(self._trunk, cache, *key)
        return cache.steps[key]

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Applies `lm_head`: hidden states [n, d] → float32 logits [n, vocabulary]."""
        return self._head(hidden)[:, : self.vocabulary].float()

    def calibrate(self) -> None:
        """Times passes by their length, with `lm_head` at one position, and `lm_head` at many; warms up as well."""
        self.make_copies()  # they are what long passes will read
        cache = self.new_cache(1, LENGTHS[-1])
        hidden = self.feed(cache, [0], [[0] * LENGTHS[-1]])[0]  # the first pass is not typical
        self.logits(hidden[:1])
        timed = [_shortest(partial(self._pass, cache, length)) for length in LENGTHS]
        timed = [*accumulate(reversed(timed), min)][::-1]  # what disturbs only adds: no longer pass is faster
        heads = [_shortest(partial(self._predict, hidden[:length])) for length in HEADS]
        self._take(PassTimes(timed, [max(each, heads[0]) for each in heads]))

    def recall(self, path: Path) -> bool:
        """Takes the times that were kept in a file, unless a pass of one token is faster now; whether it could.

        A slower one says that the machine is busy now, and that to measure again would make it worse.
        """
        times = pass_times.recall(path, self._key)
        if times is None:
            return False
        cache = self.new_cache(1, 1)
        self._pass(cache, 1)  # the first is not typical
        if _shortest(partial(self._pass, cache, 1)) * _FASTER < times.passes[0]:
            return False
        self._take(times)
        return True

    def keep(self, path: Path) -> None:
        """Keeps the times that `calibrate` found, for `recall` at the next start, or shorter ones that are there."""
        tables = [[seconds for _, seconds in table] for table in (self.cost.pass_table, self.cost.head_table)]
        if there := pass_times.recall(path, self._key):  # what disturbs only adds
            tables = [[*map(min, *each)] for each in zip(tables, (there.passes, there.lm_head), strict=True)]
        times = PassTimes(*tables)
        self._take(times)
        pass_times.keep(path, self._key, times)

    @property
    def _key(self) -> str:
        """What times depend on: weights and their copy, machine and torch."""
        size = self.cost.trunk_bytes + self.cost.head_bytes
        held = f"{self.dtype}, copy {self._copy}, {self.device.type}"
        return f"{self.name}, {size} bytes, {held}; {hardware()}, torch {torch.__version__}"

    def _take(self, times: PassTimes) -> None:
        self.fed, passes = 0, times.passes
        self.cost = replace(
            self.cost,
            pass_seconds=passes[0],
            token_seconds=max(0.0, passes[-1] - passes[0]) / (LENGTHS[-1] - 1),
            pass_table=tuple(zip(LENGTHS, passes, strict=True)),
            head_table=tuple(zip(HEADS, times.lm_head, strict=True)),
        )

    def _pass(self, cache: RaggedCache, tokens: int) -> None:
        cache.truncate(0, 0)
        self._predict(self.feed(cache, [0], [[0] * tokens])[0][-1:])

    def _predict(self, hidden: torch.Tensor) -> None:
        self.logits(hidden).argmax().item()


def _together(before: int, tokens: int, looks: int) -> range:
    """Which of a row's new tokens, numbered from 0, attend in one call: many that nobody looks at, far into a text.

    The others attend as if each were read alone. So a text is the same whenever and beside whatever it is read, and a
    long prompt is not read any slower.
    """
    few = before and tokens <= LENGTHS[-1]
    first = max(0, ALONE_UP_TO - before)
    return range(first, first if few else max(first, tokens - max(0, looks - 1)))


def cost_of(model: Any, dtype: torch.dtype) -> ModelCost:
    """What a pass of a model moves and computes, with a KV cache of a number format; no weight is looked at."""
    config = model.config
    decoder, head = model.get_decoder(), model.get_output_embeddings()
    linear = [m for m in decoder.modules() if isinstance(m, torch.nn.Linear | Int8Linear | PackedLinear)]
    embedding = model.get_input_embeddings().weight
    trunk_bytes = sum(charged_bytes(p) for p in decoder.parameters()) - charged_bytes(embedding)
    trunk_bytes += sum(m.get_buffer("scales").nbytes for m in linear if isinstance(m, Int8Linear))
    head_scales = head.get_buffer("scales").nbytes if isinstance(head, Int8Linear) else 0
    width = head_dim(config)
    return ModelCost(
        trunk_bytes=trunk_bytes,
        head_bytes=charged_bytes(head.weight) + head_scales,
        embedding_bytes=embedding.element_size() * embedding.shape[-1],
        kv_bytes=2 * config.num_hidden_layers * config.num_key_value_heads * width * dtype.itemsize,
        trunk_flops=2 * sum(m.in_features * m.out_features for m in linear),
        head_flops=2 * head.in_features * head.out_features,
        attention_flops=4 * config.num_hidden_layers * config.num_attention_heads * width,
    )


def _shortest(run: Callable[[], object]) -> float:
    """Seconds that something takes when nothing disturbs it."""
    times: list[float] = []
    while len(times) < 2 or (times[1] > _ALIKE * times[0] and len(times) < _MOST_TIMES):
        started = time.perf_counter()
        run()
        times = sorted([*times, time.perf_counter() - started])
    return times[0]


def charged_bytes(parameter: torch.Tensor) -> int:
    """Bytes that a pass is charged for one parameter: its storage, or of a 4-bit one half a byte a weight and a scale.

    Scales of 4-bit blocks are charged as the kernel for AVX512-BF16 has them, in bf16, wherever the pass is made.
    Elsewhere they are stored in other forms; then the same text would cost 3 % less on another processor.
    """
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return parameter.nbytes
    weights = math.prod(state.shape)
    return weights // 2 + torch.bfloat16.itemsize * -(-weights // state.blocksize)


SHORTEST = 16  # tokens that two texts must have in common before a copy is worth a pass of its own


def prefill_shared(model: AnyModel, cache: AnyCache, texts: Mapping[int, Sequence[int]]) -> None:
    """Prefills the prefixes that new texts share, each once; at least the last token of each text is left to be read.

    Longest first, each text takes a copy of the prefix that it shares with one before it. `texts` are token ids by row
    of the cache; only rows of which nothing is cached yet are looked at.
    """
    fresh = sorted((row for row in texts if cache.lengths[row] == 0), key=lambda row: -len(texts[row]))
    if len(fresh) < 2:
        return
    ids = pad_sequence([torch.tensor(texts[row]) for row in fresh], batch_first=True, padding_value=-1)
    depth = dict.fromkeys(fresh, 0)  # copies of copies
    passes: dict[int, dict[int, list[tuple[int, int]]]] = defaultdict(lambda: defaultdict(list))
    for n, row in enumerate(fresh[1:], 1):
        common = (ids[:n] == ids[n]).cumprod(1).sum(1)
        best = int(common.argmax())  # the first of the best, which is the longest
        donor = fresh[best]
        length = min(int(common[best]), len(texts[row]) - 1, len(texts[donor]) - 1)
        if length >= SHORTEST:
            depth[row] = depth[donor] + 1
            passes[depth[donor]][donor].append((row, length))
    for _, donors in sorted(passes.items()):
        chunks = {donor: texts[donor][cache.lengths[donor] : -1] for donor in donors}
        fed = {donor: chunk for donor, chunk in chunks.items() if chunk}
        if fed:
            model.feed(cache, list(fed), list(fed.values()), [0] * len(fed))
        for donor, copies in donors.items():
            for row, length in copies:
                cache.fork(donor, row, length)
