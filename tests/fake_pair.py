"""A pair without models: the engine's interface, plausible events, any speed. For tests of the page, without torch.

It writes a fixed answer, or what follows "echo " in the prompt. Everything depends on seed and position only. What the
LLM will not keep is drafted in capitals. It counts the streams that are open, so that a test can see whether a model
thread was left running.
"""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.errors import InvalidRequest
from engine.events import Alternative, Revealed, Role, TokenEvent, Verdict, extend, fold_revealed, keeps
from engine.events.cost import ModelCost
from engine.events.trace import Trace, build_trace
from engine.operating_points import OperatingPoints
from engine.request import Dial, Request

ANSWER = '''Here is a function that checks whether a string is a palindrome:

```python
def is_palindrome(text: str) -> bool:
    """True if `text` reads the same in both directions."""
    letters = [c.lower() for c in text if c.isalnum()]
    return letters == letters[::-1]
```

It keeps letters and digits only, ignores case, and compares the list with its reverse. For example, \
`is_palindrome("A man, a plan, a canal: Panama")` is `True`. It takes linear time and linear space. '''

_SLM = ModelCost(280_000_000, 76_000_000, 1_000, 24_000, 720_000_000, 272_000_000, 90_000, 0.03, 0.002)
_LLM = ModelCost(740_000_000, 131_000_000, 1_700, 57_000, 2_620_000_000, 466_000_000, 172_000, 0.08, 0.005)


@dataclass(frozen=True)
class FakeRouter:
    """What the page reads of a router."""

    name: str = "fake-r1"
    description: str = "trained on GSM8K and CommonsenseQA"
    warning: str | None = None


class FakeDecoding:
    """Stands in for `engine.Decoding` of one row: remembers what stays of the text."""

    def __init__(self, request: Request) -> None:
        self.request, self.kept = request, []

    def resume(self, row: int, request: Request, events) -> None:
        self.request, self.kept = request, list(events)

    def reveal(self, row: int) -> list[Revealed]:
        return []


class FakePair:
    """Stands in for `engine.Pair`.

    Attributes:
        tokens_per_second: Speed; tests change it while it runs.
        prefill_seconds: Pause before the first token.
        open_streams: Streams that are running now.
        requests: Every request it was given, in order.
        tokens: How many it was asked for, of all streams together.
        operating_points: What its router's thresholds are said to have given; None unless a test makes something up.
    """

    def __init__(self, tokens_per_second: float = 200.0, router: FakeRouter | None = None, preset: str = "cpu") -> None:
        self.tokens_per_second = tokens_per_second
        self.prefill_seconds = 0.0
        self.preset = preset
        self.slm_name, self.llm_name = "Qwen2.5-Coder 0.5B", "Qwen2.5-Coder 1.5B"
        self.quantisation, self.device, self.context = "NF4", "CPU", 2048
        self.threshold, self.acceptance = 0.5, 0.0
        self.router = router or FakeRouter()
        self.operating_points: OperatingPoints | None = None
        self.policies = ("router", "confidence", "random", "slm", "llm")
        self.slm_cost, self.llm_cost = _SLM, _LLM
        self.open_streams = 0
        self.requests: list[Request] = []
        self.tokens = 0

    def check(self, request: Request) -> int:
        """Prompt tokens; refuses a prompt beyond the context as the engine does."""
        tokens = 20 + len(request.prompt.split())
        if tokens >= self.context:
            raise InvalidRequest(
                f"The prompt has {tokens:,} tokens, the context holds {self.context:,}: shorten the prompt."
            )
        return tokens

    def start(self, requests: list[Request]) -> FakeDecoding:
        """What `stream` goes on with."""
        return FakeDecoding(requests[0])

    def stream(
        self, request: Request, dial=None, cancel: threading.Event | None = None, decoding: FakeDecoding | None = None
    ) -> Iterator[TokenEvent]:
        """One event per token; the last has a finish reason."""
        prompt_tokens = self.check(request)
        self.requests.append(request)
        self.open_streams += 1
        try:
            yield from self._events(request, prompt_tokens, dial, cancel, decoding.kept if decoding else [])
        finally:
            self.open_streams -= 1

    def _events(self, request: Request, prompt_tokens: int, dial, cancel, text: list) -> Iterator[TokenEvent]:
        pieces = _pieces(request.prompt, request.max_new_tokens)
        dial = dial or Dial.of(request)
        longest = 6 if request.max_draft == "auto" else request.max_draft
        time.sleep(self.prefill_seconds)
        llm_unseen: list[int] = [event.index for event in text if event.provisional]
        text = list(text)
        while len(text) < len(pieces):
            index, started = len(text), time.perf_counter()
            self.tokens += 1
            time.sleep(1 / self.tokens_per_second)
            stopped = cancel is not None and cancel.is_set()
            event = _event(request, index, pieces[index], dial, time.perf_counter() - started)
            fed = prompt_tokens if index == 0 else 1
            last = index == len(pieces) - 1
            looks = event.provisional and (last or sum(e.provisional for e in text) + 1 >= longest)
            if event.role is Role.LLM or looks:
                llm_fed = (len(llm_unseen) + 1) if index != len(llm_unseen) else prompt_tokens + index
                event = _judged(request, text, replace(event, slm_fed=fed, llm_fed=llm_fed), dial)
                event = replace(event, revealed=tuple(_revealed(request, i) for i in llm_unseen if i < event.index))
                llm_unseen = []
            else:
                llm_unseen.append(index)
                event = replace(event, slm_fed=fed)
            last = event.index == len(pieces) - 1
            reason = "cancelled" if stopped else ("eos" if not pieces[event.index] else "length") if last else None
            event = replace(event, finish_reason=reason)
            extend(text, event)
            text = list(fold_revealed(text))
            yield event
            if stopped:
                return

    def generate(self, request: Request) -> Trace:
        """The whole text as a trace."""
        text: list[TokenEvent] = []
        for event in self.stream(request):
            extend(text, event)
        return self.trace(request, text)

    def trace(self, request: Request, events) -> Trace:
        """Folds events into a trace."""
        return build_trace(
            request,
            events,
            preset=self.preset,
            slm=self.slm_name,
            llm=self.llm_name,
            router=self.router.name if self.router else None,
            prompt_tokens=self.check(request),
            slm_cost=self.slm_cost,
            llm_cost=self.llm_cost,
        )


def _pieces(prompt: str, limit: int) -> list[str]:
    """Token texts; an empty one ends the text as an end token does."""
    text = prompt.removeprefix("echo ") if prompt.startswith("echo ") else ANSWER * (limit // 100 + 1)
    pieces = re.findall(r" ?[^\W_]{1,6}|\s+|.", text, re.DOTALL)
    return [*pieces, ""][:limit] if prompt.startswith("echo ") else pieces[:limit]


def _judged(request: Request, text: list[TokenEvent], event: TokenEvent, dial: Dial) -> TokenEvent:
    """What the LLM writes or keeps when it reads the drafts of a text, and the event that is to follow them."""
    drafts = [*(e for e in text if e.provisional), *([event] if event.provisional else [])]
    read: list[Verdict] = []
    for draft in drafts:
        ratio = _ratio(request, draft.index)
        if not keeps(ratio, draft.acceptance):
            piece = _pieces(request.prompt, request.max_new_tokens)[draft.index]
            written = _event(request, draft.index, piece, Dial(2.0), event.seconds)
            spent = {"slm_fed": event.slm_fed, "llm_fed": event.llm_fed, "llm_head": len(drafts)}
            asked = {"threshold": draft.threshold, "acceptance": draft.acceptance, "score": draft.score}
            back = (*text[draft.index :], *([event] if event is draft else []))
            return replace(written, **spent, **asked, ratio=ratio, taken_back=back, verdicts=tuple(read))
        read.append(Verdict(draft.index, ratio))
    own = {"ratio": read.pop().ratio} if event.provisional else {}
    return replace(event, verdicts=tuple(read), llm_head=len(drafts) or 1, **own)


def _ratio(request: Request, index: int) -> float:
    chance = random.Random(f"{request.seed}/{index}/ratio").random()
    return 1.0 if chance > 0.4 else round(chance, 3)


def _event(request: Request, index: int, piece: str, dial: Dial, seconds: float) -> TokenEvent:
    chance, threshold = random.Random(f"{request.seed}/{index}"), dial.threshold
    score = round(chance.betavariate(2.2, 0.7), 4)
    if request.policy in ("slm", "llm"):
        role, known = Role(request.policy), None
    else:
        role, known = (Role.LLM if score < threshold else Role.SLM), score
    if role is Role.SLM and not keeps(_ratio(request, index), dial.acceptance):
        piece = piece.upper()
    mine, other = _alternatives(piece, index, 0.9 * score), _alternatives(piece, index + 1, 0.95)
    return TokenEvent(
        id=1000 + index,
        text=piece,
        role=role,
        score=known,
        threshold=threshold,
        acceptance=dial.acceptance,
        slm_fed=1,
        llm_fed=0,
        slm_head=role is Role.SLM,
        seconds=seconds,
        slm_seconds=seconds * 0.3,
        llm_seconds=seconds * 0.7 if role is Role.LLM else 0.0,
        index=index,
        slm_alternatives=mine if request.alternatives else (),
        llm_alternatives=other if request.alternatives and role is Role.LLM else (),
    )


def _alternatives(piece: str, index: int, top: float) -> tuple[Alternative, ...]:
    words = [piece, " the", "\n", " a", " return"][:5]
    rest = (1 - top) / 5
    return tuple(Alternative(1000 + index + i, w, round(top if i == 0 else rest, 4)) for i, w in enumerate(words))


def _revealed(request: Request, index: int) -> Revealed:
    return Revealed(index, Role.LLM, _alternatives(" was", index, 0.8) if request.alternatives else ())


def request(prompt: str = "a palindrome", **options) -> Request:
    """A request that a `FakePair` answers in 30 tokens at most."""
    return Request(prompt, **{"max_new_tokens": 30, **options})
