"""Grades all stored answers again, and says where a grade differs from the stored one or from another grader's.

After a change to `engine/grading`, with the benchmarks' questions as JSONL in `<data>/<task>/{train,dev}.jsonl`; the
exit status is 1 if a stored grade differs:

    python -m tools.regrade --data ../shared/data

Equality as math-verify sees it (`pip install math-verify`), on the numbers and LaTeX among the answers, and on the
questions' own references, each of which is also held against the next question's answer:

    python -m tools.regrade --data ../shared/data --references --against math-verify
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engine.grading import grade
from trainer.evaluation.rows import GENERAL, RESULTS, read_rows
from trainer.questions.question import Question
from trainer.questions.sources import read_jsonl

Grader = Callable[[Question, str], bool]
ROOT = Path(__file__).parent.parent


def math_verify() -> Grader:
    """Its own extraction and equality, without its time limits, which are signals and need the main thread."""
    from math_verify import parse, verify  # pyright: ignore[reportMissingImports]

    def right(question: Question, text: str) -> bool:
        without: Any = {"parsing_timeout": None}
        return verify(parse(f"${question.answer}$", **without), parse(text, **without), timeout_seconds=None)

    return right


OTHERS: dict[str, tuple[Callable[[], Grader], set[str]]] = {"math-verify": (math_verify, {"number", "latex"})}
"""How another grader is had, and the families that it knows."""


def answers(results: Path) -> Iterable[dict[str, Any]]:
    """Every stored answer to a question that has a right one."""
    files = (path for path in sorted(results.glob("*/*.parquet")) if path.stem != GENERAL)
    for path in files:
        for row in read_rows(path)[0]:
            yield {"question": row.question, "text": row.text, "correct": row.right > 0}


def timed(grader: Grader, question: Question, text: str, seconds: list[float]) -> bool | str:
    """The grade, or the name of the exception raised."""
    begun = time.perf_counter()
    try:
        return grader(question, text)
    except Exception as error:  # another grader may raise anything
        return type(error).__name__
    finally:
        seconds.append(time.perf_counter() - begun)


def main() -> None:
    """Grades, compares and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="folder with <task>/{train,dev}.jsonl")
    parser.add_argument("--results", type=Path, default=ROOT / RESULTS)
    parser.add_argument("--against", choices=OTHERS, help="another grader, for a second opinion")
    parser.add_argument("--references", action="store_true", help="also grade the questions' own references")
    parser.add_argument("--show", type=int, default=10, help="so many of the differences in full")
    options = parser.parse_args()

    questions = {q.id: q for path in sorted(options.data.glob("*/*.jsonl")) for q in read_jsonl(path)}
    lines = list(answers(options.results))
    known = [line for line in lines if line["question"] in questions]
    stored: dict[tuple[str, str], list[bool]] = {}  # grades on disk of each distinct answer
    for line in known:
        stored.setdefault((line["question"], line["text"]), []).extend([line["correct"]] if "correct" in line else [])
    if not known:
        parser.error(f"{options.data} has none of the questions that the {len(lines)} stored answers are to")
    grades = sum(map(len, stored.values()))
    print(f"{len(known)} of {len(lines)} answers are to these questions, {len(stored)} distinct, with {grades} grades")
    if options.references:
        worked = [q for q in questions.values() if q.reference and q.family in ("number", "latex")]
        for one, two in zip(worked, worked[1:] + worked[:1], strict=True):
            stored.setdefault((one.id, one.reference), [])
            stored.setdefault((two.id, one.reference), [])

    spent: list[float] = []
    ours = {(id_, text): timed(grade, questions[id_], text, spent) for id_, text in stored}
    changed = [key for key, given in stored.items() for each in given if each != ours[key]]
    print(f"{len(changed)} stored grades differ from today's; {told(spent)}")
    differ = list(dict.fromkeys(changed))
    if options.against:
        load, families = OTHERS[options.against]
        grader, spent = load(), []
        keys = [key for key in stored if questions[key[0]].family in families]
        theirs = {key: timed(grader, questions[key[0]], key[1], spent) for key in keys}
        differ = [key for key in keys if theirs[key] != ours[key]]
        print(f"{options.against}: {len(differ)} of {len(keys)} texts are graded otherwise; {told(spent)}")
        for id_, text in differ[: options.show]:
            print(f"{id_}: expected {questions[id_].answer}; ours {ours[id_, text]}, theirs {theirs[id_, text]}")
            print(f"    …{text[-200:]!r}")
    else:
        for id_, text in differ[: options.show]:
            print(f"{id_}: expected {questions[id_].answer}; now {ours[id_, text]}: …{text[-200:]!r}")
    raise SystemExit(bool(changed))


def told(seconds: list[float]) -> str:
    """How long grading took."""
    return f"{sum(seconds) / max(1, len(seconds)) * 1e3:.2f} ms a text, {max(seconds, default=0) * 1e3:.0f} at most"


if __name__ == "__main__":
    main()
