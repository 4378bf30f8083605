"""What is kept of visitors, weighed in tokens with both models' candidates, of which one takes about two kilobytes."""

from __future__ import annotations

import sys

from engine import Request

TOKEN_BYTES = 2_000

FILE_BYTES = 400
"""Of a token in a trace's file; what it says takes some five times as much memory."""

_AUTHOR_BYTES = 100
"""Of a piece of a conversation with who wrote it."""


def text_bytes(*texts: str | None) -> int:
    """Memory of some texts: one byte a character, or up to four."""
    return sum(sys.getsizeof(text) for text in texts if text)


def request_weight(request: Request) -> int:
    """Of what was asked: its texts, which may have a million characters, and who wrote what of those before it."""
    texts = text_bytes(request.prompt, request.system, *request.stop, *(turn.text for turn in request.turns))
    authors = sum(len(turn.authors) for turn in request.turns)
    return (texts + _AUTHOR_BYTES * authors) // TOKEN_BYTES
