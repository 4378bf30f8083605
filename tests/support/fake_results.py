"""Evaluations that no model made, in the trainer's own file formats: right answers, LLM shares and bytes by hand."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from trainer.evaluation.record import read_evaluation
from trainer.evaluation.summary import Summary, summarise

ABOUT = {
    "pair": "Small ⇄ Large · NF4",
    "preset": "tiny",
    "task": "sums",
    "command": "python -m trainer evaluate --preset tiny",
    "revision": "0123abc",
    "hardware": "two cores",
    "max_new_tokens": 64,
}

# (method, threshold): right answers of 100, LLM share, MB. The SLM alone is expensive, as on CommonsenseQA.
AT_0 = {
    ("slm", 0.0): (20, 0.0, 90),
    ("llm", 0.0): (60, 1.0, 100),
    ("oracle", 0.0): (58, 0.05, 30),
    ("assisted", 0.0): (60, 1.0, 50),
    ("random", 0.25): (30, 0.25, 92),
    ("random", 0.5): (40, 0.5, 94),
    ("random", 0.75): (50, 0.75, 97),
    ("confidence", 0.3): (40, 0.1, 40),
    ("confidence", 0.5): (50, 0.25, 50),
    ("confidence", 0.7): (60, 0.5, 80),
    ("citer-r1", 0.5): (50, 0.1, 40),
    ("citer-r1", 0.6): (55, 0.5, 90),
    ("citer-r2", 0.5): (50, 0.1, 40),
    ("citer-r2", 0.6): (60, 0.25, 60),
    ("citer-r2", 0.7): (62, 0.5, 70),
}

# (method, threshold, acceptance, max_draft): the same above acceptance 0.
ABOVE_0 = {
    ("assisted-tuned", 0.5, 1.0, 4): (60, 0.4, 48),
    ("slm", 0.0, 0.3, 5): (56, 0.2, 45),
    ("confidence", 0.3, 0.3, "auto"): (52, 0.1, 42),
    ("confidence", 0.5, 0.3, "auto"): (58, 0.2, 44),
    ("confidence", 0.5, 1.0, "auto"): (60, 0.3, 47),
    ("citer-r2", 0.5, 0.3, "auto"): (59, 0.1, 36),
    ("citer-r2", 0.6, 0.3, "auto"): (61, 0.2, 52),
}

# What the reviewers' questions are answered from: rounds, one router for all tasks, and one of another task.
MORE = {
    ("citer-shortcut", 0.5, 0.0, "auto"): (57, 0.3, 75),
    ("citer-joint", 0.5, 0.0, "auto"): (56, 0.2, 65),
    ("citer-joint", 0.6, 0.0, "auto"): (59, 0.4, 90),
    ("citer-of-words", 0.5, 0.0, "auto"): (40, 0.2, 65),
    ("citer-of-words", 0.6, 0.0, "auto"): (56, 0.3, 80),
}


def lines(points: dict[Any, Any], questions: int = 100) -> list[dict[str, Any]]:
    """Every method is right on the first questions, as many as it says: the same ones are hard for all."""
    written = []
    for (method, threshold, *dials), (right, share, size) in points.items():
        more = {"acceptance": dials[0], "max_draft": dials[1], "llm_passes": 7, "taken_back": 3} if dials else {}
        for number in range(questions):
            answer = {"tokens": 20, "llm_tokens": round(20 * share), "finish": "eos", "text": "The answer is\u2028 7."}
            cost = {"bytes": size * 1e6, "flops": size * 1e7, "seconds": size / 100}
            about = {"question": f"q{number}", "method": method, "threshold": threshold, "correct": number < right}
            written.append({**about, **answer, **cost, **more})
    return written


def write_evaluation(
    folder: Path, points: dict[Any, Any] | None = None, questions: int = 100, stage: str = "evaluation", **about: Any
) -> Path:
    """Writes a stage of an evaluation, its answers spread over two shards; returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"q{number}" for number in range(questions)]
    (folder / f"{stage}.json").write_text(json.dumps({**ABOUT, "questions": names, **about}), encoding="utf-8")
    written = [json.dumps(line, ensure_ascii=False) + "\n" for line in lines(points or AT_0, questions)]
    half = len(written) // 2
    for number, part in enumerate((written[:half], written[half:])):
        (folder / f"{stage}-{number:05d}.jsonl").write_text("".join(part), encoding="utf-8")
    return folder


def write_plane(folder: Path, points: dict[Any, Any] | None = None, **about: Any) -> Path:
    """The same, and a stage with points above acceptance 0."""
    write_evaluation(folder, **about)
    return write_evaluation(folder, ABOVE_0 if points is None else points, stage="plane", **about)


def summary_of(folder: Path, points: dict[Any, Any] | None = None, resamples: int = 200, **more: Any) -> Summary:
    """The summary of an evaluation at acceptance 0."""
    return summarise(read_evaluation(write_evaluation(folder, points, **more)), resamples)


def plane_of(folder: Path, points: dict[Any, Any] | None = None, resamples: int = 200, **about: Any) -> Summary:
    """The summary of an evaluation with a plane."""
    return summarise(read_evaluation(write_plane(folder, points, **about)), resamples)


def timed(*points: tuple[Any, ...], task: str = "sums", questions: int = 20, hardware: str = "a laptop") -> Any:
    """Measured seconds of the LLM alone, and of settings (method, acceptance, max_draft, threshold, times as fast)."""
    names = ("method", "acceptance", "max_draft", "threshold")
    each = [
        dict(zip(names, setting, strict=True))
        | {"speedup": {"value": times, "low": times / 2, "high": times * 2, "unreached": 0.0, "p_value": None}}
        | {"bytes_ratio": {"value": 0.5, "low": 0.4, "high": 0.6, "unreached": 0.0, "p_value": None}}
        | {"llm_passes": 10.0, "taken_back": 2.0, "tokens": 50.0, "correct": 0.5, "modelled": 2.0}
        | {"seconds": 3 / times, "by_question": [3 / times] * questions}
        | {"tokens_per_second": 15.0, "fastest": 20.0, "slowest": 10.0}
        for *setting, times in (("llm", 0.0, "auto", 0.0, 1.0), *points)
    ]
    about = {**ABOUT, "task": task, "questions": questions, "hardware": hardware}
    return {**about, "passes": {"slm": {"1": 0.02}, "llm": {"1": 0.05}}, "points": each}
