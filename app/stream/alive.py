"""Where windows ask whether the server is there, and whether it still knows them (`assets/page/lib/lost.js`)."""

from __future__ import annotations

import secrets
import time

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

from app.running.sessions import Sessions


def alive_route(sessions: Sessions) -> Route:
    """Answers with a word that each start of the server has of its own.

    For a window that gives its feed's key under `citer-feed` a second word says whether its session is there still:
    "known" or "unknown".
    """
    start = secrets.token_hex(8)

    async def alive(request: Request) -> PlainTextResponse:
        words = [start]
        if key := request.headers.get("citer-feed"):
            session = sessions.find_key(key)
            words.append("known" if session else "unknown")
            if session:
                session.listeners.last_heard = time.monotonic()
        return PlainTextResponse(" ".join(words), headers={"Cache-Control": "no-store"})

    return Route("/gradio_api/citer/pair", alive)
