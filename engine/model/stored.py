"""A converted model in memory, for `engine.model.forward`: without transformers, which is slow to import."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from engine.model.forward import Layer
from engine.model.kv_cache import head_dim


@dataclass
class StoredModel:
    """What a store holds of a model; it has the methods of transformers' models that the engine calls.

    Attributes:
        config: What the model's `config.json` says.
        layers, norm: Of the decoder.
        embed_tokens: Ids [n] → states [n, d].
        lm_head: States [n, d] → logits [n, vocabulary].
        rotary_emb: As `Rotary`.
    """

    config: SimpleNamespace
    embed_tokens: nn.Embedding
    layers: list[Layer]
    norm: Any
    rotary_emb: Rotary
    lm_head: nn.Module
    generation_config: None = None

    @property
    def device(self) -> torch.device:
        """Where it runs."""
        return self.embed_tokens.weight.device

    def get_decoder(self) -> StoredModel:
        """All but `lm_head` is found here, too."""
        return self

    def get_input_embeddings(self) -> nn.Embedding:
        """The embedding of tokens."""
        return self.embed_tokens

    def get_output_embeddings(self) -> nn.Module:
        """`lm_head`."""
        return self.lm_head


class Rotary:
    """The rotary embedding of transformers' models, to the bit."""

    def __init__(self, config: SimpleNamespace) -> None:
        self._config = config

    @cached_property
    def _angles(self) -> tuple[Tensor, float]:
        """The angle that each half of a head turns by from one position to the next, and a factor of the result."""
        kind = self._config.rope_parameters["rope_type"]
        if kind == "default":
            width = head_dim(self._config)
            exponents = torch.arange(0, width, 2, dtype=torch.float) / width
            return 1.0 / (self._config.rope_parameters["rope_theta"] ** exponents), 1.0
        from transformers import CONFIG_MAPPING  # late: it takes a second
        from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

        whole = CONFIG_MAPPING[self._config.model_type](**vars(self._config))
        return ROPE_INIT_FUNCTIONS[kind](whole, torch.device("cpu"))

    def __call__(self, like: Tensor, positions: Tensor) -> tuple[Tensor, Tensor]:
        """The cosine and sine [..., tokens, head_dim] at positions [..., tokens], in the dtype of `like`."""
        frequencies, factor = self._angles
        angles = positions[..., None].float() * frequencies.to(positions.device)
        both = torch.cat((angles, angles), dim=-1)
        return (both.cos() * factor).to(like.dtype), (both.sin() * factor).to(like.dtype)
