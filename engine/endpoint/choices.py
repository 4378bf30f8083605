"""One choice of a reply: its text, the author of each token, and the probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.batch.text import Text
from engine.endpoint.bodies import ChatBody, CompletionBody
from engine.events import Role, SettledEvents, TokenEvent
from engine.tokenizer import backend, token_text

if TYPE_CHECKING:  # it imports torch, for which the page does not wait when it starts
    from engine.pair import Pair

_REASONS = {"eos": "stop", "stop": "stop", "length": "length"}
_LEAST = -9999.0  # stands for the logarithm of a probability too small for a number


class Choice:
    """One choice of a reply as its text grows. Tokens that the LLM may still take back are held back.

    Attributes:
        text: The scheduler's.
        settled: Collects its events.
        begun, over: Whether a first piece was made, and the last.
    """

    def __init__(self, index: int, text: Text, body: ChatBody | CompletionBody, pair: Pair) -> None:
        self.text, self.settled = text, SettledEvents()
        self.begun = self.over = False
        self._index, self._body, self._pair = index, body, pair

    def piece(self, events: Sequence[TokenEvent], key: str = "delta", **first: Any) -> dict[str, Any]:
        """The next tokens in the form of a reply.

        Args:
            events: Settled events of the text.
            key: "delta" for a part of a chat, "message" for a whole one. Completions have neither.
            first: Fields of the message beside its content.
        """
        text, last = "".join(event.text for event in events), events[-1].finish_reason if events else None
        piece = {
            "index": self._index,
            **({key: {**first, "content": text}} if isinstance(self._body, ChatBody) else {"text": text}),
            "logprobs": self._logprobs(events),
            "finish_reason": _REASONS.get(last or ""),
            "citer": {"tokens": [_author(event) for event in events]},
        }
        self.begun, self.over = True, last is not None
        return piece

    def _logprobs(self, events: Sequence[TokenEvent]) -> dict[str, Any] | None:
        """Each token's probability and its author's candidates, where a chat asks for them."""
        if not isinstance(self._body, ChatBody) or not self._body.logprobs:
            return None
        content = []
        for event in events:
            own = event.slm_alternatives if event.role is Role.SLM else event.llm_alternatives
            top = [_token(each.text, each.probability) for each in own[: self._body.top_logprobs]]
            # `event.text` may differ from the token's own where a character needs several tokens.
            text = token_text(backend(self._pair.tokenizer), event.id)
            content.append({**_token(text, event.probability), "top_logprobs": top})
        return {"content": content, "refusal": None}


def _author(event: TokenEvent) -> dict[str, Any]:
    """The author of a token and the reason. `ratio` and `taken_back` are those of `TokenEvent`."""
    told = {"id": event.id, "text": event.text, "by": event.role.value, "score": event.score, "ratio": event.ratio}
    if event.taken_back:
        told["taken_back"] = [_author(draft) for draft in event.taken_back]
    return told


def _token(text: str, probability: float | None) -> dict[str, Any]:
    """A token with its log-probability. A token that is a part of a character has no bytes of its own."""
    parts = None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
    logprob = max(_LEAST, math.log(probability)) if probability else _LEAST
    return {"token": text, "logprob": logprob, "bytes": parts}
