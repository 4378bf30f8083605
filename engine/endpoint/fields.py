"""What a program's request says, field by field: each has a limit, and what is not served is refused by its name."""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.endpoint.messages import read_messages, read_prompts
from engine.endpoint.model_names import named_setting, stated_dials, with_field
from engine.endpoint.refusals import Refusal, blamed
from engine.errors import check_text, check_whole, shown
from engine.request import MAX_STOP_CHARACTERS, MAX_STOPS, Request, Sampling
from engine.setting import Setting
from engine.settings import Settings

if TYPE_CHECKING:  # with them comes torch, for which a page that is starting does not wait
    from engine.pair import Pair

MAX_TEXTS = 32
"""That one request may ask for: prompts times `n`."""

MAX_CANDIDATES = 20
"""Of `top_logprobs`, and of `logprobs` for a completion."""

_LONGEST_NAME = 300
_SEEDS = 2**63
_SAMPLING = ("temperature", "top_p", "top_k", "repetition_penalty")

_WITHOUT_EFFECT = frozenset(
    ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
)
"""They change no text."""

_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "presence_penalty": (0,),
    "frequency_penalty": (0,),
    "logit_bias": ({},),
    "response_format": ({"type": "text"},),
    "modalities": (["text"],),
    "tools": ([],),
    "tool_choice": ("none", "auto"),
    "functions": ([],),
    "echo": (False,),
    "suffix": ("",),
}
"""What is not served, and the values that ask for nothing."""


@dataclass(frozen=True)
class Asked:
    """A request that is in order.

    Attributes:
        chat: Whether it is a conversation; else texts are continued.
        model: As the program names it.
        requests: One per prompt.
        ids: Per prompt its token ids, where it was given as such.
        n: Texts per prompt.
        candidates: Of each token, so many are told; None tells no probabilities at all.
        stream, usage: Whether the text is sent as it is written, and the numbers of tokens after it.
        token_ids: Whether tokens are told as ids, too.
        token_keys: Whether a completion's candidates are named by their ids, as "token_id:7", and not by texts, which
            several tokens may share.
    """

    chat: bool
    model: str
    setting: Setting
    requests: tuple[Request, ...]
    ids: tuple[tuple[int, ...] | None, ...]
    n: int
    candidates: int | None
    stream: bool
    usage: bool
    token_ids: bool
    token_keys: bool = False

    def texts(self) -> Iterator[tuple[Request, tuple[int, ...] | None]]:
        """What is to be written per choice of the reply, in order; the seed of a prompt's texts grows by one."""
        for request, ids in zip(self.requests, self.ids, strict=True):
            for number in range(self.n):
                yield replace(request, seed=(request.seed + number) % _SEEDS), ids


class _Body:
    """The fields of a body; each is taken once, and null counts as absent."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._left = {name: value for name, value in body.items() if value is not None}

    def take(self, name: str) -> Any:
        return self._left.pop(name, None)

    def whole(self, name: str, low: int, high: int, hint: str) -> int | None:
        value = self.take(name)
        if value is not None:
            with blamed(name):
                check_whole(name, value, low, high, hint)
        return value

    def flag(self, name: str) -> bool:
        value = self.take(name)
        if value is not None and not isinstance(value, bool):
            raise Refusal(400, f"{name} = {shown(value, True)} must be true or false.", name)
        return bool(value)

    def refuse_rest(self) -> None:
        """Raises Refusal for the first field that nobody took."""
        for name, value in self._left.items():
            neutral = _NEUTRAL.get(name)
            if name in _WITHOUT_EFFECT or (neutral is not None and value in neutral):
                continue
            here = f"{name} = {shown(value, True)} is not served here" if neutral else f"{shown(name)} is no field here"
            raise Refusal(400, f"{here}: leave it out.", shown(name))


def read_fields(body: Mapping[str, Any], chat: bool, pair: Pair, settings: Settings) -> Asked:
    """A request for a chat or for completions; raises Refusal, before any prompt is encoded."""
    fields = _Body(body)
    model = fields.take("model")
    with blamed("model"):
        check_text("model", model, _LONGEST_NAME)
    own = fields.take("citer")
    named = named_setting(model, pair, settings)
    setting = with_field(named, own, pair, settings, stated_dials(model, pair))
    with blamed("citer" if own and own.get("acceptance") is not None else "model"):
        pair.check_acceptance(setting.acceptance)
    n = fields.whole("n", 1, MAX_TEXTS, "texts per prompt") or 1
    if (best_of := fields.whole("best_of", 1, MAX_TEXTS, "the same as n") or n) != n:
        raise Refusal(400, f"best_of = {best_of} must be n = {n}: no text is written to be thrown away.", "best_of")
    candidates = _candidates(fields, chat)
    alternatives = 0 if candidates is None else max(1, candidates)  # with them comes the token's own probability
    options = {**_options(fields, settings), "setting": setting, "alternatives": alternatives}
    with blamed("repetition_penalty"):
        pair.check_sampling(options["sampling"])
    stream = fields.flag("stream")
    usage, token_ids = _usage(fields, stream), fields.flag("return_token_ids")
    token_keys = not chat and fields.flag("return_tokens_as_token_ids")
    said = fields.take("messages" if chat else "prompt")
    prompts = [(read_messages(said), None)] if chat else read_prompts(said)
    fields.refuse_rest()
    if len(prompts) * n > MAX_TEXTS:
        raise Refusal(400, f"{len(prompts)} prompts with n = {n}: at most {MAX_TEXTS} texts are taken at once.", "n")
    with blamed("messages" if chat else "prompt"):
        requests = tuple(Request(**prompt, **options) for prompt, _ in prompts)
    ids = tuple(ids for _, ids in prompts)
    return Asked(chat, model, setting, requests, ids, n, candidates, stream, usage, token_ids, token_keys)


def _options(fields: _Body, settings: Settings) -> dict[str, Any]:
    """Of every text: how its tokens are drawn, and where it ends."""
    sampling: dict[str, Any] = {}
    for name in _SAMPLING:
        if (value := fields.take(name)) is not None:
            with blamed(name):
                Sampling(**{name: value})
            sampling[name] = value
    names = "max_completion_tokens", "max_tokens"
    limits = [fields.whole(name, 1, 1_000_000, "how many tokens may be written") for name in names]
    seed = fields.whole("seed", -_SEEDS, _SEEDS - 1, "what sampling depends on")
    if seed is None:  # who samples without a seed expects another text each time
        seed = secrets.randbelow(_SEEDS) if sampling.get("temperature") else settings.seed
    return {
        "sampling": Sampling(**sampling),
        "max_new_tokens": limits[0] or limits[1] or settings.max_new_tokens,
        "seed": seed % _SEEDS,
        "stop": _stop(fields.take("stop")),
    }


def _stop(value: Any) -> tuple[str, ...]:
    stop = [value] if isinstance(value, str) else [] if value is None else value
    if not isinstance(stop, list) or len(stop) > MAX_STOPS or "" in stop:
        what = "a text, or a list of texts that are not empty"
        raise Refusal(400, f"stop = {shown(value, True)} must be {what}, of at most {MAX_STOPS}.", "stop")
    with blamed("stop"):
        for text in stop:
            check_text("stop", text, MAX_STOP_CHARACTERS)
    return tuple(stop)


def _candidates(fields: _Body, chat: bool) -> int | None:
    """How many candidates are told of each token; None where no probabilities are asked for."""
    if not chat:
        return fields.whole("logprobs", 0, MAX_CANDIDATES, "candidates per token")
    wanted, most = fields.flag("logprobs"), fields.whole("top_logprobs", 0, MAX_CANDIDATES, "candidates per token")
    if most and not wanted:
        raise Refusal(400, "top_logprobs needs logprobs = true.", "top_logprobs")
    return (most or 0) if wanted else None


def _usage(fields: _Body, stream: bool) -> bool:
    """Whether the numbers of tokens are to follow a stream."""
    said = fields.take("stream_options")
    if said is None:
        return False
    known = ("include_usage", "include_obfuscation")
    if not isinstance(said, dict) or set(said) - set(known) or not all(isinstance(v, bool) for v in said.values()):
        raise Refusal(
            400, f"stream_options = {shown(said, True)} must be an object with include_usage.", "stream_options"
        )
    if not stream:
        raise Refusal(400, "stream_options is for stream = true.", "stream_options")
    return bool(said.get("include_usage"))
