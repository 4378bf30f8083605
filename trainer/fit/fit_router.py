"""From labels to a calibrated router with its card: early stopping on whole held-out questions, metrics on others.

`fit` is CITER; the baselines are in `trainer.fit.baselines`, the gradient loop in `trainer.fit.gradient_loop`. All fits
take folders of labels and give a router in the folder `out`, whose name is the router's; `description` is a line for
people and `command` the command line, both for the card.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from engine.router import Router, RouterCard, RouterNetwork
from trainer import TrainerError
from trainer.fit import calibration
from trainer.fit.card import write_card
from trainer.fit.gradient_loop import Examples, logits_of, train
from trainer.fit.labelled_tokens import SPLITS, LabelledTokens, evened, join, load_tokens, rollouts_by_labels, split_of
from trainer.preference import CASE_NAMES, Case
from trainer.settings import FitSettings

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
    given = settings.cost_weight, settings.wrong_references, settings.shortcut_weight
    if settings.target == "kept":
        return _fit_kept(folders, out, settings, description, rollouts, report, command)
    owned = rollouts_by_labels(folders, rollouts)
    parts = [load_tokens(folder, owned.get(folder), *given) for folder in folders]
    tokens = join(evened(parts) if settings.even else parts)
    stated = {"method": "citer" if rollouts else "citer-shortcut", "round": round_number, "command": command}
    return fit_preferences(tokens, out, settings, description, stated, report)


def _fit_kept(
    folders: Sequence[Path],
    out: Path,
    settings: FitSettings,
    description: str,
    rollouts: Sequence[Path],
    report: Callable[[str], None],
    command: str,
) -> Router:
    if rollouts or settings.cost_weight or settings.shortcut_weight:
        raise TrainerError(
            "whether the LLM keeps a token is in the labels: the target 'kept' takes no rollouts, cost weight or "
            "shortcut weight; leave out --rollouts, --cost-weight and --shortcut-weight"
        )
    parts = [load_tokens(folder).kept() for folder in folders]
    tokens = join(evened(parts) if settings.even else parts)
    stated = {"method": "kept", "round": None, "command": command}
    return fit_preferences(tokens, out, replace(settings, wrong_references=True), description, stated, report)


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
    factors = class_factors(sets["train"], settings.class_balance)
    examples = {name: _weighted(each, factors) for name, each in sets.items()}
    network, epochs = train(examples["train"], examples["stop"], _cross_entropies, settings, report)
    # Odds that were learned with factors are too high by their quotient; taking it off is exact, not fitted.
    calibration.fold_into(network, 1.0, math.log(factors[0] / factors[1]))
    stop, tried = sets["stop"], None
    if settings.calibrate:
        logits = logits_of(network, stop, settings.logit_features)
        tried = calibration.calibrate(logits, stop.preference, stop.weight, stop.question)
    if tried and tried.kept:
        calibration.fold_into(network, tried.slope, tried.bias)
    stated = {
        **stated,
        "epochs_run": epochs,
        "class_factors": {"slm": factors[1], "llm": factors[0]},
        "calibration": {**asdict(tried), "kept": tried.kept} if tried else None,
    }
    return write_router(network, tokens, sets, out, settings, description, stated, report)


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
            "best_threshold": threshold,
            **stated,
        },
        threshold=threshold,
        metrics=measure(network, tokens.split("test"), settings.logit_features),
        description=description,
    )
    router = Router(network, card)
    router.save(out)
    write_card(card, out)
    auc_, top = card.metrics["auc"], card.metrics["auc_top_probability"]
    report(f"{out}: AUC {auc_:.3f}, top probability {top:.3f}, calibration error {card.metrics['ece']:.3f}")
    return router


def measure(network: RouterNetwork, tokens: LabelledTokens, with_logits: bool) -> dict[str, Any]:
    """Metrics on the test questions, weighted: AUCs against the preference, calibration, and the share of each case."""
    decided = tokens.decided()
    wanted, weights = decided.preference, decided.weight
    logits = logits_of(network, decided, with_logits)
    table = calibration.reliability(_sigmoid(logits), wanted, weights)
    return {
        "auc": round(calibration.auc(logits, wanted, weights), 4),
        "auc_top_probability": round(calibration.auc(decided.logit_features[:, 0], wanted, weights), 4),
        "loss": round(calibration.cross_entropy(logits, wanted, weights), 4),
        "preferred_slm": round(float(np.average(wanted, weights=weights)), 4),
        "ece": round(calibration.calibration_error(table), 4),
        "reliability": [{name: round(value, 4) for name, value in asdict(each).items()} for each in table],
        "cases": {CASE_NAMES[case]: round(float((tokens.case == case).mean()), 4) for case in Case},
        "tokens": len(tokens),
        "questions": len(set(tokens.question)),
    }


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


def class_factors(tokens: LabelledTokens, balance: str) -> tuple[float, float]:
    """What the weights of tokens that prefer the LLM, and of those that prefer the SLM, are multiplied with."""
    if balance == "none":
        return 1.0, 1.0
    llm, slm = (float(tokens.weight[tokens.preference == value].sum(dtype=np.float64)) for value in (0, 1))
    return max(slm / llm, 1.0), max(llm / slm, 1.0)


def _weighted(tokens: LabelledTokens, factors: tuple[float, float]) -> Examples:
    weights = tokens.weight * np.where(tokens.preference == 1, factors[1], factors[0]).astype(np.float32)
    return Examples(tokens, torch.from_numpy(tokens.preference), torch.from_numpy(weights))


def _sigmoid(logits: np.ndarray) -> np.ndarray:
    return torch.from_numpy(logits).sigmoid().numpy()
