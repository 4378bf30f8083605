"""From measured rows to what a router is shipped with: its curves, and where on them it starts.

Beside them are shipped those of policies that need no training, so that the page can say what these cost, too.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from engine.model.adapter import Adapter
from engine.models.files import sha256_of
from engine.models.sources import ADAPTER, aligned_title, base_title
from engine.operating_points import Curve, OperatingPoint, OperatingPoints
from engine.policy import FIXED, POLICIES, ROUTED
from engine.provenance import command
from engine.router import WEIGHTS, Router
from engine.setting import LLM_ONLY, DraftLimit, Setting
from trainer import TrainerError
from trainer.evaluation import statistics
from trainer.evaluation.rows import GENERAL, ROUTER, Results
from trainer.evaluation.statistics import common_settings, is_worse_than_confidence, task_of
from trainer.fit.card import write_card
from trainer.labels.rollouts import fingerprint

UNTRAINED = tuple(name for name in POLICIES if name not in (*FIXED, *ROUTED))
"""Policies that a request may name and that need no training."""


def ship(
    router: Path, results: Sequence[Results], out: Path, method: str = ROUTER, adapter: Path | None = None
) -> Router:
    """Copies a router's folder to `out`, whose name becomes its own, with its curves and where to start.

    What is in `out` is replaced when all files are written, or not at all.

    Args:
        method: What the router is called in the rows.
        adapter: The file that an aligned SLM was aligned with; it is shipped beside the router.

    Raises:
        TrainerError: The rows are of another router, or of several pairs; no setting was measured on all tasks; or the
            router was fitted to an SLM with another adapter.
    """
    shipped = Router.load(router)
    _check_adapter(shipped, adapter)
    check_measured(shipped, results, method)
    start = operating_point(results, method)
    card = replace(shipped.card, name=out.name, threshold=round(start.threshold, 4), acceptance=start.acceptance)
    shipped.card = card  # the threshold is rounded to a step of the page's slider: what is shown is in force
    first_general = sorted(results, key=lambda each: each.about.task != GENERAL)
    curves = tuple(curve for each in first_general for curve in curves_of(each, method))
    untrained = {name: tuple(c for each in first_general for c in curves_of(each, name)) for name in UNTRAINED}
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent) as name:
        new = Path(name)
        shipped.save(new)
        digest = sha256_of(new / WEIGHTS)
        found = {name: own for name, own in untrained.items() if own}
        OperatingPoints(digest, curves, found).save(new)
        write_card(shipped.card, new, curves)
        if adapter is not None:
            shutil.copyfile(adapter, new / ADAPTER)
        out.mkdir(exist_ok=True)
        for each in new.iterdir():
            each.replace(out / each.name)
    return shipped


def _check_adapter(router: Router, adapter: Path | None) -> None:
    slm = router.card.slm
    wanted = aligned_title(base_title(slm), Adapter.load(adapter).digest) if adapter else base_title(slm)
    if slm != wanted:
        raise TrainerError(f"{router.name} is for {slm}, and here it is {wanted}: name that SLM's file with --adapter")


def check_measured(router: Router, results: Sequence[Results], method: str) -> None:
    """Refuses, by a TrainerError, rows of several pairs, or in which a method was another router than this one."""
    pairs = {each.about.pair for each in results}
    if len(pairs) > 1:
        raise TrainerError(f"these results are of {' and '.join(sorted(pairs))}: ship those of one pair")
    own = fingerprint(router.network)
    for each in results:
        each.of(method)
        if each.about.routers.get(method, own) != own:
            raise TrainerError(
                f"{method} in the results of {each.about.task} is another router than {router.name}: name that one"
            )


def operating_point(results: Sequence[Results], method: str = ROUTER) -> Setting:
    """The setting that a router starts at, unless a person chooses otherwise.

    It is `statistics.best`, by right answers, of the settings measured on every task. A setting at which the router is
    significantly worse than SLM confidence on a task, general prompts included, is left out, unless nothing is left.

    Raises:
        TrainerError: No setting was measured on all tasks.
    """
    settings = common_settings(results, method)
    if not settings:
        raise TrainerError("no setting was measured on all of these tasks: evaluate the router at one on each")
    good = [each for each in settings if not any(is_worse_than_confidence(task, method, each) for task in results)]
    settings = good or settings
    graded = [each for each in results if each.about.task != GENERAL] or list(results)
    tasks = [task_of(each, method, settings) for each in graded]
    return Setting.parse(settings[statistics.best(tasks, [np.ones_like(task.first) for task in tasks])])


def curves_of(results: Results, method: str) -> list[Curve]:
    """A method's curves on a task, one for each acceptance that was measured, in ascending order.

    A curve has only the settings with the longest draft limit measured at its acceptance; "auto" counts as the longest.
    """
    settings = {n: _setting(results, n) for n in results.numbers(method)}
    curves = []
    for acceptance in sorted({each.acceptance for each in settings.values()}):
        there = {n: each for n, each in settings.items() if each.acceptance == acceptance}
        drafts: list[DraftLimit] = [each.max_draft for each in there.values()]
        longest = max(drafts, key=lambda most: np.inf if most == "auto" else most)
        there = {n: each for n, each in there.items() if each.max_draft == longest}
        curves.append(_curve(results, there))
    return curves


def _curve(results: Results, settings: Mapping[int, Setting]) -> Curve:
    ends = {results.of("slm")[0]: Setting("slm", 0.0), results.of("llm")[0]: Setting("llm", LLM_ONLY)}
    slm, llm = (_point(results, number, each) for number, each in ends.items())
    made = [results.made[number].split("; ") for number in (*ends, *settings)]
    revisions, machines = ("; ".join(dict.fromkeys(each[part] for each in made)) for part in (0, 1))
    points = [_point(results, number, each) for number, each in settings.items()]
    return Curve(
        task=results.about.task,
        questions=len(results.questions),
        pair=results.about.pair,
        command=command("trainer"),
        revision=revisions,
        hardware=machines,
        slm=slm,
        llm=llm,
        points=tuple(sorted(points, key=lambda point: point.threshold)),
        quality="same" if results.about.task == GENERAL else "right",
    )


def _point(results: Results, number: int, setting: Setting) -> OperatingPoint:
    right = statistics.mean(results.right[number], statistics.draws(len(results.questions)))
    tokens, by_llm = (float(each[number].sum()) for each in (results.tokens, results.llm_tokens))
    value, low, high = (_digits(each) for each in right)
    return OperatingPoint(
        threshold=setting.threshold,
        accuracy=value,
        accuracy_low=min(low, value),
        accuracy_high=max(high, value),
        llm_share=_digits(by_llm / tokens),
        bytes=_digits(results.bytes[number].mean()),
        acceptance=setting.acceptance,
    )


def _setting(results: Results, number: int) -> Setting:
    return Setting.parse(results.settings[number].setting)


def _digits(value: float) -> float:
    """Five significant digits, far below any interval here, so that other processors' last bits do not show."""
    return float(f"{value:.5g}")
