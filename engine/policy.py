"""Who writes the next token: a policy turns what is known of a position into a routing score.

score < threshold → LLM, for every policy (`engine.events.role_at`). `REGISTRY` at the end names them all. torch is
imported by the methods that need it only, so that the page and the settings can read the registry.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from engine.errors import EngineError, RouterError, WeightsError
from engine.events import Role, role_at

if TYPE_CHECKING:
    import torch

    from engine.router import Router


@dataclass(frozen=True)
class State:
    """What a policy may look at before a token is chosen: n states, which rows may share.

    Tensors are None for policies that do not look at them.

    Attributes:
        seeds, positions: Per state, all that chance may depend on.
        hidden, prompt_hidden: The SLM's hidden states at the last position, and at the prompt's last, [n, d].
        logit_features: How certain the SLM is of its token, float32 [n, LOGIT_FEATURES], see `engine.model.logits`.
    """

    seeds: Sequence[int]
    positions: Sequence[int]
    hidden: torch.Tensor | None = None
    logit_features: torch.Tensor | None = None
    prompt_hidden: torch.Tensor | None = None


class Policy(ABC):
    """Scores states.

    Attributes:
        needs_state: Whether the SLM must read every token for it. Where not, each model reads only when it writes.
        needs_logits: Whether the SLM's `lm_head` must be applied at every token for it.
        by_prompt: Whether it decides once per text, by the SLM's hidden state after the prompt.
        fixed: The role of a policy that does not score.
        runs_router: Whether a score costs a pass of a router's network.
    """

    needs_state: bool = True
    needs_logits: bool = False
    by_prompt: bool = False
    fixed: Role | None = None
    runs_router: bool = False

    def reads(self, position: int) -> bool:
        """Whether the SLM must read up to this position of the generated text for the policy's sake."""
        return self.needs_state and (position == 0 or not self.by_prompt)

    @abstractmethod
    def score(self, state: State) -> torch.Tensor:
        """Routing scores [n] in [0, 1]: how safe it is to let the SLM write."""

    def score_error(self, score: float) -> EngineError:
        """The error for a score that is not finite."""
        return WeightsError(
            f"The SLM's own certainty is {score}, which is no number: its weights are damaged. Get them again."
        )


class RouterPolicy(Policy):
    """The learned router's score (CITER)."""

    runs_router = True

    def __init__(self, router: Router) -> None:
        self.router = router
        self.needs_logits = router.card.logit_features and not self.by_prompt

    def score(self, state: State) -> torch.Tensor:
        from engine.router import features

        hidden = state.prompt_hidden if self.by_prompt else state.hidden
        assert hidden is not None
        return self.router.score(features(hidden, state.logit_features if self.needs_logits else None))

    def score_error(self, score: float) -> EngineError:
        return RouterError(
            f"Router {self.router.name!r} gave the score {score}, which is no number: its weights or the SLM's are "
            "damaged. Choose another router (CITER_ROUTER), or get the files again."
        )


class QueryPolicy(RouterPolicy):
    """One decision per text, by a router on the hidden state after the prompt (RouteLLM, Ong et al. 2024)."""

    by_prompt = True


class ConfidencePolicy(Policy):
    """The probability of the SLM's likeliest token: training-free, and the baseline to beat."""

    needs_logits = True

    def score(self, state: State) -> torch.Tensor:
        assert state.logit_features is not None
        return state.logit_features[:, 0].exp()


class RandomPolicy(Policy):
    """A uniform score that depends on (seed, position) only, so that the threshold is the expected LLM share."""

    needs_state = False

    def score(self, state: State) -> torch.Tensor:
        import torch

        from engine.model.sampling import uniform

        return torch.tensor([uniform(*each, 1) for each in zip(state.seeds, state.positions, strict=True)])


class FixedPolicy(Policy):
    """Always the same model; the other is never run."""

    needs_state = False

    def __init__(self, role: Role) -> None:
        self.fixed = role

    def score(self, state: State) -> torch.Tensor:
        """Never called: `decide` takes `fixed`."""
        raise AssertionError("a fixed policy does not score")


def decide(
    policy: Policy, state: State, states: Sequence[int], thresholds: Sequence[float]
) -> list[tuple[Role, float | None]]:
    """Per row its role, and its score (None for fixed policies); `states` says which of the n states is a row's own.

    Raises:
        EngineError: A score is not finite, so that no threshold means anything; `Policy.score_error` returns the error.
    """
    if policy.fixed is not None:
        return [(policy.fixed, None)] * len(thresholds)
    scores: list[float] = policy.score(state).tolist()
    if not all(map(math.isfinite, scores)):
        raise policy.score_error(next(score for score in scores if not math.isfinite(score)))
    return [(role_at(scores[own], threshold), scores[own]) for own, threshold in zip(states, thresholds, strict=True)]


REGISTRY: dict[str, Callable[..., Policy]] = {
    "router": RouterPolicy,
    "confidence": ConfidencePolicy,
    "random": RandomPolicy,
    "slm": partial(FixedPolicy, Role.SLM),
    "llm": partial(FixedPolicy, Role.LLM),
    "query": QueryPolicy,
}
"""All policies by name."""

POLICIES = ("router", "confidence", "random", "slm", "llm")
"""Names that a request may give. The others are for evaluations."""
FIXED = ("slm", "llm")
"""Policies that do not score, so that a threshold means nothing to them."""
ROUTED = ("router", "query")
"""Policies that need a router."""


def build_policy(name: str, router: Router | None = None) -> Policy:
    """The policy of this name; those that need a router must be given one."""
    return REGISTRY[name](router) if name in ROUTED else REGISTRY[name]()
