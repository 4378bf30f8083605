"""From labels to a router with its card: early stopping on whole held-out questions, metrics on others.

CITER's rivals are in `trainer.fit.baselines`, the gradient loop in `trainer.fit.gradient_loop`.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from engine.errors import RouterError
from engine.provenance import command
from engine.router import Router, RouterCard, RouterNetwork
from trainer import Report, TrainerError
from trainer.fit.card import write_card
from trainer.fit.gradient_loop import Examples, logits_of, train
from trainer.fit.labelled_tokens import SPLITS, LabelledTokens, evened, join, load_tokens, split_of
from trainer.labels.labels import labels_about
from trainer.labels.rollouts import rollouts_about
from trainer.settings import FitSettings
from trainer.workers import alone_at

Learned = tuple[RouterNetwork, LabelledTokens, dict[str, Any]]
"""A trained network, the tokens of all splits, and what the card's training says of how it went."""

_cross_entropies = partial(binary_cross_entropy_with_logits, reduction="none")


class Lesson(NamedTuple):
    """What a router is to learn: CITER's `preferences`, or that of a rival in `trainer.fit.baselines`."""

    settings: FitSettings
    stated: dict[str, Any]  # what the card's training says of it, with its `method`
    sources: Sequence[Any]  # what files of labels and rollouts say; a router follows from it and the settings
    learn: Callable[[Report], Learned]


def preferences(
    labels: Path | Sequence[Path],
    settings: FitSettings,
    rollouts: Path | Sequence[Path] = (),
    round_number: int | None = None,
) -> Lesson:
    """CITER's lesson; learning raises a TrainerError where files are missing or do not fit each other.

    Args:
        labels: Written by `trainer.labels.labels`; several folders are learned from together.
        rollouts: Written by `trainer.labels.rollouts`, one folder for each of labels, in the same order. Without any
            the shortcut decides alone.
        round_number: Which round of rollouts, for the card.
    """
    folders = [labels] if isinstance(labels, Path) else labels
    rollouts = [rollouts] if isinstance(rollouts, Path) else rollouts
    if rollouts and len(rollouts) != len(folders):
        raise TrainerError(
            f"{len(folders)} folders of labels and {len(rollouts)} of rollouts: give one for each, in the same order"
        )

    def learn(report: Report) -> Learned:
        pairs = zip(folders, rollouts or [None] * len(folders), strict=True)
        parts = [load_tokens(*pair, settings.cost_weight) for pair in pairs]
        return learn_preferences(join(evened(parts) if settings.even else parts), settings, report)

    stated = {"method": "citer" if rollouts else "citer-shortcut", "round": round_number}
    sources = [[*map(labels_about, folders)], [*map(rollouts_about, rollouts)]]
    return Lesson(settings, stated, sources, learn)


def fit(lesson: Lesson, out: Path, description: str = "", report: Report = print) -> Router:
    """Fits a lesson's router into `out`; a router made from the same sources and settings stays.

    Args:
        out: One process at a time works there; the folder's name becomes the router's.
        description: A line for people, for the card.

    Raises:
        TrainerError: A split has only one preference, or as the lesson says.
    """
    whole = json.dumps([dict(lesson.settings), *lesson.sources], sort_keys=True)
    made_of = hashlib.sha256(whole.encode()).hexdigest()
    out.parent.mkdir(parents=True, exist_ok=True)
    with alone_at(out):
        with suppress(RouterError):  # none, or half of one
            there = Router.load(out)
            if there.card.training.get("made_of") == made_of:
                report(f"{out} is there already")
                return there
        network, tokens, told = lesson.learn(report)
        stated = {**lesson.stated, "command": command("trainer"), **told, "made_of": made_of}
        card = _card(network, tokens, lesson.settings, stated, out.name, description)
        router = Router(network, card)
        router.save(out)
        write_card(card, out)
    report(f"{out}: AUC {card.metrics['auc']:.3f}, top probability {card.metrics['auc_top_probability']:.3f}")
    return router


def learn_preferences(tokens: LabelledTokens, settings: FitSettings, report: Report = print) -> Learned:
    """Trains on the weighted cross-entropy of the preferences.

    Raises:
        TrainerError: A split has only one preference, or the network is wider than its file allows.
    """
    sets = decided_splits(tokens)
    examples, stopping = (
        Examples(each, torch.from_numpy(each.preference), torch.from_numpy(each.weight))
        for each in (sets["train"], sets["stop"])
    )
    network, epochs = train(examples, stopping, _cross_entropies, settings, report)
    return network, tokens, {"epochs_run": epochs}


def _card(
    network: RouterNetwork,
    tokens: LabelledTokens,
    settings: FitSettings,
    stated: Mapping[str, Any],
    name: str,
    description: str,
) -> RouterCard:
    """The card of a trained network, with metrics on the held-out questions."""
    about, sets = tokens.about, decided_splits(tokens)
    splits = Counter(split_of(question) for question in set(tokens.question))
    scores = _sigmoid(logits_of(network, sets["stop"], settings.logit_features))
    return RouterCard(
        name=name,
        **{name: about[name] for name in ("slm", "llm", "hidden_size", "tokenizer")},
        logit_features=settings.logit_features,
        dropout=settings.dropout,
        training={
            **dict(settings),
            **{name: about[name] for name in ("reference", "quantisation", "data")},
            "questions": {name: splits[name] for name in SPLITS},
            "tokens": {name: len(each) for name, each in sets.items()},
            "rollouts": list(tokens.rollouts),
            **stated,
        },
        threshold=best_threshold(scores, sets["stop"].preference, sets["stop"].weight),
        metrics=_metrics(network, sets["test"], settings.logit_features),
        description=description,
    )


def _metrics(network: RouterNetwork, decided: LabelledTokens, with_logits: bool) -> dict[str, Any]:
    """Weighted metrics on decided tokens: AUCs against the preference."""
    wanted, weights = decided.preference, decided.weight
    found = {
        "auc": auc(logits_of(network, decided, with_logits), wanted, weights),
        "auc_top_probability": auc(decided.logit_features[:, 0], wanted, weights),
        "preferred_slm": float(np.average(wanted, weights=weights)),
    }
    return {name: round(value, 4) for name, value in found.items()}


def decided_splits(tokens: LabelledTokens) -> dict[str, LabelledTokens]:
    """The decided tokens of each split; a TrainerError where one of them lacks a preference."""
    decided = tokens.decided()
    sets = {name: decided.split(name) for name in SPLITS}
    for name, each in sets.items():
        if len(set(each.preference.tolist())) < 2:
            questions = len(set(each.question))
            raise TrainerError(
                f"the {name} split ({len(each)} decided tokens of {questions} questions) lacks one of the two "
                "preferences; label more questions"
            )
    return sets


def auc(scores: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """Area under the ROC curve: the chance that a token with preference 1 scores above one with 0; ties count half."""
    _, inverse = np.unique(scores, return_inverse=True)
    slm, llm = (np.bincount(inverse, weights * (wanted == value), inverse.max() + 1) for value in (1, 0))
    return float((slm * (np.cumsum(llm) - llm / 2)).sum() / (slm.sum() * llm.sum()))


def best_threshold(scores: np.ndarray, wanted: np.ndarray, weights: np.ndarray) -> float:
    """The threshold, in hundredths, that sends most LLM-preferred tokens to the LLM for the fewest SLM-preferred ones.

    Youden's J, the difference of the two shares, is largest there. A person may start turning the dial there; answers
    have to be measured before it is an operating point.
    """
    slm, grid = wanted == 1, np.arange(1, 100) / 100
    below = [scores < threshold for threshold in grid]
    gains = [np.average(b[~slm], weights=weights[~slm]) - np.average(b[slm], weights=weights[slm]) for b in below]
    return float(grid[int(np.argmax(gains))])


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()
