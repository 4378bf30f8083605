"""Rounds: roll out with the router of the round before, fit the next one, and stop when a round brings nothing.

CITER, section 3.3: the preference at a token depends on who writes the tokens after it, so the router is trained on
rollouts of its own making. Rounds count from 1; the first finishes the texts with the SLM alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from engine.pair import Pair
from engine.provenance import command
from engine.router import Router
from trainer import TrainerError
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.methods import build_methods
from trainer.evaluation.record import read_evaluation
from trainer.evaluation.summary import Summary, summarise
from trainer.fit.fit_router import fit
from trainer.fit.labelled_tokens import held_out_tokens
from trainer.json_files import read_json, write_json
from trainer.labels.rollouts import roll_out
from trainer.questions.question import Question
from trainer.settings import FitSettings, RolloutSettings
from trainer.ship import curve_of, operating_point

_Number = Annotated[float, Field(allow_inf_nan=False)]

SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
"""LLM shares at which a round is tried on the validation questions."""


@dataclass(frozen=True)
class Round:
    """What a round came to on the validation questions.

    Attributes:
        router: Name of its folder.
        threshold: Its operating threshold; `accuracy`, `llm_share` and `bytes` are measured there.
        gap_recovered: Average performance gap recovered, None where the LLM is not better than the SLM; `low` and
            `high` are its 95 % interval.
    """

    number: int
    router: str
    threshold: _Number
    gap_recovered: _Number | None
    low: _Number | None
    high: _Number | None
    accuracy: _Number
    llm_share: _Number
    bytes: _Number

    def __str__(self) -> str:
        gap = "no gap to recover" if self.gap_recovered is None else f"{self.gap_recovered:.1%} of the gap recovered"
        return (
            f"round {self.number}: {gap} on average; at threshold {self.threshold:.2f} {self.accuracy:.1%} right "
            f"with {self.llm_share:.1%} LLM"
        )


def make_rounds(
    pair: Pair,
    questions: Sequence[Question],
    validation: Sequence[Question],
    labels: Path,
    folder: Path,
    rounds: int,
    rollouts: RolloutSettings,
    fitting: FitSettings,
    report: Callable[[str], None] = print,
    description: str = "",
) -> list[Round]:
    """Makes rounds in `folder`: `rollouts-k`, `routers/citer-rk` and `validation-k`, and `rounds.json` in the end.

    Args:
        questions: Those of the labels.
        validation: Others, on which all rounds are compared.
        rounds: At most. It stops after one that recovers no more of the gap than the one before it.
        rollouts: From the second round on, the threshold is set to the operating threshold of the round before.
        description: Of the routers, one line for people.

    Returns:
        The rounds that were made, in order.
    """
    made: list[Round] = []
    router: Router | None = None
    for number in range(1, rounds + 1):
        rolled_out, validated, name = folder / f"rollouts-{number}", folder / f"validation-{number}", f"citer-r{number}"
        roll_out(pair, questions, labels, rolled_out, rollouts, router, report)
        out = folder / "routers" / name
        router = fit(
            labels, out, fitting, description, rolled_out, report, command=command("trainer"), round_number=number
        )
        methods = build_methods(["slm", "llm", f"{name}={out}"], pair, held_out_tokens(labels), SHARES)
        evaluate(pair, validation, methods, validated, "validation", rollouts.max_new_tokens, report)
        made.append(_measured(number, name, summarise(read_evaluation(validated))))
        report(str(made[-1]))
        if len(made) > 1 and (made[-1].gap_recovered or 0.0) <= (made[-2].gap_recovered or 0.0):
            report(f"round {number} recovers no more of the gap than round {number - 1}: stopping")
            break
        rollouts = replace(rollouts, threshold=made[-1].threshold)
    write_json(folder / "rounds.json", [asdict(each) for each in made], indent=2)
    return made


def load_rounds(folder: Path) -> list[Round]:
    """The rounds that `run` made in a folder, in order; a TrainerError where it made none."""
    path, way_out = folder / "rounds.json", "make the rounds with `python -m trainer run`"
    if not (rounds := read_json(path, list[Round], way_out)):
        raise TrainerError(f"{path} holds no rounds: {way_out}")
    return rounds


def chosen_round(made: Sequence[Round]) -> Round:
    """The round to go on with: the latest that is not surely worse than the best one.

    Some dozens of validation questions hardly ever tell two rounds apart, and a later one was trained on what follows
    from its own decisions, as the method means it. "Surely worse": the best figure lies above its 95 % interval.
    """
    best = max(each.gap_recovered or 0.0 for each in made)
    return [each for each in made if (each.high if each.high is not None else best) >= best][-1]


def _measured(number: int, name: str, summary: Summary) -> Round:
    """What a summary of the validation questions says of a round's router."""
    curve, method = curve_of(summary, name), summary["methods"][name]
    at = curve.at(operating_point([curve])[0])
    gap, low, high = (method[key] for key in ("gap_recovered", "gap_recovered_low", "gap_recovered_high"))
    return Round(number, name, at.threshold, gap, low, high, round(at.accuracy, 4), round(at.llm_share, 4), at.bytes)
