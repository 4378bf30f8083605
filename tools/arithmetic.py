"""A small synthetic language of worked arithmetic: a story in numbers, its steps, its answer.

The words around the digits follow from the story, so a very small model learns to write them. The digits have to be
worked out, which takes a larger one. That difference is what a token router can be tested on. Every random choice comes
from the `random.Random` that is passed in, so that a seed stands for one list of questions.

    python -m tools.arithmetic train 600 > assets/arithmetic/train.jsonl
    python -m tools.arithmetic dev 400 > assets/arithmetic/dev.jsonl
"""

import argparse
import hashlib
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate
from operator import add, floordiv, mul, sub
from typing import Literal

from trainer.questions import Question

Kind = Literal["add", "subtract", "multiply", "divide"]
Split = Literal["train", "dev"]

LARGEST = 99  # every intermediate result has one or two digits: what a model of a million parameters can learn
DEV_SHARE = 10  # one problem in so many belongs to the dev split
SYMBOLS: dict[Kind, str] = {"add": "+", "subtract": "-", "multiply": "*", "divide": "/"}
APPLY: dict[Kind, Callable[[int, int], int]] = {"add": add, "subtract": sub, "multiply": mul, "divide": floordiv}
KIND_WEIGHTS: dict[Kind, int] = {"add": 8, "subtract": 8, "multiply": 5, "divide": 2}
STEP_COUNTS, STEP_WEIGHTS = (2, 3, 4), (1, 3, 2)


@dataclass(frozen=True)
class Problem:
    """The numbers of a question without its story: a start, and (kind, operand) pairs applied from left to right."""

    start: int
    operations: tuple[tuple[Kind, int], ...]

    def results(self) -> list[int]:
        values = accumulate(self.operations, lambda value, step: APPLY[step[0]](value, step[1]), initial=self.start)
        return list(values)[1:]

    def split(self) -> Split:
        """Read off a hash of the numbers: those of a dev question never appear in training in another story."""
        text = " ".join([str(self.start), *(f"{SYMBOLS[kind]}{operand}" for kind, operand in self.operations)])
        return "dev" if int.from_bytes(hashlib.sha256(text.encode()).digest()[:4]) % DEV_SHARE == 0 else "train"


@dataclass(frozen=True)
class Theme:
    """One kind of story.

    In a phrase `{n}` stands for a number with the theme's sign and zeros, `{k}` for a bare one, `{name}` for a person
    and `{thing}` for what is counted.
    """

    starts: tuple[str, ...]
    events: dict[Kind, tuple[str, ...]]  # sentences of the question
    asks: tuple[str, ...]
    steps: dict[Kind, str]  # how the worked answer names an operation
    unit: str = " {thing}"  # stands behind the result of a step
    sign: str = ""  # stands before every number
    zeros: str = ""  # stand behind every number of the question and the answer (",000" in stories of thousands)
    things: tuple[str, ...] = ("points",)


NAMES = ("Mia", "Ben", "Ada", "Omar", "Lena", "Yuki", "Noor", "Paul", "Rosa", "Ivan", "Zoe", "Sam")
WORDS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
# The choice of the first word is free but uneven: both models agree on the likeliest, and often it is not the one in
# the reference. Such tokens look uncertain and are harmless, which a router has to learn and confidence cannot tell.
OPENERS, OPENER_WEIGHTS = ("Then", "Next", "Now"), (6, 3, 2)

THINGS = Theme(
    starts=("{name} has {n} {thing}.", "There are {n} {thing} in a box.", "{name} counts {n} {thing}."),
    events={
        "add": ("{name} finds {n} more.", "A friend brings {n}.", "{n} are added."),
        "subtract": ("{name} gives away {n}.", "{n} get lost.", "{n} are taken out."),
        "multiply": ("The number grows {n} times.", "Soon there are {n} times as many."),
        "divide": ("They are shared by {n}, and one share stays.", "Only one part in {n} stays."),
    },
    asks=("How many {thing} are there now?", "How many {thing} are left?"),
    steps={"add": "{n} more", "subtract": "{n} fewer", "multiply": "{n} times as many", "divide": "one of {n} shares"},
    things=("apples", "shells", "books", "stamps", "coins", "marbles", "pens", "eggs", "cards", "stones"),
)
MONEY = Theme(
    starts=("{name} has {n}.", "A ticket costs {n}.", "{name} starts with {n}."),
    events={
        "add": ("{name} earns {n}.", "Then {n} comes on top."),
        "subtract": ("{name} spends {n}.", "Then {n} is paid back."),
        "multiply": ("The sum grows {k} times.", "It becomes {k} times as much."),
        "divide": ("It is split by {k}, and one part stays.", "Only one part in {k} is kept."),
    },
    asks=("How much money is it now?", "How many dollars are there?"),
    steps={"add": "plus {n}", "subtract": "minus {n}", "multiply": "{k} times the sum", "divide": "one of {k} parts"},
    unit="",
    sign="$",
)
CITY = Theme(
    starts=("A city has {n} {thing}.", "In spring there are {n} {thing}."),
    events={
        "add": ("In a year {n} come.", "Then {n} more arrive."),
        "subtract": ("In a year {n} leave.", "Then {n} go away."),
        "multiply": ("The number grows {k} times.",),
        "divide": ("Only one in {k} stays.",),
    },
    asks=("How many {thing} are there now?", "How many {thing} does that make?"),
    steps={"add": "{k} come", "subtract": "{k} leave", "multiply": "{k} times more", "divide": "one in {k}"},
    unit=" thousand",
    zeros=",000",
    things=("people", "birds", "trees", "visitors"),
)
PLAIN = Theme(
    starts=("Start with {n}.", "Take the number {n}."),
    events={
        "add": ("Add {n}.", "Put {n} on top."),
        "subtract": ("Subtract {n}.", "Take {n} away."),
        "multiply": ("Multiply by {n}.", "Take it {n} times."),
        "divide": ("Divide by {n}.",),
    },
    asks=("What is the result?", "Which number is it?"),
    steps={"add": "add {n}", "subtract": "subtract {n}", "multiply": "multiply by {n}", "divide": "divide by {n}"},
    unit="",
)
THEMES = (THINGS, MONEY, CITY, PLAIN)


def make_problem(rng: random.Random) -> Problem:
    """Draws a chain of two to four operations whose results all lie between 2 and `LARGEST`."""
    start = value = rng.randint(4, 60)
    operations: list[tuple[Kind, int]] = []
    for _ in range(rng.choices(STEP_COUNTS, STEP_WEIGHTS)[0]):
        kinds: list[Kind] = [kind for kind in KIND_WEIGHTS if _operands(kind, value)]
        kind = rng.choices(kinds, [KIND_WEIGHTS[kind] for kind in kinds])[0]
        operand = rng.choice(_operands(kind, value))
        operations.append((kind, operand))
        value = APPLY[kind](value, operand)
    return Problem(start, tuple(operations))


def tell(problem: Problem, rng: random.Random) -> Question:
    """Tells a problem as a story, with its worked answer; theme, names and phrases are drawn."""
    theme = rng.choice(THEMES)
    cast = {"name": rng.choice(NAMES), "thing": rng.choice(theme.things)}

    def phrase(choices: tuple[str, ...], number: int) -> str:
        return rng.choice(choices).format(n=_spell(number, theme, rng), k=number, **cast)

    told = [phrase(theme.starts, problem.start)]
    told += [phrase(theme.events[kind], operand) for kind, operand in problem.operations]
    told.append(phrase(theme.asks, 0))
    question = " ".join(sentence[0].upper() + sentence[1:] for sentence in told)
    result = problem.results()[-1]
    reference = f"{_steps(problem, theme, cast, rng)} The answer is {theme.sign}{result}{theme.zeros}."
    name = hashlib.sha256(f"{question}\n{reference}".encode()).hexdigest()[:16]
    answer = f"{result}{theme.zeros}".replace(",", "")
    return Question(f"arithmetic-{name}", question, reference, answer, stated_family="arithmetic")


def questions(split: Split, count: int, seed: int) -> Iterator[Question]:
    """Questions of one split; no problem (start and operations) of one split occurs in the other.

    The same seed gives the same questions, and a longer list begins with the shorter one.
    """
    rng = random.Random(f"{split}-{seed}")
    while count > 0:
        problem = make_problem(rng)
        if problem.split() == split:
            yield tell(problem, rng)
            count -= 1


def _operands(kind: Kind, value: int) -> list[int]:
    """The operands that keep the result whole and within range."""
    match kind:
        case "add":
            return list(range(3, min(60, LARGEST - value) + 1))
        case "subtract":
            return list(range(3, value - 2))
        case "multiply":
            return [k for k in range(2, 7) if value * k <= LARGEST]
        case "divide":
            return [k for k in range(2, 7) if value % k == 0 and value // k > 1]


def _spell(number: int, theme: Theme, rng: random.Random) -> str:
    """A number as the question writes it: now and then a small one in words."""
    if number < len(WORDS) and not theme.sign and not theme.zeros and rng.random() < 0.3:
        return WORDS[number]
    return f"{theme.sign}{number}{theme.zeros}"


def _steps(problem: Problem, theme: Theme, cast: dict[str, str], rng: random.Random) -> str:
    """The worked part of the reference, one sentence per operation."""
    value, sentences, unit = problem.start, [], theme.unit.format(**cast)
    for (kind, operand), result in zip(problem.operations, problem.results(), strict=True):
        opener = "First" if not sentences else rng.choices(OPENERS, OPENER_WEIGHTS)[0]
        step = theme.steps[kind].format(n=f"{theme.sign}{operand}", k=operand)
        second = operand if kind in ("multiply", "divide") else f"{theme.sign}{operand}"
        left, right = f"{theme.sign}{value}", f"{theme.sign}{result}{unit}"
        sentences.append(f"{opener}, {step}: {left} {SYMBOLS[kind]} {second} = {right}.")
        value = result
    return " ".join(sentences)


def main() -> None:
    """Prints questions as JSON lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("split", choices=["train", "dev"])
    parser.add_argument("count", type=int)
    asked = parser.parse_args()
    for each in questions(asked.split, asked.count, seed=0):
        fields = {"id": each.id, "question": each.question, "reference": each.reference, "answer": each.answer}
        print(json.dumps(fields | {"family": each.stated_family}))


if __name__ == "__main__":
    main()
