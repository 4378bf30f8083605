"""The connection to the LLM's server: it stays open, has many questions on their way, and asks again after a failure.

Asking again is safe: a question changes nothing on the server, and only a whole answer is used here. The pause
before the next try grows and is partly drawn by chance, so that many texts do not come back at the same moment. After
`patience` seconds a question fails. Beyond `at_once` questions others wait for a place, and their patience begins when
they have it.

All of this runs in one thread with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx

from engine.errors import ServerError, shown

MALFORMED = (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RecursionError)
"""What reading a reply of another shape raises."""

_MOST_BYTES = 64_000_000  # of a reply: the probabilities of a prompt of thousands of tokens
_CONNECT_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_WRONG_ANSWERS = 3  # of one question, before it is given up
_PASSING = (408, 429, 500, 502, 503, 504)

Found = TypeVar("Found")
logger = logging.getLogger(__name__)


class _Failure(Exception):
    """A failure that may be over at the next try."""


class Connection:
    """One server. Its `url` may be shown: it holds no password (see `engine.settings`)."""

    def __init__(self, url: str, key: str | None, timeout: float, patience: float, at_once: int) -> None:
        """Starts its thread; nothing is sent yet. The key is a bearer token, and never shown.

        `timeout` is in seconds for one reply, from its question to its last byte.
        """
        self.url, self._key, self._timeout, self._patience = url, key, timeout, patience
        self._places = asyncio.Semaphore(at_once)
        self._failing: dict[object, float] = {}  # questions whose last try failed, and since when
        self._client = httpx.AsyncClient(
            headers={b"Authorization": f"Bearer {key}".encode()} if key else {},
            timeout=httpx.Timeout(timeout, connect=min(timeout, _CONNECT_SECONDS), pool=None),
            limits=httpx.Limits(max_connections=at_once, max_keepalive_connections=at_once),
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="citer-served", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """What keeps questions from being answered, for people; empty where nothing does."""
        if not (since := [*self._failing.values()]):
            return ""
        seconds = time.monotonic() - min(since)
        return f"The LLM's server has not answered for {seconds:.0f} s; waiting for it …"

    def ask(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], Found]) -> Future[Found]:
        """Posts JSON, or gets where `body` is None, and reads the JSON that comes back.

        What `read` raises of `MALFORMED` is a wrong answer; the next may be right. The future may raise ServerError.
        """
        return asyncio.run_coroutine_threadsafe(self._ask(path, body, read), self._loop)

    def close(self) -> None:
        """Ends the connection and its thread; questions on their way are given up."""
        if not self._loop.is_closed():
            asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _close(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _ask(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], Found]) -> Found:
        async with self._places:
            try:
                return await self._answer(path, body, read)
            finally:
                self._failing.pop(asyncio.current_task(), None)

    async def _answer(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], Found]) -> Found:
        started, pause, wrong = time.monotonic(), _FIRST_PAUSE, 0
        while True:
            try:
                return read(await self._once(path, body))
            except _Failure as failure:
                fault = str(failure)
                if not self._failing:
                    logger.warning("the LLM's server: %s", fault)
                self._failing.setdefault(asyncio.current_task(), time.monotonic())
            except MALFORMED as error:
                fault, wrong = f"{type(error).__name__}: {shown(str(error))}", wrong + 1
                if wrong == _WRONG_ANSWERS:
                    raise ServerError(f"The LLM's server at {self.url} gave a wrong answer: {fault}") from error
            left = started + self._patience - time.monotonic()
            if left <= 0:
                raise ServerError(
                    f"The LLM's server at {self.url} does not answer ({fault}). The text so far stays, and can be "
                    "continued once the server is back; at threshold 0 the SLM writes alone."
                )
            pause = min(2 * pause, _LONGEST_PAUSE)
            await asyncio.sleep(min(pause * random.uniform(0.5, 1.0), left))

    async def _once(self, path: str, body: dict[str, Any] | None) -> Any:
        """One request. Raises _Failure for what may pass, ValueError for what is no JSON, ServerError for a refusal."""
        data, asked = bytearray(), self._client.stream("GET" if body is None else "POST", self.url + path, json=body)
        try:
            # httpx bounds each read by itself: a reply that comes byte by byte would have no end.
            async with asyncio.timeout(self._timeout), asked as reply:
                async for piece in reply.aiter_bytes():
                    data += piece
                    if len(data) > _MOST_BYTES:
                        raise ValueError(f"over {_MOST_BYTES:,} bytes")
        except (httpx.HTTPError, TimeoutError) as error:
            raise _Failure(type(error).__name__) from None  # the request, which an error holds, has the key
        status = reply.status_code
        if status in _PASSING:
            raise _Failure(f"status {status}")
        if status in (401, 403):
            raise ServerError(f"The LLM's server refuses the key (status {status}): check CITER_LLM_KEY")
        if status != 200:
            said = data[:2000].decode("utf-8", "replace")
            said = shown(said.replace(self._key, "…") if self._key else said, limit=200)
            raise ServerError(f"The LLM's server refuses {path} with status {status}: {said}")
        return json.loads(data)
