"""What is evaluated: methods by name, each with some settings. A TOML file lists them.

    [router]
    folder = "runs/cpu-all/router"
    settings = ["router < 0.8 @ 0.1", "router < 0.88 @ 0.3"]

    [confidence]
    shares = [0.1, 0.2, 0.3]        # thresholds that give these LLM shares on labelled tokens
    acceptances = [0, 0.3]

A method without training needs no folder. The settings of a method whose name is a policy may name that policy alone.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
from pydantic import Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict  # typing's own cannot be validated by pydantic before Python 3.12

from engine.errors import InvalidRequest, first_fault
from engine.events import Role, TokenEvent
from engine.pair import Pair
from engine.policy import FIXED, REGISTRY, ROUTED, Policy, State, build_policy
from engine.router import Router
from engine.setting import Setting
from trainer import TrainerError
from trainer.evaluation.rows import Name
from trainer.fit.labelled_tokens import LabelledTokens
from trainer.labels.rollouts import fingerprint

SPECULATIVE = "speculative"
"""Speculative decoding (Leviathan et al., ICML 2023): SLM confidence with acceptance 1 and a fixed draft limit."""

SHARES = (0.02, 0.05, 0.1, 0.2, 0.3, 0.5)
"""LLM shares on labelled tokens: the settings of a method for which none are given."""

SPECULATION = tuple(
    f"confidence < {confidence} @ 1/{draft}"
    for confidence, draft in ((0, 3), (0, 6), (0.3, 4), (0.3, 9), (0.5, 6), (0.5, 9))
)
"""The settings of speculative decoding where none are given: a threshold at which drafting stops, and a draft limit."""

_Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class _Listed(TypedDict, total=False):
    folder: str
    settings: list[str]
    shares: list[_Share]
    acceptances: list[_Share]


@dataclass(frozen=True)
class Method:
    """A method and the settings it is measured at; `folder` is that of its router, if it has one."""

    name: str
    settings: tuple[Setting, ...]
    folder: Path | None = None

    @cached_property
    def router(self) -> Router | None:
        return Router.load(self.folder) if self.folder else None

    @property
    def identity(self) -> str | None:
        """SHA-256 of the router's weights: answers of another router are never mixed with these."""
        return fingerprint(self.router.network) if self.router else None

    def policy(self, setting: Setting) -> Policy:
        return build_policy(setting.policy, self.router)


def read_methods(path: Path, tokens: LabelledTokens | None = None) -> list[Method]:
    """Reads a list of methods.

    Args:
        tokens: Labelled tokens that no router learned from; thresholds for `shares` follow from their scores.

    Raises:
        TrainerError: The file is not as it should be, a setting makes no sense, or `tokens` are needed.
    """
    try:
        listed = TypeAdapter(dict[Name, _Listed]).validate_python(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise TrainerError(f"{path}: {error.strerror or error}; name a TOML file that lists methods") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, ValidationError) as error:
        reason = first_fault(error, whole="") if isinstance(error, ValidationError) else error
        raise TrainerError(f"{path}: {reason}; see docs/training.md for how methods are listed") from None
    return [method(name, each, tokens) for name, each in listed.items()]


def methods_of(settings: Sequence[str]) -> list[Method]:
    """Policies without training, each at those of some settings that name it; raises as `read_methods`."""
    listed: dict[str, list[str]] = {}
    for text in settings:
        listed.setdefault(text.split()[0] if text.split() else "", []).append(text)
    return [method(name, {"settings": own}) for name, own in listed.items()]


def method(name: str, listed: Mapping[str, object], tokens: LabelledTokens | None = None) -> Method:
    """A method as the file lists it; raises as `read_methods`."""
    entry: _Listed = listed  # pyright: ignore[reportAssignmentType]
    folder = Path(entry["folder"]) if "folder" in entry else None
    router = Router.load(folder) if folder else None
    policy = "router" if router else "confidence" if name == SPECULATIVE else name
    if router and router.card.training.get("method") == "query":
        policy = "query"
    if policy not in REGISTRY or (policy in ROUTED and router is None):
        raise TrainerError(f"{name!r} is no policy without training: name its router's folder")
    given = entry.get("settings", SPECULATION if name == SPECULATIVE else None)
    if given is not None:
        settings = [_setting(name, text, policy) for text in given]
    elif policy in FIXED:
        settings = [Setting(policy, 0.0)]
    else:
        thresholds = entry.get("shares", SHARES)
        if policy != "random":  # whose threshold is the share
            thresholds = _thresholds(name, router or policy, tokens, thresholds)
        acceptances = entry.get("acceptances", [0.0])
        settings = [Setting(policy, threshold, acceptance) for acceptance in acceptances for threshold in thresholds]
    if not settings or len(set(settings)) < len(settings):
        raise TrainerError(f"{name}: give one setting or more, and none of them twice")
    return Method(name, tuple(settings), folder)


def check_fits(methods: Sequence[Method], pair: Pair) -> None:
    """Refuses, by a RouterError before hours are spent, a router that is not for this pair."""
    before = pair.router
    for each in methods:
        if each.router is not None:
            pair.use_router(each.router)
    pair.use_router(before)


def as_published(events: Sequence[TokenEvent], max_draft: int) -> list[TokenEvent]:
    """A text's events, charged as the published algorithm is: after a full draft the LLM adds a token by itself.

    The engine lets the SLM draft that token, too, since below acceptance 1 it may stay. The SLM's last pass over each
    full draft is left out here, and the next one reads what it would have read.
    """
    charged: list[TokenEvent] = []
    owed = 0  # tokens that the SLM has not read, as its pass over them was left out
    for event in events:
        drafts = [*event.taken_back, event] if event.role is Role.SLM else list(event.taken_back)
        full = event.llm_fed > 0 and len(event.verdicts) + len(drafts) == max_draft > 1
        paid: list[TokenEvent] = []
        for each in (*event.taken_back, event):
            if full and each is drafts[-1]:
                owed += each.slm_fed if len(drafts) == 1 else 0  # else it read another draft, also taken back
                paid.append(replace(each, slm_fed=0, slm_head=False))
            elif each.slm_fed:
                paid.append(replace(each, slm_fed=each.slm_fed + owed))
                owed = 0
            else:
                paid.append(each)
        charged.append(replace(paid[-1], taken_back=tuple(paid[:-1])))
    return charged


def _setting(name: str, text: str, policy: str) -> Setting:
    try:
        setting = Setting.parse(text)
    except InvalidRequest as error:
        raise TrainerError(f"{name}: {error}") from None
    if setting.policy != policy:
        raise TrainerError(f"{name}: {text!r} is a setting of {setting.policy}, and this method's policy is {policy}")
    return setting


def _thresholds(
    name: str, scored_by: str | Router, tokens: LabelledTokens | None, shares: Sequence[float]
) -> list[float]:
    if tokens is None:
        raise TrainerError(
            f"{name}: give its settings, or labelled tokens (--labels), whose scores say which threshold gives a share"
        )
    scores = scores_of(scored_by, tokens)
    if isinstance(scored_by, Router) and scored_by.card.training.get("method") == "query":
        scores = scores[np.asarray(tokens.position) == 0]
    return [float(f"{each:.6g}") for each in thresholds_for(scores, shares)]


def scores_of(method: str | Router, tokens: LabelledTokens) -> np.ndarray:
    """The routing scores of SLM confidence or of a router, from stored features alone: float32 [n].

    Raises:
        TrainerError: The method is unknown.
        RouterError: The router is for another SLM.
    """
    if isinstance(method, Router):
        about, device = tokens.about, next(method.network.parameters()).device
        method.check_fits(about["slm"], about["llm"], about["hidden_size"], about["tokenizer"])
        chunks = tokens.chunks(method.card.logit_features)
        scores = [method.score(features.to(device)).cpu().numpy() for features in chunks]
        return np.concatenate([np.zeros(0, dtype=np.float32), *scores])
    if method != "confidence":
        raise TrainerError(f"{method!r} has no scores to choose thresholds from: take confidence or a router")
    numbers = range(len(tokens))
    state = State(numbers, numbers, logit_features=torch.from_numpy(tokens.logit_features))
    return build_policy(method).score(state).numpy()


def thresholds_for(scores: np.ndarray, shares: Sequence[float]) -> list[float]:
    """Thresholds below which given shares of tokens, in [0, 1], score, so that the LLM would write them.

    They are ascending and distinct, each halfway between two scores (just above the last for a share of 1). Where many
    tokens score the same, a share is met as nearly as can be, and there may be fewer thresholds than shares.

    Raises:
        TrainerError: There are no scores, or one is not finite.
    """
    if not len(scores) or not np.isfinite(scores).all():
        raise TrainerError(f"no thresholds for {len(scores)} scores, of which {np.isfinite(scores).sum()} are finite")
    values, counts = np.unique(np.asarray(scores, dtype=np.float64), return_counts=True)
    above = np.nextafter(np.float32(values[-1]), np.float32(np.inf))  # for float32 scores, too, it is another number
    cuts = np.concatenate([values[:1], (values[:-1] + values[1:]) / 2, [above]])
    below = np.concatenate([[0], np.cumsum(counts)]) / len(scores)
    return sorted({float(cuts[np.argmin(np.abs(below - share))]) for share in shares})
