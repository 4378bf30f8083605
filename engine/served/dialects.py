"""The kinds of servers: what each can do, how it is asked, and how its answer is read.

A question is a whole text as token ids. The answer has, after each of the text's last tokens, the likeliest next tokens
with their log-probabilities. A server caches the beginnings of texts, so that it reads only what is new.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from engine.errors import ServerError, shown

LEAST_LOGPROB = -1e4
"""For a token that the server does not name: a probability of 0, also in double precision, without infinities."""

TOKENIZE = "/tokenize"
_BY_ID = "token_id:"


@dataclass(frozen=True)
class Inquiry:
    """A question: which `top` tokens are likeliest after each of the last `looks` tokens of a text?

    The text is at least one id. Ids from `vocabulary` on are padding, and left out.
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


class WrongAnswer(ServerError):
    """A reply of another shape than the server documents; the next may be right."""


def _tokens(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "prompt": text, "add_special_tokens": False}


@dataclass(frozen=True)
class Dialect:
    """One server's API.

    Attributes:
        most: Likeliest tokens that it tells by default, at most.
        path, body, read: The path of a question, its JSON, and a reader of the reply, one `Likely` per look. `read` may
            raise anything, since the reply is not to be trusted.
        judges: Whether one answer can have several looks, so that drafts are verified (the server then reads the whole
            text again), and whole texts are written and scored (`ServedModel.complete` and `score`).
        tokens_body: The JSON of a question at `TOKENIZE` for a text's ids, which the reply has as `tokens`.
    """

    name: str
    most: int
    path: str
    body: Callable[[Inquiry], dict[str, Any]]
    read: Callable[[Inquiry, Any], list[Likely]]
    judges: bool = False
    tokens_body: Callable[[str, str], dict[str, Any]] = _tokens

    def answer(self, question: Inquiry, reply: Any) -> list[Likely]:
        """Reads a reply, one `Likely` per look; raises WrongAnswer if it has another shape."""
        found = shaped(lambda: self.read(question, reply))
        if len(found) != question.looks:
            raise WrongAnswer(f"{question.looks} positions were asked for, and {len(found)} are answered")
        return found


def shaped(read: Callable[[], Any]) -> Any:
    """Calls `read`, and raises WrongAnswer where it stumbles over a reply of another shape."""
    try:
        return read()
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise WrongAnswer(f"{type(error).__name__}: {shown(str(error))}") from error


def likely(question: Inquiry, pairs: Iterable[tuple[Any, Any]], chosen: Any = None) -> Likely:
    """The likeliest of pairs of token id and log-probability, best first; among equals `chosen` comes first.

    Raises ValueError for another id or log-probability than there can be, and where nothing is left.
    """
    found: dict[int, float] = {}
    for id, logprob in pairs:
        value = checked_logprob(logprob)
        if checked_id(id) < question.vocabulary:
            found[id] = value
    if not found:
        raise ValueError(f"no token of the {question.vocabulary:,} that the tokenizer has")
    best = sorted(found, key=lambda id: (-found[id], id != chosen, id))[: question.top]
    return Likely(best, [found[id] for id in best])


def checked_id(id: Any) -> int:
    """A token id; raises ValueError for anything else."""
    if isinstance(id, bool) or not isinstance(id, int) or id < 0:
        raise ValueError(f"{shown(id, True)} is no token id")
    return id


def checked_logprob(logprob: Any) -> float:
    """A log-probability, at least `LEAST_LOGPROB`; raises ValueError for anything else."""
    value = LEAST_LOGPROB if logprob is None else float(logprob)
    if math.isnan(value) or value > 0.01:
        raise ValueError(f"{shown(logprob, True)} is no log-probability")
    return max(value, LEAST_LOGPROB)


# vLLM: `/v1/completions` with a prompt of token ids. `return_tokens_as_token_ids` makes the keys of `top_logprobs`
# "token_id:…" instead of texts, which several tokens may share. `prompt_logprobs` skips vLLM's prefix cache.


def _vllm_body(question: Inquiry) -> dict[str, Any]:
    body = {"model": question.model, "prompt": list(question.tokens), "max_tokens": 1, "temperature": 0}
    body |= {"logprobs": question.top, "return_token_ids": True, "return_tokens_as_token_ids": True}
    return body | ({"prompt_logprobs": question.top} if question.looks > 1 else {})


def ranked(question: Inquiry, place: dict[str, Any]) -> Likely:
    """The likeliest tokens at a place of vLLM's `prompt_logprobs`, which also has the text's own token."""
    return likely(question, ((int(id), each["logprob"]) for id, each in place.items() if each["rank"] <= question.top))


def _vllm_read(question: Inquiry, reply: Any) -> list[Likely]:
    choice = reply["choices"][0]
    of_prompt = (choice.get("prompt_logprobs") or [])[1 - question.looks :] if question.looks > 1 else []
    found = [ranked(question, place) for place in of_prompt]
    (place,) = choice["logprobs"]["top_logprobs"]
    last = ((int(key.removeprefix(_BY_ID)), logprob) for key, logprob in place.items() if key.startswith(_BY_ID))
    (chosen,) = choice["token_ids"]
    return [*found, likely(question, last, chosen)]


# llama.cpp's server: `/completion` with token ids and `n_probs`. It tells no probabilities of a prompt, so it cannot
# verify a draft. With `cache_prompt` a slot reads only what is new.


def _llama_body(question: Inquiry) -> dict[str, Any]:
    body = {"prompt": list(question.tokens), "n_predict": 1, "temperature": 0, "n_probs": question.top}
    return body | {"post_sampling_probs": False, "cache_prompt": True, "return_tokens": True}


def _llama_read(question: Inquiry, reply: Any) -> list[Likely]:
    place = reply["completion_probabilities"][0]
    return [likely(question, ((each["id"], each["logprob"]) for each in place["top_logprobs"]), place["id"])]


def _llama_tokens(model: str, text: str) -> dict[str, Any]:
    return {"content": text, "add_special": False, "parse_special": True}


DIALECTS = {
    "vllm": Dialect("vLLM", 20, "/v1/completions", _vllm_body, _vllm_read, judges=True),
    "llama.cpp": Dialect("llama.cpp", 50, "/completion", _llama_body, _llama_read, tokens_body=_llama_tokens),
}
