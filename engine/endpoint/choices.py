"""One choice of a reply: its text, the author of each token, and the probabilities."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from engine.batch.text import Text
from engine.endpoint.bodies import ChatBody, CompletionBody
from engine.events import Alternative, Role, TokenEvent
from engine.events.settled import SettledEvents
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
        self._characters = 0  # in all pieces so far

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
            **({key: {**first, "content": text}} if self._body.chat else {"text": text}),
            "logprobs": None if self._body.candidates is None else self._logprobs(events),
            "finish_reason": _REASONS.get(last or ""),
            "citer": {"tokens": [_author(event) for event in events]},
        }
        self._characters += len(text)
        self.begun, self.over = True, last is not None
        return piece

    def _logprobs(self, events: Sequence[TokenEvent]) -> dict[str, Any]:
        """The probabilities in a chat's form or in a completion's."""
        if self._body.chat:
            content = [
                {
                    **_token(self._word(event), event.probability),
                    "top_logprobs": [_token(each.text, each.probability) for each in self._candidates(event)],
                }
                for event in events
            ]
            return {"content": content, "refusal": None}
        offsets, at = [], self._characters
        for event in events:
            offsets.append(at)
            at += len(event.text)
        return {
            "tokens": [self._word(event) for event in events],
            "token_logprobs": [_log(event.probability) for event in events],
            "top_logprobs": [self._top(event) for event in events] if self._body.candidates else None,
            "text_offset": offsets,
        }

    def _top(self, event: TokenEvent) -> dict[str, float]:
        """Log-probabilities of the author's candidates, and of the token itself where it is not among them."""
        listed = {each.text: _log(each.probability) for each in self._candidates(event)}
        return {self._word(event): _log(event.probability)} | listed

    def _candidates(self, event: TokenEvent) -> Sequence[Alternative]:
        """The author's candidates, at most as many as the body wants."""
        own = event.slm_alternatives if event.role is Role.SLM else event.llm_alternatives
        return own[: self._body.candidates]

    def _word(self, event: TokenEvent) -> str:
        """The token's own text. `event.text` may differ where a character needs several tokens."""
        return token_text(backend(self._pair.tokenizer), event.id)


def _author(event: TokenEvent) -> dict[str, Any]:
    """The author of a token and the reason. `ratio` and `taken_back` are those of `TokenEvent`."""
    told = {"id": event.id, "text": event.text, "by": event.role.value, "score": event.score, "ratio": event.ratio}
    if event.taken_back:
        told["taken_back"] = [_author(draft) for draft in event.taken_back]
    return told


def _token(text: str, probability: float | None) -> dict[str, Any]:
    """A token in a chat's form. A token that is a part of a character has no bytes of its own."""
    parts = None if "\N{REPLACEMENT CHARACTER}" in text else list(text.encode())
    return {"token": text, "logprob": _log(probability), "bytes": parts}


def _log(probability: float | None) -> float:
    return max(_LEAST, math.log(probability)) if probability else _LEAST
