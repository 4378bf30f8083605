"""What can be asked of a pair, and the refusal of what cannot. Knows no torch: bad input never reaches a model.

Limits are generous but finite, so that a typo is refused with a message rather than obeyed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from engine.errors import InvalidRequest
from engine.events import Role

POLICIES = ("router", "confidence", "random", "slm", "llm")
"""Names a request may give: threshold on the router, on the SLM's top probability, a random share, always one model."""

DEFAULT_THRESHOLD = 0.5
MAX_THRESHOLD = 2.0  # scores end at 1, so anything above 1 is LLM-only; beyond 2 is more likely a percentage or a typo
MAX_PROMPT_CHARACTERS = 1_000_000


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
        number("temperature", self.temperature, 0.0, 5.0, "0 is greedy")
        number("top_p", self.top_p, 0.0, 1.0, "1 keeps every token")
        if self.top_p == 0:
            raise InvalidRequest("top_p = 0 keeps no token: it must be above 0; the likeliest token is temperature 0")
        whole("top_k", self.top_k, 0, 1_000_000, "0 keeps every token")
        number("repetition_penalty", self.repetition_penalty, 0.1, 10.0, "1 is no penalty")


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
        whole("forced index", self.index, 0, 1_000_000, "a position in the generated text")
        if self.id is not None:
            whole("forced id", self.id, 0, 2**31 - 1, "a token of the pair's tokenizer")


@dataclass(frozen=True, slots=True)
class Request:
    """One text to write.

    Attributes:
        prompt: The user's message, or the text to continue if `raw`.
        threshold: score < threshold → LLM; 0 is SLM-only, above 1 LLM-only. For `policy="random"` it is the LLM share.
        policy: One of `POLICIES`.
        system: System message for the chat template; None leaves the template's own default.
        raw: Continue `prompt` as it is, without the chat template.
        sampling: How tokens are drawn; greedy by default.
        max_new_tokens: Generated tokens at most, the end token included.
        stop: Strings that end the text; they are not part of it.
        seed: With the position, all that sampling and the random policy depend on.
        alternatives: Top-k candidates per model and token to record; 0 for none.
        forced: Tokens whose author was chosen by hand, in order of their positions.

    Raises:
        InvalidRequest: A value is out of its range; the message names it and the way out.
    """

    prompt: str
    threshold: float = DEFAULT_THRESHOLD
    policy: str = "router"
    system: str | None = None
    raw: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0
    alternatives: int = 0
    forced: tuple[Forced, ...] = ()

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise InvalidRequest("The prompt is empty: write a question or an instruction.")
        if len(self.prompt) > MAX_PROMPT_CHARACTERS:
            raise InvalidRequest(
                f"The prompt has {len(self.prompt):,} characters; at most {MAX_PROMPT_CHARACTERS:,} are accepted."
            )
        number("threshold", self.threshold, 0.0, MAX_THRESHOLD, "0 is SLM-only, above 1 is LLM-only")
        if self.policy not in POLICIES:
            raise InvalidRequest(f"policy = {self.policy!r} is unknown: choose one of {', '.join(POLICIES)}")
        whole("max_new_tokens", self.max_new_tokens, 1, 1_000_000, "how many tokens may be written")
        whole("seed", self.seed, 0, 2**63 - 1, "any whole number from 0")
        whole("alternatives", self.alternatives, 0, 50, "0 records none")
        if any(not isinstance(text, str) or not text for text in self.stop):
            raise InvalidRequest(f"stop = {list(self.stop)!r}: a stop string must not be empty")
        places = [forced.index for forced in self.forced]
        if places != sorted(set(places)):
            raise InvalidRequest(f"forced = {places}: give each position once, in order")


def number(name: str, value: float, low: float, high: float, hint: str) -> None:
    """Refuses a value that is not a finite number in [low, high].

    Raises:
        InvalidRequest: With the name, the value and the range.
    """
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    if not ok or not low <= value <= high or not math.isfinite(value):  # the range first: some integers are no floats
        raise InvalidRequest(f"{name} = {value!r} must be a number from {low:g} to {high:g} ({hint})")


def whole(name: str, value: int, low: int, high: int, hint: str) -> None:
    """Refuses a value that is not a whole number in [low, high].

    Raises:
        InvalidRequest: With the name, the value and the range.
    """
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"{name} = {value!r} must be a whole number from {low} to {high} ({hint})")
