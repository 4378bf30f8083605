"""From refused drafts and rollouts of both tokens to a judge, and what it is worth on questions it did not learn from.

There are few rollouts, so all figures are cross-validated: every question is judged by a network that learned from
others, with an interval by bootstrap over questions. The log ratio alone, which a judge has to beat, is beside it.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from engine import Role
from engine.batch.judge import Judge, JudgeCard
from engine.network import RouterNetwork
from trainer import TrainerError
from trainer.fit import calibration
from trainer.fit.gradient_loop import Examples, logits_of, train
from trainer.fit.labelled_tokens import LabelledTokens
from trainer.labels.refused import load_refused
from trainer.labels.rollouts import load_rollouts
from trainer.settings import FitSettings

FOLDS = 10
RESAMPLES = 1000
JUDGE = FitSettings(skip=True, width=8, dropout=0.3, weight_decay=0.1, learning_rate=1e-3, batch=128, epochs=60)
_cross_entropies = partial(binary_cross_entropy_with_logits, reduction="none")


def harmless_tokens(refused: Path, rollouts: Sequence[Path]) -> LabelledTokens:
    """The refused drafts whose both tokens were rolled out, one row for each pair of rollouts.

    `hidden` is the LLM's state, `logit_features` the log ratio alone, and the preference is 1 where the
    answer after the SLM's token is as right as after the LLM's. A TrainerError where none were rolled out both ways.
    """
    places, arrays, about = load_refused(refused)
    row_of = {place: row for row, place in enumerate(places)}
    rows, harmless = [], []
    for folder in rollouts:
        right: dict[tuple[str, int], dict[Role, bool]] = defaultdict(dict)
        for each in load_rollouts(folder)[0]:
            right[each.question, each.position][each.role] = each.correct
        for place, outcome in right.items():
            if place in row_of and len(outcome) == len(Role):
                rows.append(row_of[place])
                harmless.append(float(outcome[Role.SLM] or not outcome[Role.LLM]))
    if not rows:
        named = ", ".join(map(str, rollouts))
        raise TrainerError(f"{named}: none of the tokens in {refused} was rolled out both ways: use `rollout --both`")
    count = len(rows)
    hidden = arrays["hidden"]
    return LabelledTokens(
        question=np.array([places[row][0] for row in rows]),
        position=np.array([places[row][1] for row in rows], dtype=np.int32),
        case=np.full(count, 1, dtype=np.int8),
        correct=np.ones(count, dtype=bool),
        slm_logprob=np.full(count, np.nan, dtype=np.float32),
        llm_logprob=np.full(count, np.nan, dtype=np.float32),
        hidden=hidden[rows].numpy(),
        logit_features=arrays["log_ratio"][rows, None].numpy(),
        slm_token=arrays["token"][rows].numpy(),
        llm_token=np.full(count, -1, dtype=np.int32),  # another one, which does not matter here
        preference=np.array(harmless, dtype=np.float32),
        weight=np.ones(count, dtype=np.float32),
        about={**about, "slm": about["slm_name"], "llm": about["llm_name"], "reference": "llm"}
        | {"hidden_size": hidden.shape[1]},
    )


def fit_judge(
    tokens: LabelledTokens,
    out: Path,
    settings: FitSettings = JUDGE,
    report: Callable[[str], None] = print,
    *,
    command: str = "",
) -> Judge:
    """Measures judges by cross-validation, fits one to the questions of all folds but the last, and writes it.

    Raises:
        TrainerError: Fewer questions than folds, or all of the tokens do harm, or none.
    """
    questions, kinds = len(set(tokens.question)), len(set(tokens.preference.tolist()))
    if questions < FOLDS or kinds < 2:
        raise TrainerError(
            f"{questions} questions with {kinds} of both outcomes (harmless or not): a judge needs {FOLDS} questions "
            "and both; roll out more"
        )
    fold = _folds(tokens.question)
    logits = np.empty(len(tokens), dtype=np.float32)
    for number in range(FOLDS):
        network = _fit(tokens, fold, {number, (number + 1) % FOLDS}, (number + 1) % FOLDS, settings)
        logits[fold == number] = logits_of(network, tokens.where(fold == number), True)
    metrics = measure(tokens, logits)
    network = _fit(tokens, fold, {FOLDS - 1}, FOLDS - 1, settings)
    card = JudgeCard(
        name=out.name,
        **{name: tokens.about[name] for name in ("slm", "llm", "tokenizer")},
        hidden_size=tokens.hidden.shape[1],
        width=settings.width or tokens.hidden.shape[1],
        training={**asdict(settings), "quantisation": tokens.about["quantisation"], "command": command},
        metrics=metrics,
    )
    judge = Judge(network, card)
    judge.save(out)
    report(f"{out}: {metrics['tokens']:,} rollouts of both tokens, {metrics['questions']} questions; AUC of harmless:")
    for name in ("judge", "ratio", "difference"):
        value, low, high = metrics[f"auc_{name}"]
        report(f"  {name}: {value:.3f} [{low:.3f}, {high:.3f}]")
    report(f"  calibration error of the judge {metrics['ece']:.3f}; harmless {metrics['harmless']:.1%}")
    return judge


def measure(tokens: LabelledTokens, logits: np.ndarray) -> dict[str, Any]:
    """AUC of a judge's logits and of the log ratio with 95 % intervals, resampled by question, and calibration."""
    ratio, wanted = tokens.logit_features[:, 0], tokens.preference
    rows = {name: np.flatnonzero(tokens.question == name) for name in sorted(set(tokens.question))}
    chance, samples = np.random.default_rng(0), []
    for _ in range(RESAMPLES):
        drawn = np.concatenate([rows[name] for name in chance.choice(list(rows), len(rows))])
        if len(set(wanted[drawn])) == 2:
            samples.append([calibration.auc(values[drawn], wanted[drawn]) for values in (logits, ratio)])
    judge, alone = np.array(samples).T
    whole = calibration.auc(logits, wanted), calibration.auc(ratio, wanted)
    scores = torch.from_numpy(logits).sigmoid().numpy()
    table = calibration.reliability(scores, wanted)
    return {
        "auc_judge": _interval(whole[0], judge),
        "auc_ratio": _interval(whole[1], alone),
        "auc_difference": _interval(whole[0] - whole[1], judge - alone),
        "ece": round(calibration.calibration_error(table), 4),
        "reliability": [{name: round(value, 4) for name, value in asdict(each).items()} for each in table],
        "harmless": round(float(wanted.mean()), 4),
        "tokens": len(tokens),
        "questions": len(rows),
    }


def _interval(value: float, samples: np.ndarray) -> list[float]:
    return [round(float(each), 4) for each in (value, *np.quantile(samples, (0.025, 0.975)))]


def _folds(questions: np.ndarray) -> np.ndarray:
    """The fold of each token, by its question: int [n]. As even as can be, and the same in every run."""
    order = sorted(set(questions), key=lambda name: hashlib.sha256(name.encode()).hexdigest())
    number = {name: n % FOLDS for n, name in enumerate(order)}
    return np.array([number[name] for name in questions])


def _fit(
    tokens: LabelledTokens, fold: np.ndarray, left_out: set[int], stop: int, settings: FitSettings
) -> RouterNetwork:
    """Trains on all folds but some, one of which stops it."""
    learned, stopping = (tokens.where(mask) for mask in (~np.isin(fold, list(left_out)), fold == stop))
    return train(_examples(learned), _examples(stopping), _cross_entropies, settings, lambda _: None)[0]


def _examples(tokens: LabelledTokens) -> Examples:
    return Examples(tokens, torch.from_numpy(tokens.preference), torch.from_numpy(tokens.weight))
