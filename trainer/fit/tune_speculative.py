"""Speculative decoding at its best: draft length and confidence that move the fewest bytes on training questions.

Its text is the LLM's at every setting, so that only the cost has to be compared. All settings answer in one sweep.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from engine.errors import shown
from engine.pair import Pair
from engine.policy import build_policy
from engine.setting import MAX_DRAFT
from trainer import TrainerError
from trainer.evaluation.evaluate import evaluate
from trainer.evaluation.methods import Method
from trainer.evaluation.record import Point, read_evaluation
from trainer.evaluation.speculative import FILE, TriedSpeculation, TunedSpeculation
from trainer.json_files import write_json
from trainer.questions.question import Question
from trainer.settings import CONFIDENCES, DRAFTS


def tune(
    pair: Pair,
    questions: Sequence[Question],
    folder: Path,
    max_new_tokens: int,
    report: Callable[[str], None] = print,
    drafts: Sequence[int] = DRAFTS,
    confidences: Sequence[float] = CONFIDENCES,
) -> TriedSpeculation:
    """Answers training questions at every setting, into `folder`, and writes down there what was chosen and tried.

    Args:
        drafts: Tokens drafted before the LLM reads them and adds one.
        confidences: Below which the SLM drafts no further.

    Raises:
        TrainerError: The folder holds results of other questions or settings.
    """
    if wrong := [draft for draft in drafts if not 1 <= draft < MAX_DRAFT]:
        raise TrainerError(f"a draft of {shown(wrong[0])} tokens: give whole numbers from 1 to {MAX_DRAFT - 1}")
    if wrong := [each for each in confidences if not 0 <= each <= 1]:
        raise TrainerError(f"a confidence of {shown(wrong[0])}: give numbers from 0 to 1")
    policy = build_policy("confidence")
    methods = [Method("assisted-tuned", policy, tuple(confidences), None, 1.0, draft + 1) for draft in drafts]
    evaluate(pair, questions, methods, folder, "tuning", max_new_tokens, report)
    evaluation = read_evaluation(folder)
    tried = tuple(_tried(point) for point in evaluation.points)
    best = min(tried, key=lambda each: each.bytes)
    about = evaluation.command, evaluation.revision, evaluation.hardware
    tuned = TunedSpeculation(best, tried, evaluation.preset, len(questions), *about)
    write_json(folder / FILE, asdict(tuned), indent=1)
    report(
        f"{folder / FILE}: drafts of {best.max_draft - 1}, to where the SLM's confidence is below {best.confidence:g}: "
        f"{best.bytes / 1e6:,.0f} MB an answer; the dearest of {len(tried)} settings moves "
        f"{max(each.bytes for each in tried) / 1e6:,.0f} MB"
    )
    if best.max_draft - 1 in (min(drafts), max(drafts)) and best.max_draft - 1 not in (1, MAX_DRAFT - 1):
        report(f"drafts of {best.max_draft - 1} are the end of what was tried: --drafts tries others")
    return best


def _tried(point: Point) -> TriedSpeculation:
    assert point.max_draft != "auto"
    size, seconds = (float(point.column(name).mean()) for name in ("bytes", "seconds"))
    return TriedSpeculation(point.max_draft, point.threshold, round(size, 1), round(seconds, 5))
