"""Grades all stored answers again, and prints those whose grade is another than the stored one.

After a change to `engine/grading`, with the benchmarks' questions as JSONL in `<data>/<task>/{train,dev}.jsonl`; the
exit status is 1 if a stored grade differs:

    python -m tools.regrade --data ../shared/data
"""

from __future__ import annotations

import argparse
from pathlib import Path

from engine.grading import grade
from trainer.evaluation.rows import GENERAL, RESULTS, read_rows
from trainer.questions import read_questions

ROOT = Path(__file__).parent.parent


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with <task>/{train,dev}.jsonl")
    parser.add_argument("--results", type=Path, default=ROOT / RESULTS)
    parser.add_argument("--show", type=int, default=10, help="so many of the differences in full")
    options = parser.parse_args()

    questions = {q.id: q for path in sorted(options.data.glob("*/*.jsonl")) for q in read_questions(path)}
    paths = [path for path in sorted(options.results.glob("*/*.parquet")) if path.stem != GENERAL]
    rows = [row for path in paths for row in read_rows(path)[0]]
    known = [row for row in rows if row.question in questions]
    answers = {(row.question, row.text) for row in known}
    grades = {(name, text): grade(questions[name], text) for name, text in answers}
    differ = [row for row in known if (row.right > 0) != grades[row.question, row.text]]
    print(f"{len(known)} of {len(rows)} stored grades are of these questions; {len(differ)} are others today")
    for row in differ[: options.show]:
        answer, today = questions[row.question].answer, grades[row.question, row.text]
        print(f"{row.question}: expected {answer}; now {today}: …{row.text[-200:]!r}")
    raise SystemExit(bool(differ))


if __name__ == "__main__":
    main()
