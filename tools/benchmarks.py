"""Fetches the paper's five benchmarks from the Hugging Face Hub, as files that the trainer reads.

    python -m tools.benchmarks csqa gsm8k        # data/csqa/train.jsonl and dev.jsonl, and so on

An id is `<name>-<split>-<the set's own id, or the row's number from 0>`. The multiple-choice sets have no references.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import datasets

from engine.grading.formula import last_boxed

Row = dict[str, Any]
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


class Benchmark(NamedTuple):
    repo: str
    config: str | None  # None where the repo has only one
    splits: dict[str, str]  # the Hub's split for each of ours, in the slicing language of `datasets`
    convert: Callable[[Row], Row]  # makes a row for the trainer, with an `id` only where the set has one


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="+", choices=BENCHMARKS)
    parser.add_argument("--out", type=Path, default=Path("data"))
    asked = parser.parse_args()
    for name in asked.names:
        (asked.out / name).mkdir(parents=True, exist_ok=True)
        for split in ("train", "dev"):
            rows = fetched(name, split)
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (asked.out / name / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
            print(f"{asked.out / name / split}.jsonl: {len(rows)} questions")


def fetched(name: str, split: str) -> list[Row]:
    """A benchmark's questions; rows without an answer are left out."""
    benchmark, rows = BENCHMARKS[name], []
    found: Any = datasets.load_dataset(benchmark.repo, benchmark.config, split=benchmark.splits[split])
    for number, row in enumerate(found):
        try:
            converted = benchmark.convert(dict(row))
        except (ValueError, KeyError) as error:
            print(f"{name} {split}: row {number} is left out: {error}")
            continue
        rows.append(converted | {"id": f"{name}-{split}-{converted.get('id', number)}"})
    return rows


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

if __name__ == "__main__":
    main()
