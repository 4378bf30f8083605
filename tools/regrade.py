"""Grades all stored answers again, and prints those whose grade is another than the stored one.

After a change to `engine/grading`, with the benchmarks' questions as JSONL in `<data>/<task>/{train,dev}.jsonl`; the
exit status is 1 if a stored grade differs:

    python -m tools.regrade --data ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.grading import grade
from trainer.evaluation.record import SHARD
from trainer.json_files import read_lines
from trainer.questions.sources import read_jsonl

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with <task>/{train,dev}.jsonl")
    parser.add_argument("--runs", type=Path, default=ROOT / "assets" / "runs")
    parser.add_argument("--show", type=int, default=10, help="so many of the differences in full")
    options = parser.parse_args()

    questions = {q.id: q for path in sorted(options.data.glob("*/*.jsonl")) for q in read_jsonl(path)}
    shards = sorted(path for path in options.runs.glob("*/*/*") if SHARD.fullmatch(path.name))
    graded = [line for line in read_lines(shards) if line.get("text") is not None and "correct" in line]
    known = [line for line in graded if line["question"] in questions]
    answers = {(line["question"], line["text"]) for line in known}
    grades = {(name, text): grade(questions[name], text) for name, text in answers}
    differ = [line for line in known if line["correct"] != grades[line["question"], line["text"]]]
    print(f"{len(known)} of {len(graded)} stored grades are of these questions; {len(differ)} are others today")
    for line in differ[: options.show]:
        name, text = line["question"], line["text"]
        print(f"{name}: expected {questions[name].answer}; now {grades[name, text]}: …{text[-200:]!r}")
    raise SystemExit(bool(differ))


if __name__ == "__main__":
    main()
