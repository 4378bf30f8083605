"""The paper's five benchmarks, from the Hugging Face Hub through `datasets`, as questions.

Rows are checked as those of a local file are. `datasets` is imported only when a set is loaded.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from engine.grading.formula import last_boxed
from trainer import Report, TrainerError
from trainer.questions.question import FIELDS, LETTERS, Question, Split, read_rows

Row = dict[str, Any]


@dataclass(frozen=True)
class Benchmark:
    """Where a set is on the Hub, and how one of its rows becomes one of ours."""

    repo: str
    config: str | None  # None where the repo has only one
    splits: dict[Split, str]  # the Hub's split for each of ours, in the slicing language of `datasets`
    convert: Callable[[Row], Row]  # makes a row for `question_of`, with an `id` only where the set has one


def load(name: str, split: Split, report: Report = print) -> list[Question]:
    """All questions of one benchmark's split, with ids `<name>-<split>-<the set's own id, or the row's number from 0>`.

    A TrainerError if the set cannot be had, or has no usable row.
    """
    benchmark = BENCHMARKS[name]
    import datasets

    try:
        rows = datasets.load_dataset(benchmark.repo, benchmark.config, split=benchmark.splits[split])
    # The Hub's client, its transport and `datasets` each have errors of their own; all mean that there are no rows.
    except Exception as error:
        raise TrainerError(
            f"{name}: {benchmark.repo} cannot be had from the Hugging Face Hub ({error}). Where there is no way to the "
            f"hub, give a file instead: a path such as {name}.jsonl, with one JSON object per line: {FIELDS}"
        ) from error
    return read_rows(_converted(name, split, benchmark, rows), f"{name} {split}", report)


def _converted(name: str, split: Split, benchmark: Benchmark, rows: Iterable[Any]) -> Iterator[tuple[str, Any]]:
    """Each row's place in the set, and the row in our fields or the exception that converting it raised."""
    for number, row in enumerate(rows):
        try:
            converted = benchmark.convert(row)
            converted["id"] = f"{name}-{split}-{converted.get('id', number)}"
        except (ValueError, KeyError, TypeError) as error:
            converted = error
        yield f"{name} {split}:{number}", converted


def _csqa(row: Row) -> Row:
    return {"id": row["id"], "question": row["question"], "choices": row["choices"], "answer": row["answerKey"]}


def _arc(row: Row) -> Row:
    """A few of ARC's questions number their choices; the prompt asks for a letter."""
    labels, texts = row["choices"]["label"], row["choices"]["text"]
    letters = dict(zip(labels, LETTERS, strict=False))
    answer = letters.get(row["answerKey"], row["answerKey"])
    return {"id": row["id"], "question": row["question"], "choices": list(texts), "answer": answer}


def _mmlu(row: Row) -> Row:
    """The answer is the index of a choice."""
    choices = list(row["choices"])
    answer = dict(enumerate(LETTERS[: len(choices)])).get(row["answer"], row["answer"])
    return {"question": row["question"], "choices": choices, "answer": answer}


def _gsm8k(row: Row) -> Row:
    """The worked answer without its calculator annotations, its "#### 72" as the sentence that the prompt asks for."""
    steps, mark, answer = re.sub(r"<<[^<>]*>>", "", row["answer"]).rpartition("####")
    if not mark:
        raise ValueError("the answer has no ####")
    answer = answer.strip()
    reference = f"{steps.strip()}\nThe answer is \\boxed{{{answer}}}."
    return {"question": row["question"], "reference": reference, "answer": answer, "family": "number"}


def _math(row: Row) -> Row:
    answer = last_boxed(row["solution"])
    if answer is None:
        raise ValueError("the solution has no \\boxed")
    return {"question": row["problem"], "reference": row["solution"], "answer": answer, "family": "latex"}


BENCHMARKS: dict[str, Benchmark] = {
    # The test split's answers are not public.
    "csqa": Benchmark("tau/commonsense_qa", None, {"train": "train", "dev": "validation"}, _csqa),
    "arc-challenge": Benchmark("allenai/ai2_arc", "ARC-Challenge", {"train": "train", "dev": "test"}, _arc),
    # A subject of MMLU has no train split; these are its few-shot examples and its validation questions, 74 in all.
    "mmlu-psychology": Benchmark(
        "cais/mmlu", "professional_psychology", {"train": "dev+validation", "dev": "test"}, _mmlu
    ),
    "gsm8k": Benchmark("openai/gsm8k", "main", {"train": "train", "dev": "test"}, _gsm8k),
    # The original, hendrycks/competition_math, was taken down in January 2025; this copy has all subjects in one.
    "math": Benchmark("DigitalLearningGmbH/MATH-lighteval", "default", {"train": "train", "dev": "test"}, _math),
}
"""By the name that `--data` takes. The multiple-choice sets have no references."""
