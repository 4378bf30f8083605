"""What the tests of an LLM behind a server share: the tiny pair with its LLM there, and what is asked of it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from engine import Request, Trace, build_request, load, load_settings
from engine.pair import Pair

PROMPTS = (
    "Mia counts 32 stamps. 42 are added. 5 are added. 45 are taken out. How many stamps are left?",
    "Start with 19. Take 7 away. Take 4 away. Subtract 3. Multiply by 4. What is the result?",
    "Yuki counts 51 apples. 37 get lost. The number grows 4 times. How many apples are left?",
    "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?",
)
THRESHOLDS = (0.0, 0.3, 0.6, 0.9, 1.01)
KEY = "a-key-that-nobody-may-see"


@contextmanager
def loaded(server: Any, **settings: Any) -> Iterator[Pair]:
    """The tiny pair with its LLM on a server, of which only `url` is looked at.

    A short `llm_patience` holds from the start on: on a busy machine, connecting takes longer.
    """
    patience = settings.pop("llm_patience", None)
    pair = load("tiny", load_settings(llm_url=server.url, **settings))
    if patience is not None:
        pair.llm.connection._patience = patience  # pyright: ignore[reportAttributeAccessIssue]
    try:
        yield pair
    finally:
        pair.close()


def asked(prompt: str, threshold: float, acceptance: float = 0.0, **options: Any) -> Request:
    """A text of 16 tokens."""
    return build_request(prompt, threshold=threshold, acceptance=acceptance, max_new_tokens=16, **options)


def written(traces: Iterable[Trace]) -> list[list[tuple[Any, ...]]]:
    """The tokens of each text, who wrote them, and which of them the LLM has judged."""
    return [[(event.id, event.role, event.ratio is None) for event in trace.events] for trace in traces]
