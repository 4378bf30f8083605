"""Turns token ids into text as they arrive: whole characters only, and nothing of a stop string. Knows no models."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import Tokenizer
from tokenizers.decoders import DecodeStream


class TextStream:
    """Incremental text of one row.

    A character whose bytes span several tokens arrives with the token that completes it. Text that may be the beginning
    of a stop string is held back until it is known not to be. Special tokens have no text.

    Attributes:
        stopped: Whether a stop string was reached; the text ends just before it.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = ()) -> None:
        """Starts an empty text.

        Args:
            tokenizer: The pair's tokenizer (the Rust one, `PreTrainedTokenizerFast.backend_tokenizer`).
            stop: Stop strings, none empty.
        """
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._stream = DecodeStream(skip_special_tokens=True)
        self._held = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """Adds a token and returns the text that became certain with it, possibly empty."""
        self._held += self._stream.step(self._tokenizer, token) or ""
        cut = min((at for at in (self._held.find(stop) for stop in self._stop) if at >= 0), default=-1)
        if cut >= 0:
            self.stopped = True
            certain, self._held = self._held[:cut], ""
            return certain
        keep = max((_overlap(self._held, stop) for stop in self._stop), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return certain

    def finish(self) -> str:
        """Returns what was held back for a stop string that did not come; an unfinished character is dropped."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a proper beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
