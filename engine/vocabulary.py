"""Whether two tokenizers are the same one, and a name for a tokenizer that a router can be bound to.

Knows token ids, merges and the end token. Knows nothing of models; `[PAD151665]` and the like, which fill a GGUF
vocabulary up to the padded embedding, are not tokens of the language and do not count.
"""

from __future__ import annotations

import hashlib
import json
import re

from transformers import PreTrainedTokenizerBase

from engine.errors import WeightsError

PADDING = re.compile(r"\[PAD\d+\]")


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return the sha256 (hex) of everything that decides which ids a text becomes and where it ends.

    That is the id of every token, special ones included, the merges in order, and the end token. It is the same for
    a tokenizer from the Hub and from a GGUF file, and does not change with a library's version.
    """
    digest = hashlib.sha256()
    for index, token in sorted(_tokens(tokenizer).items()):
        digest.update(f"{index}\0{token}\n".encode("utf-8", "surrogatepass"))
    for left, right in _merges(tokenizer):
        digest.update(f"{left}\0{right}\n".encode("utf-8", "surrogatepass"))
    digest.update(f"end\0{tokenizer.eos_token}\n".encode())
    return digest.hexdigest()


def check_same_tokenizer(
    slm_name: str, slm_tokenizer: PreTrainedTokenizerBase, llm_name: str, llm_tokenizer: PreTrainedTokenizerBase
) -> None:
    """Refuse a pair that does not share its tokens: one model's ids would be other words to the other.

    Raises:
        WeightsError: with both names and the first difference.
    """
    reason = _difference(slm_tokenizer, llm_tokenizer)
    if reason:
        raise WeightsError(
            f"{slm_name} and {llm_name} cannot be a pair, their tokenizers differ: {reason}. "
            "Choose two models of one family."
        )


def _difference(first: PreTrainedTokenizerBase, second: PreTrainedTokenizerBase) -> str:
    """Return the first difference in words, empty if there is none."""
    one, two = _tokens(first), _tokens(second)
    for index in sorted(one.keys() | two.keys()):
        if one.get(index) != two.get(index):
            return f"token {index} is {_quoted(one.get(index))} in the one and {_quoted(two.get(index))} in the other"
    for number, (left, right) in enumerate(zip(_merges(first), _merges(second), strict=False)):
        if left != right:
            return f"merge {number} is {left} in the one and {right} in the other"
    if len(_merges(first)) != len(_merges(second)):
        return f"{len(_merges(first))} merges in the one and {len(_merges(second))} in the other"
    if first.eos_token != second.eos_token:
        return f"the end token is {_quoted(first.eos_token)} in the one and {_quoted(second.eos_token)} in the other"
    return ""


def _quoted(token: object) -> str:
    return "absent" if token is None else repr(token)


def _tokens(tokenizer: PreTrainedTokenizerBase) -> dict[int, str]:
    return {index: token for token, index in tokenizer.get_vocab().items() if not PADDING.fullmatch(token)}


def _merges(tokenizer: PreTrainedTokenizerBase) -> list[tuple[str, str]]:
    """Merges of a byte-pair tokenizer in order; empty for other kinds."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return []
    merges = json.loads(backend.to_str())["model"].get("merges") or []
    # Older tokenizers write "a b", newer ones ["a", "b"].
    pairs = [merge.split(" ", 1) if isinstance(merge, str) else merge for merge in merges]
    return [(pair[0], pair[1]) for pair in pairs]
