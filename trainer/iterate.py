"""Rounds: roll out with the router of the round before, fit the next one, and stop when a round brings nothing.

CITER, section 3.3: the preference at a token depends on who writes the tokens after it, so the router is trained on
rollouts of its own making. Round 1 finishes the texts with the SLM alone. Knows stages; each stage has its own module.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from engine.pair import Pair
from engine.router import Router
from trainer.data import Question
from trainer.errors import TrainerError
from trainer.evaluate import evaluate
from trainer.fit import FitSettings, fit
from trainer.methods import build_methods
from trainer.operating import curve_of, operating_threshold
from trainer.provenance import command
from trainer.results import read_evaluation
from trainer.rollout import RolloutSettings, roll_out
from trainer.summary import summarise
from trainer.tokens import held_out_tokens

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
"""LLM shares at which a round is tried on the validation questions."""


@dataclass(frozen=True)
class Round:
    """What a round came to on the validation questions.

    Attributes:
        number: From 1.
        router: Its folder.
        threshold: Its operating threshold.
        gap_recovered: Average performance gap recovered, None where the LLM is not better than the SLM.
        low, high: Its 95 % interval.
        accuracy, llm_share, bytes: At the operating threshold.
    """

    number: int
    router: str
    threshold: float
    gap_recovered: float | None
    low: float | None
    high: float | None
    accuracy: float
    llm_share: float
    bytes: float


def iterate(
    pair: Pair,
    questions: Sequence[Question],
    validation: Sequence[Question],
    labels: Path,
    folder: Path,
    rounds: int,
    rollouts: RolloutSettings,
    fitting: FitSettings,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
    description: str = "",
) -> list[Round]:
    """Makes rounds in `folder`: `rollouts-k`, `routers/citer-rk` and `validation-k`, and `rounds.json` in the end.

    Args:
        pair: The models.
        questions: Those of the labels.
        validation: Others, on which all rounds are compared.
        labels: Written by `trainer.label`.
        folder: Created.
        rounds: At most.
        rollouts: How to roll out; the threshold is set to the router's own.
        fitting: How to fit.
        max_new_tokens: Of an answer on the validation questions.
        report: Told of progress.
        description: Of the routers, one line for people.

    Returns:
        The rounds that were made, in order. It stops after a round that recovers no more of the gap than the one before
        it.
    """
    made: list[Round] = []
    router: Router | None = None
    for number in range(1, rounds + 1):
        settings = replace(rollouts, threshold=made[-1].threshold) if made else rollouts
        roll_out(pair, questions, labels, folder / f"rollouts-{number}", settings, router, report)
        where = folder / "routers" / f"citer-r{number}"
        router = fit(
            labels,
            where,
            fitting,
            description,
            folder / f"rollouts-{number}",
            report,
            command=command(),
            round_number=number,
        )
        made.append(_try(pair, validation, labels, folder, number, max_new_tokens, report))
        report(_tell(made[-1]))
        if len(made) > 1 and (made[-1].gap_recovered or 0.0) <= (made[-2].gap_recovered or 0.0):
            report(f"round {number} recovers no more of the gap than round {number - 1}: stopping")
            break
    text = json.dumps([asdict(each) for each in made], indent=2)
    (folder / "rounds.json").write_text(text + "\n", encoding="utf-8")
    return load_rounds(folder)


def load_rounds(folder: Path) -> list[Round]:
    """The rounds that `iterate` made in a folder, in order.

    Raises:
        TrainerError: None were made there.
    """
    try:
        return [Round(**each) for each in json.loads((folder / "rounds.json").read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError) as error:
        raise TrainerError(f"{folder} holds no rounds ({error}): make them with `python -m trainer iterate`") from error


def chosen_round(made: Sequence[Round]) -> Round:
    """The round to go on with: the latest that is not surely worse than the best one.

    Some dozens of validation questions hardly ever tell two rounds apart, and a later one was trained on what follows
    from its own decisions, as the method means it. "Surely worse": the best figure lies above its 95 % interval.
    """
    best = max(each.gap_recovered or 0.0 for each in made)
    return [each for each in made if (each.high if each.high is not None else best) >= best][-1]


def _try(
    pair: Pair,
    validation: Sequence[Question],
    labels: Path,
    folder: Path,
    number: int,
    max_new_tokens: int,
    report: Callable[[str], None],
) -> Round:
    """Evaluates a round's router on the validation questions."""
    name, where = f"citer-r{number}", folder / f"validation-{number}"
    names = ["slm", "llm", f"{name}={folder / 'routers' / name}"]
    methods = build_methods(names, pair, held_out_tokens(labels), SHARES)
    evaluate(pair, validation, methods, where, "validation", max_new_tokens, report)
    summary = summarise(read_evaluation(where))
    curve, found = curve_of(summary, name), summary["methods"][name]
    at = curve.at(operating_threshold(curve))
    return Round(
        number,
        name,
        at.threshold,
        found["gap_recovered"],
        found["gap_recovered_low"],
        found["gap_recovered_high"],
        round(at.accuracy, 4),
        round(at.llm_share, 4),
        at.bytes,
    )


def _tell(made: Round) -> str:
    gap = "no gap to recover" if made.gap_recovered is None else f"{made.gap_recovered:.1%} of the gap recovered"
    return (
        f"round {made.number}: {gap} on average; at threshold {made.threshold:.2f} {made.accuracy:.1%} right "
        f"with {made.llm_share:.1%} LLM"
    )
