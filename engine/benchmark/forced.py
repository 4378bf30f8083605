"""A pair whose models agree as often as one says: for random weights, which by themselves agree on nothing.

Every pass and every `lm_head` runs as it would; then the likeliest token is replaced by one that depends on its
position alone. The SLM is as certain of it as it is right: of four tokens in five 99 %, of the fifth `_UNCERTAIN`, so
that both models agree on 93 % of all tokens (`AGREEMENT`), and a look at the right places pays as it would with a pair
that knows what it does not know.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch

from engine.events import Role
from engine.model.kv_cache import RaggedCache
from engine.model.language_model import LanguageModel
from engine.model.sampling import uniform
from engine.pair import Pair
from engine.policy import RouterPolicy, State
from engine.router import Router

AGREEMENT = 0.93
_CERTAIN, _CERTAIN_SHARE = 0.99, 0.8
_UNCERTAIN = (AGREEMENT - _CERTAIN_SHARE * _CERTAIN) / (1 - _CERTAIN_SHARE)
_CERTAINTY, _AGREES = 2, 3  # streams of `uniform`, for what is decided by position
_DIGIT = 128  # a position is kept in a hidden state as two digits, which bfloat16 holds exactly


def certainty(position: int) -> float:
    """How sure the SLM is of its token at this position of prompt and text, in [0, 1]."""
    return _CERTAIN if uniform(0, position, _CERTAINTY) < _CERTAIN_SHARE else _UNCERTAIN


def agrees(position: int) -> bool:
    """Whether the LLM's token is the SLM's at this position of prompt and text."""
    return uniform(0, position, _AGREES) < certainty(position)


def forced_token(role: Role, position: int, vocabulary: int) -> int:
    """What a model in this role writes at this position of prompt and text, of `vocabulary` tokens."""
    half = vocabulary // 2
    return position % half + (half if role is Role.LLM and not agrees(position) else 0)


class ForcedModel(LanguageModel):
    """One model of such a pair: it shares all weights with the model it is made of."""

    def __init__(self, model: LanguageModel, role: Role) -> None:
        """Takes the place of `model`, in this role."""
        self.__dict__.update(model.__dict__)
        self._role = role

    @torch.inference_mode()
    def feed(
        self,
        cache: RaggedCache,
        rows: Sequence[int],
        chunks: Sequence[Sequence[int]],
        looks: Sequence[int] | None = None,
    ) -> list[torch.Tensor]:
        """See `LanguageModel.feed`; the first two numbers of a hidden state say which position comes next."""
        hidden = super().feed(cache, rows, chunks, looks)
        for end, states in zip((cache.lengths[row] + 1 for row in rows), hidden, strict=True):
            following = torch.arange(end - len(states), end, device=states.device)
            states[:, 0], states[:, 1] = following // _DIGIT, following % _DIGIT
        return hidden

    @torch.inference_mode()
    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """See `LanguageModel.logits`."""
        positions = (hidden[:, 0].float() * _DIGIT + hidden[:, 1].float()).round().long().tolist()
        logits = super().logits(hidden)
        ids = [forced_token(self._role, position, self.vocabulary) for position in positions]
        sure = [certainty(position) for position in positions]
        odds = torch.tensor([math.log(p / (1 - p)) for p in sure], device=logits.device)
        places = range(len(ids)), ids
        logits[places] = -math.inf
        logits[places] = logits.logsumexp(-1) + odds
        return logits


class ForcedCertainty(RouterPolicy):
    """Runs a router and scores with `certainty` instead, after a prompt of so many tokens: a router that is right."""

    def __init__(self, router: Router, prompt: int) -> None:
        """Prepares texts whose prompts have `prompt` tokens."""
        super().__init__(router)
        self._prompt = prompt

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        super().score(state).tolist()
        return torch.tensor([certainty(self._prompt + position) for position in state.positions])


def forced(pair: Pair) -> Pair:
    """A pair with the weights of another, whose models agree on `AGREEMENT` of all tokens."""
    made = copy.copy(pair)
    slm, llm = pair.models
    made.slm, made.llm = ForcedModel(slm, Role.SLM), ForcedModel(llm, Role.LLM)
    return made
