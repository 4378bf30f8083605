"""One text: what was asked for, the tokens written so far, and how far it is. A batch is a list of texts.

Everything that writes or shows texts holds these: the decode loop, the scheduler, the page's jobs, the endpoint, and
evaluations. Nothing here imports torch.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from queue import SimpleQueue
from threading import Event
from typing import TYPE_CHECKING, Literal, NamedTuple

from engine.errors import log_fault
from engine.events import FinishReason, Role, TokenEvent, charged_reads, fold_revealed
from engine.policy import Policy
from engine.request import Request
from engine.setting import Setting
from engine.tokenizer import TextStream

if TYPE_CHECKING:
    import torch

State = Literal["waiting", "running", "done", "stopped", "failed"]

logger = logging.getLogger(__name__)

NOWHERE = -1
"""The slot of a text that is in no decoding."""


class Choice(NamedTuple):
    """The token that the LLM would draw at a position, and the ratio of the token drafted there (`TokenEvent.ratio`).

    `probability` is what the LLM gives its own token, where candidates are recorded.
    """

    own: int
    ratio: float
    probability: float | None = None


@dataclass(eq=False)
class Text:
    """One text.

    What was asked for:
        request: Its `setting` may have changed since; see `setting`.
        policy: Texts with the same object are scored together.
        tokens: Ids of the prompt, and of what was written so far.
        limit: Generated tokens at most: the request's, or fewer where the context ends.
        row: Its number among the texts that were asked for together. Its events carry it.
        setting: In force. It may be replaced at any time, from the next drafted token on.

    What was written:
        events: One for each generated token, as `extend` puts them together.
        finish_reason: None while the text goes on.
        state: "waiting" until it is written, and again while other texts have its place; then one of the three ends.
        error: Why it failed.
        news: The events of all texts that were asked for together, as they come, and a None for each that ends.

    For the scheduler:
        owner, interactive, listener, stopped: See `Scheduler.submit`.
        begun: Whether it had an event since it was asked for.
        arrived: Its number in the order in which all texts were asked for.
        asked, since: When it was asked for, and when it last got a row, by the monotonic clock.
        forgotten: Whether its slot is emptied when it ends, so that no text goes on from it.

    For the decode loop:
        slot: Its place in the KV caches. Texts that are the same so far may share one.
        read: Tokens that each model was charged for. The caches may hold more, or less.
        settled: Tokens from the start that the LLM can no longer take back.
        choices: The LLM's choices by position, where it has read.
        kept: Verdicts on drafts by bin of their scores: [kept, all].
        called: How often the LLM wrote because it was chosen, not because it refused a draft.
        prompt_hidden: The SLM's hidden state after the prompt [d], for policies that decide by it.
        decoder: Turns tokens into characters.
    """

    request: Request
    policy: Policy
    tokens: list[int]
    limit: int
    row: int = 0
    news: SimpleQueue[TokenEvent | None] = field(default_factory=SimpleQueue)
    prompt_tokens: int = field(init=False)
    setting: Setting = field(init=False)
    events: list[TokenEvent] = field(default_factory=list)
    finish_reason: FinishReason | None = None
    state: State = "waiting"
    error: Exception | None = None

    owner: Hashable = None
    interactive: bool = True
    listener: Callable[[Text], None] | None = None
    stopped: Callable[[], bool] | None = None
    begun: bool = False
    arrived: int = 0
    asked: float = 0.0
    since: float = 0.0
    forgotten: bool = False

    slot: int = NOWHERE
    read: dict[Role, int] = field(default_factory=lambda: dict.fromkeys(Role, 0))
    settled: int = 0
    choices: dict[int, Choice] = field(default_factory=dict)
    kept: dict[int, list[int]] = field(default_factory=dict)
    called: int = 0
    prompt_hidden: torch.Tensor | None = None
    decoder: TextStream | None = None

    def __post_init__(self) -> None:
        self.prompt_tokens, self.setting = len(self.tokens), self.request.setting
        self._cancelled, self._ended = False, Event()

    @property
    def position(self) -> int:
        return len(self.events)

    @property
    def provisional(self) -> list[TokenEvent]:
        """Drafted tokens that the LLM has not read and may take back."""
        return [event for event in self.events[self.settled :] if event.judged]

    @property
    def unwanted(self) -> bool:
        """Whether it is to end within a step: it was cancelled, or `stopped` says so or fails."""
        try:
            return self._cancelled or (self.stopped is not None and self.stopped())
        except Exception as error:
            log_fault(logger, "who asked for a text is gone", error)
            return True

    @property
    def ended(self) -> bool:
        return self._ended.is_set()

    def wait(self, timeout: float | None = None) -> bool:
        return self._ended.wait(timeout)

    def cancel(self) -> None:
        self._cancelled = True

    def go_on(self, request: Request, events: Sequence[TokenEvent]) -> None:
        """Makes it the text of these events, to be written on as a request with the same prompt asks."""
        self.request, self.setting = request, request.setting
        self.events = list(fold_revealed(events))
        self.tokens = self.tokens[: self.prompt_tokens] + [event.id for event in events]
        self.read = charged_reads(self.events, self.prompt_tokens)
        self.finish_reason = events[-1].finish_reason if events else None
        # A verdict that came with a token which is dropped here was not charged to this text: the LLM reads again.
        last = self.read[Role.LLM] - self.prompt_tokens
        unsettled = (n for n, event in enumerate(self.events) if event.provisional or (event.judged and n > last))
        self.settled = next(unsettled, len(events))
        self.choices, self.kept, self.called = {}, {}, 0
        for event in self.events[: self.settled]:
            self.called += event.role is Role.LLM and not event.refused
            if event.judged or event.refused:
                self.count(event.score, event.judged)
        self.decoder = None

    def count(self, score: float | None, kept: bool) -> None:
        """Counts the LLM's verdict on a draft, beside those on drafts with similar scores."""
        counts = self.kept.setdefault(score_bin(score), [0, 0])
        counts[0] += kept
        counts[1] += 1

    def cached(self, role: Role) -> int:
        """How many of its tokens a model need not read, if a cache holds the same text.

        The last token is always read, for its hidden state. The LLM also reads unsettled drafts, to judge them: its
        choice at a position comes from the pass over the token before it.
        """
        if role is Role.LLM and self.settled < self.position:
            return self.prompt_tokens + self.settled - 1
        return len(self.tokens) - 1

    def tell(self, event: TokenEvent | None = None) -> None:
        """Passes on an event, or without one that the text has ended."""
        if event is None:
            self._ended.set()
        else:
            self.begun = True
        self.news.put(event)
        if self.listener is not None:
            try:
                self.listener(self)
            except Exception as error:
                self.cancel()
                with suppress(Exception):
                    log_fault(logger, "the listener of a text is gone", error)


def score_bin(score: float | None) -> int:
    """The bin of a score: tenths, or −1 without a score."""
    return -1 if score is None else min(9, int(10 * score))


def follow(texts: Sequence[Text]) -> Iterator[TokenEvent]:
    """The events of all texts that were asked for together, as they come, until all have ended.

    At the end it raises the error of a text that failed. A loop that is left early cancels all texts.
    """
    left = len(texts)
    try:
        while left:
            event = texts[0].news.get()
            if event is None:
                left -= 1
            else:
                yield event
    finally:
        for text in texts:
            if not text.ended:
                text.cancel()
    for text in texts:
        if text.error is not None:
            raise text.error
