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
from engine.linear import Linear
from engine.trunk import Trunk


class LanguageModel:
    """A causal language model split into its trunk and its `lm_head`.

    Attributes:
        name: For people.
        vocabulary: Length of the tokenizer; logits are cut to it, since embeddings are padded differently per model.
        hidden_size: Width d of the hidden state.
        cost: What a pass moves and computes.
        fed: Tokens fed so far over all rows, for tests and benchmarks.
    """

    def __init__(self, model: PreTrainedModel, name: str, vocabulary: int, copy: torch.dtype | None = None) -> None:
        """Wraps a loaded model.

        Args:
            model: Stays usable through transformers.
            name: For people.
            vocabulary: The tokenizer's length.
            copy: Number format of a copy of 4-bit weights, if one is kept; see `engine.linear`.

        Raises:
            WeightsError: The architecture does something that `engine.trunk` does not reproduce.
        """
        self.name = name
        self.model = model.eval()
        self.vocabulary = vocabulary
        self.config: Any = model.config
        self._decoder: Any = model.get_decoder()
        self._trunk = Trunk(self._decoder, model.config, name, copy)
        self._head_module: Any = model.get_output_embeddings()
        self._head = Linear([self._head_module], copy)
        self.hidden_size: int = self.config.hidden_size
        self.device: torch.device = model.device
        self.dtype = next(p.dtype for p in model.parameters() if p.is_floating_point())
        self.fed = 0
        self.cost = self._measure_cost()

    def new_cache(self, rows: int, capacity: int) -> RaggedCache:
        """An empty cache for `rows` rows of `capacity` tokens."""
        return RaggedCache(self.config, rows, capacity, self.dtype, self.device)

    @torch.inference_mode()
    def feed(self, cache: RaggedCache, rows: Sequence[int], chunks: Sequence[Sequence[int]]) -> list[torch.Tensor]:
        """Reads new tokens and returns what the model makes of each.

        Args:
            cache: Grows by each row's chunk.
            rows: Rows that take part, each once.
            chunks: Each row's new token ids, at least one.

        Returns:
            Per row its last-layer hidden states after the final norm, [chunk, d].
        """
        # Rows that follow each other in the cache with chunks of one length attend in one call.
        order = sorted(range(len(rows)), key=lambda n: (len(chunks[n]), rows[n]))
        sizes = [len(chunks[n]) for n in order]
        step = Pass(cache, [rows[n] for n in order], sizes)
        ids = torch.tensor([token for n in order for token in chunks[n]], device=self.device)
        states = self._trunk(ids, step).split(sizes)
        for row, chunk in zip(rows, chunks, strict=True):
            cache.lengths[row] += len(chunk)
        self.fed += len(ids)
        hidden = dict(zip(order, states, strict=True))
        return [hidden[n] for n in range(len(rows))]

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Applies `lm_head`: hidden states [n, d] → float32 logits [n, vocabulary]."""
        return self._head(hidden)[:, : self.vocabulary].float()

    def calibrate(self, chunk: int = 64) -> None:
        """Times a one-token pass with `lm_head` and a longer one, for modelled seconds; warms up as well."""
        cache = self.new_cache(1, chunk + 16)
        self.logits(self.feed(cache, [0], [[0]])[0])  # the first pass packs weights and is not typical
        single = min(self._time(cache, 1) for _ in range(3))
        several = self._time(cache, chunk)
        self.fed = 0
        self.cost = replace(self.cost, pass_seconds=single, token_seconds=max(0.0, several - single) / (chunk - 1))

    def _time(self, cache: RaggedCache, tokens: int) -> float:
        started = time.perf_counter()
        self.logits(self.feed(cache, [0], [[0] * tokens])[0][-1:]).argmax().item()
        return time.perf_counter() - started

    def _measure_cost(self) -> ModelCost:
        config = self.config
        head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        linear = [m for m in self._decoder.modules() if isinstance(m, torch.nn.Linear)]
        embedding: Any = self.model.get_input_embeddings().weight
        trunk_bytes = sum(stored_bytes(p) for p in self._decoder.parameters()) - stored_bytes(embedding)
        return ModelCost(
            trunk_bytes=trunk_bytes,
            head_bytes=stored_bytes(self._head_module.weight),
            embedding_bytes=embedding.element_size() * embedding.shape[-1],
            kv_bytes=2 * config.num_hidden_layers * config.num_key_value_heads * head_dim * self.dtype.itemsize,
            trunk_flops=2 * sum(m.in_features * m.out_features for m in linear),
            head_flops=2 * self._head_module.in_features * self._head_module.out_features,
            attention_flops=4 * config.num_hidden_layers * config.num_attention_heads * head_dim,
        )


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
