"""A comparison: SLM-only, a policy's text and LLM-only for one prompt, written at once, and how they differ.

Rows of a batch share the clock, so the seconds here are modelled: what each text would take alone, from the measured
pass of each model.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from difflib import SequenceMatcher
from typing import Any

from app.components import to_json
from app.controls import POLICY_LABELS
from app.figures import amount, counted, dial, percent
from app.running.job import Job, State
from app.running.weight import request_weight
from engine import Request, Role, TokenEvent, build_request
from engine.events import llm_share
from engine.events.cost import costs, modelled_seconds
from engine.operating_points import MEASURED_UNITS

_EXACT_DIFF_TOKENS = 1000  # longer texts are compared without their most frequent tokens as anchors: linear, not square


@dataclass
class Text:
    """One of the texts."""

    key: str  # "slm", "middle", "llm", or "router" for the text whose LLM share chance takes over
    title: str  # over its column
    subject: str  # of sentences about it
    request: Request
    prompt_tokens: int = 0
    events: list[TokenEvent] = field(default_factory=list)  # those that stay: only ever appended to
    seconds: list[float] = field(default_factory=list)  # per event, those this text alone would have taken up to it
    drafts: list[TokenEvent] = field(default_factory=list)  # after them, beginning with one the LLM may yet take back

    def lasting(self, event: TokenEvent) -> list[TokenEvent]:
        """Takes the next event of its stream; returns those, no longer among the drafts, that will now stay."""
        first = len(self.events)
        for index, ratio in event.verdicts:
            if 0 <= (place := index - first) < len(self.drafts):
                self.drafts[place] = replace(self.drafts[place], ratio=ratio)
        self.drafts[event.index - first :] = [event]
        count = next((n for n, draft in enumerate(self.drafts) if draft.provisional), len(self.drafts))
        lasting, self.drafts = self.drafts[:count], self.drafts[count:]
        return lasting

    @property
    def asked_share(self) -> float:
        """Tokens at which the threshold chose the LLM / generated tokens, in [0, 1]."""
        chosen = sum(event.role is Role.LLM and not event.refused for event in self.events)
        return chosen / max(1, len(self.events))

    @property
    def llm_share(self) -> float:
        """LLM-written tokens / generated tokens, in [0, 1]."""
        return llm_share(self.events)


@dataclass(frozen=True)
class Difference:
    """How a text differs from another: indices of its own tokens, in order, and how many of the other's it lacks."""

    own: tuple[int, ...] = ()
    lacks: int = 0


class Comparison(Job):
    """Texts for one prompt, written as one batch.

    Args:
        request: The middle text's. Its `policy` is what takes the middle place; its acceptance is of no other text but
            the router's.
        label: That policy's name on the page.
        at_share: Whether the request's threshold is the router's, and chance is to take over the LLM share that the
            router's text has there. Then that text is written first, and chance's after it.
        router_dials: Names of the dials that nobody chose, so that they become the router's once the pair is loaded.

    Attributes:
        texts: By key, in the order of the page.
        log: (key, index) of every token that has a column, in the order of writing; only ever appended to.
        differences: By key, each text's difference from LLM-only; empty until writing is over.
    """

    def __init__(
        self,
        request: Request,
        label: str,
        at_share: bool = False,
        router_dials: Collection[str] = (),
        after: Job | None = None,
    ) -> None:
        super().__init__(after)
        self._router_dials = router_dials
        # chance's label may say at which share
        subjects = {"router": "The routed text", "random": "The text by chance"}
        subject = subjects.get(request.setting.policy, f"The text by {label}")
        texts = [
            Text("slm", "SLM-only", "The SLM-only text", build_request(request, policy="slm", acceptance=0.0)),
            Text("middle", label, subject, request),
            Text("llm", "LLM-only", "The LLM-only text", build_request(request, policy="llm", acceptance=0.0)),
        ]
        if at_share:
            routed = build_request(request, policy="router")
            texts.insert(2, Text("router", "trained router", "The routed text", routed))
        self.texts = {text.key: text for text in texts}
        self.log: list[tuple[str, int]] = []
        self.differences: dict[str, Difference] = {}

    @property
    def weight(self) -> int:
        """See `Job.weight`; a token without candidates takes a quarter."""
        events = sum(len(text.events) for text in self.texts.values())
        return events // 4 + request_weight(self.texts["middle"].request)  # all have the same prompt

    @property
    def _end(self) -> State:
        complete = all(text.events and text.events[-1].finish_reason for text in self.texts.values())
        return "done" if complete else super()._end

    def _take_default_policy(self, pair: Any) -> None:
        for text in filter(None, (self.texts["middle"], self.texts.get("router"))):
            policy = pair.default_policy(text.request.setting.policy)
            if policy != text.request.setting.policy:
                label = POLICY_LABELS[policy]
                text.title, text.subject = label, f"The text by {label}"
                text.request = build_request(text.request, policy=policy)

    def _write(self) -> None:
        middle, router = self.texts["middle"], self.texts.get("router")
        own = {name: getattr(self.pair, name) for name in self._router_dials}
        for text in filter(None, (middle, router)):
            text.request = build_request(text.request, **own)
        scored = router or middle
        kept = f", acceptance {dial(scored.request.setting.acceptance)}" if scored.request.setting.acceptance else ""
        scored.title += f", threshold {dial(scored.request.setting.threshold)}{kept}"
        self._batch([text for text in self.texts.values() if not (router and text is middle)])
        if router and not self.cancel.is_set():
            middle.request = build_request(middle.request, threshold=router.asked_share)
            middle.title += f" ({percent(router.asked_share)}{kept})"
            self._batch([middle])
        target = [event.id for event in self.texts["llm"].events]
        self.differences = {
            key: difference([event.id for event in text.events], target)
            for key, text in self.texts.items()
            if text.events
        }

    def _batch(self, texts: Sequence[Text]) -> None:
        batch = self._submit([text.request for text in texts], interactive=True)
        for text, handle in zip(texts, batch.handles, strict=True):
            text.prompt_tokens = len(handle.order.prompt)
        for event in self._follow(batch):
            text = texts[event.row]
            for lasting in text.lasting(event):
                self._add(text, lasting)
        for text in texts:  # stopped before the LLM had read them
            for draft in text.drafts:
                self._add(text, draft)

    def _add(self, text: Text, event: TokenEvent) -> None:
        before = text.seconds[-1] if text.seconds else 0.0
        text.seconds.append(before + modelled_seconds([event], self.pair.slm_cost, self.pair.llm_cost))
        text.events.append(event)
        if text.key != "router":  # it has no column: only its figures are shown
            self.log.append((text.key, event.index))
        self.notify()


def difference(ids: Sequence[int], others: Sequence[int]) -> Difference:
    """What a text has that another has not, token by token, by the longest blocks they share; both as token ids."""
    start = 0  # what both begin with is most of a routed text, and cheap to find
    while start < min(len(ids), len(others)) and ids[start] == others[start]:
        start += 1
    rest, other_rest = ids[start:], others[start:]
    frequent = max(len(rest), len(other_rest)) > _EXACT_DIFF_TOKENS
    blocks = SequenceMatcher(None, rest, other_rest, autojunk=frequent).get_matching_blocks()
    shared = {start + block.a + n for block in blocks for n in range(block.size)}
    own = tuple(index for index in range(start, len(ids)) if index not in shared)
    return Difference(own, len(others) - (len(ids) - len(own)))


def sentence(subject: str, difference: Difference, tokens: int, llm_tokens: int) -> str:
    """A difference from LLM-only in words; `tokens` and `llm_tokens` are the lengths of both texts."""
    if not difference.own and not difference.lacks:
        return f"{subject} is the LLM-only text, token for token."
    shared = tokens - len(difference.own)
    shares = f"all {counted(tokens, 'token')}" if shared == tokens else f"{shared} of its {counted(tokens, 'token')}"
    lacks = f"; it lacks {difference.lacks} of that text’s {llm_tokens}" if difference.lacks else ""
    return f"{subject} shares {shares} with the LLM-only text{lacks}."


def comparison_message(
    job: Comparison, start: int, end: int | None = None, note: str = "", figures: bool = True
) -> str:
    """The comparison's tokens from `start` on, as JSON.

    Args:
        start, end: How many the browser was sent already, over all columns, and where to stop; None sends all.
        note: What it waits for, for people.
        figures: Whether to fold costs too.

    Returns:
        `Job.heading` with `texts` (by key `title` and `finish`), `tokens` as [key, text, author, seconds], `figures`
        (see `comparison_figures`; null where not asked for), and once writing is over `differs` (by key the indices of
        tokens that LLM-only has not) and `sentences`.
    """
    over = job.finished.is_set()  # before the events: a comparison that is done by now has all of them
    state = job.message_state(whole=end is None)
    log = job.log[start:end]
    message: dict[str, Any] = {
        **job.heading(start, len(log), state, note),
        "texts": {
            key: {"title": text.title, "finish": text.events[-1].finish_reason if text.events else None}
            for key, text in job.texts.items()
        },
        "tokens": [_token(job.texts[key], index) for key, index in log],
        "figures": comparison_figures(job) if figures and job.log else None,
    }
    if over:
        message["differs"] = {key: difference.own for key, difference in job.differences.items()}
        message["sentences"] = _sentences(job)
    return to_json(message)


def comparison_figures(job: Comparison) -> list[dict[str, Any]]:
    """What the table shows, a column per text: `key`, `title`, `tokens`, `share`, `bytes`, `flops` and `seconds`.

    All in words, the last three as [amount, share of what the LLM alone takes for as many tokens], "–" where there is
    nothing yet.
    """
    return [_figures(text, list(text.events), job.pair) for text in job.texts.values()]


def _figures(text: Text, events: Sequence[TokenEvent], pair: Any) -> dict[str, Any]:
    spent = costs(events, text.prompt_tokens, pair.slm_cost, pair.llm_cost)
    return {
        "key": text.key,
        "title": text.title,
        "tokens": f"{len(events):,}" if events else "–",
        "share": percent(text.llm_share) if events else "–",
        **{unit: _beside(getattr(spent.run, unit), getattr(spent.llm_only, unit), unit) for unit in MEASURED_UNITS},
    }


def _beside(value: float, llm: float, unit: str) -> list[str]:
    return [amount(value, unit) if value else "–", percent(value / llm) if value and llm else "–"]


def _sentences(job: Comparison) -> list[str]:
    """In the order of interest: the middle text, the router's where chance took over its share, the SLM's."""
    target = len(job.texts["llm"].events)
    return [
        sentence(job.texts[key].subject, job.differences[key], len(job.texts[key].events), target)
        for key in ("middle", "router", "slm")
        if key in job.differences and target
    ]


def _token(text: Text, index: int) -> list[Any]:
    event = text.events[index]
    return [text.key, event.text, 0 if event.role is Role.SLM else 1, round(text.seconds[index], 6)]
