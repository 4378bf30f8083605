"""One language model as the decode loop needs it: feed tokens, get hidden states; apply `lm_head` only where asked.

Knows transformers' models and how many bytes and FLOPs a pass takes. Knows nothing of pairs, routing or text.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from transformers import PreTrainedModel

from engine.cache import Pass, RaggedCache
from engine.cost import ModelCost
from engine.errors import WeightsError

FREE = 8
"""Tokens of padding that may be computed rather than run another pass: at one token a pass only waits for memory."""


class LanguageModel:
    """A causal language model split into its trunk and its `lm_head`.

    Attributes:
        name: For people.
        vocabulary: Length of the tokenizer; logits are cut to it, since embeddings are padded differently per model.
        hidden_size: Width d of the hidden state.
        cost: What a pass moves and computes.
        fed: Tokens fed so far over all rows, for tests and benchmarks.
    """

    def __init__(self, model: PreTrainedModel, name: str, vocabulary: int) -> None:
        """Wraps a loaded model; `vocabulary` is the tokenizer's length.

        Raises:
            WeightsError: The architecture does something this loop does not reproduce (sliding windows, soft-capped
                logits), so its text would silently differ from `generate`.
        """
        self.name = name
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.config: Any = model.config
        self._trunk: Any = model.get_decoder()
        self._head: Any = model.get_output_embeddings()
        self.hidden_size: int = self.config.hidden_size
        self.device: torch.device = model.device
        self.dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        self.fed = 0
        self._refuse_unsupported()
        self.cost = self._measure_cost()

    def new_cache(self, rows: int, capacity: int) -> RaggedCache:
        """An empty cache for `rows` rows of `capacity` tokens."""
        return RaggedCache(self.config, rows, capacity, self.dtype, self.device)

    @torch.inference_mode()
    def feed(self, cache: RaggedCache, rows: Sequence[int], chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """Reads new tokens and returns what the model makes of each.

        Chunks of about the same length go through one forward pass; those that differ much through several, since a
        pass computes the padding too: rows that lag by 1 and by 30 tokens would cost 30 each.

        Args:
            cache: Grows by each row's chunk.
            rows: Rows that take part.
            chunks: Each row's new token ids, at least one.

        Returns:
            Last-layer hidden states after the final norm, [rows, longest chunk, d]. Row r is defined up to its own
            chunk's length; beyond lies padding.
        """
        bundles = _bundles([len(chunk) for chunk in chunks])
        if len(bundles) == 1:
            return self._forward(cache, rows, chunks)
        widest = max(map(len, chunks))
        hidden = torch.zeros(len(rows), widest, self.hidden_size, dtype=self.dtype, device=self.device)
        for bundle in bundles:
            states = self._forward(cache, [rows[n] for n in bundle], [chunks[n] for n in bundle])
            hidden[bundle, : states.shape[1]] = states
        return hidden

    def _forward(self, cache: RaggedCache, rows: Sequence[int], chunks: Sequence[Sequence[int]]) -> torch.Tensor:
        """One forward pass; see `feed`."""
        sizes = [len(chunk) for chunk in chunks]
        widest = max(sizes)
        padded = [[*chunk, *[0] * (widest - len(chunk))] for chunk in chunks]
        step = Pass(cache, rows, sizes)
        output = self._trunk(
            input_ids=torch.tensor(padded, device=self.device),
            position_ids=step.positions,
            attention_mask=step.mask,
            cache=step,
            use_cache=True,
        )
        for row, size in zip(rows, sizes, strict=True):
            cache.lengths[row] += size
        self.fed += sum(sizes)
        return output.last_hidden_state

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Applies `lm_head`: hidden states [n, d] → float32 logits [n, vocabulary]."""
        return self._head(hidden)[..., : self.vocabulary].float()

    def calibrate(self, chunk: int = 64) -> None:
        """Times a one-token pass with `lm_head` and a longer one, for modelled seconds; warms up as well."""
        cache = self.new_cache(1, chunk + 16)
        self.logits(self.feed(cache, [0], [[0]])[:, -1])  # the first pass packs weights and is not typical
        single = min(self._time(cache, 1) for _ in range(3))
        several = self._time(cache, chunk)
        self.fed = 0
        self.cost = replace(self.cost, pass_seconds=single, token_seconds=max(0.0, several - single) / (chunk - 1))

    def _time(self, cache: RaggedCache, tokens: int) -> float:
        started = time.perf_counter()
        self.logits(self.feed(cache, [0], [[0] * tokens])[:, -1]).argmax().item()
        return time.perf_counter() - started

    def _refuse_unsupported(self) -> None:
        kinds = set(getattr(self.config, "layer_types", None) or ["full_attention"])
        if kinds != {"full_attention"} or getattr(self.config, "final_logit_softcapping", None):
            raise WeightsError(
                f"{self.name} ({self.config.model_type}) uses {', '.join(sorted(kinds))} or soft-capped logits; "
                "this engine decodes models with full attention and plain logits, such as Qwen2.5 or Llama 3."
            )

    def _measure_cost(self) -> ModelCost:
        config = self.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        linear = [m for m in self._trunk.modules() if isinstance(m, torch.nn.Linear)]
        embedding: Any = self.model.get_input_embeddings().weight
        trunk_bytes = sum(stored_bytes(p) for p in self._trunk.parameters()) - stored_bytes(embedding)
        return ModelCost(
            trunk_bytes=trunk_bytes,
            head_bytes=stored_bytes(self._head.weight),
            embedding_bytes=embedding.element_size() * embedding.shape[-1],
            kv_bytes=2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * self.dtype.itemsize,
            trunk_flops=2 * sum(m.in_features * m.out_features for m in linear),
            head_flops=2 * self._head.in_features * self._head.out_features,
            attention_flops=4 * config.num_hidden_layers * config.num_attention_heads * head_dim,
        )


def _bundles(sizes: Sequence[int]) -> list[list[int]]:
    """Splits chunks into bundles of about the same length, each in the order given.

    A bundle's padding is at most a quarter of its tokens, or `FREE` tokens, which cost less than a pass of their own.
    """
    bundles: list[list[int]] = []
    real = 0
    for number in sorted(range(len(sizes)), key=sizes.__getitem__):
        real += sizes[number]
        if bundles and sizes[number] * (len(bundles[-1]) + 1) - real <= max(FREE, real // 4):
            bundles[-1].append(number)
        else:
            bundles.append([number])
            real = sizes[number]
    return [sorted(bundle) for bundle in bundles]


def stored_bytes(parameter: torch.Tensor) -> int:
    """Bytes a pass reads of one parameter: its storage, and for a 4-bit one also the scales of its blocks."""
    total = parameter.numel() * parameter.element_size()
    state = getattr(parameter, "quant_state", None)
    if state is None:
        return total
    scales = [state.absmax]
    if state.nested:
        scales += [state.state2.absmax]
    return total + sum(s.numel() * s.element_size() for s in scales)
