"""From labels to a calibrated router with its card: early stopping on whole held-out questions, metrics on others.

`fit` is CITER; the baselines are in `trainer.fit.baselines`, the gradient loop in `trainer.fit.gradient_loop`. All fits
take folders of labels and give a router in the folder `out`, whose name is the router's; `description` is a line for
people and `command` the command line, both for the card.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from engine.errors import RouterError
from engine.router import Router, RouterCard, RouterNetwork
from trainer import TrainerError
from trainer.fit import calibration
from trainer.fit.card import write_card
from trainer.fit.gradient_loop import Examples, logits_of, train
from trainer.fit.labelled_tokens import SPLITS, LabelledTokens, evened, join, load_tokens, rollouts_by_labels, split_of
from trainer.labels.labels import labels_about
from trainer.labels.rollouts import rollouts_about
from trainer.settings import FitSettings
from trainer.workers import alone_at

_cross_entropies = partial(binary_cross_entropy_with_logits, reduction="none")


def fit(
    labels: Path | Sequence[Path],
    out: Path,
    settings: FitSettings,
    description: str = "",
    rollouts: Path | Sequence[Path] = (),
    report: Callable[[str], None] = print,
    *,
    command: str = "",
    round_number: int | None = None,
) -> Router:
    """Fits CITER's router to labels and writes it with its card; with the target "kept" one for verified routing.

    Args:
        labels: Written by `trainer.labels.labels`; several folders are learned from together.
        rollouts: Written by `trainer.labels.rollouts` for these labels, in any order; labels without any are learned
            from by the shortcut alone.
        round_number: Which round of rollouts, for the card.

    Raises:
        TrainerError: Labels or rollouts are missing or do not fit each other; a split has only one preference; rollouts
            or λ beside the target "kept".
    """
    folders = [labels] if isinstance(labels, Path) else labels
    rollouts = [rollouts] if isinstance(rollouts, Path) else rollouts
    if settings.target == "kept":
        if rollouts or settings.cost_weight:
            raise TrainerError(
                "whether the LLM keeps a token is in the labels: the target 'kept' takes no rollouts and no cost "
                "weight; leave out --rollouts and --cost-weight"
            )
        owned = {}
    else:
        owned = rollouts_by_labels(folders, rollouts)
    made_of = digest_of(settings, map(labels_about, folders), map(rollouts_about, rollouts))

    def make() -> Router:
        if settings.target == "kept":
            method, parts = "kept", [load_tokens(folder).kept() for folder in folders]
        else:
            method = "citer" if rollouts else "citer-shortcut"
            parts = [load_tokens(folder, owned.get(folder), settings.cost_weight) for folder in folders]
        tokens = join(evened(parts) if settings.even else parts)
        stated = {"method": method, "round": round_number, "command": command, "made_of": made_of}
        return fit_preferences(tokens, out, settings, description, stated, report)

    return fitted_once(out, made_of, make, report)


def digest_of(settings: FitSettings, *made_from: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of all that a router follows from: its settings, and what the files of labels and rollouts say."""
    whole = json.dumps([asdict(settings), *map(list, made_from)], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def fitted_once(out: Path, made_of: str, make: Callable[[], Router], report: Callable[[str], None] = print) -> Router:
    """The router that `make` writes into `out`, or the one there if it is of the same; one process at a time fits."""
    out.parent.mkdir(parents=True, exist_ok=True)
    with alone_at(out):
        with suppress(RouterError):  # none, or half of one
            there = Router.load(out)
            if there.card.training.get("made_of") == made_of:
                report(f"{out} is there already")
                return there
        return make()


def fit_preferences(
    tokens: LabelledTokens,
    out: Path,
    settings: FitSettings,
    description: str,
    stated: Mapping[str, Any],
    report: Callable[[str], None] = print,
) -> Router:
    """Trains on the weighted cross-entropy of the preferences, calibrates, and writes router and card.

    Args:
        tokens: Of all splits; only decided ones are learned from.
        stated: What the card's training says besides: method, round, command.

    Raises:
        TrainerError: A split has only one preference, or the network is wider than its file allows.
    """
    sets = decided_splits(tokens)
    examples = {
        name: Examples(each, torch.from_numpy(each.preference), torch.from_numpy(each.weight))
        for name, each in sets.items()
    }
    network, epochs = train(examples["train"], examples["stop"], _cross_entropies, settings, report)
    stop, tried = sets["stop"], None
    if settings.calibrate:
        logits = logits_of(network, stop, settings.logit_features)
        tried = calibration.calibrate(logits, stop.preference, stop.weight, stop.question)
    if tried and tried.kept:
        calibration.fold_into(network, tried.slope, tried.bias)
    told = {"epochs_run": epochs, "calibration": {**asdict(tried), "kept": tried.kept} if tried else None}
    return write_router(network, tokens, sets, out, settings, description, {**stated, **told}, report)


def write_router(
    network: RouterNetwork,
    tokens: LabelledTokens,
    sets: Mapping[str, LabelledTokens],
    out: Path,
    settings: FitSettings,
    description: str,
    stated: Mapping[str, Any],
    report: Callable[[str], None] = print,
) -> Router:
    """Measures a trained and calibrated network on the held-out questions and writes it with its card.

    Args:
        tokens: Of all splits; `sets` are their decided ones, see `decided_splits`.
        stated: What the card's training says besides settings and data.
    """
    about, stop = tokens.about, sets["stop"]
    splits = Counter(split_of(name) for name in set(tokens.question))
    scores = _sigmoid(logits_of(network, stop, settings.logit_features))
    threshold = calibration.best_threshold(scores, stop.preference, stop.weight)
    card = RouterCard(
        name=out.name,
        **{name: about[name] for name in ("slm", "llm", "hidden_size", "tokenizer")},
        logit_features=settings.logit_features,
        dropout=settings.dropout,
        training={
            **asdict(settings),
            **{name: about[name] for name in ("reference", "quantisation", "data")},
            "questions": {name: splits[name] for name in SPLITS},
            "tokens": {name: len(each) for name, each in sets.items()},
            "rollouts": list(tokens.rollouts),
            **stated,
        },
        threshold=threshold,
        metrics=measure(network, sets["test"], settings.logit_features),
        description=description,
    )
    router = Router(network, card)
    router.save(out)
    write_card(card, out)
    auc_, top = card.metrics["auc"], card.metrics["auc_top_probability"]
    report(f"{out}: AUC {auc_:.3f}, top probability {top:.3f}, calibration error {card.metrics['ece']:.3f}")
    return router


def measure(network: RouterNetwork, decided: LabelledTokens, with_logits: bool) -> dict[str, Any]:
    """Metrics on the decided tokens of the test questions, weighted: AUCs against the preference, and calibration."""
    wanted, weights = decided.preference, decided.weight
    logits = logits_of(network, decided, with_logits)
    found = {
        "auc": calibration.auc(logits, wanted, weights),
        "auc_top_probability": calibration.auc(decided.logit_features[:, 0], wanted, weights),
        "loss": calibration.cross_entropy(logits, wanted, weights),
        "preferred_slm": float(np.average(wanted, weights=weights)),
        "ece": calibration.calibration_error(_sigmoid(logits), wanted, weights),
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
                f"the {name} split ({len(each)} decided tokens of {questions} questions) has not both preferences; "
                "label more questions"
            )
    return sets


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()
