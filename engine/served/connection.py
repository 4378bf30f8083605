"""The connection to the LLM's server: it stays open, has many questions on their way, and asks again after a failure.

Asking again is safe: a question changes nothing on the server, and nothing here before its answer is whole. The pause
before the next try grows and is partly drawn by chance, so that many texts do not come back at the same moment. After
`patience` seconds a question fails. If others were answered meanwhile it fails alone. Else the server counts as gone,
and all questions fail at once; a look every second finds out when it is back. Beyond `at_once` questions others wait
for a place, and their patience begins when they have it.

All of this runs in one thread with an event loop of its own.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import random
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

import httpx

from engine.errors import ServerError, shown
from engine.served.dialects import WrongAnswer

MODELS = "/v1/models"
_MOST_BYTES = 64_000_000  # of a reply: the probabilities of a prompt of thousands of tokens
_CONNECT_SECONDS = 5.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
_WRONG_ANSWERS = 3  # of one question, before it is given up
_LOOK_SECONDS = 1.0  # between looks for a server that is gone
_BUSY, _PASSING = 429, (408, 429, 500, 502, 503, 504)

Found = TypeVar("Found")
logger = logging.getLogger(__name__)


class ServerRefusal(ServerError):
    """A reply that would be the same however often the server is asked."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Failure(ServerError):
    """A failure that may be over at the next try, `retry_after` seconds from now; a `busy` server is there."""

    def __init__(self, message: str, retry_after: float = 0.0, busy: bool = False) -> None:
        super().__init__(message)
        self.retry_after, self.busy = retry_after, busy


class Connection:
    """One server.

    Attributes:
        url: Without a slash at its end. It may be shown: it holds no password (see `engine.settings`).
        gone: Whether the server has not answered for so long that nobody waits for it any more.
        longest: Seconds after which a question that has its place has ended, whatever became of its last try.
    """

    def __init__(self, url: str, key: str | None, timeout: float, patience: float, at_once: int) -> None:
        """Starts its thread; nothing is sent yet.

        Args:
            url: Where the server is.
            key: Sent as a bearer token, and never shown.
            timeout: Seconds for one reply, from its question to its last byte.
            patience: Seconds after which a question is given up.
            at_once: Questions on their way at once, at most.
        """
        self.url, self.gone, self.longest = url, False, patience + 2 * timeout
        self._key, self._timeout, self._patience = key, timeout, patience
        self._at_once, self._places = at_once, asyncio.Semaphore(at_once)
        self._fault = ""  # of the last try that failed
        self._failing_since: float | None = None
        self._answered = -math.inf  # when the last question was
        self._looking: asyncio.Future[None] | None = None
        self._client: httpx.AsyncClient | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="citer-served", daemon=True)
        self._thread.start()

    @property
    def trouble(self) -> str:
        """The server's failure, in words; empty while it answers."""
        since = self._failing_since
        return "" if since is None else f"The LLM's server has not answered for {time.monotonic() - since:.0f} s"

    def ask(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], Found]) -> Future[Found]:
        """Posts JSON, or gets where `body` is None, and reads the JSON that comes back.

        `read` raises WrongAnswer for another shape. The future raises a ServerError.
        """
        return asyncio.run_coroutine_threadsafe(self._ask(path, body, read), self._loop)

    def given_up(self, fault: str = "") -> ServerError:
        """The error of a text whose server does not answer."""
        return ServerError(
            f"The LLM's server at {self.url} does not answer ({fault or self._fault}). The text so far stays, and can "
            "be gone on with once the server is back; at threshold 0 the SLM writes alone."
        )

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
        if others:
            await asyncio.wait(others, timeout=_CONNECT_SECONDS)
        if self._client is not None:
            await self._client.aclose()

    async def _ask(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], Found]) -> Found:
        async with self._places:
            try:
                async with asyncio.timeout(self.longest):  # a second bound, for a try that outlasts its own
                    return await self._answer(path, body, read)
            except TimeoutError:
                raise self.given_up("no reply in time") from None

    async def _answer(self, path: str, body: dict[str, Any] | None, read: Callable[[Any], Found]) -> Found:
        started, pause, wrong = time.monotonic(), _FIRST_PAUSE, 0
        while not self.gone:
            try:
                answer = read(await self._once(path, body))
            except _Failure as failure:
                fault, least = failure, failure.retry_after
                self._note(failure)
            except WrongAnswer as answered:
                fault, least, wrong = answered, 0.0, wrong + 1
                if wrong == _WRONG_ANSWERS:
                    raise ServerError(f"The LLM's server at {self.url} gave a wrong answer: {fault}") from fault
            else:
                self._answered = time.monotonic()
                self._is_there()
                return answer
            left = started + self._patience - time.monotonic()
            if left <= 0:
                self._give_up(started)
                raise self.given_up(str(fault))
            pause = min(2 * pause, _LONGEST_PAUSE)
            rest = max(least, pause * random.uniform(0.5, 1.0))
            await asyncio.sleep(min(rest, left))  # the server may ask for longer than anyone waits
        raise self.given_up()

    def _note(self, failure: _Failure) -> None:
        if str(failure) != self._fault:
            logger.warning("the LLM's server: %s", failure)
        self._fault = str(failure)
        if not failure.busy and self._failing_since is None:
            self._failing_since = time.monotonic()

    def _give_up(self, started: float) -> None:
        """A question that was asked at `started` has failed for good: decides whether the server is gone.

        A server that has just gone may have answered others since then, but none of late.
        """
        if self._failing_since is None:
            return
        silent = self._answered < max(started, time.monotonic() - self._patience / 2)
        if silent and not self.gone:
            self.gone = True
            logger.error("the LLM's server is gone: %s", self._fault)
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look())

    async def _look(self) -> None:
        """Finds out when the server is back."""
        while self._failing_since is not None:
            await asyncio.sleep(_LOOK_SECONDS * random.uniform(0.5, 1.0))
            try:
                await self._once(MODELS, None)
            except ServerError:
                continue
            self._is_there()

    def _is_there(self) -> None:
        if self.gone:
            logger.warning("the LLM's server is back")
        self.gone, self._failing_since = False, None

    async def _once(self, path: str, body: dict[str, Any] | None) -> Any:
        """One request; raises _Failure, WrongAnswer for what is no JSON, ServerRefusal for all other replies."""
        if self._client is None:
            headers = {b"Authorization": f"Bearer {self._key}".encode()} if self._key else {}
            most = self._at_once + 1  # one looks whether the server is back
            limits = httpx.Limits(max_connections=most, max_keepalive_connections=most)
            timeout = httpx.Timeout(self._timeout, connect=min(self._timeout, _CONNECT_SECONDS), pool=None)
            self._client = httpx.AsyncClient(headers=headers, timeout=timeout, limits=limits)
        data, asked = bytearray(), self._client.stream("GET" if body is None else "POST", self.url + path, json=body)
        try:
            # httpx bounds each read by itself: a reply that comes byte by byte would have no end.
            async with asyncio.timeout(self._timeout), asked as reply:
                async for piece in reply.aiter_bytes():
                    data += piece
                    if len(data) > _MOST_BYTES:
                        raise WrongAnswer(f"over {_MOST_BYTES:,} bytes")
        except (httpx.HTTPError, TimeoutError) as error:
            raise _Failure(_words(error)) from None  # the request, which an error holds, has the key
        status = reply.status_code
        if status in _PASSING:
            raise _Failure(f"status {status}", _seconds(reply), status == _BUSY)
        if status in (401, 403):
            raise ServerRefusal(f"The LLM's server refuses the key (status {status}): check CITER_LLM_KEY", status)
        if status != 200:
            said = data[:2000].decode("utf-8", "replace")
            said = shown(said.replace(self._key, "…") if self._key else said, limit=200)
            raise ServerRefusal(f"The LLM's server refuses {path} with status {status}: {said}", status)
        try:
            return json.loads(data)
        except (ValueError, RecursionError):
            raise WrongAnswer("no JSON") from None


def _words(error: httpx.HTTPError | TimeoutError) -> str:
    if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
        return "no connection"
    if isinstance(error, httpx.TimeoutException | TimeoutError):
        return "no reply in time"
    return "a reply that cannot be decoded" if isinstance(error, httpx.DecodingError) else "the reply broke off"


def _seconds(reply: httpx.Response) -> float:
    """The seconds that the server asks to wait, at most a minute; 0 where it asks for none."""
    said = reply.headers.get("Retry-After", "")
    return min(float(said), 60.0) if said.isascii() and said.isdigit() and len(said) < 5 else 0.0
