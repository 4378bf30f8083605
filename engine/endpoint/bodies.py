"""The bodies of requests: their fields with types and limits, and the engine's requests that a body stands for.

The name of a model is the pair's, and behind a colon a setting: `cpu`, `cpu:llm`, `cpu:0.4@0.1`. The engine itself
checks what it limits for every caller: sampling, stop strings, dials, lengths.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, NamedTuple

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from engine.errors import InvalidRequest, PromptTooLong, fault_place, fault_words, shown
from engine.guard.refusals import Refusal
from engine.request import MAX_TURNS, Request, Sampling, Turn
from engine.setting import Setting, stated
from engine.settings import Settings

if TYPE_CHECKING:  # it imports torch, for which the page does not wait when it starts
    from engine.pair import Pair

MAX_TEXTS = 32
"""Texts that one request may ask for: prompts times `n`."""

MAX_CANDIDATES = 20
"""The most candidates per token in `top_logprobs`."""

_SEEDS = 2**63
_WITHOUT_EFFECT = frozenset(
    ("user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "parallel_tool_calls")
)


def _list(value: Any) -> Any:
    """A text as a list of one."""
    return [value] if isinstance(value, str) else value


def _part_list(value: Any) -> Any:
    if value is not None and not isinstance(value, str | list):
        raise ValueError("must be a text, or a list of parts of type text")
    return [{"type": "text", "text": value}] if isinstance(value, str) else value or []


_Length = Annotated[int, Field(ge=1, le=1_000_000)]
_Zero = Annotated[float, Field(ge=0, le=0)]
_Empty = Annotated[list[Any], Field(max_length=0)]


class _Part(BaseModel):
    type: Literal["text"]
    text: str


class _Message(BaseModel):
    """A message of a conversation. Other fields that clients send along with one are ignored."""

    model_config = ConfigDict(strict=True)

    role: Literal["system", "developer", "user", "assistant"]
    content: Annotated[list[_Part], BeforeValidator(_part_list), Field(max_length=1_000)] = []

    def turn(self) -> Turn:
        text = "".join(part.text for part in self.content)
        return Turn("system" if self.role == "developer" else self.role, text)


class _Unserved(BaseModel):
    """Fields that are not served, with the values that ask for nothing."""

    model_config = ConfigDict(strict=True, extra="forbid")

    presence_penalty: _Zero = 0
    frequency_penalty: _Zero = 0
    logit_bias: dict[Any, Any] = Field({}, max_length=0)
    response_format: dict[Literal["type"], Literal["text"]] = {}
    modalities: list[Literal["text"]] = []
    tools: _Empty = []
    tool_choice: Literal["none", "auto"] = "none"
    functions: _Empty = []
    best_of: Literal[1] = 1
    echo: Literal[False] = False
    suffix: Literal[""] = ""


class _Body(_Unserved):
    """The fields that chats and completions share. A field that is null counts as absent."""

    model: str = Field(max_length=300)
    n: int = Field(1, ge=1, le=MAX_TEXTS)
    max_completion_tokens: _Length | None = None
    max_tokens: _Length | None = None
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int | None = Field(None, ge=-_SEEDS, lt=_SEEDS)
    stop: Annotated[list[str], BeforeValidator(_list)] = []
    stream: bool = False
    stream_options: dict[Literal["include_usage", "include_obfuscation"], bool] | None = None

    @model_validator(mode="before")
    @classmethod
    def _present(cls, said: Any) -> Any:
        if not isinstance(said, dict):
            raise ValueError("The body must be a JSON object of names and values")
        return {name: value for name, value in said.items() if value is not None and name not in _WITHOUT_EFFECT}


class ChatBody(_Body):
    chat: ClassVar = True

    messages: list[_Message] = Field(min_length=1, max_length=MAX_TURNS)
    logprobs: bool = False
    top_logprobs: int = Field(0, ge=0, le=MAX_CANDIDATES)

    def prompts(self) -> list[dict[str, Any]]:
        """Some fields of a `Request` for each prompt."""
        *turns, last = [message.turn() for message in self.messages]
        if last.role != "user":
            raise InvalidRequest("messages must end with one whose role is user: that is what is answered.")
        system = turns.pop(0).text if turns and turns[0].role == "system" and turns[0].text else None
        return [{"prompt": last.text, "system": system, "turns": tuple(turns)}]


class CompletionBody(_Body):
    chat: ClassVar = False

    prompt: Annotated[list[str], BeforeValidator(_list), Field(min_length=1, max_length=MAX_TEXTS)]

    def prompts(self) -> list[dict[str, Any]]:
        """Some fields of a `Request` for each prompt."""
        return [{"prompt": text, "raw": True} for text in self.prompt]


class Checked(NamedTuple):
    """A body that passed all checks, and the engine's request for each choice of the reply."""

    body: ChatBody | CompletionBody
    requests: tuple[Request, ...]


@contextmanager
def blamed(body: ChatBody | CompletionBody) -> Iterator[None]:
    """Turns an InvalidRequest of the block into a Refusal that blames the field it begins with, else the prompt."""
    try:
        yield
    except InvalidRequest as error:
        first = str(error).partition(" ")[0]
        param = first if first in type(body).model_fields else "messages" if body.chat else "prompt"
        code = "context_length_exceeded" if isinstance(error, PromptTooLong) else None  # clients look for this code
        raise Refusal(400, str(error), param, code) from None


def read_body(raw: bytes, chat: bool, pair: Pair, settings: Settings) -> Checked:
    """Reads and checks a body for a chat or for completions. Raises Refusal before any prompt is encoded.

    The choices of a prompt have consecutive seeds.
    """
    try:
        said = json.loads(raw)
    except (ValueError, RecursionError):
        raise Refusal(400, "The body is no JSON.") from None
    try:
        body = (ChatBody if chat else CompletionBody).model_validate(said)
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        param = re.sub(r"\.(\d+)", r"[\1]", shown(fault_place(fault)))
        if (name := str(next(iter(fault["loc"]), ""))) in _Unserved.model_fields:
            raise Refusal(400, f"{name} is not served here: leave it out.", name) from None
        raise Refusal(400, fault_words(fault, param), param or None) from None
    if isinstance(body, ChatBody) and body.top_logprobs and not body.logprobs:
        raise Refusal(400, f"top_logprobs = {body.top_logprobs} needs logprobs = true.", "top_logprobs")
    with blamed(body):
        sampling = Sampling(body.temperature, body.top_p, body.top_k, body.repetition_penalty)
        pair.check_sampling(sampling)
        options: dict[str, Any] = {
            "setting": named_setting(body.model, pair, settings),
            "sampling": sampling,
            "max_new_tokens": body.max_completion_tokens or body.max_tokens or settings.max_new_tokens,
            "stop": tuple(body.stop),
            # The engine records the token's own probability with the candidates.
            "alternatives": max(1, body.top_logprobs) if isinstance(body, ChatBody) and body.logprobs else 0,
        }
        requests = [Request(**prompt, **options) for prompt in body.prompts()]
    if len(requests) * body.n > MAX_TEXTS:
        said = f"{len(requests)} prompts with n = {body.n}: at most {MAX_TEXTS} texts are taken at once."
        raise Refusal(400, said, "n")
    seed = body.seed
    if seed is None:  # sampling without a seed gives another text each time
        seed = secrets.randbelow(_SEEDS) if sampling.temperature else 0
    seeds = [(seed + number) % _SEEDS for number in range(body.n)]
    return Checked(body, tuple(replace(request, seed=each) for request in requests for each in seeds))


def named_setting(name: str, pair: Pair, settings: Settings) -> Setting:
    """The setting that a model's name stands for. Raises a Refusal with status 404 that says which names there are.

    A name without a policy takes missing parts from the settings. Parts that are still missing are the router's own if
    the router decides, else the defaults.
    """
    preset, colon, said = name.partition(":")
    why = f"the pair is {pair.preset}"
    if preset == pair.preset:
        try:
            setting = pair.setting(stated(said) if colon else {}, settings.stated)
            if setting.policy in pair.policies:
                return setting
            why = f"its policies are {', '.join(pair.policies)}"
        except InvalidRequest as error:
            why = str(error)
    ways = ", ".join(f"{pair.preset}{each}" for each in ("", ":slm", ":llm", ":0.5@0.1", ":confidence < 0.5 @ 0.1/8"))
    said = f"There is no model {shown(name, True)} here: {why}. Ask for {ways}."
    raise Refusal(404, said, "model", "model_not_found")
