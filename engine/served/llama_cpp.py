"""llama.cpp's server: `/completion` with a prompt of token ids and `n_probs`.

It tells no probabilities of a prompt, so it cannot judge a draft. `cache_prompt` keeps what a slot has read.
"""

from __future__ import annotations

from typing import Any

from engine.served.dialect import Dialect, Inquiry, Likely, likely


def _body(question: Inquiry) -> dict[str, Any]:
    return {
        "prompt": list(question.tokens),
        "n_predict": 1,
        "temperature": 0,
        "n_probs": question.top,
        "post_sampling_probs": False,
        "cache_prompt": True,
        "return_tokens": True,
    }


def _read(question: Inquiry, reply: Any) -> list[Likely]:
    place = reply["completion_probabilities"][0]
    return [likely(question, ((each["id"], each["logprob"]) for each in place["top_logprobs"]), place["id"])]


def _tokens_body(model: str, text: str) -> dict[str, Any]:
    return {"content": text, "add_special": False, "parse_special": True}


def _tokens_read(reply: Any) -> list[int]:
    return reply["tokens"]


LLAMA_CPP = Dialect(
    name="llama.cpp",
    owner="llamacpp",
    path="/completion",
    body=_body,
    read=_read,
    judges=False,
    rereads=False,
    tokens_path="/tokenize",
    tokens_body=_tokens_body,
    tokens_read=_tokens_read,
    most=50,
)
