"""What a browser may keep for good: files whose address changes with their content.

A page of gradio's has some hundred files. Without this a browser asks for each of them again whenever the page is
opened, to hear that it has not changed.
"""

from __future__ import annotations

import re

from starlette.datastructures import MutableHeaders
from starlette.types import Message, Send

FOR_GOOD = "public, max-age=31536000, immutable"
"""The `Cache-Control` of such a file (RFC 8246)."""

_BUILT = re.compile(r"/assets/[\w.-]+-[\w-]{8,}\.\w+")
"""Files of gradio's build, which have a hash of their content in their names."""


def kept_for_good(path: str, send: Send) -> Send:
    """How to send the answer at a path: one of gradio's build may be kept, if it is there."""
    if not _BUILT.fullmatch(path):
        return send

    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start" and message["status"] == 200:
            MutableHeaders(scope=message)["Cache-Control"] = FOR_GOOD
        await send(message)

    return sent
