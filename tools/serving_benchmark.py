"""Many texts at once, and texts over HTTP, beside one text in this process; into docs/speed.md.

`.venv/bin/python -m tools.serving_benchmark --preset cpu --write`, on an otherwise idle machine. What is
compared alternates in one run. All prompts differ, and nothing is kept of the texts before.
"""

from __future__ import annotations

import argparse
import json
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from itertools import count, pairwise
from pathlib import Path
from typing import NamedTuple

import httpx

from engine import Pair, Request, Scheduler, build_request, load
from engine.batch.text import Text
from engine.bench.markdown import code, filled, table
from engine.provenance import hardware, revision
from engine.tokenizer import render
from tests.support.paths import ROOT
from tests.support.served_endpoint import serve_endpoint

PAGE = ROOT / "docs" / "speed.md"
_LONG = 1500  # tokens of a long prompt
_QUESTION = (
    "A shop sells pens in boxes of {a} and pencils in boxes of {b}. Ann buys {c} boxes of pens and {d} of pencils "
    "for her class of {e} children, and gives every child the same number of pens and the same number of pencils. How "
    "many of each are left over? Explain every step in a sentence of its own, name what is multiplied, divided and "
    "subtracted, and why, and then write a function that does this for any numbers, with types and two examples. "
)


class Written(NamedTuple):
    """Texts that were asked for at the same moment: tokens per second, seconds to the first, share by the LLM."""

    rate: float
    first: float
    share: float


class Newcomer(NamedTuple):
    """A text that comes while others are written: seconds to its first token, their mean step and longest wait."""

    first: float
    step: float
    longest: float


class Clock:
    """Notes when each of a text's tokens came."""

    def __init__(self) -> None:
        self.asked, self.times = time.perf_counter(), []

    def __call__(self, text: Text) -> None:
        if not text.ended:
            self.times.append(time.perf_counter())


class Bench:
    """A scheduler, and prompts of about `length` tokens that never come twice."""

    def __init__(self, pair: Pair, scheduler: Scheduler, length: int, numbers: count) -> None:
        self.pair, self.scheduler, self.threshold = pair, scheduler, 0.0
        self._length, self._numbers = length, numbers

    def choose_threshold(self, texts: int, tokens: int, share: float) -> None:
        """Takes the threshold below which `share` of the scores of SLM-only texts lies."""
        handles = [self.ask(tokens, owner)[0] for owner in range(texts)]
        assert all(handle.wait(600) for handle in handles)
        scores = sorted(event.score or 0.0 for handle in handles for event in handle.events)
        self.threshold = scores[int(share * len(scores))]
        self.leave(texts)

    def prompt(self, length: int) -> str:
        number = next(self._numbers)
        text = (_QUESTION * (length // 60 + 1)).format(
            a=number + 3, b=number + 5, c=number + 7, d=number + 9, e=number + 11
        )
        words = text.split(" ")
        while len(render(self.pair.tokenizer, Request(" ".join(words)))) > length:
            words.pop()
        return f"{number} {' '.join(words)}"

    def ask(self, tokens: int, owner: int, length: int | None = None) -> tuple[Text, Clock]:
        request = build_request(self.prompt(length or self._length), threshold=self.threshold, max_new_tokens=tokens)
        clock = Clock()
        return self.scheduler.submit(request, owner, listener=clock), clock

    def together(self, texts: int, tokens: int) -> Written:
        started = time.perf_counter()
        asked = [self.ask(tokens, owner) for owner in range(texts)]
        assert all(handle.wait(600) for handle, _ in asked)
        seconds = time.perf_counter() - started
        events = [event for handle, _ in asked for event in handle.events]
        self.leave(texts)
        first = statistics.median(clock.times[0] - clock.asked for _, clock in asked)
        return Written(len(events) / seconds, first, sum(event.role == "llm" for event in events) / len(events))

    def by_http(self, client: httpx.Client, tokens: int) -> Written:
        """One text, streamed by `/v1/chat/completions`."""
        content = {"role": "user", "content": self.prompt(self._length)}
        model = f"{self.pair.preset}:{self.threshold:.12f}@0"
        asked = {"model": model, "messages": [content], "max_tokens": tokens, "stream": True, "temperature": 0}
        roles: list[str] = []
        first, started = 0.0, time.perf_counter()
        with client.stream("POST", "/chat/completions", json=asked) as answer:
            assert answer.status_code == 200, answer.read()
            for line in answer.iter_lines():
                if not line.startswith("data: {"):
                    continue
                first = first or time.perf_counter() - started
                for choice in json.loads(line[6:])["choices"]:
                    roles += [token["by"] for token in choice["citer"]["tokens"]]
        return Written(len(roles) / (time.perf_counter() - started), first, roles.count("llm") / len(roles))

    def newcomer(self, others: int, length: int) -> Newcomer:
        asked = [self.ask(400, owner) for owner in range(others)]
        while any(len(clock.times) < 5 for _, clock in asked):
            time.sleep(0.01)
        handle, clock = self.ask(10, others, length)
        assert handle.wait(600)
        gaps = [b - a for _, other in asked for a, b in pairwise(other.times[5:])]
        for other, _ in asked:
            other.cancel()
        assert all(other.wait(60) for other, _ in asked)
        self.leave(others + 1)
        return Newcomer(clock.times[0] - clock.asked, statistics.mean(gaps), max(gaps))

    def leave(self, owners: int) -> None:
        for owner in range(owners):
            self.scheduler.leave(owner)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.2, help="of tokens by the LLM, about")
    parser.add_argument("--write", action="store_true", help="put the table into docs/speed.md")
    asked = parser.parse_args(arguments)
    command = f"python -m tools.serving_benchmark {shlex.join(arguments if arguments is not None else sys.argv[1:])}"
    text = f"{measure(asked)}\n\n{code(command)}, revision {revision()}, {hardware()}."
    print(text)
    if asked.write:
        write(text, PAGE)


def write(text: str, page: Path) -> None:
    """Puts the table into its section."""
    page.write_text(filled(page, {"serving": text}), encoding="utf-8")


def measure(asked: argparse.Namespace) -> str:
    """The table, as Markdown."""
    numbers = count()
    pair = load(asked.preset)
    with serve_endpoint(pair) as here, httpx.Client(base_url=here.url, timeout=600) as http:
        bench = Bench(pair, here.scheduler, asked.prompt, numbers)
        bench.choose_threshold(asked.texts, asked.tokens, asked.share)
        ways: dict[str, Callable[[], Written]] = {
            "one text": lambda: bench.together(1, asked.tokens),
            f"{asked.texts} at once": lambda: bench.together(asked.texts, asked.tokens),
            "one text, streamed by `/v1`": lambda: bench.by_http(http, asked.tokens),
        }
        found = {name: [] for name in ways}
        for _ in range(asked.rounds):
            for name, way in ways.items():
                found[name].append(way())
        new = {
            length: [bench.newcomer(asked.texts - 1, length) for _ in range(asked.rounds)]
            for length in (asked.prompt, _LONG)
        }
    return _table(asked, found, new)


def _table(asked: argparse.Namespace, found: dict[str, list[Written]], new: dict[int, list[Newcomer]]) -> str:
    one = next(iter(found.values()))
    rows = []
    for name, texts in found.items():
        ratios = [each.rate / base.rate for each, base in zip(texts, one, strict=True)]
        rates = [each.rate for each in texts]
        first = statistics.median(each.first for each in texts)
        ratio = "" if texts is one else _spread(ratios, 2)
        rows.append([name, f"{_spread(rates, 1)} tokens/s", ratio, f"{first:.2f} s"])
    share = statistics.mean(each.share for texts in found.values() for each in texts)
    about = (
        f"Prompts of {asked.prompt} tokens, {asked.tokens} new ones, prompts included in the time, {share:.0%} of the "
        f"tokens by the LLM; medians of {asked.rounds} rounds that alternate, in brackets least and greatest."
    )
    late = [
        [
            f"{length} tokens",
            f"{statistics.median(each.first for each in some):.2f} s",
            f"{1000 * statistics.median(each.step for each in some):.0f} ms",
            f"{statistics.median(each.longest / each.step for each in some):.1f}",
        ]
        for length, some in new.items()
    ]
    head = ["", "tokens per second", "times one text", "first token"]
    late_head = [f"prompt of a text that comes while {asked.texts - 1} are written", "its first token"]
    late_head += ["the others' mean step", "their longest wait, in mean steps"]
    return "\n\n".join([about, table(head, rows), table(late_head, late)])


def _spread(values: Sequence[float], places: int) -> str:
    return f"{statistics.median(values):.{places}f} ({min(values):.{places}f} to {max(values):.{places}f})"


if __name__ == "__main__":
    main()
