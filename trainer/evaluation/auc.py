"""How well routers rank tokens, of the task that they learned from and of others: AUC of the preferences, by task.

The tokens are those of labels and rollouts, on the questions that no router's weights were trained on; half of these
end the training of a router of their own task early (`split_of`). Beside each router stands SLM confidence.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field
from typing_extensions import TypedDict

from engine.operating_points import bootstrap_counts
from engine.provenance import pair_title, provenance
from engine.router import Router
from trainer import TrainerError
from trainer.evaluation.estimates import EstimateSummary, difference, estimated
from trainer.evaluation.method_names import Name
from trainer.evaluation.methods import scores_of
from trainer.evaluation.statistics import Array
from trainer.evaluation.summary import RULE
from trainer.fit import calibration
from trainer.fit.labelled_tokens import LabelledTokens
from trainer.json_files import AGAIN, read_json, write_result

RESAMPLES, SEED = 1000, 0
SUFFIX = ".auc.json"
"""How the file of what was measured is called, beside the summaries of the same pair."""


class Ranked(TypedDict):
    """A router's AUC on a task, and how much higher it is than that of SLM confidence."""

    auc: EstimateSummary
    above_confidence: EstimateSummary


class TaskTokens(TypedDict):
    """What was ranked of a task.

    Attributes:
        tokens: With a preference.
        confidence: The AUC of SLM confidence.
    """

    questions: Annotated[int, Field(ge=1)]
    tokens: Annotated[int, Field(ge=1)]
    confidence: EstimateSummary


class AucSummary(TypedDict):
    """What was measured of one pair: routers by name, and in each, tasks."""

    pair: str
    preset: Name
    command: str
    revision: str
    hardware: str
    tasks: dict[str, TaskTokens]
    routers: dict[str, dict[str, Ranked]]


def measure_auc(routers: Mapping[str, Router], labelled: Mapping[str, LabelledTokens], preset: str) -> AucSummary:
    """Ranks the tokens of each task by each router; intervals are over the questions, the same for all of a task.

    Args:
        routers: By name; each of the labels' pair.
        labelled: By task, all splits.

    Raises:
        TrainerError: The held-out tokens of a task have not both preferences.
        RouterError: A router is of another SLM.
    """
    tasks: dict[str, TaskTokens] = {}
    ranked: dict[str, dict[str, Ranked]] = {name: {} for name in routers}
    for task, every in labelled.items():
        tokens = every.split("stop", "test").decided()
        if len(set(tokens.preference.tolist())) < 2:
            raise TrainerError(f"{task}: the {len(tokens)} tokens held out have not both preferences; label more")
        names, question = np.unique(tokens.question, return_inverse=True)
        counts = bootstrap_counts(len(names), RESAMPLES, SEED)[:, question]
        alone = _aucs(scores_of(RULE, tokens), tokens, counts)
        tasks[task] = {"questions": len(names), "tokens": len(tokens), "confidence": estimated(alone)}
        for name, router in routers.items():
            own = _aucs(scores_of(router, tokens), tokens, counts)
            ranked[name][task] = {"auc": estimated(own), "above_confidence": difference(own, alone)}
    about = next(iter(labelled.values())).about
    pair = pair_title(about["slm"], about["llm"], about["quantisation"])
    return AucSummary(pair=pair, preset=preset, **provenance("trainer"), tasks=tasks, routers=ranked)


def _aucs(scores: np.ndarray, tokens: LabelledTokens, counts: Array) -> Array:
    """In every sample of a bootstrap: scores [n] and counts [samples, n] → [samples]; NaN without both preferences."""
    with np.errstate(invalid="ignore"):
        return np.array([calibration.auc(scores, tokens.preference, tokens.weight * count) for count in counts])


def write_auc(summary: AucSummary, results: Path) -> Path:
    """Writes what was measured to `<preset>.auc.json` among the results."""
    return write_result(results, f"{summary['preset']}{SUFFIX}", summary)


def load_auc(path: Path) -> AucSummary:
    """Reads what `write_auc` wrote."""
    return read_json(path, AucSummary, AGAIN)
