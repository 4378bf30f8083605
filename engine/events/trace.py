"""A finished text: its trace as JSON and back, and what another setting would change in it.

A trace may come from a stranger: it is parsed as data and validated, never executed.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import FiniteFloat, TypeAdapter

from engine.errors import InvalidRequest
from engine.events import FinishReason, Role, TokenEvent, fold_revealed, in_row, keeps, llm_share, role_at
from engine.events.cost import Costs, ModelCost, Prices, costs
from engine.events.parsing import Many, parsed
from engine.request import Forced, Request, Sampling, Turn
from engine.setting import DraftLimit, Setting

FORMAT = 1
_ASKED = [each.name for each in fields(Request) if each.name not in ("alternatives", "setting")]
_SETTING = [each.name for each in fields(Setting)]


@dataclass(frozen=True)
class Trace:
    """One generated text with everything known about each of its tokens.

    Attributes:
        prompt, system, raw, threshold, policy, sampling, max_new_tokens, stop, seed, forced, acceptance, max_draft,
            turns: See `engine.Request`.
        events: Of the text's tokens, by position; what was taken back hangs at the token written instead.
        slm, llm, router: Names of the models and of the router (None if the policy used none).
        slm_cost, llm_cost: What a forward pass costs, so that costs can be recomputed without the models.
    """

    prompt: str
    text: str
    preset: str
    slm: str
    llm: str
    router: str | None
    policy: str
    threshold: FiniteFloat
    prompt_tokens: int
    events: Many[TokenEvent]
    finish_reason: FinishReason
    slm_cost: ModelCost
    llm_cost: ModelCost
    system: str | None = None
    raw: bool = False
    sampling: Sampling = field(default_factory=Sampling)
    max_new_tokens: int = 256
    stop: Many[str] = ()
    seed: int = 0
    forced: Many[Forced] = ()
    acceptance: FiniteFloat = 0.0
    max_draft: DraftLimit = "auto"
    turns: Many[Turn] = ()
    prices: Prices = field(default_factory=Prices)
    format: int = FORMAT

    @property
    def llm_share(self) -> float:
        return llm_share(self.events)

    @property
    def request(self) -> Request:
        """What was asked, apart from `alternatives`; raises InvalidRequest where a value is out of range."""
        return Request(setting=self.setting, **{name: getattr(self, name) for name in _ASKED})

    @property
    def setting(self) -> Setting:
        """What was asked for; raises InvalidRequest where a value is out of range."""
        return Setting(self.policy, self.threshold, self.acceptance, self.max_draft)

    def to_json(self) -> str:
        """The trace as one JSON object, with its cost in every unit beside both extremes."""
        value = {**asdict(self), "llm_share": self.llm_share, "cost": self._cost().told()}
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    def _cost(self) -> Costs:
        return costs(self.events, self.prompt_tokens, self.slm_cost, self.llm_cost, self.prices)

    @classmethod
    def from_json(cls, text: str | bytes) -> Trace:
        """Reads what `to_json` wrote; raises InvalidRequest, with the first field that is wrong, for anything else."""
        trace = cls.parse(text)
        trace.check_cost()
        return trace

    @classmethod
    def parse(cls, text: str | bytes) -> Trace:
        """As `from_json`, without `check_cost`: for callers that bound the values first."""
        trace = parsed(_adapter(), text, "a trace")
        if trace.format != FORMAT:
            raise InvalidRequest(f"The trace has format {trace.format}; this program reads format {FORMAT}.")
        return trace

    def check_cost(self) -> None:
        """Raises InvalidRequest where no cost follows from the numbers: they are too large, or point nowhere."""
        try:
            finite = all(math.isfinite(value) for unit in self._cost().by_unit().values() for value in unit.values())
        except (OverflowError, IndexError):
            finite = False
        if not finite:
            raise InvalidRequest(
                "This is not a trace written by this program: what it cost is more than a number holds"
            )

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Reads a file that `save` wrote; raises what `from_json` does, or OSError."""
        return cls.from_json(Path(path).read_bytes())


def build_trace(request: Request, events: Iterable[TokenEvent], **about: Any) -> Trace:
    """One row's events as a trace, what later steps revealed filled in; `about` are the trace's remaining fields.

    A trace is one text, so its events are of row 0, whichever row of a batch they were written in.
    """
    folded = tuple(in_row(event, 0) for event in fold_revealed(events))
    last = folded[-1].finish_reason if folded else None
    asked = {name: getattr(request, name) for name in _ASKED}
    asked |= {name: getattr(request.setting, name) for name in _SETTING}
    return Trace(
        **asked, **about, text="".join(e.text for e in folded), events=folded, finish_reason=last or "cancelled"
    )


@cache
def _adapter() -> TypeAdapter[Trace]:
    return TypeAdapter(Trace)


# Other settings. Up to the first decision that flips, a text is the same at any threshold and acceptance: scores and
# ratios depend on the text before them only, and chance on seed and position. `Text.go_on` takes what stays.


def first_flip(events: Sequence[TokenEvent], setting: Setting) -> int | None:
    """Index of the first token that the other model would write at this setting; forced ones never flip.

    What the LLM has not read is taken to be kept.
    """
    return next((n for n, event in enumerate(fold_revealed(events)) if _flips(event, setting)), None)


def _flips(event: TokenEvent, setting: Setting) -> bool:
    if event.forced:
        return False
    role = event.role if event.score is None else role_at(event.score, setting.threshold)
    if event.refused:  # its score alone would not have given it to the LLM
        drafted = event.score is None or role is Role.SLM
        return drafted and event.ratio is not None and keeps(event.ratio, setting.acceptance)
    if event.role is Role.SLM and event.ratio is not None and not keeps(event.ratio, setting.acceptance):
        return True
    return role is not event.role


def same_text(events: Sequence[TokenEvent]) -> tuple[float, float]:
    """The thresholds at which every decision of a text stays as it is, as (low, high].

    They are the highest score that went to the LLM (−∞ without one), and the lowest that went to the SLM (+∞). Empty
    (low ≥ high) where the threshold was moved while the text was written.
    """
    decided = [(e.score, e.role) for e in events if e.score is not None and not e.forced and not e.refused]
    low = max((score for score, role in decided if role is Role.LLM), default=-math.inf)
    high = min((score for score, role in decided if role is Role.SLM), default=math.inf)
    return low, high


def same_acceptance(events: Sequence[TokenEvent]) -> tuple[float, float]:
    """The acceptances at which every decision of a text stays as it is, as (low, high].

    They are the highest ratio of a draft that was not kept (−∞ without one), and the lowest of one that was (+∞); 0
    where the LLM has not read one.
    """
    events = fold_revealed(events)
    drafts = [event for event in events if event.role is Role.SLM and not event.forced]
    low = max((e.ratio for e in events if e.refused and e.ratio is not None), default=-math.inf)
    high = min((0.0 if event.ratio is None else event.ratio for event in drafts), default=math.inf)
    return low, high


def at_setting(request: Request, events: Sequence[TokenEvent], setting: Setting) -> tuple[Request, list[TokenEvent]]:
    """A request at another setting and the events of its text that are the same there, for `Text.go_on`.

    Without a flip those are all events, and a complete text is complete; but where the LLM has yet to read what is
    drafted, the last token is decided anew, and the LLM reads the rest with it. Behind such a draft a text is written
    anew from where drafts were taken back: a token that is taken back has itself taken none back.
    """
    events = fold_revealed(events)
    flip = first_flip(events, setting)
    kept = [replace(event, threshold=setting.threshold, acceptance=setting.acceptance) for event in events[:flip]]
    unread = next((n for n, event in enumerate(kept) if event.provisional), len(kept))
    kept = kept[: next((n for n in range(unread, len(kept)) if kept[n].taken_back), None)]
    if flip is None and kept and kept[-1].finish_reason and any(event.provisional for event in kept):
        kept.pop()
    return replace(request, setting=setting), kept
