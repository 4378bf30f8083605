"""Keeps compressed answers that are the same for everybody: the page's HTML, its scripts and its styles."""

from __future__ import annotations

import re

from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

FOR_GOOD = "public, max-age=31536000, immutable"
"""The `Cache-Control` of a file whose address changes with its content (RFC 8246)."""

MAX_BYTES = 64_000_000
"""The most bytes of all kept answers."""

_WHOLE = ("/", "/config", "/gradio_api/info")  # gradio makes these anew for each request: some 16 ms
_STATIC = re.compile(
    r"/(?:assets|static|svelte|gradio_api/citer/page)/.+|/theme\.css|/favicon\.ico|/gradio_api/file=.+\.js"
)
_BUILT = re.compile(r"/assets/[\w.-]+-[\w-]{8,}\.\w+")  # files of gradio's build have a hash in their names
_CONDITIONS = ("range", "if-none-match", "if-modified-since", "if-match", "if-range")
_DIFFERS = ("host", "x-forwarded-host", "x-forwarded-proto")  # the page's HTML has its own address in it

Key = tuple[str, ...]


def key_of(scope: Scope) -> Key | None:
    """The key of the answer that a request asks for. None for an answer that is not kept."""
    path, headers = scope["path"], Headers(scope=scope)
    whole = path in _WHOLE and b"deep_link" not in scope["query_string"]
    if scope["method"] != "GET" or not (whole or _STATIC.fullmatch(path)) or any(map(headers.get, _CONDITIONS)):
        return None
    accepted = headers.get("accept-encoding", "")
    encoding = next((each for each in ("br", "gzip") if each in accepted), "identity")
    return (path, encoding, *(headers.get(name, "") for name in _DIFFERS if whole))


class Cached:
    """The answers that are kept; the least recently used go first."""

    def __init__(self) -> None:
        self._answers: dict[Key, Response] = {}

    def cost(self, key: Key | None) -> float:
        """What a request costs its client, where an ordinary one costs 1."""
        if key is not None and key[0] in _WHOLE:
            return 2.0 if key in self._answers else 4.0  # a page has 300 kB: to send it takes its time as well
        return 0.1 if key in self._answers else 1.0

    async def respond(self, key: Key, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers with what is kept, or with what the application makes, in the key's encoding."""
        answer = self._answers.pop(key, None) or await _made(key, app, scope, receive)
        if answer.status_code == 200 and "set-cookie" not in answer.headers:
            self._answers[key] = answer
            while sum(len(kept.body) for kept in self._answers.values()) > MAX_BYTES:
                del self._answers[next(iter(self._answers))]
        await answer(scope, receive, send)


async def _made(key: Key, app: ASGIApp, scope: Scope, receive: Receive) -> Response:
    headers = [(name, value) for name, value in scope["headers"] if name != b"accept-encoding"]
    sent: list[Message] = []

    async def collect(message: Message) -> None:
        sent.append(message)

    await app({**scope, "headers": [*headers, (b"accept-encoding", key[1].encode())]}, receive, collect)
    if not sent or sent[-1].get("more_body", False):  # the client has gone, and the application has stopped half-way
        raise ClientDisconnect
    start, *parts = sent
    answer = Response(b"".join(part.get("body", b"") for part in parts), start["status"])
    answer.raw_headers += [each for each in start["headers"] if each[0] != b"content-length"]
    if start["status"] == 200 and _BUILT.fullmatch(key[0]):
        answer.headers["Cache-Control"] = FOR_GOOD
    return answer
