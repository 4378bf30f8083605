"""Rounds: roll out with the router of the round before, fit the next one, and stop when a round brings nothing.

CITER, section 3.3: the preference at a token depends on who writes the tokens after it, so the router is trained on
rollouts of its own making. Rounds count from 1; the first finishes the texts with the SLM alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Annotated

from pydantic import Field

from engine.pair import Pair
from engine.provenance import command
from engine.router import Router
from trainer import TrainerError
from trainer.evaluation.evaluate import evaluate, gather
from trainer.evaluation.methods import method
from trainer.evaluation.rows import MethodSetting, Results, load_results
from trainer.evaluation.statistics import draws, gap_recovered
from trainer.fit.fit_router import fit
from trainer.fit.labelled_tokens import held_out_tokens
from trainer.json_files import read_json, write_json
from trainer.labels.rollouts import roll_out
from trainer.questions.question import Question
from trainer.settings import FitSettings, RolloutSettings
from trainer.ship import operating_point

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
        own = method(name, {"folder": str(out), "shares": SHARES}, held_out_tokens(labels))
        methods = [method("slm", {}), method("llm", {}), own]
        evaluate(pair, validation, methods, validated, "validation", rollouts.max_new_tokens, report)
        made.append(_measured(number, name, load_results(gather(validated, validated))))
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


def _measured(number: int, name: str, results: Results) -> Round:
    """What the validation questions say of a round's router."""
    order = [results.of("slm")[0], *results.of(name), results.of("llm")[0]]
    share = results.llm_tokens[order].sum(axis=1) / results.tokens[order].sum(axis=1)
    gap = gap_recovered(share, results.right[order], draws(len(results.questions)))
    value, low, high = (None if math.isnan(each) else round(each, 5) for each in gap)
    start = operating_point([results], name)
    at = results.settings.index(MethodSetting(name, str(start)))
    right, size = (round(float(each[at].mean()), 4) for each in (results.right, results.bytes))
    return Round(number, name, start.threshold, value, low, high, right, round(float(share[order.index(at)]), 4), size)
