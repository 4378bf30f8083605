"""What can be asked of a pair, and the refusal of what cannot, before any model is touched.

Limits are generous but finite, so that a typo is refused with a message rather than obeyed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

from engine.errors import InvalidRequest, check_number, check_text, check_whole, shown
from engine.events import Role
from engine.events.parsing import Many
from engine.policy import POLICIES
from engine.setting import Setting, unknown_policy

MAX_PROMPT_CHARACTERS = 1_000_000
MAX_SYSTEM_CHARACTERS = 100_000
MAX_STOPS = 100
MAX_STOP_CHARACTERS = 1_000
MAX_FORCED = 100_000
MAX_TURNS = 1_000

TurnRole = Literal["system", "user", "assistant"]


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a token is drawn from the author's logits. The defaults are greedy.

    Attributes:
        temperature: 0 is greedy, up to 5.
        top_p: Keep the smallest set of tokens with at least this probability; in (0, 1].
        top_k: Keep this many tokens; 0 keeps all.
        repetition_penalty: Divides positive and multiplies negative logits of tokens already in the text; in [0.1, 10].
    """

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0

    def __post_init__(self) -> None:
        check_number("temperature", self.temperature, 0.0, 5.0, "0 is greedy")
        check_number("top_p", self.top_p, 0.0, 1.0, "1 keeps every token")
        if self.top_p == 0:
            raise InvalidRequest("top_p = 0 keeps no token: it must be above 0; the likeliest token is temperature 0")
        check_whole("top_k", self.top_k, 0, 1_000_000, "0 keeps every token")
        check_number("repetition_penalty", self.repetition_penalty, 0.1, 10.0, "1 is no penalty")


@dataclass(frozen=True, slots=True)
class Turn:
    """A message of the conversation so far.

    Attributes:
        role: The role in the chat template: "system", "user" or "assistant".
        authors: Which model wrote how many of its characters, in order; empty where that is not known. It is for those
            who read the conversation: the models are given the text alone.
    """

    role: TurnRole
    text: str
    authors: Many[tuple[Role, int]] = ()

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise InvalidRequest(f"role of a turn = {shown(self.role, True)}: choose system, user or assistant")
        check_text("The text of a turn", self.text, MAX_PROMPT_CHARACTERS)
        if self.authors:
            _check_authors(self.authors, len(self.text))


@dataclass(frozen=True, slots=True)
class Forced:
    """A token that a person gave to one of the models, whatever its score says.

    Attributes:
        index: Position in the generated text, from 0.
        role: Who is taken to have written it, and pays for it.
        id: The token; None leaves the choice to that model.
    """

    index: int
    role: Role
    id: int | None = None

    def __post_init__(self) -> None:
        check_whole("forced index", self.index, 0, 1_000_000, "a position in the generated text")
        if not isinstance(self.role, Role):  # "llm" == Role.LLM, but the decode loop asks for the member itself
            raise InvalidRequest(f"role of a forced token = {shown(self.role, True)}: give Role.SLM or Role.LLM")
        if self.id is not None:
            check_whole("forced id", self.id, 0, 2**31 - 1, "a token of the pair's tokenizer")


@dataclass(frozen=True, slots=True)
class Request:
    """One text to write. A value out of its range is an InvalidRequest that names it and the way out.

    Attributes:
        prompt: The user's message, or if `raw` the text to continue without the chat template.
        turns: What was said before it, in order.
        setting: What the text is written at; its policy is one of `engine.policy.POLICIES`.
        system: System message for the chat template; None or an empty one leaves the template's own default.
        max_new_tokens: Generated tokens at most, the end token included.
        stop: Strings that end the text; they are not part of it.
        seed: With the position, all that sampling and the random policy depend on.
        alternatives: Top-k candidates per model and token to record; 0 for none.
        forced: Tokens whose author was chosen by hand, in order of their positions.
    """

    prompt: str
    setting: Setting = field(default_factory=Setting)
    system: str | None = None
    raw: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0
    alternatives: int = 0
    forced: tuple[Forced, ...] = ()
    turns: tuple[Turn, ...] = ()

    def __post_init__(self) -> None:
        check_text("The prompt", self.prompt or "", MAX_PROMPT_CHARACTERS)
        if not self.prompt or not self.prompt.strip():
            raise InvalidRequest("The prompt is empty: write a question or an instruction.")
        if self.system is not None:
            check_text("system", self.system, MAX_SYSTEM_CHARACTERS)
        if not isinstance(self.raw, bool):
            raise InvalidRequest(f"raw = {shown(self.raw, True)} must be true or false")
        if not isinstance(self.sampling, Sampling):
            raise InvalidRequest(f"sampling = {shown(self.sampling, True)} must be a Sampling")
        if not isinstance(self.setting, Setting):
            raise InvalidRequest(f"setting = {shown(self.setting, True)} must be a Setting")
        if self.setting.policy not in POLICIES:
            raise unknown_policy(self.setting.policy)
        check_whole("max_new_tokens", self.max_new_tokens, 1, 1_000_000, "how many tokens may be written")
        check_whole("seed", self.seed, 0, 2**63 - 1, "any whole number from 0")
        check_whole("alternatives", self.alternatives, 0, 50, "0 records none")
        _check_count("stop", self.stop, MAX_STOPS, "stop strings")
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise InvalidRequest(f"stop = {shown(self.stop, True)}: a stop string must not be empty")
        for text in self.stop:
            check_text("stop", text, MAX_STOP_CHARACTERS)
        _check_count("forced", self.forced, MAX_FORCED, "forced tokens")
        if not all(isinstance(each, Forced) for each in self.forced):
            raise InvalidRequest(f"forced = {shown(self.forced, True)}: give tokens as Forced")
        places = [forced.index for forced in self.forced]
        if places != sorted(set(places)):
            raise InvalidRequest(f"forced = {shown(places, True)}: give each position once, in order")
        _check_turns(self.turns, self.raw)


def _check_authors(authors: tuple[tuple[Role, int], ...], characters: int) -> None:
    _check_count("authors", authors, characters, "authors")
    for author in authors:
        if not isinstance(author, tuple) or len(author) != 2 or not isinstance(author[0], Role):
            raise InvalidRequest(f"authors of a turn = {shown(author, True)}: give a Role and how many characters")
        check_whole("characters of an author", author[1], 1, characters, "of the turn's text")
    told = sum(count for _, count in authors)
    if told != characters:
        raise InvalidRequest(f"The authors of a turn cover {told:,} characters, but its text has {characters:,}.")


def _check_turns(turns: tuple[Turn, ...], raw: bool) -> None:
    _check_count("turns", turns, MAX_TURNS, "turns")
    if not all(isinstance(turn, Turn) for turn in turns):
        raise InvalidRequest(f"turns = {shown(turns, True)}: give each message as a Turn")
    if turns and raw:
        raise InvalidRequest("raw = True continues a text as it is, which has no turns: leave one of them out")
    characters = sum(len(turn.text) for turn in turns)
    if characters > MAX_PROMPT_CHARACTERS:
        raise InvalidRequest(
            f"The turns have {characters:,} characters; at most {MAX_PROMPT_CHARACTERS:,} are accepted."
        )


def _check_count(name: str, values: tuple[Any, ...], most: int, what: str) -> None:
    if not isinstance(values, tuple):
        raise InvalidRequest(f"{name} = {shown(values, True)} is no tuple of {what}")
    if len(values) > most:
        raise InvalidRequest(f"{name} has {len(values):,} entries; at most {most:,} {what} are accepted.")


def same_prompt(one: Request, other: Request) -> bool:
    return (one.prompt, one.system, one.raw, one.turns) == (other.prompt, other.system, other.raw, other.turns)


def build_request(prompt: str | Request, **options: Any) -> Request:
    """A request from a prompt, or from another request, and the fields of `Request`, `Setting` and `Sampling` by name.

    What is not named is as in that other request. Raises InvalidRequest if a name is unknown or a value out of range.
    """
    if isinstance(turns := options.get("turns"), list):
        options["turns"] = tuple(turns)
    known = [each.name for kind in (Request, *_PARTS.values()) for each in fields(kind)]
    if unknown := set(options) - set(known):
        raise InvalidRequest(f"{shown(', '.join(sorted(unknown)))} is not an option; known are {', '.join(known)}")
    if isinstance(stop := options.get("stop"), Iterable):
        options["stop"] = (stop,) if isinstance(stop, str) else tuple(stop)
    for part, kind in _PARTS.items():
        given = {each.name: options.pop(each.name) for each in fields(kind) if each.name in options}
        base = options.get(part, getattr(prompt, part) if isinstance(prompt, Request) else kind())
        if given and isinstance(base, kind):  # the request refuses anything else
            options[part] = replace(base, **given)
    return replace(prompt, **options) if isinstance(prompt, Request) else Request(prompt, **options)


_PARTS = {"setting": Setting, "sampling": Sampling}
"""Fields of a request that have fields of their own."""
