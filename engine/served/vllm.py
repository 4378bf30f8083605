"""vLLM's API, which this project's own endpoint speaks as well: `/v1/completions` with a prompt of token ids.

`return_tokens_as_token_ids` makes the keys of `top_logprobs` "token_id:…" instead of texts, of which several tokens may
have the same. vLLM tells `prompt_logprobs` of a whole prompt only, and skips its prefix cache for that.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from engine.served.dialect import Dialect, Inquiry, Likely, likely

_PREFIX = "token_id:"


def _body(question: Inquiry) -> dict[str, Any]:
    body: dict[str, Any] = {
        "model": question.model,
        "prompt": list(question.tokens),
        "max_tokens": 1,
        "temperature": 0,
        "logprobs": question.top,
        "return_token_ids": True,
        "return_tokens_as_token_ids": True,
    }
    if question.looks > 1:
        body["prompt_logprobs"] = question.top
    return body


def _read(question: Inquiry, reply: Any) -> list[Likely]:
    choice = reply["choices"][0]
    of_prompt = (choice.get("prompt_logprobs") or [])[1 - question.looks :] if question.looks > 1 else []
    found = [
        likely(question, ((int(id), each["logprob"]) for id, each in place.items() if each["rank"] <= question.top))
        for place in of_prompt
    ]
    (place,) = choice["logprobs"]["top_logprobs"]
    last = ((int(key.removeprefix(_PREFIX)), logprob) for key, logprob in place.items() if key.startswith(_PREFIX))
    (chosen,) = choice["token_ids"]
    return [*found, likely(question, last, chosen)]


def _tokens_body(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "prompt": text, "add_special_tokens": False}


def _tokens_read(reply: Any) -> list[int]:
    return reply["tokens"]


VLLM = Dialect(
    name="vLLM",
    owner="vllm",
    path="/v1/completions",
    body=_body,
    read=_read,
    judges=True,
    rereads=True,
    tokens_path="/tokenize",
    tokens_body=_tokens_body,
    tokens_read=_tokens_read,
    most=20,
)
OWN = replace(
    VLLM,
    name="this project's endpoint",
    owner="citer",
    judges=False,
    rereads=False,
    tokens_path="/v1/tokenize",
)
"""It tells no probabilities of a prompt."""
