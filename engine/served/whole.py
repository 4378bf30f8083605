"""Whole answers, and probabilities along whole texts, in one request each: what the trainer asks of an LLM on vLLM.

Requests go side by side, as many as the connection has places for, and vLLM batches them itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any, NamedTuple, TypeVar

from engine.errors import ServerError
from engine.served.dialect import WrongAnswer
from engine.served.model import ServedModel
from engine.served.vllm import VLLM

Found = TypeVar("Found")


class Scored(NamedTuple):
    """A token of a text: its log-probability after all before it, and the token that was likeliest there."""

    logprob: float
    likeliest: int


def is_asked_whole(model: Any) -> bool:
    """Whether a model is on a server that takes such requests."""
    return isinstance(model, ServedModel) and model.dialect is VLLM


def complete(model: Any, prompts: Sequence[Sequence[int]], most: int, end_ids: Collection[int]) -> list[list[int]]:
    """The LLM's greedy continuations of prompts, as token ids, with the end token where it ended one.

    Args:
        model: See `is_asked_whole`.
        prompts: Token ids.
        most: New tokens.
        end_ids: Tokens that end an answer.

    Raises:
        ServerError: The server is gone, or gives a wrong answer.
    """
    asked = {"max_tokens": most, "stop_token_ids": sorted(end_ids), "return_token_ids": True}
    read = partial(_answer, model.vocabulary, most, end_ids)
    return _ask_all(model, [({**asked, "prompt": list(prompt)}, read) for prompt in prompts])


def score(model: Any, texts: Sequence[tuple[Sequence[int], Sequence[int]]]) -> list[list[Scored]]:
    """What the LLM says of each token of texts. Each is a prompt and what follows it, of which the tokens are scored.

    Raises:
        ServerError: The server tells no such probabilities, is gone, or gives a wrong answer.
    """
    if not is_asked_whole(model):
        raise ServerError(f"{model.name} is on a server that tells no probabilities along a text: take vLLM")
    asked = {"max_tokens": 1, "prompt_logprobs": 1}
    return _ask_all(
        model,
        [({**asked, "prompt": [*prompt, *text]}, partial(_scored, len(prompt), text)) for prompt, text in texts],
    )


def _answer(vocabulary: int, most: int, end_ids: Collection[int], reply: Any) -> list[int]:
    tokens = reply["choices"][0]["token_ids"]
    if not tokens or not all(isinstance(id, int) and 0 <= id < vocabulary for id in tokens):
        raise ValueError("no token ids")
    if len(tokens) > most or (len(tokens) < most and tokens[-1] not in end_ids):
        raise ValueError(f"{len(tokens)} tokens of {most}, and no end")
    return tokens


def _scored(start: int, text: Sequence[int], reply: Any) -> list[Scored]:
    found = []
    for place, token in zip(reply["choices"][0]["prompt_logprobs"][start:], text, strict=True):
        logprob = float(place[str(token)]["logprob"])
        if not -math.inf < logprob <= 0.01:
            raise ValueError(f"{logprob} is no log-probability")
        found.append(Scored(logprob, int(min(place, key=lambda id: (place[id]["rank"], int(id))))))
    return found


def _ask_all(model: ServedModel, questions: Sequence[tuple[dict[str, Any], Callable[[Any], Found]]]) -> list[Found]:
    # A server takes what it does not find in a request from the model's own generation settings.
    greedy = {"model": model.model, "temperature": 0, "repetition_penalty": 1.0}
    futures: list[Future[Found]] = [
        model.connection.ask(VLLM.path, {**greedy, **body}, partial(_checked, read)) for body, read in questions
    ]
    try:
        return [future.result() for future in futures]
    except BaseException:
        for future in futures:
            future.cancel()
        raise


def _checked(read: Callable[[Any], Found], reply: Any) -> Found:
    try:
        return read(reply)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise WrongAnswer(f"{type(error).__name__}: {error}") from error
