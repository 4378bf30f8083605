"""Who writes the next token. Turns a state into a routing score, and the score into a role, in one place.

score < threshold → LLM, for every policy: threshold 0 is SLM-only, above 1 is LLM-only.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch

from engine.events import Role
from engine.router import Router, features
from engine.sampling import uniform


class State:
    """What a policy may look at before a token is chosen, for the rows of one step.

    Attributes:
        hidden: The SLM's hidden state at each row's last position, [rows, d]; None for policies that need no state.
        seeds, positions: Per row, all that chance may depend on.
    """

    def __init__(
        self,
        hidden: torch.Tensor | None,
        lm_head: Callable[[torch.Tensor], torch.Tensor],
        seeds: Sequence[int],
        positions: Sequence[int],
    ) -> None:
        self.hidden, self.seeds, self.positions = hidden, seeds, positions
        self._lm_head = lm_head
        self._logits: torch.Tensor | None = None

    @property
    def has_logits(self) -> bool:
        """Whether `lm_head` was applied, which is then paid for and need not be again."""
        return self._logits is not None

    def logits(self) -> torch.Tensor:
        """The SLM's logits, float32 [rows, vocabulary]; applies `lm_head` once, to all rows, when first asked."""
        if self._logits is None:
            assert self.hidden is not None
            self._logits = self._lm_head(self.hidden)
        return self._logits


class Policy(ABC):
    """Scores states.

    Attributes:
        needs_state: Whether the SLM must read every token for it. Where not, each model reads only when it writes.
        fixed: The role of a policy that does not score.
        runs_router: Whether a score costs a pass of the router's network.
    """

    needs_state: bool = True
    fixed: Role | None = None
    runs_router: bool = False

    @abstractmethod
    def score(self, state: State) -> torch.Tensor:
        """Routing scores [rows] in [0, 1]: how safe it is to let the SLM write."""


class RouterPolicy(Policy):
    """The learned router's score."""

    runs_router = True

    def __init__(self, router: Router) -> None:
        self.router = router

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        assert state.hidden is not None
        logits = state.logits() if self.router.card.logit_features else None
        return self.router.score(features(state.hidden, logits))


class ConfidencePolicy(Policy):
    """The probability of the SLM's likeliest token: training-free, and the baseline to beat."""

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        logits = state.logits()
        return (logits.amax(-1) - logits.logsumexp(-1)).exp()


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


def decide(policy: Policy, state: State, thresholds: Sequence[float]) -> tuple[list[Role], list[float | None]]:
    """Roles and scores of the rows of a step. The one place where a score is compared with a threshold.

    Args:
        policy: Scores the state.
        state: The rows' state.
        thresholds: Per row.

    Returns:
        Per row its role, and its score (None for fixed policies).
    """
    if policy.fixed is not None:
        return [policy.fixed] * len(thresholds), [None] * len(thresholds)
    scores: list[float] = policy.score(state).tolist()
    roles = [Role.LLM if score < limit else Role.SLM for score, limit in zip(scores, thresholds, strict=True)]
    return roles, list(scores)


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
