"""A pair without models: what page and scheduler use of a pair, plausible events, any speed; without torch.

`tests/app/test_pairs.py` holds it and a real pair to the same. It writes a fixed answer, or what follows "echo " in the
prompt; all of it depends on seed and position only. What the LLM will not keep is drafted in capitals.
"""

from __future__ import annotations

import math
import random
import re
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import count, zip_longest
from types import SimpleNamespace
from typing import Any

from engine.batch.text import Text
from engine.errors import InvalidRequest
from engine.events import Alternative, Revealed, Role, TokenEvent, Verdict, extend, fold_revealed, keeps
from engine.events.cost import ModelCost, Prices
from engine.events.trace import Trace, build_trace
from engine.operating_points import OperatingPoints
from engine.pair import Pair
from engine.request import Request, build_request
from engine.setting import Setting

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
_MOMENT = 0.05  # seconds


def request(prompt: str = "a palindrome", **options) -> Request:
    return build_request(prompt, **{"max_new_tokens": 30, **options})


@dataclass(eq=False)
class FakeText(Text):
    """A text of which `unseen` are the drafts that the LLM has not read."""

    unseen: list[int] = field(default_factory=list)
    started: bool = False

    def go_on(self, request: Request, events) -> None:
        super().go_on(request, events)
        self.started, self.unseen = False, [event.index for event in self.events if event.provisional]


class FakeDecoding:
    """What the scheduler uses of `engine.Decoding`."""

    def __init__(self, pair: FakePair) -> None:
        self.pair, self.texts = pair, []

    def add(self, texts) -> None:
        for text in texts:
            text.slot = next(n for n in count() if n not in {other.slot for other in self.texts})
            self.texts.append(text)

    def remove(self, text: FakeText, clear: bool = False, keep: bool = False) -> None:
        self.texts.remove(text)
        text.slot = -1

    def forget(self, unwanted) -> None:
        pass

    def step(self, texts, reading=None) -> list[FakeText]:
        texts = [text for text in texts if text.finish_reason is None]
        with self.pair.writing(texts) as seconds:
            for text in texts:
                self.pair.write(text, seconds())
        return texts


class FakePair:
    """Stands in for `engine.Pair`; counts the `requests` that were begun and the `tokens` of all texts together.

    Tests change `tokens_per_second` and `prefill_seconds` (before a first token) at any time.
    """

    def __init__(self, tokens_per_second: float = 200.0, router: str = "fake-r1", preset: str = "cpu") -> None:
        self.tokens_per_second, self.prefill_seconds = tokens_per_second, 0.0
        self.preset: str = preset
        self.router: Any = SimpleNamespace(
            name=router, card=SimpleNamespace(description="trained on GSM8K and CommonsenseQA"), warning=None
        )
        self.slm_name, self.llm_name = "Qwen2.5-Coder 0.5B", "Qwen2.5-Coder 1.5B"
        self.quantisation, self.device, self.context = "NF4", "CPU", 2048
        self.threshold, self.acceptance = 0.5, 0.0
        self.operating_points: OperatingPoints | None = None
        self.policies = ("router", "confidence", "random", "slm", "llm")
        self.slm_cost, self.llm_cost, self.prices = _SLM, _LLM, Prices()
        self.timed, self.memory = True, None
        self.slm = self.llm = SimpleNamespace(device=SimpleNamespace(type="cpu"), local=True, vocabulary=1000)
        self.trouble = ""
        self.requests: list[Request] = []
        self.tokens = 0
        self._writing, self._wrote = 0, 0.0

    @property
    def open_streams(self) -> int:
        """Texts that are being written: in a step, or in one a moment ago."""
        return self._writing if time.monotonic() < self._wrote + _MOMENT else 0

    setting = Pair.setting

    def default_policy(self, named: str) -> str:
        return named if named in self.policies else "confidence"

    def calibrate(self) -> None:
        """Its passes take what they are said to take."""
        self.timed = True

    def check(self, request: Request) -> int:
        tokens = 20 + len(_said(request).split())
        if tokens >= self.context:
            raise InvalidRequest(f"{tokens:,} tokens, the context holds {self.context:,}: shorten the prompt.")
        return tokens

    def pause(self, seconds: float) -> None:
        time.sleep(seconds)

    def check_sampling(self, sampling) -> None:
        pass

    def texts(self, requests, policies=None, prompts=None) -> list[FakeText]:
        found = []
        for row, (request, prompt) in enumerate(zip_longest(requests, prompts or ())):
            ids = list(prompt or [zlib.crc32(_said(request).encode())] * self.check(request))
            policy: Any = request.setting.policy
            found.append(FakeText(request, policy, ids, request.max_new_tokens, row=row))
        return found

    def open(self, most: int | None = None) -> FakeDecoding:
        return FakeDecoding(self)

    @contextmanager
    def writing(self, texts: list[FakeText]) -> Iterator[Callable[[], float]]:
        """Takes the time of a step; gives how long it has taken."""
        self._writing, self._wrote, started = len(texts), math.inf, time.perf_counter()
        new = [text for text in texts if not text.started]
        for text in new:
            self.requests.append(text.request)
            text.started = True
        self.pause(self.prefill_seconds * bool(new) + 1 / self.tokens_per_second)
        self.tokens += len(texts)
        try:
            yield lambda: time.perf_counter() - started
        finally:
            self._writing, self._wrote = sum(text.finish_reason is None for text in texts), time.monotonic()

    def write(self, text: FakeText, seconds: float) -> None:
        request, setting, before = text.request, text.setting, list(fold_revealed(text.events))
        pieces, index = _pieces(request), len(before)
        longest = 6 if request.setting.max_draft == "auto" else request.setting.max_draft
        event = replace(_event(request, index, setting, seconds), slm_fed=text.prompt_tokens if index == 0 else 1)
        last = index == len(pieces) - 1
        looks = event.provisional and (last or sum(e.provisional for e in before) + 1 >= longest)
        if event.role is Role.LLM or looks:
            llm_fed = (len(text.unseen) + 1) if index != len(text.unseen) else text.prompt_tokens + index
            event = _judged(request, before, replace(event, llm_fed=llm_fed))
            event = replace(event, revealed=tuple(_revealed(request, i) for i in text.unseen if i < event.index))
            text.unseen = []
        else:
            text.unseen.append(index)
        if event.index == len(pieces) - 1:
            event = replace(event, finish_reason="length" if pieces[event.index] else "eos")
        text.events = before
        extend(text.events, replace(event, row=text.row))
        text.tokens = text.tokens[: text.prompt_tokens] + [each.id for each in text.events]
        text.finish_reason = event.finish_reason

    def stream(self, request: Request) -> Iterator[TokenEvent]:
        """A text by itself, without a scheduler."""
        decoding, texts = self.open(), self.texts([request])
        decoding.add(texts)
        while texts[0].finish_reason is None:
            for text in decoding.step(texts):
                yield text.events[-1]

    def generate(self, request: Request) -> Trace:
        text: list[TokenEvent] = []
        for event in self.stream(request):
            extend(text, event)
        return self.trace(request, text)

    def trace(self, request: Request, events) -> Trace:
        names = {"preset": self.preset, "slm": self.slm_name, "llm": self.llm_name}
        router, costs = self.router and self.router.name, {"slm_cost": self.slm_cost, "llm_cost": self.llm_cost}
        return build_trace(request, events, **names, router=router, prompt_tokens=self.check(request), **costs)


class SteppedPair(FakePair):
    """Takes a step whenever a test lets it, so that no test depends on its speed."""

    def __init__(self) -> None:
        super().__init__()
        self._steps = threading.Semaphore(0)

    def pause(self, seconds: float) -> None:
        self._steps.acquire()

    def let(self, steps: int = 10_000) -> None:
        """Lets it take so many; by default as many as any test needs."""
        self._steps.release(steps)


def _said(request: Request) -> str:
    return " ".join([*(turn.text for turn in request.turns), request.prompt])


def _pieces(request: Request) -> list[str]:
    """Token texts; an empty one ends the text as an end token does."""
    prompt, limit = request.prompt, request.max_new_tokens
    text = prompt.removeprefix("echo ") if prompt.startswith("echo ") else ANSWER * (limit // 100 + 1)
    pieces = re.findall(r" ?[^\W_]{1,6}|\s+|.", text, re.DOTALL)
    return [*pieces, ""][:limit] if prompt.startswith("echo ") else pieces[:limit]


def _judged(request: Request, text: list[TokenEvent], event: TokenEvent) -> TokenEvent:
    """What the LLM writes or keeps when it reads the drafts of a text, and the event that is to follow them."""
    drafts = [*(e for e in text if e.provisional), *([event] if event.provisional else [])]
    read: list[Verdict] = []
    for draft in drafts:
        ratio = _ratio(request, draft.index)
        if not keeps(ratio, draft.acceptance):
            written = _event(request, draft.index, Setting(threshold=2.0), event.seconds)
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


def _event(request: Request, index: int, setting: Setting, seconds: float) -> TokenEvent:
    piece, scores = _pieces(request)[index], request.setting.policy not in ("slm", "llm")
    score = round(random.Random(f"{request.seed}/{index}").betavariate(2.2, 0.7), 4)
    role = (Role.LLM if score < setting.threshold else Role.SLM) if scores else Role(request.setting.policy)
    if role is Role.SLM and not keeps(_ratio(request, index), setting.acceptance):
        piece = piece.upper()
    llm, alternatives = role is Role.LLM, {}
    if request.alternatives:
        other = _alternatives(piece, index + 1, 0.95) if llm else ()
        alternatives = {"slm_alternatives": _alternatives(piece, index, 0.9 * score), "llm_alternatives": other}
    spent: dict[str, Any] = {"slm_fed": 1, "llm_fed": 0, "slm_head": not llm, "seconds": seconds}
    asked: Any = {"threshold": setting.threshold, "acceptance": setting.acceptance, "score": score if scores else None}
    return TokenEvent(id=1000 + index, text=piece, role=role, index=index, **asked, **spent, **alternatives)


def _alternatives(piece: str, index: int, top: float) -> tuple[Alternative, ...]:
    words, rest = [piece, " the", "\n", " a", " return"], round((1 - top) / 5, 4)
    return tuple(Alternative(1000 + index + n, word, rest if n else round(top, 4)) for n, word in enumerate(words))


def _revealed(request: Request, index: int) -> Revealed:
    return Revealed(index, Role.LLM, _alternatives(" was", index, 0.8) if request.alternatives else ())
