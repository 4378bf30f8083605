"""How vLLM is asked about a text of token ids, and how its answers are read.

An answer has the likeliest next tokens after each of the text's last tokens, with their log-probabilities. vLLM caches
the beginnings of texts, so it reads only what is new; but a question with `prompt_logprobs` skips that cache. Readers
get what a reply has in `choices[0]`. They raise one of `connection.MALFORMED` for a reply that is not as expected.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from engine.errors import shown

COMPLETIONS, MODELS, TOKENIZE = "/v1/completions", "/v1/models", "/tokenize"

TOP = 20
"""Likeliest tokens that vLLM tells at a position: its own default limit, `--max-logprobs`."""

LEAST_LOGPROB = -1e4
"""For a token that the server does not name: a probability of 0, also in double precision, without infinities."""

_BY_ID = "token_id:"


def look_fields(looks: int) -> dict[str, Any]:
    """The fields of a question about the positions after the last `looks` tokens of a text, which `states` reads.

    By `return_tokens_as_token_ids` the keys of `top_logprobs` are ids instead of texts, which several tokens may share.
    """
    fields = {"max_tokens": 1, "logprobs": TOP, "return_token_ids": True, "return_tokens_as_token_ids": True}
    return fields | ({"prompt_logprobs": TOP} if looks > 1 else {})


def states(choice: Any, looks: int, vocabulary: int) -> list[list[float]]:
    """For each position the ids of the `TOP` likeliest tokens and then their log-probabilities, the best one first.

    Ids from `vocabulary` on are padding, and left out.
    """
    of_prompt = choice["prompt_logprobs"][1 - looks :] if looks > 1 else []
    (last,) = choice["logprobs"]["top_logprobs"]
    (chosen,) = choice["token_ids"]
    found = [_state(_of_place(place), vocabulary) for place in of_prompt]
    named = ((int(key.removeprefix(_BY_ID)), logprob) for key, logprob in last.items() if key.startswith(_BY_ID))
    found.append(_state(named, vocabulary, chosen))
    if len(found) != looks:
        raise ValueError(f"{looks} positions were asked for, and {len(found)} are answered")
    return found


def scores(choice: Any, tokens: Sequence[int], start: int, vocabulary: int) -> list[tuple[float, int]]:
    """For each token of a text from `start` on its log-probability, and the likeliest token's id there."""
    places = zip(tokens[start:], choice["prompt_logprobs"][start:], strict=True)
    return [
        (_checked_logprob(place[str(token)]["logprob"]), int(_state(_of_place(place), vocabulary)[0]))
        for token, place in places
    ]


def ids(found: Any) -> list[int]:
    """A list of token ids; raises ValueError for anything else."""
    return [_checked_id(id) for id in found]


def _of_place(place: dict[str, Any]) -> Iterable[tuple[int, Any]]:
    """The tokens at a position of the prompt, which also has the text's own token, however unlikely."""
    return ((int(id), each["logprob"]) for id, each in place.items() if each["rank"] <= TOP)


def _state(pairs: Iterable[tuple[int, Any]], vocabulary: int, chosen: Any = None) -> list[float]:
    """Pairs of token id and log-probability as `states` has them.

    The server's own choice is made a hair likelier than its equals. A short list is filled with its last token, which
    changes nothing.
    """
    found = {_checked_id(id): _checked_logprob(logprob) for id, logprob in pairs}
    known = [id for id in found if id < vocabulary]
    best = sorted(known, key=lambda id: (-found[id], id != chosen, id))[:TOP]
    if not best:
        raise ValueError(f"no token of the {vocabulary:,} that the tokenizer has")
    logprobs = [found[id] for id in best]
    if logprobs[1:2] == logprobs[:1]:
        logprobs[0] += 1e-6
    lack = TOP - len(best)
    return [*best, *best[-1:] * lack, *logprobs, *logprobs[-1:] * lack]


def _checked_id(id: Any) -> int:
    if isinstance(id, bool) or not isinstance(id, int) or id < 0:
        raise ValueError(f"{shown(id, True)} is no token id")
    return id


def _checked_logprob(logprob: Any) -> float:
    value = LEAST_LOGPROB if logprob is None else float(logprob)
    if math.isnan(value) or value > 0.01:
        raise ValueError(f"{shown(logprob, True)} is no log-probability")
    return max(value, LEAST_LOGPROB)
