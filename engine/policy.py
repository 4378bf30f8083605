"""Who writes the next token. Turns a state into a routing score, and the score into a role, in one place.

score < threshold → LLM, for every policy: threshold 0 is SLM-only, above 1 is LLM-only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine.events import Role, role_at
from engine.logits import ENTROPY
from engine.router import Router, features
from engine.sampling import uniform


@dataclass(frozen=True)
class State:
    """What a policy may look at before a token is chosen: n states, which rows may share.

    Attributes:
        seeds, positions: Per state, all that chance may depend on.
        hidden: The SLM's hidden states at the last position, [n, d]; only for policies that need a state.
        logit_features: How certain the SLM is of its token, float32 [n, LOGIT_FEATURES]; only for policies
            that need its logits.
        agree: Whether both models would write the same token, bool [n]; only for policies that see the LLM.
        prompt_hidden: The SLM's hidden states at the prompt's last position, [n, d]; only for policies that decide by
            the prompt.
    """

    seeds: Sequence[int]
    positions: Sequence[int]
    hidden: torch.Tensor | None = None
    logit_features: torch.Tensor | None = None
    agree: torch.Tensor | None = None
    prompt_hidden: torch.Tensor | None = None


class Policy(ABC):
    """Scores states.

    Attributes:
        needs_state: Whether the SLM must read every token for it. Where not, each model reads only when it writes.
        needs_logits: Whether the SLM's `lm_head` must be applied at every token for it.
        by_prompt: Whether it decides once per text, by the SLM's hidden state after the prompt.
        sees_llm: Whether it compares both models' logits, which no real router can; that look is not charged.
        fixed: The role of a policy that does not score.
        runs_router: Whether a score costs a pass of a router's network.
    """

    needs_state: bool = True
    needs_logits: bool = False
    by_prompt: bool = False
    sees_llm: bool = False
    fixed: Role | None = None
    runs_router: bool = False

    def reads(self, position: int) -> bool:
        """Whether the SLM must read up to this position of the generated text for the policy's sake."""
        return self.needs_state and (position == 0 or not self.by_prompt)

    def scores(self, position: int) -> bool:
        """Whether a router's network is run at this position."""
        return self.runs_router and (position == 0 or not self.by_prompt)

    @abstractmethod
    def score(self, state: State) -> torch.Tensor:
        """Routing scores [n] in [0, 1]: how safe it is to let the SLM write."""


class RouterPolicy(Policy):
    """The learned router's score."""

    runs_router = True

    def __init__(self, router: Router) -> None:
        self.router = router
        self.needs_logits = router.card.logit_features

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        assert state.hidden is not None
        return self.router.score(features(state.hidden, state.logit_features if self.needs_logits else None))


class QueryPolicy(Policy):
    """One decision per text, by a router on the hidden state after the prompt (RouteLLM, Ong et al. 2024)."""

    runs_router = True
    by_prompt = True

    def __init__(self, router: Router) -> None:
        self.router = router

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        assert state.prompt_hidden is not None
        return self.router.score(features(state.prompt_hidden, None))


class ConfidencePolicy(Policy):
    """The probability of the SLM's likeliest token: training-free, and the baseline to beat."""

    needs_logits = True

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        return _certainty(state)[:, 0].exp()


class EntropyPolicy(Policy):
    """exp(−entropy) of the SLM's distribution: 1 where it is certain, 1/k where k tokens are equally likely."""

    needs_logits = True

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        return (-_certainty(state)[:, ENTROPY]).exp()


class MarginPolicy(Policy):
    """How much likelier the SLM's first token is than its second: the difference of their probabilities."""

    needs_logits = True

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        top = _certainty(state)[:, :2].exp()
        return top[:, 0] - top[:, 1]


class OraclePolicy(Policy):
    """1 where both models would write the same token, else 0: the LLM's text for the fewest LLM tokens.

    No real router can look at the LLM first. It is the bound of what routing for agreement can save.
    """

    sees_llm = True

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        assert state.agree is not None
        return state.agree.float()


class RandomPolicy(Policy):
    """A uniform score that depends on (seed, position) only, so that the threshold is the expected LLM share."""

    needs_state = False

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        draws = [uniform(seed, position, 1) for seed, position in zip(state.seeds, state.positions, strict=True)]
        return torch.tensor(draws)


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
    """Roles and scores of rows.

    Args:
        policy: Scores the states, each once.
        state: n states.
        states: Per row, which of them is its own.
        thresholds: Per row.

    Returns:
        Per row its role, and its score (None for fixed policies).
    """
    if policy.fixed is not None:
        return [(policy.fixed, None)] * len(thresholds)
    scores: list[float] = policy.score(state).tolist()
    return [(role_at(scores[own], threshold), scores[own]) for own, threshold in zip(states, thresholds, strict=True)]


def build_policy(name: str, router: Router | None) -> Policy:
    """The policy of a request's `policy` name; `router` must be given for "router"."""
    if name == "router":
        assert router is not None
        return RouterPolicy(router)
    return {
        "confidence": ConfidencePolicy,
        "random": RandomPolicy,
        "slm": lambda: FixedPolicy(Role.SLM),
        "llm": lambda: FixedPolicy(Role.LLM),
    }[name]()


def _certainty(state: State) -> torch.Tensor:
    """See `engine.logits.logit_features` for the columns."""
    assert state.logit_features is not None
    return state.logit_features
