"""What is compared: routers and baselines under one interface, each a policy with the thresholds to run it at.

Knows the engine's policies and router folders. How a baseline was trained is in `trainer.baselines`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine import Role
from engine.pair import Pair
from engine.policy import (
    ConfidencePolicy,
    EntropyPolicy,
    FixedPolicy,
    MarginPolicy,
    OraclePolicy,
    Policy,
    QueryPolicy,
    RandomPolicy,
    RouterPolicy,
)
from engine.router import Router
from trainer.errors import TrainerError
from trainer.rollout import fingerprint
from trainer.tokens import LabelledTokens, scores_of, thresholds_for

PLAIN: dict[str, Callable[[], Policy]] = {
    "slm": lambda: FixedPolicy(Role.SLM),
    "llm": lambda: FixedPolicy(Role.LLM),
    "oracle": OraclePolicy,
    "random": RandomPolicy,
    "confidence": ConfidencePolicy,
    "entropy": EntropyPolicy,
    "margin": MarginPolicy,
}
"""Methods that need no training."""

SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6)
"""LLM shares, on labelled tokens, at which methods are run: dense where routing is worth most."""


@dataclass(frozen=True)
class Method:
    """One way of choosing who writes.

    Attributes:
        name: In results and charts.
        policy: Chooses.
        thresholds: To run it at; one for methods without any.
        router: The network that scores, if one does.
    """

    name: str
    policy: Policy
    thresholds: tuple[float, ...]
    router: Router | None = None

    @property
    def identity(self) -> str | None:
        """SHA-256 of the router's weights, so that results of another router are never mixed with these."""
        return fingerprint(self.router) if self.router else None


def build_methods(
    names: Sequence[str],
    pair: Pair,
    tokens: LabelledTokens | None,
    shares: Sequence[float] = SHARES,
    chosen: Mapping[str, Sequence[float]] | None = None,
) -> list[Method]:
    """Methods by name, with thresholds that give about the same LLM shares for all.

    Args:
        names: Of `PLAIN`, or `name=folder` for a router's folder (CITER, Co-LLM-style or query, as its card says).
        pair: What the routers have to fit.
        tokens: Labelled tokens that no router was trained on; their scores say which threshold gives which share. May
            be None if all methods are "slm", "llm", "oracle" or "random".
        shares: LLM shares wanted.
        chosen: Thresholds of methods that were begun elsewhere: another machine's scores differ in their last digits.

    Raises:
        TrainerError: An unknown name, or tokens are needed.
        RouterError: A folder is no router, or does not fit the pair.
    """
    found, own = [], pair.router
    for name in names:
        title, _, folder = name.partition("=")
        router = Router.load(Path(folder)) if folder else None
        if router is None and title not in PLAIN:
            raise TrainerError(f"{name!r} is no method: choose {', '.join(PLAIN)}, or name=folder for a router")
        if router is not None:
            pair.use_router(router)
        policy = _policy(router) if router else PLAIN[title]()
        thresholds = tuple((chosen or {}).get(title, ())) or _thresholds(title, policy, router, tokens, shares)
        found.append(Method(title, policy, thresholds, router))
    pair.use_router(own)
    if len({method.name for method in found}) < len(found):
        raise TrainerError(f"{', '.join(names)}: a method's name stands there twice")
    return found


def _policy(router: Router) -> Policy:
    return QueryPolicy(router) if router.card.training.get("method") == "query" else RouterPolicy(router)


def _thresholds(
    name: str, policy: Policy, router: Router | None, tokens: LabelledTokens | None, shares: Sequence[float]
) -> tuple[float, ...]:
    if policy.fixed is not None:
        return (0.0,)
    if policy.sees_llm:
        return (0.5,)
    if name == "random" and router is None:
        return tuple(shares)
    if tokens is None:
        raise TrainerError(
            f"{name} needs labelled tokens (--labels), whose scores say which threshold gives which share"
        )
    scores = scores_of(router or name, tokens)
    if policy.by_prompt:
        scores = scores[np.asarray(tokens.position) == 0]
    return tuple(thresholds_for(scores, shares))
