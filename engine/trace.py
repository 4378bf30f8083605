"""A trace: one generated text with everything known about each of its tokens, as JSON and back. Knows no torch.

A trace may come from a stranger: it is parsed as data and validated, never executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from functools import cache
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from engine.cost import UNITS, ModelCost, Prices, costs
from engine.errors import InvalidRequest
from engine.events import FinishReason, Role, TokenEvent, fold_revealed
from engine.request import Forced, Request, Sampling

FORMAT = 1


@dataclass(frozen=True)
class Trace:
    """One generated text.

    Attributes:
        prompt, system, raw, threshold, policy, sampling, max_new_tokens, stop, seed, forced: The request, see
            `engine.Request`.
        text: The concatenation of the events' texts.
        preset: Name of the pair's preset.
        slm, llm, router: Names of the models and of the router (None if the policy used none).
        prompt_tokens: Tokens of the rendered prompt.
        events: In order.
        finish_reason: Why the text ended.
        slm_cost, llm_cost: What a forward pass costs, so that costs can be recomputed without the models.
    """

    prompt: str
    text: str
    preset: str
    slm: str
    llm: str
    router: str | None
    policy: str
    threshold: float
    prompt_tokens: int
    events: tuple[TokenEvent, ...]
    finish_reason: FinishReason
    slm_cost: ModelCost
    llm_cost: ModelCost
    system: str | None = None
    raw: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 256
    stop: tuple[str, ...] = ()
    seed: int = 0
    forced: tuple[Forced, ...] = ()
    prices: Prices = field(default_factory=Prices)
    format: int = FORMAT

    @property
    def llm_share(self) -> float:
        """LLM-written tokens / generated tokens, in [0, 1]."""
        return sum(e.role is Role.LLM for e in self.events) / max(1, len(self.events))

    def to_json(self) -> str:
        """The trace as one JSON object, with its cost (`bytes`, `flops`, `seconds`, `price`) beside both extremes."""
        value = asdict(self)
        beside = asdict(costs(self.events, self.prompt_tokens, self.slm_cost, self.llm_cost, self.prices))
        value["llm_share"] = self.llm_share
        cost: dict[str, object] = {
            unit: {which: beside[which][unit] for which in ("run", "slm_only", "llm_only")} for unit in UNITS
        }
        cost["modelled"] = ["seconds.slm_only", "seconds.llm_only"]
        value["cost"] = cost
        return json.dumps(value, ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Trace:
        """Reads what `to_json` wrote.

        Raises:
            InvalidRequest: Not a trace; the message names the first field that is wrong.
        """
        try:
            trace = _adapter().validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"]) or "the file"
            raise InvalidRequest(f"This is not a trace written by this program: {where}: {first['msg']}") from None
        if trace.format != FORMAT:
            raise InvalidRequest(f"The trace has format {trace.format}; this program reads format {FORMAT}.")
        return trace

    def save(self, path: str | Path) -> None:
        """Writes `to_json` to a file in UTF-8."""
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Reads a file that `save` wrote.

        Raises:
            InvalidRequest: Not a trace.
            OSError: The file cannot be read.
        """
        return cls.from_json(Path(path).read_bytes())


def build_trace(request: Request, events: Iterable[TokenEvent], **about: object) -> Trace:
    """Puts one row's events together into a trace, with what later steps revealed filled in where it belongs.

    Args:
        request: What was asked.
        events: One row's events, in order.
        **about: The trace's remaining fields (models, costs, prompt tokens, preset).
    """
    folded = fold_revealed(events)
    last = folded[-1].finish_reason if folded else None
    return Trace(
        prompt=request.prompt,
        system=request.system,
        raw=request.raw,
        threshold=request.threshold,
        policy=request.policy,
        sampling=request.sampling,
        max_new_tokens=request.max_new_tokens,
        stop=request.stop,
        seed=request.seed,
        forced=request.forced,
        text="".join(e.text for e in folded),
        events=folded,
        finish_reason=last or "cancelled",
        **about,  # type: ignore[arg-type]
    )


@cache
def _adapter() -> TypeAdapter[Trace]:
    return TypeAdapter(Trace)
