"""The methods that are compared, routers and baselines alike: each a policy at an acceptance, with its thresholds.

The thresholds follow from the scores that a method has on labelled tokens. How baselines are trained is in
`trainer.fit.baselines`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.pair import Pair
from engine.policy import REGISTRY, Policy, State, build_policy
from engine.router import Router
from engine.setting import DraftLimit
from trainer import TrainerError
from trainer.evaluation.method_names import SPECULATIVE, AskedMethod, check_thresholds, parsed, spelled
from trainer.evaluation.speculative import ASSISTED_DRAFT, load_tuned
from trainer.fit.labelled_tokens import LabelledTokens
from trainer.labels.rollouts import fingerprint

_TRAINING_FREE = {name: entry.build() for name, entry in REGISTRY.items() if not entry.needs_router}
CERTAINTY = {name: policy for name, policy in _TRAINING_FREE.items() if policy.needs_logits}
"""Policies that need nothing but the logit features."""

_FIRST = ("slm", "llm", "oracle", "random")  # runs on disk name their methods in this order
PLAIN = sorted(_TRAINING_FREE, key=lambda name: (*_FIRST, name).index(name))
"""Methods that need no training."""

SHARES = (0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.6)
"""LLM shares, on labelled tokens, at which methods are run: dense where routing is worth most."""


@dataclass(frozen=True)
class Method:
    """One way of choosing who writes, and the thresholds to run it at: one where it has none.

    `acceptance` and `max_draft` are those of all its requests.
    """

    name: str
    policy: Policy
    thresholds: tuple[float, ...]
    router: Router | None = None
    acceptance: float = 0.0
    max_draft: DraftLimit = "auto"

    @property
    def title(self) -> str:
        """Its name with the acceptance; two methods of an evaluation differ in it."""
        return spelled(self.name, self.acceptance, self.max_draft)

    @property
    def made_of(self) -> list[Any]:
        """What a stage is begun with; dials at 0 and "auto" are left out, as in stages from before there were any."""
        dials = [] if (self.acceptance, self.max_draft) == (0.0, "auto") else [self.acceptance, self.max_draft]
        return [self.name, list(self.thresholds), self.identity, *dials]

    @property
    def identity(self) -> str | None:
        """SHA-256 of the router's weights: results of others are never mixed with these."""
        return fingerprint(self.router.network) if self.router is not None else None


def build_methods(
    names: Sequence[str],
    pair: Pair,
    tokens: LabelledTokens | None,
    shares: Sequence[float] = SHARES,
    chosen: Mapping[str, Sequence[float]] | None = None,
) -> list[Method]:
    """Methods by name, with thresholds that give about the same LLM shares for all.

    Args:
        names: Of `PLAIN`, or `name=folder` for a router's folder (CITER, Co-LLM-style or query, as its card says), each
            with `@acceptance`, `/max_draft` and `:thresholds` where wanted; "assisted", or "assisted-tuned=folder" for
            what `trainer.fit.tune_speculative` chose.
        tokens: That no router was trained on; their scores say which threshold gives which share. May be None if all
            methods are "slm", "llm", "oracle" or "random".
        shares: LLM shares wanted.
        chosen: Thresholds of methods whose names give none, by title: those of one that was begun elsewhere, since
            another machine's scores differ in their last digits.

    Raises:
        TrainerError: An unknown name, a threshold of a method that has none, or tokens are needed.
        RouterError: A folder is no router, or does not fit the pair.
    """
    asked = [parsed(each) for each in names]
    titles = [spelled(each.name, each.acceptance, each.max_draft) for each in asked]
    if len(set(titles)) < len(titles) or len({each[:2] for each in asked}) > len({each.name for each in asked}):
        raise TrainerError(f"{', '.join(names)}: a method's name stands there twice")
    router_before = pair.router
    methods = [_method(each, pair, tokens, shares, chosen or {}) for each in asked]
    pair.use_router(router_before)
    return methods


def _method(
    asked: AskedMethod,
    pair: Pair,
    tokens: LabelledTokens | None,
    shares: Sequence[float],
    chosen: Mapping[str, Sequence[float]],
) -> Method:
    """One of `build_methods`; leaves its router with the pair."""
    name, folder, acceptance, max_draft, own = asked
    if name in SPECULATIVE:
        if acceptance or own or max_draft != "auto":
            raise TrainerError(f"{name} is at acceptance 1, with its own draft and confidence: put nothing behind it")
        return _speculative(name, folder)
    title = spelled(name, acceptance, max_draft)
    router = Router.load(Path(folder)) if folder else None
    if router is not None:
        pair.use_router(router)  # refuses one that does not fit
        by_prompt = router.card.training.get("method") == "query"
        policy = build_policy("query" if by_prompt else "router", router)
    elif name in PLAIN:
        policy = build_policy(name)
    else:
        raise TrainerError(
            f"{name!r} is no method: choose {', '.join(PLAIN)}, assisted, or name=folder for a router; with an "
            "acceptance from 0 to 1 behind an @"
        )
    scores = policy.fixed is None and not policy.sees_llm
    if own and not scores:
        raise TrainerError(f"{title}: it has no threshold; leave out :{','.join(f'{each:g}' for each in own)}")
    given = own or (tuple(chosen.get(title, ())) if scores else ())
    check_thresholds(title, given)
    thresholds = given or _thresholds(name, policy, router, tokens, shares)
    return Method(name, policy, thresholds, router, acceptance, max_draft)


def _speculative(name: str, folder: str) -> Method:
    """Speculative decoding; the one that is tuned as it was chosen in a folder."""
    if (name == "assisted-tuned") != bool(folder):
        raise TrainerError("give assisted alone, and assisted-tuned=folder with what `trainer speculate` wrote")
    if not folder:
        return Method(name, build_policy("slm"), (0.0,), None, 1.0, ASSISTED_DRAFT)
    tuned = load_tuned(Path(folder))
    return Method(name, build_policy("confidence"), (tuned.confidence,), None, 1.0, tuned.max_draft)


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
            f"{name} needs thresholds: behind its name ({name}:0.5) or in --thresholds; or labelled tokens (--labels), "
            "whose scores say which threshold gives which share"
        )
    scores = scores_of(router or name, tokens)
    if policy.by_prompt:
        scores = scores[np.asarray(tokens.position) == 0]
    return tuple(thresholds_for(scores, shares))


def scores_of(method: str | Router, tokens: LabelledTokens) -> np.ndarray:
    """The routing scores of a policy of `CERTAINTY` or of a router, from stored features alone: float32 [n].

    A TrainerError for an unknown method, a RouterError for a router of another SLM.
    """
    if isinstance(method, Router):
        router, about = method, tokens.about
        router.fit_to(about["slm"], about["llm"], about["hidden_size"], about["tokenizer"])
        device = next(router.network.parameters()).device
        chunks = tokens.chunks(router.card.logit_features)
        scores = [router.score(features.to(device)).cpu().numpy() for features in chunks]
        return np.concatenate([np.zeros(0, dtype=np.float32), *scores])
    if method not in CERTAINTY:
        known = ", ".join(CERTAINTY)
        raise TrainerError(f"{method!r} has no scores to choose thresholds from: take {known} or a router")
    numbers = range(len(tokens))
    state = State(numbers, numbers, logit_features=torch.from_numpy(tokens.logit_features))
    return CERTAINTY[method].score(state).numpy()


def thresholds_for(scores: np.ndarray, shares: Sequence[float]) -> list[float]:
    """Thresholds below which given shares of tokens, in [0, 1], score, so that the LLM would write them.

    They are ascending and distinct, each halfway between two scores (just above the last for a share of 1). Where many
    tokens score the same, a share is met as nearly as can be, and there may be fewer thresholds than shares. A
    TrainerError for no scores or one that is not finite, or a share outside [0, 1].
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise TrainerError(f"no thresholds for {len(scores)} scores, of which {np.isfinite(scores).sum()} are finite")
    if bad := [share for share in shares if not 0 <= share <= 1]:
        raise TrainerError(f"LLM share {bad[0]}: give shares between 0 and 1")
    values, counts = np.unique(np.asarray(scores, dtype=np.float64), return_counts=True)
    above = np.nextafter(np.float32(values[-1]), np.float32(np.inf))  # for float32 scores, too, it is another number
    cuts = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, [above]])
    below = np.concatenate([[0], np.cumsum(counts)]) / len(scores)
    return sorted({float(cuts[np.argmin(np.abs(below - share))]) for share in shares})
