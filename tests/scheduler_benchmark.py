"""How many texts at once compare with one, through the scheduler: tokens per second, first tokens, longest waits.

`PYTHONPATH=. .venv/bin/python tests/scheduler_benchmark.py --preset cpu`, on an otherwise idle machine. One text and
eight alternate in one run. All prompts differ, and nothing is kept of the texts before.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Sequence
from itertools import count, pairwise

from engine import Pair, Request, Scheduler, load
from engine.batch.handle import Handle
from engine.provenance import provenance
from engine.tokenizer import render

_QUESTION = (
    "A shop sells pens in boxes of {a} and pencils in boxes of {b}. Ann buys {c} boxes of pens and {d} of pencils "
    "for her class of {e} children, and gives every child the same number of pens and the same number of pencils. How "
    "many of each are left over? Explain every step in a sentence of its own, name what is multiplied, divided and "
    "subtracted, and why, and then write a function that does this for any numbers, with types and two examples. "
)


class Clock:
    """Notes when each of a text's tokens came."""

    def __init__(self) -> None:
        self.asked, self.times = time.perf_counter(), []

    def __call__(self, handle: Handle) -> None:
        if not handle.ended:
            self.times.append(time.perf_counter())


class Bench:
    """A scheduler, and prompts of about `length` tokens that never come twice."""

    def __init__(self, pair: Pair, length: int) -> None:
        self.pair, self.scheduler, self.threshold = pair, Scheduler(pair), 0.0
        self._length, self._numbers = length, count()

    def choose_threshold(self, texts: int, tokens: int, share: float) -> None:
        """Takes that below which such a share of the scores of SLM-only texts lies."""
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

    def ask(self, tokens: int, owner: int, length: int | None = None) -> tuple[Handle, Clock]:
        request = Request(self.prompt(length or self._length), self.threshold, max_new_tokens=tokens)
        clock = Clock()
        return self.scheduler.submit(request, owner, listener=clock), clock

    def together(self, texts: int, tokens: int) -> tuple[float, float]:
        """Tokens per second of so many texts that are asked for at once; and the share of tokens by the LLM."""
        started = time.perf_counter()
        handles = [self.ask(tokens, owner)[0] for owner in range(texts)]
        assert all(handle.wait(600) for handle in handles)
        seconds = time.perf_counter() - started
        events = [event for handle in handles for event in handle.events]
        self.leave(texts)
        return len(events) / seconds, sum(event.role == "llm" for event in events) / len(events)

    def newcomer(self, others: int, length: int) -> tuple[float, float, float]:
        """Seconds to the first token of a text that comes while others are written; their step, and longest wait."""
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
        return clock.times[0] - clock.asked, statistics.mean(gaps), max(gaps)

    def leave(self, owners: int) -> None:
        for owner in range(owners):
            self.scheduler.leave(owner)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--texts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=60)
    parser.add_argument("--prompt", type=int, default=100)
    parser.add_argument("--share", type=float, default=0.2, help="of tokens by the LLM, about")
    asked = parser.parse_args(arguments)
    pair = load(asked.preset)
    bench = Bench(pair, asked.prompt)
    bench.choose_threshold(asked.texts, asked.tokens, asked.share)
    one, many, shares, ratios = [], [], [], []
    for _ in range(asked.rounds):
        alone = [bench.together(1, asked.tokens) for _ in range(2)]
        rate, share = bench.together(asked.texts, asked.tokens)
        one += [each for each, _ in alone]
        many.append(rate)
        shares.append(share)
        ratios.append(rate / statistics.mean(each for each, _ in alone))
    print(f"one text: {statistics.median(one):.1f} tokens/s ({min(one):.1f} to {max(one):.1f})")
    print(f"{asked.texts} at once: {statistics.median(many):.1f} tokens/s ({min(many):.1f} to {max(many):.1f})")
    print(f"ratio: {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    print(f"LLM share: {statistics.mean(shares):.2f} at threshold {bench.threshold:.3f}")
    for length in (asked.prompt, 1500):
        found = [bench.newcomer(asked.texts - 1, length) for _ in range(asked.rounds)]
        first, step, gap = (statistics.median(values) for values in zip(*found, strict=True))
        print(
            f"first token after a prompt of {length} tokens, beside {asked.texts - 1} texts: {first:.2f} s; "
            f"their mean step {1000 * step:.0f} ms, longest wait for a token {1000 * gap:.0f} ms"
        )
    print(provenance("tests.scheduler_benchmark"))
    bench.scheduler.close()


if __name__ == "__main__":
    main()
