"""A finished text: its trace as JSON and back, and what another setting would change in it.

A trace may come from a stranger: it is parsed as data and validated, never executed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

from pydantic import FiniteFloat, TypeAdapter

from engine.events import FinishReason, Role, TokenEvent, fold_revealed, keeps, llm_share, role_at
from engine.events.cost import ModelCost, Prices, costs
from engine.events.parsing import Count, Many, Name, parsed
from engine.request import Forced, Request, Sampling, Turn
from engine.setting import DraftLimit, Setting

_ASKED = [each.name for each in fields(Request) if each.name not in ("alternatives", "setting")]


@dataclass(frozen=True)
class Trace:
    """One generated text with everything known about each of its tokens.

    Attributes:
        prompt, system, raw, threshold, policy, sampling, max_new_tokens, stop, seed, forced, acceptance, max_draft,
            turns: See `engine.Request`.
        events: One for each token of the text. Drafts that were taken back are in the event of the token that replaced
            them.
        slm, llm, router: Names of the models and of the router (None if the policy used none).
        slm_cost, llm_cost: What a forward pass costs, so that costs can be recomputed without the models.
    """

    prompt: str
    text: str
    preset: Name
    slm: Name
    llm: Name
    router: Name | None
    policy: str
    threshold: FiniteFloat
    prompt_tokens: Count
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
    format: Literal[1] = 1

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
        cost = costs(self.events, self.prompt_tokens, self.slm_cost, self.llm_cost, self.prices)
        value = {**asdict(self), "llm_share": self.llm_share, "cost": cost.as_dict()}
        return json.dumps(value, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str | bytes) -> Trace:
        """Reads what `to_json` wrote; raises InvalidRequest, with the first field that is wrong, for anything else."""
        return parsed(trace_adapter(), text, "a trace")

    def save(self, path: str | Path) -> None:
        Path(path).write_text(self.to_json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Trace:
        """Reads a file that `save` wrote; raises what `from_json` does, or OSError."""
        return cls.from_json(Path(path).read_bytes())


def build_trace(request: Request, events: Iterable[TokenEvent], **about: Any) -> Trace:
    """One row's events as a trace, what later steps revealed filled in; `about` are the trace's remaining fields.

    A trace is one text, so its events are of row 0, whatever number they had among texts requested together.
    """
    folded = tuple(
        replace(event, row=0, taken_back=tuple(replace(draft, row=0) for draft in event.taken_back))
        for event in fold_revealed(events)
    )
    last = folded[-1].finish_reason if folded else None
    asked = {name: getattr(request, name) for name in _ASKED} | asdict(request.setting)
    return Trace(
        **asked, **about, text="".join(e.text for e in folded), events=folded, finish_reason=last or "cancelled"
    )


@cache
def trace_adapter() -> TypeAdapter[Trace]:
    return TypeAdapter(Trace)


# Other settings. Up to the first decision that flips, a text is the same at any threshold and acceptance: scores and
# ratios depend on the text before them only, and chance on seed and position. `Text.go_on` takes what stays.


def first_flip(events: Sequence[TokenEvent], setting: Setting) -> int | None:
    """Index of the first token that the other model would write at this setting; forced ones never flip.

    A draft that the LLM has not read counts as kept.
    """
    return next((n for n, event in enumerate(fold_revealed(events)) if _flips(event, setting)), None)


def _flips(event: TokenEvent, setting: Setting) -> bool:
    drafted = event.role is Role.SLM or event.refused
    if event.score is not None:
        drafted = role_at(event.score, setting.threshold) is Role.SLM
    kept = event.ratio is None or keeps(event.ratio, setting.acceptance)
    author = Role.SLM if drafted and kept else Role.LLM
    return author is not event.role and not event.forced


def at_setting(request: Request, events: Sequence[TokenEvent], setting: Setting) -> tuple[Request, list[TokenEvent]]:
    """A request at another setting and the events of its text that are the same there, for `Text.go_on`.

    Without a flip all events stay. But if a complete text has unread drafts, its last token is decided anew, and the
    LLM reads them with it. After an unread draft, the text is also written anew from the first token that took drafts
    back, since such a token cannot itself be taken back.

    The events cost what they would at this setting: it may choose the LLM inside a draft that was taken back, and then
    fewer tokens were drafted.
    """
    events = fold_revealed(events)
    flip = first_flip(events, setting)
    kept = [
        replace(_undrafted(event, setting), threshold=setting.threshold, acceptance=setting.acceptance)
        for event in events[:flip]
    ]
    unread = next((n for n, event in enumerate(kept) if event.provisional), len(kept))
    kept = kept[: next((n for n in range(unread, len(kept)) if kept[n].taken_back), None)]
    if flip is None and kept and kept[-1].finish_reason and any(event.provisional for event in kept):
        kept.pop()
    return replace(request, setting=setting), kept


def _undrafted(event: TokenEvent, setting: Setting) -> TokenEvent:
    """The event without its refused drafts from the first one on at which this setting would choose the LLM."""
    drafts, threshold = event.taken_back, setting.threshold
    scores = (None if draft.forced else draft.score for draft in drafts)
    low = (n for n, score in enumerate(scores) if score is not None and role_at(score, threshold) is Role.LLM)
    asked = next(low, None)
    if asked is None or setting.policy == "random":  # with chance, the SLM would read later
        return event
    unread = event.slm_fed == 0  # the last draft was refused in the step that drafted it
    fed, at = event.llm_fed - (len(drafts) - unread - asked), drafts[asked]
    return replace(
        event,
        slm_fed=at.slm_fed,
        slm_head=at.slm_head,
        router=at.router,
        llm_fed=fed,
        llm_head=max(1, min(fed, at.index + 1)),
        ratio=event.ratio if asked else None,
        taken_back=drafts[:asked],
    )
