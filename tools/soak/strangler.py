"""More attackers of `tools/soak`: they take connections, time and turns from others, and send nearly nothing.

After each attack somebody with another address asks `/v1`: an answer that takes over `SOON` seconds is harm.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import accumulate

import httpx

from tools.soak.attackers import Attack
from tools.soak.floods import Flooder
from tools.soak.page import Asked, BareWindow, Lost

SOON = 5.0
"""Seconds in which others must be answered, with the tiny pair."""

LATER = 60.0
"""The same with a real pair: a row is free when one of the honest texts ends."""

_SILENT, _CONNECTIONS, _CHUNKS = 32, 1_100, 20_000
_CLIENTS, _REQUESTS, _FORGED = 30, 40, 12
_LOOP_SECONDS = 20.0


class Strangler(Flooder):
    """Does what `Flooder` does, and these."""

    def attacks(self) -> list[Attack]:
        """All that it can do."""
        return [
            *super().attacks(),
            ("32 requests to `/v1` without their bodies", self.silent_requests),
            ("1,100 silent connections", self.silent_connections),
            ("bodies in chunks of one byte", self.tiny_chunks),
            ("30 clients that fetch the page", self.page_flood),
            ("invented windows as fast as they go", self.window_flood),
            ("texts under forged addresses", self.forged),
            ("texts opened again after others", self.reopened),
            ("small things that were wrong once", self.small),
        ]

    def alone(self) -> list[Attack]:
        """Busy loops beside other attacks would only slow those down."""
        return [*self.attacks(), ("two busy loops on the same cores", self.busy_loops)]

    def _connect(self) -> socket.socket:
        return socket.create_connection((self.host.hostname, self.host.port), timeout=30)

    def _head(self, path: str, *lines: str) -> bytes:
        head = [f"POST /{path} HTTP/1.1", f"Host: {self.host.netloc}", f"X-Forwarded-For: {self.address}", *lines]
        return ("\r\n".join([*head, "Content-Type: application/json"]) + "\r\n\r\n").encode()

    def _others(self) -> None:
        """Somebody else asks for a token."""
        began = time.monotonic()
        asks = {"model": f"{self.served.preset}:slm", "prompt": "Start with 1.", "max_tokens": 1}
        with self.served.client(f"192.0.2.{self.random.randrange(1, 250)}") as client:
            answer = client.post("v1/completions", json=asks, timeout=2 * LATER)
        if answer.status_code != 200:
            raise Lost(f"others are refused: {answer.status_code}: {answer.text[:100]}")
        if time.monotonic() - began > (SOON if self.served.tiny else LATER):
            raise Lost(f"others wait {time.monotonic() - began:.1f} s")

    def silent_requests(self, client: httpx.Client) -> None:
        opened = [self._connect() for _ in range(_SILENT)]
        try:
            for each in opened:
                each.sendall(self._head("v1/completions", "Content-Length: 10"))
            self._others()
        finally:
            for each in opened:
                each.close()

    def silent_connections(self, client: httpx.Client) -> None:
        opened: list[socket.socket] = []
        try:
            for n in range(_CONNECTIONS):
                opened.append(self._connect())
                if n % 2:
                    with suppress(OSError):
                        opened[-1].sendall(self._head("v1/completions")[:40])
            self._others()
        finally:
            for each in opened:
                each.close()

    def tiny_chunks(self, client: httpx.Client) -> None:
        opened = [self._connect() for _ in range(5)]
        try:
            for each in opened:
                with suppress(OSError):
                    each.sendall(self._head("v1/completions", "Transfer-Encoding: chunked"))
                    each.sendall(b"1\r\n \r\n" * _CHUNKS)
            self._others()
        finally:
            for each in opened:
                each.close()

    def page_flood(self, client: httpx.Client) -> None:
        def fetch(_: int) -> None:
            with self.served.client(self.address) as own:
                for _ in range(_REQUESTS):
                    if (status := own.get("").status_code) not in (200, 429):
                        raise Lost(f"the page has status {status}")

        with ThreadPoolExecutor(_CLIENTS) as pool:
            fetched = [pool.submit(fetch, n) for n in range(_CLIENTS)]
            self._others()
            for each in fetched:
                each.result()

    def window_flood(self, client: httpx.Client) -> None:
        for _ in range(_CLIENTS * _REQUESTS):
            self._judge(client.post("gradio_api/run/predict", json=self._event("key", self._session())), True)
        self._others()

    def forged(self, client: httpx.Client) -> None:
        """A proxy appends the real address to X-Forwarded-For; addresses that a client puts there gain it no places."""
        asked = self.served.body(Asked(f"{self.served.long} {self.marker}", 0.5, 0, 1500), stream=True)
        done, changes = threading.Event(), []

        def read(n: int) -> None:
            headers = {"X-Forwarded-For": f"8.8.{self.number}.{n}, {self.address}"}
            with client.stream("POST", "v1/chat/completions", json=asked, headers=headers) as answer:
                if answer.status_code != 200:
                    return
                changes.append((time.monotonic(), 1))
                for _ in answer.iter_lines():  # whoever reads nothing for a minute loses its place
                    if done.is_set():
                        break
            changes.append((time.monotonic(), -1))

        with ThreadPoolExecutor(_FORGED) as pool:
            texts = [pool.submit(read, n) for n in range(_FORGED)]
            try:
                self._others()
            finally:
                done.set()
            for each in texts:
                each.result()
        if (most := max(accumulate(change for _, change in sorted(changes)), default=0)) == _FORGED:
            raise Lost(f"{most} texts are written at once for one address under others' names")

    def reopened(self, client: httpx.Client) -> None:
        """A text with tokens that were taken back is opened again by the page that gave it out."""
        prompt = f"Start with {self.random.randrange(100)}. Add 30. ({self.marker})"
        shown = BareWindow(self.served, client, self._session())
        shown.write(Asked(prompt, 0.8, self.random.choice([0.3, 0.5, 1.0]), 48))
        event = {"name": "text.json", "text": json.dumps(shown.trace())}
        shown.close()
        asked = self._event("open_trace", self._session(), event_data=event)
        if not self._judge(client.post("gradio_api/run/predict", json=asked), True):
            raise Lost("the page does not open its own text")

    def busy_loops(self, client: httpx.Client) -> None:
        if self.number:
            time.sleep(1)
            return
        loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
        try:
            end = min(self.until, time.monotonic() + _LOOP_SECONDS)
            while time.monotonic() < end:
                self._others()
                time.sleep(0.5)
        finally:
            for each in loops:
                each.kill()
                each.wait()

    def small(self, client: httpx.Client) -> None:
        self._judge(client.get("gradio_api/queue/data", params={"session_hash": self._session()}))
        self._judge(client.post("gradio_api/cancel", content=b"x" * 5_000_000))
        self._judge(client.post("gradio_api/run/predict", json=self._event("set_dials", self._session(), ["x", 7, {}])))
        self._expect(client.get("openapi.json"), 404)
        page = client.get("", headers={"X-Forwarded-Host": "evil.example", "X-Gradio-Server": "http://evil.example"})
        if page.status_code == 200 and ("evil.example" in page.text or "x-content-type-options" not in page.headers):
            raise Lost("the page believes who asks, or lacks its headers")
