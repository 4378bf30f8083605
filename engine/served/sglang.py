"""SGLang's own API: `/generate` with `input_ids`. One call with a cached prefix judges a draft.

`input_top_logprobs` is about the tokens from `logprob_start_len` on, the first of which has none: the last of them are
taken, whether or not that first one is there.
"""

from __future__ import annotations

from typing import Any

from engine.served.dialect import Dialect, Inquiry, Likely, likely


def _body(question: Inquiry) -> dict[str, Any]:
    body: dict[str, Any] = {
        "input_ids": list(question.tokens),
        "sampling_params": {"max_new_tokens": 1, "temperature": 0, "ignore_eos": True},
        "return_logprob": True,
        "top_logprobs_num": question.top,
        "return_text_in_logprobs": False,
    }
    if question.looks > 1:
        body["logprob_start_len"] = len(question.tokens) - question.looks
    return body


def _read(question: Inquiry, reply: Any) -> list[Likely]:
    about = reply["meta_info"]
    of_prompt = about["input_top_logprobs"][1 - question.looks :] if question.looks > 1 else []
    (last,) = about["output_top_logprobs"]
    chosen = about["output_token_logprobs"][0][1]
    found = [likely(question, ((entry[1], entry[0]) for entry in place)) for place in of_prompt]
    return [*found, likely(question, ((entry[1], entry[0]) for entry in last), chosen)]


def _tokens_body(model: str, text: str) -> dict[str, Any]:
    return {"model": model, "prompt": text, "add_special_tokens": False}


def _tokens_read(reply: Any) -> list[int]:
    return reply["tokens"]


SGLANG = Dialect(
    name="SGLang",
    owner="sglang",
    path="/generate",
    body=_body,
    read=_read,
    judges=True,
    rereads=False,
    tokens_path="/tokenize",
    tokens_body=_tokens_body,
    tokens_read=_tokens_read,
    most=50,
)
