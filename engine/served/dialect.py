"""What is asked of a server and what it answers, whatever its API looks like; each API has a file of its own beside.

A question is a whole text as token ids. The answer is, for the last tokens of it, the likeliest next ones with their
log-probabilities. The server caches what it has read of texts that begin alike, so that it reads only what is new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.errors import ServerError, shown

LEAST_LOGPROB = -1e4
"""Of a token that the server does not name: its probability is 0 in double precision, too, and no figure is NaN."""


@dataclass(frozen=True)
class Inquiry:
    """What comes next in a text.

    Attributes:
        tokens: The text as ids, at least one.
        looks: After how many of its last tokens the answer is wanted, at least 1.
        top: How many of the likeliest tokens are wanted each time.
        model: What the server calls its model.
        vocabulary: Ids from here on are padding, and left out.
    """

    tokens: Sequence[int]
    looks: int
    top: int
    model: str
    vocabulary: int


class Likely(NamedTuple):
    """The likeliest tokens at a position and their natural log-probabilities; the first is the server's own choice."""

    ids: list[int]
    logprobs: list[float]


@dataclass(frozen=True)
class Dialect:
    """One server's API.

    Attributes:
        name: For people.
        owner: What `/v1/models` names as the owner of its models; None where it does not say.
        path, body, read: Where a question goes, what is sent as JSON, and what the reply says per position looked at.
            `read` may raise anything: the reply is not to be trusted.
        judges: Whether one answer can be about several tokens of a text, so that drafts are judged.
        rereads: Whether the server then reads the whole text again.
        tokens_path, tokens_body, tokens_read: The same for the ids of a text, special tokens included.
        most: Likeliest tokens that it tells by default, at most.
    """

    name: str
    owner: str
    path: str
    body: Callable[[Inquiry], dict[str, Any]]
    read: Callable[[Inquiry, Any], list[Likely]]
    judges: bool
    rereads: bool
    tokens_path: str
    tokens_body: Callable[[str, str], dict[str, Any]]
    tokens_read: Callable[[Any], list[int]]
    most: int

    def answer(self, question: Inquiry, reply: Any) -> list[Likely]:
        """What a reply says; raises WrongAnswer if it is not of the shape that its server documents."""
        try:
            found = self.read(question, reply)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise WrongAnswer(f"{type(error).__name__}: {shown(str(error))}") from error
        if len(found) != question.looks:
            raise WrongAnswer(f"{question.looks} positions were asked for, and {len(found)} are answered")
        return found


class WrongAnswer(ServerError):
    """A reply that does not have the shape it should have; asked again, it may."""


def likely(question: Inquiry, pairs: Iterable[tuple[Any, Any]], chosen: Any = None) -> Likely:
    """The likeliest of (token id, log-probability), best first; `chosen` is the server's own among equals.

    Raises ValueError for what is no id or no logarithm of a probability, and where nothing is left.
    """
    found: dict[int, float] = {}
    for id, logprob in pairs:
        if isinstance(id, bool) or not isinstance(id, int) or id < 0:
            raise ValueError(f"{shown(id, True)} is no token id")
        value = LEAST_LOGPROB if logprob is None else float(logprob)
        if math.isnan(value) or value > 0.01:
            raise ValueError(f"{shown(logprob, True)} is no log-probability")
        if id < question.vocabulary:
            found[id] = max(value, LEAST_LOGPROB)
    if not found:
        raise ValueError(f"no token of the {question.vocabulary:,} that the tokenizer has")
    best = sorted(found, key=lambda id: (-found[id], id != chosen, id))[: question.top]
    return Likely(best, [found[id] for id in best])
