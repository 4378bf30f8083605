"""Results that no model made, in the trainer's own file format: right answers, LLM shares and bytes by hand."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from trainer.evaluation.rows import About, Results, Row, load_results, write_rows

Points = Mapping[tuple[str, str], tuple[int, float, float]]

# (method, setting): right answers of 100, LLM share, MB. The SLM alone is expensive, as on CommonsenseQA.
POINTS: Points = {
    ("slm", "slm < 0"): (20, 0.0, 90),
    ("llm", "llm < 0"): (60, 1.0, 100),
    ("random", "random < 0.5"): (40, 0.5, 94),
    ("confidence", "confidence < 0.3"): (40, 0.1, 40),
    ("confidence", "confidence < 0.7"): (60, 0.5, 80),
    ("speculative", "confidence < 0.5 @ 1/4"): (60, 0.4, 48),
    ("shortcut", "router < 0.5"): (57, 0.3, 75),
    ("router", "router < 0.5"): (50, 0.1, 40),
    ("router", "router < 0.6"): (60, 0.25, 60),
    ("router", "router < 0.5 @ 0.3"): (59, 0.1, 36),
    ("router", "router < 0.6 @ 0.3"): (61, 0.2, 52),
}


def rows_of(points: Points = POINTS, questions: int = 100, seconds: Mapping[str, float] | None = None) -> list[Row]:
    """Every method is right on the first questions, as many as it says: the same ones are hard for all.

    `seconds` are those of a method's answers to the first ten questions.
    """
    return [
        Row(
            question=f"q{number:03d}",
            method=method,
            setting=setting,
            right=float(number < right),
            bytes=round(size * 1e6),
            flops=size * 1e7,
            tokens=20,
            llm_tokens=round(20 * share),
            llm_passes=7,
            taken_back=3,
            authors=[5, 15],
            seconds=(seconds or {}).get(method) if number < 10 else None,
            text="The answer is\u2028 7.",
            made="0123abc; a laptop; none",
        )
        for (method, setting), (right, share, size) in points.items()
        for number in range(questions)
    ]


def write_results(
    folder: Path,
    points: Points = POINTS,
    task: str = "sums",
    pair: str = "Small ⇄ Large · NF4",
    routers: dict[str, str] | None = None,
    questions: int = 100,
    seconds: Mapping[str, float] | None = None,
) -> Path:
    """Writes a task's file into a folder; returns its path."""
    path = folder / f"{task}.parquet"
    write_rows(path, rows_of(points, questions, seconds), About(pair, "tiny", task, 64, routers or {}))
    return path


def results_of(folder: Path, points: Points = POINTS, task: str = "sums", **more: object) -> Results:
    """The same, read back."""
    return load_results(write_results(folder, points, task, **more))  # pyright: ignore[reportArgumentType]
