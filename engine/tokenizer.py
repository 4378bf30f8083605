"""The pair's tokenizer: prompts become ids, ids become text one by one, and two tokenizers are compared.

A prompt is data: what a person types never becomes a control token, whatever it spells.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jinja2 import TemplateError
from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream

from engine.errors import InvalidRequest, PromptTooLong, WeightsError, check_whole
from engine.request import Request

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PADDING = re.compile(r"\[PAD\d+\]")  # fills a GGUF vocabulary up to the padded embedding; no token of the language
_LIKELY_CHARACTERS = 8  # a token has fewer on average in every language
_MARGIN = 1.25  # the text behind a piece may change how its end is split, but never a quarter of its tokens
_MARK = "\ue000{}\ue001"  # private-use characters: stand in for a message while the template is rendered
_PROBES = (
    *("1234567", " 3.14159", "x = 1e-9;", "don't we'll JOHN'S", "a\r\nb\n\n\tc", " \n  \n", " " * 17),
    *("São Straße naïve", "def f(x):\n    return x[0]\n", "\\frac{a}{b}", "東京 서울 กรุงเทพ"),
    *("👩\u200d👩\u200d👧 🇧🇷", "ﬁ ＡＢ１２ ４２", "e\u0301 \u0301e"),
)


def render(tokenizer: PreTrainedTokenizerBase, request: Request, context: int | None = None) -> list[int]:
    """Token ids of a request's prompt, by the chat template unless it is raw.

    Args:
        context: Tokens that there is room for. A text whose beginning overfills it is refused before the rest is
            encoded: a million characters take seconds.

    Raises:
        InvalidRequest: There is no chat template, or it has no place for these messages.
        PromptTooLong: The text is far longer than `context`.
    """
    if context is not None:
        _refuse_far_too_long(tokenizer, request, context)
    if request.raw:
        return _beginning(tokenizer) + _typed(tokenizer, request.prompt)
    if not tokenizer.chat_template:
        raise InvalidRequest("This pair's tokenizer has no chat template: ask for raw completion instead.")
    roles = [("system", request.system)] if request.system else []
    roles += [(turn.role, turn.text) for turn in request.turns]
    roles.append(("user", request.prompt))
    messages = [{"role": role, "content": _MARK.format(n)} for n, (role, _) in enumerate(roles)]
    try:
        rest = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
        ids: list[int] = []
        for n, (_, content) in enumerate(roles):
            before, rest = rest.split(_MARK.format(n), 1)
            ids += spelled(tokenizer, before) + _typed(tokenizer, content)
    except (TemplateError, ValueError) as error:
        if len(roles) == 1:
            raise
        order = ", ".join([role for role, _ in roles[:8]] + ["…"] * (len(roles) > 8))
        raise InvalidRequest(f"This pair's chat template has no place for such messages: {order}.") from error
    return ids + spelled(tokenizer, rest)


def spelled(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of a text whose control tokens stay what they are, such as a part of the template."""
    return tokenizer.encode(text, add_special_tokens=False)


def probe_strings(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Strings that tell tokenizers apart: special tokens, what versions split differently, and 180 of the vocabulary.

    They are in normal form C (Unicode, annex 15), because a server may first convert text to it (vLLM does for every
    Qwen2). That difference does not matter: in requests the server gets ids, and no text.
    """
    ids = range(0, len(tokenizer), max(1, len(tokenizer) // 180))
    known = (text for id in ids if (text := str(tokenizer.decode([id]))).isprintable() and "\ufffd" not in text)
    strings = [*map(str, tokenizer.all_special_tokens[:20]), *_PROBES, *filter(None, known)]
    return list(dict.fromkeys(unicodedata.normalize("NFC", text) for text in strings))


def _typed(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    """Ids of what a person typed: normalizer, pre-tokenizer and model as in `Tokenizer.encode`, and no added token.

    transformers' own `split_special_tokens` leaves whole what is not flagged special, such as Qwen's `<tool_call>`.
    """
    rust = backend(tokenizer)
    if rust.normalizer is not None:
        text = rust.normalizer.normalize_str(text)
    words = [text] if rust.pre_tokenizer is None else [word for word, _ in rust.pre_tokenizer.pre_tokenize_str(text)]
    return [token.id for word in words for token in rust.model.tokenize(word)]


def _beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokenizer's begin token, where it puts one before every text: Llama's does, Qwen's does not."""
    ids = tokenizer.encode("")
    return ids[:1] if ids[:1] == [tokenizer.bos_token_id] else []


def _refuse_far_too_long(tokenizer: PreTrainedTokenizerBase, request: Request, context: int) -> None:
    beginning = _LIKELY_CHARACTERS * context
    system, turns = "" if request.raw else request.system or "", "".join(turn.text for turn in request.turns)
    for name, text in (("prompt", request.prompt), ("system prompt", system), ("conversation before it", turns)):
        if len(text) > beginning:
            tokens = len(_typed(tokenizer, text[:beginning]))
            if tokens >= _MARGIN * context:
                raise PromptTooLong(
                    f"The {name} is too long: of its {len(text):,} characters the first {beginning:,} are {tokens:,} "
                    f"tokens, but the context holds {context:,} and the answer needs room. Shorten it."
                )


def check_ids(ids: Sequence[int], tokens: int) -> None:
    """Raises InvalidRequest for a prompt without ids, or with one that is none of the tokenizer's."""
    if not ids:
        raise InvalidRequest("The prompt has no token: give at least one id.")
    for id in ids:
        check_whole("token id", id, 0, tokens - 1, "a token of the pair's tokenizer")


def check_length(prompt_tokens: int, context: int, turns: bool = False) -> None:
    """Raises PromptTooLong for a prompt that leaves no room for a token; `turns`: it includes a conversation."""
    if prompt_tokens >= context:
        whole = ", with the conversation before it" if turns else ""
        raise PromptTooLong(
            f"The prompt is too long{whole}: it has {prompt_tokens:,} tokens, but the context holds {context:,} and "
            f"the answer needs room. Shorten it by at least {prompt_tokens - context + 1:,} tokens."
        )


def backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The Rust tokenizer inside, which decodes token by token; raises WeightsError if there is none."""
    rust = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(rust, Tokenizer):
        raise WeightsError(f"{type(tokenizer).__name__} is not a fast tokenizer: save it as a tokenizer.json first")
    return rust


def token_text(tokenizer: Tokenizer, id: int) -> str:
    """A token by itself, with the space that some decoders strip where a text begins (Llama 2's)."""
    text, token = tokenizer.decode([id], skip_special_tokens=False), tokenizer.id_to_token(id) or ""
    spaces = len(token) - len(token.lstrip("▁"))
    return " " * spaces + text.lstrip(" ") if spaces else text


def id_of(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """A token's id; a WeightsError if it has none."""
    found = backend(tokenizer).token_to_id(token)
    if found is None:
        raise WeightsError(
            f"{token!r} is no token of this tokenizer, though it is to end a text: it is not the model's"
        )
    return found


def end_ids(tokenizer: PreTrainedTokenizerBase, *models: Any) -> frozenset[int]:
    """Ids that end a text: the tokenizer's, and those the models' configurations name."""
    named = [tokenizer.eos_token_id]
    for model in models:
        value = model.config.eos_token_id
        named += value if isinstance(value, list) else [value]
    # Chat models end a message with one token and a document with another; GGUF files name only one of them.
    named += [backend(tokenizer).token_to_id(text) for text in ("<|im_end|>", "<|endoftext|>")]
    return frozenset(i for i in named if isinstance(i, int))


class TextStream:
    """The text of one row, token by token, without special tokens.

    A character whose bytes span several tokens arrives with the token that completes it. Text that may begin a stop
    string is held back until it cannot be one any more. `stopped`: one was reached, and the text ends before it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), tokens: Sequence[int] = ()) -> None:
        """Starts with the text of some tokens; see `backend` for the tokenizer. No stop string may be empty."""
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held = ""
        self.stopped = False
        for token in tokens:
            self.push(token)

    def push(self, token: int) -> str:
        """Adds a token and returns the text that became certain with it, possibly empty."""
        self._held += self._step(token) or ""
        cut = min((at for at in (self._held.find(stop) for stop in self._stop) if at >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            certain, self._held = self._held[:cut], ""
            return certain
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def _step(self, token: int) -> str | None:
        try:
            return self._stream.step(self._tokenizer, token)
        except Exception:  # "Invalid prefix": a tokenizer with a token per byte left a character unfinished
            self._stream = DecodeStream(skip_special_tokens=True)
            return self._stream.step(self._tokenizer, token)

    def finish(self) -> str:
        """Returns what was held back for a stop string that did not come; an unfinished character is dropped."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """The sha256 (hex) of every token's id, the merges in order, and the end token; routers are bound to it.

    It is the same for a tokenizer from the Hub and from a GGUF file, and does not change with a library's version.
    """
    digest = hashlib.sha256()
    tokens = ((index, token) for token, index in tokenizer.get_vocab().items() if not PADDING.fullmatch(token))
    for index, token in sorted(tokens):
        digest.update(f"{index}\0{token}\n".encode("utf-8", "surrogatepass"))
    for merge in json.loads(backend(tokenizer).to_str())["model"].get("merges") or []:  # byte-pair tokenizers have some
        left, right = merge.split(" ", 1) if isinstance(merge, str) else merge  # older ones write "a b"
        digest.update(f"{left}\0{right}\n".encode("utf-8", "surrogatepass"))
    digest.update(f"end\0{tokenizer.eos_token}\n".encode())
    return digest.hexdigest()
