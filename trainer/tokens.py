"""From labels and rollouts to arrays: what each token looks like, who is preferred there, and how much it counts.

Knows labels, rollouts, the split of the questions, and what the training-free policies make of the stored features;
does not know how a router is trained.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow
import torch

from engine import Role
from engine.policy import ConfidencePolicy, EntropyPolicy, MarginPolicy, State
from engine.router import Router
from trainer.errors import TrainerError
from trainer.label import load_labels
from trainer.preference import PREFERENCES, Case, rollout_preference
from trainer.rollout import Rollout, load_rollouts

CERTAINTY = {"confidence": ConfidencePolicy(), "entropy": EntropyPolicy(), "margin": MarginPolicy()}
"""Policies that need nothing but the logit features."""

CHUNK = 8192  # tokens scored at once: 30 MB of float32 for a hidden state of 896
COLUMNS = ("question", "position", "case", "correct", "slm_logprob", "llm_logprob", "hidden", "logit_features")
SAME = ("slm", "llm", "quantisation", "hidden_size", "tokenizer", "reference")
"""What labels must agree on to be learned from together."""

Actions = Mapping[Role, Rollout]


@dataclass(frozen=True)
class LabelledTokens:
    """n tokens of references, with all that is known of them.

    Attributes:
        question: Ids [n], str.
        position: Int32 [n]; at 0 the hidden state is that after the prompt.
        case: Int8 [n], values of `Case`.
        correct: Bool [n]: whether the reference ends in the right answer.
        slm_logprob, llm_logprob: Of the reference token, float32 [n]; NaN where the LLM was not run.
        hidden: The SLM's hidden states, float16 [n, d].
        logit_features: Float32 [n, LOGIT_FEATURES], see `engine.logits.logit_features`.
        preference: Float32 [n]: 1 prefers the SLM, 0 the LLM, NaN is undecided.
        weight: Float32 [n]: how many tokens it stands for in training and in metrics; 0 where undecided.
        about: The labels' settings.
        rollouts: What was rolled out and came of it, for the card: one for each folder of rollouts.
    """

    question: np.ndarray
    position: np.ndarray
    case: np.ndarray
    correct: np.ndarray
    slm_logprob: np.ndarray
    llm_logprob: np.ndarray
    hidden: np.ndarray
    logit_features: np.ndarray
    preference: np.ndarray
    weight: np.ndarray
    about: dict[str, Any] = field(repr=False)
    rollouts: tuple[dict[str, Any], ...] = ()

    def __len__(self) -> int:
        return len(self.question)

    def where(self, mask: np.ndarray) -> LabelledTokens:
        """The tokens for which a bool [n] holds."""
        return replace(self, **{name: value[mask] for name, value in self.arrays.items()})

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that have a value per token."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def split(self, *names: str) -> LabelledTokens:
        """The tokens of the questions in some splits; see `split_of`."""
        sides = {question: split_of(question) in names for question in set(self.question)}
        return self.where(np.array([sides[question] for question in self.question], dtype=bool))

    def decided(self) -> LabelledTokens:
        """The tokens with a preference."""
        return self.where(self.weight > 0)

    def features(self, rows: Any, with_logits: bool) -> torch.Tensor:
        """The router's input for some rows (indices or a slice): float32 [rows, inputs]."""
        parts = [self.hidden[rows].astype(np.float32)]
        if with_logits:
            parts.append(self.logit_features[rows])
        return torch.from_numpy(np.concatenate(parts, axis=1))


def load_tokens(
    labels: Path,
    rollouts: Path | None = None,
    cost_weight: float = 0.0,
    wrong_references: bool = False,
    shortcut_weight: float = 0.0,
) -> LabelledTokens:
    """All tokens of some labels, those without a preference too.

    The shortcut decides (CITER, section 3.2) except where rollouts are given for the tokens it does not settle: those
    that neither model wrote, and with the LLM's own answers as references also those that only the LLM wrote, which may
    be harmless paraphrase. Of these only some are rolled out, the same number in each question however many there are.
    A rolled-out token therefore stands for candidates / rolled-out tokens of its question, so that a small budget does
    not shift the balance of the preferences; the candidates that were not drawn count nothing. A shortcut weight above
    0 gives them part of their weight back, with the shortcut's preference.

    Args:
        labels: Written by `trainer.label`.
        rollouts: Written by `trainer.rollout` for these labels; None leaves it at the shortcut.
        cost_weight: λ of `rollout_preference`.
        wrong_references: Whether tokens of references that end in a wrong answer have a preference too.
        shortcut_weight: From 0 to 1: what a token that only the LLM wrote and that was not rolled out weighs; the
            rolled-out ones of its question stand for that much less of it.

    Raises:
        TrainerError: Labels or rollouts are missing or do not belong together; λ needs rollouts of both actions; wrong
            references beside rollouts.
    """
    data, about = load_labels(labels)
    columns = {name: _array(data, name) for name in COLUMNS}
    preference = np.full(len(data), np.nan, dtype=np.float32)
    for case, value in PREFERENCES.items():
        preference[columns["case"] == case] = value
    weight = np.ones(len(data), dtype=np.float32)
    said: tuple[dict[str, Any], ...] = ()
    if rollouts is not None and wrong_references:
        raise TrainerError(
            "references with a wrong answer are never rolled out, so beside rollouts only their easy tokens would "
            "count: leave out --wrong-references or --rollouts"
        )
    if rollouts is not None:
        undecided = [Case.NEITHER] + [Case.ONLY_LLM_RIGHT] * (about["reference"] == "llm")
        left = np.isin(columns["case"], undecided)
        weight[left] = shortcut_weight
        if not shortcut_weight:
            preference[left] = np.nan
        done, settings = load_rollouts(rollouts)
        if not _same_labels(settings.get("labels", about), about):
            raise TrainerError(f"{rollouts} was rolled out from other labels than {labels}: roll out from these first")
        actions = _by_token(rollouts, done, cost_weight)
        rows = _rows(columns["question"], columns["position"], actions.keys(), rollouts, labels)
        wanted = [_preference(each, cost_weight, settings["llm_bytes"]) for each in actions.values()]
        standing_for = np.array(_weights(actions), dtype=np.float32)
        kept = np.where(columns["case"][rows] == Case.ONLY_LLM_RIGHT, shortcut_weight, 0.0)
        preference[rows], weight[rows] = wanted, standing_for - kept * (standing_for - 1)
        said = (_outcomes(actions, wanted, settings),)
    if not wrong_references:
        preference[~columns["correct"]] = np.nan
    weight[np.isnan(preference)] = 0.0
    return LabelledTokens(**columns, preference=preference, weight=weight, about=about, rollouts=said)


def join(parts: Sequence[LabelledTokens]) -> LabelledTokens:
    """The tokens of several labels of one pair together, so that one router learns from several tasks.

    Raises:
        TrainerError: They differ in models or references, or share a question.
    """
    first, *others = parts
    for other in others:
        if differing := [name for name in SAME if other.about[name] != first.about[name]]:
            name = differing[0]
            raise TrainerError(
                f"labels of {name} {first.about[name]!r} and {other.about[name]!r} do not go together: label all of "
                "them with the same pair and kind of references"
            )
    owners = Counter(name for each in parts for name in set(each.question.tolist()))
    if twice := [name for name, count in owners.items() if count > 1]:
        raise TrainerError(f"question {twice[0]!r} is in two folders of labels: name each folder once")
    if not others:
        return first
    data = hashlib.sha256("".join(each.about["data"] for each in parts).encode()).hexdigest()
    arrays = {name: np.concatenate([getattr(each, name) for each in parts]) for name in first.arrays}
    rollouts = tuple(said for each in parts for said in each.rollouts)
    return replace(first, **arrays, about={**first.about, "data": data}, rollouts=rollouts)


def rollouts_by_labels(labels: Sequence[Path], rollouts: Sequence[Path]) -> dict[Path, Path]:
    """Which folder of rollouts belongs to which folder of labels.

    One of each belong together, unless `load_tokens` finds otherwise.

    Raises:
        TrainerError: Rollouts of none of these labels, or two of the same.
    """
    if len(labels) == len(rollouts) == 1:
        return dict(zip(labels, rollouts, strict=True))
    owned: dict[Path, Path] = {}
    for folder in rollouts:
        made_from = load_rollouts(folder)[1].get("labels", {})
        owner = next((each for each in labels if _same_labels(load_labels(each)[1], made_from)), None)
        if owner is None:
            raise TrainerError(f"{folder} was rolled out from other labels: name the folder of its labels as well")
        if owner in owned:
            raise TrainerError(f"{folder} and {owned[owner]} were both rolled out from {owner}: take one of them")
        owned[owner] = folder
    return owned


def held_out_tokens(labels: Path) -> LabelledTokens:
    """The tokens of the questions that no router's weights were trained on: early stopping and test."""
    return load_tokens(labels).split("stop", "test")


def split_of(question: str) -> str:
    """The split of a question id: "train", "stop" (early stopping) or "test" (metrics); 80, 10 and 10 of a hundred.

    Read off a hash, so that it is the same in every run and every round, and all of a question is on one side.
    """
    bucket = int(hashlib.sha256(question.encode()).hexdigest(), 16) % 100
    return "train" if bucket < 80 else "stop" if bucket < 90 else "test"


def scores_of(method: str | Router, tokens: LabelledTokens) -> np.ndarray:
    """The routing scores that a policy would give to tokens, from their stored features alone: float32 [n].

    Args:
        method: "confidence", "entropy" or "margin" as in `engine.policy`, or a router.
        tokens: Any.

    Raises:
        TrainerError: An unknown method.
        RouterError: The router was trained for another SLM.
    """
    if isinstance(method, Router):
        router, about = method, tokens.about
        router.fit_to(about["slm"], about["llm"], about["hidden_size"], about["tokenizer"])
        chunks = [slice(n, n + CHUNK) for n in range(0, len(tokens), CHUNK)]
        scores = [router.score(tokens.features(rows, router.card.logit_features)).numpy() for rows in chunks]
        return np.concatenate([np.zeros(0, dtype=np.float32), *scores])
    if method not in CERTAINTY:
        known = ", ".join(CERTAINTY)
        raise TrainerError(f"{method!r} has no scores to choose thresholds from: take {known} or a router")
    numbers = range(len(tokens))
    state = State(numbers, numbers, logit_features=torch.from_numpy(tokens.logit_features))
    return CERTAINTY[method].score(state).numpy()


def thresholds_for(scores: np.ndarray, shares: Sequence[float]) -> list[float]:
    """Thresholds below which given shares of tokens score, so that the LLM would write them.

    Args:
        scores: Float [n].
        shares: In [0, 1].

    Returns:
        Ascending and distinct, each halfway between two scores (just above the last for a share of 1). Where many
        tokens score the same, a share is met as nearly as can be, and there may be fewer thresholds than shares.

    Raises:
        TrainerError: No scores, or one that is not finite; a share outside [0, 1].
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


def _same_labels(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two folders of labels have the same tokens; log-probabilities under the LLM may be missing in one."""
    return all(one.get(name) == other.get(name) for name in (*SAME, "data"))


def _array(data: datasets.Dataset, name: str) -> np.ndarray:
    """A column as an array [tokens] or [tokens, width], straight from Arrow: row by row it would take minutes."""
    column = data.data.column(name).combine_chunks()
    if isinstance(column, pyarrow.FixedSizeListArray):
        return column.flatten().to_numpy().reshape(len(data), -1)
    return column.to_numpy(zero_copy_only=False)


def _by_token(folder: Path, rollouts: Iterable[Rollout], cost_weight: float) -> dict[tuple[str, int], Actions]:
    """The rollouts of each token (question and position), by who wrote it."""
    found: dict[tuple[str, int], dict[Role, Rollout]] = defaultdict(dict)
    for rollout in rollouts:
        found[rollout.question, rollout.position][rollout.role] = rollout
    needed = (Role.SLM, Role.LLM) if cost_weight else (Role.SLM,)
    for role in needed:
        missing = sum(role not in actions for actions in found.values())
        if missing:
            raise TrainerError(
                f"{folder}: {missing} of {len(found)} tokens were not rolled out with the {role.name}'s token, which a "
                f"cost weight of {cost_weight:g} needs: roll out both actions into another folder"
            )
    return dict(found)


def _rows(
    question: np.ndarray, position: np.ndarray, tokens: Iterable[tuple[str, int]], rollouts: Path, labels: Path
) -> list[int]:
    """Where tokens stand among the labels; those of a question stand in order, one after the other."""
    starts = {question[row]: int(row) for row in np.flatnonzero(position == 0)}
    rows = [starts.get(name, len(question)) + at for name, at in tokens]
    for row, (name, at) in zip(rows, tokens, strict=True):
        if row >= len(question) or question[row] != name or position[row] != at:
            raise TrainerError(f"{rollouts} has position {at} of question {name}, which is not in {labels}")
    return rows


def _preference(actions: Actions, cost_weight: float, unit: float) -> float:
    return rollout_preference(actions[Role.SLM], actions.get(Role.LLM), cost_weight, unit)


def _weights(tokens: Mapping[tuple[str, int], Actions]) -> list[float]:
    """Inverse sampling probabilities: candidates / rolled-out tokens of the question."""
    drawn = Counter(name for name, _ in tokens)
    return [actions[Role.SLM].candidates / drawn[name] for (name, _), actions in tokens.items()]


def _outcomes(
    tokens: Mapping[tuple[str, int], Actions], wanted: Sequence[float], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """What the card says of the rollouts: how they were made, and shares of the rolled-out tokens, unweighted."""
    right = {role: [each[role].correct for each in tokens.values() if role in each] for role in (Role.SLM, Role.LLM)}
    return {
        **{name: settings.get(name) for name in ("policy", "threshold", "budget", "seed", "llm_bytes")},
        "tokens": len(tokens),
        "slm_right": round(float(np.mean(right[Role.SLM])), 4) if tokens else None,
        "llm_right": round(float(np.mean(right[Role.LLM])), 4) if right[Role.LLM] else None,
        "preferred_slm": round(float(np.mean(wanted)), 4) if tokens else None,
    }
