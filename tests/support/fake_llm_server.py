"""An LLM's server in this process that answers as vLLM does, and misbehaves on demand.

The shapes are those that vLLM documents; the model behind them is a real one of the engine's.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

TOGETHER_SECONDS = 20.0
"""How long a question waits for those that should be there with it: less than a client waits before it asks again."""


class FakeServer:
    """One server.

    Attributes:
        fault: Called with the number of each question, from 1: "held" (until `answers` is set), "cut", "500", "503",
            "429", "token", "json", "shape", or None for an answer.
        asked, seen: How many questions there were; all bodies of them.
        together: So many must once be there at the same time before any is answered; 1, as at first, waits for none.
        at_once: The most questions that were being answered at the same time.
    """

    def __init__(self, pair: Any, key: str | None = None) -> None:
        self.pair, self.key = pair, key
        self.fault: Callable[[int], str | None] = lambda number: None
        self.tokens: Callable[[str], list[int]] = lambda text: pair.tokenizer.encode(text, add_special_tokens=False)
        self.name = "org/tiny-llm"
        self.asked = self.at_once = self._now = self._port = 0
        self.together, self.answers = 1, threading.Event()
        self.seen: list[dict[str, Any]] = []
        self.faults: Counter[str] = Counter()
        self._lock, self._running = threading.Condition(), threading.Lock()
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listens, at the same port as before if it did."""
        self.open: set[Any] = set()
        self._server = _Server(("127.0.0.1", self._port), _Handler)
        self._server.fake, self._port = self, self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Is gone: nobody listens, open connections break off, and nothing that is held is answered."""
        self._server.shutdown()
        self._server.server_close()
        for handler in list(self.open):
            handler.close_connection = True
            with suppress(OSError):
                handler.connection.shutdown(2)
                handler.connection.close()
        self.answers.set()

    def said(self, path: str, body: dict[str, Any] | None) -> tuple[int, Any, str]:
        """What it answers: the status, the body, and what becomes of it on its way."""
        if body is None:
            known = {"id": self.name, "owned_by": "vllm", "max_model_len": 2048}
            return (200, {"object": "list", "data": [known]}, "") if path == "/v1/models" else (404, {}, "")
        if path == "/tokenize":
            return 200, {"tokens": self.tokens(body["prompt"])}, ""
        with self._lock:
            self.asked += 1
            self._now += 1
            number, self.at_once = self.asked, max(self.at_once, self._now)
            self.seen.append(body)
            self._lock.notify_all()
            if not self._lock.wait_for(lambda: self.at_once >= self.together, TOGETHER_SECONDS):
                self.together = 1  # they never come: the test that waits for them has failed, and says so
        try:
            fault = self.fault(number) or ""
            self.faults[fault] += 1
            return self._answer(body, fault)
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, body: dict[str, Any], fault: str) -> tuple[int, Any, str]:
        if fault.isdigit():
            return int(fault), {"error": "not now"}, ""
        if fault == "held":
            self.answers.wait()
        if fault == "json":
            return 200, "a proxy's page", ""
        if fault == "shape":
            return 200, {"object": "error"}, ""
        return 200, completion(self, body, fault == "token"), fault

    def likeliest(self, tokens: list[int], looks: int, top: int) -> list[list[tuple[int, float]]]:
        """The LLM's after each of the last tokens, best first."""
        llm = self.pair.llm
        with self._running:
            hidden = llm.feed(llm.new_cache(1, len(tokens)), [0], [tokens])[0]
            found = torch.log_softmax(llm.logits(hidden[-looks:]).double(), -1).topk(top, dim=-1)
        places = zip(found.indices.tolist(), found.values.tolist(), strict=True)
        return [list(zip(ids, values, strict=True)) for ids, values in places]


def completion(server: Any, body: dict[str, Any], wrong: bool = False) -> dict[str, Any]:
    """The reply to a question; where it is `wrong`, with a token that cannot be."""
    if "logprobs" not in body:
        return _written(server, body)
    tokens, top = body["prompt"], body["logprobs"]
    assert body["max_tokens"] == 1 and body["return_token_ids"] and body["return_tokens_as_token_ids"]
    looks = len(tokens) if body.get("prompt_logprobs") else 1
    *of_prompt, last = server.likeliest(tokens, looks, top)
    found = [{f"token_id:{-1 if wrong else id}": value for id, value in last}]
    choice: dict[str, Any] = {"index": 0, "text": "", "finish_reason": "length", "token_ids": [last[0][0]]}
    choice["logprobs"] = {"top_logprobs": found}
    if body.get("prompt_logprobs"):
        told = [
            {str(id): {"logprob": value, "rank": rank} for rank, (id, value) in enumerate(place, 1)}
            for place in of_prompt
        ]
        for place, actual in zip(told, tokens[1:], strict=True):
            place.setdefault(str(actual), {"logprob": -50.0, "rank": 10**5})
        choice["prompt_logprobs"] = [None, *told]
    return {"object": "text_completion", "choices": [choice], "usage": {"prompt_tokens": len(tokens)}}


def _written(server: FakeServer, body: dict[str, Any]) -> dict[str, Any]:
    """A whole greedy text; and of a prompt each token's own log-probability beside the likeliest."""
    text, places = list(body["prompt"]), []
    for own, place in zip(text[1:], server.likeliest(text, len(text), server.pair.llm.vocabulary), strict=False):
        ranks = {id: {"logprob": value, "rank": rank} for rank, (id, value) in enumerate(place, 1)}
        told = {own, *list(ranks)[: body.get("prompt_logprobs", 0)]}
        places.append({str(id): ranks[id] for id in told})
    for _ in range(body["max_tokens"]):
        text.append(server.likeliest(text, 1, 1)[0][0][0])
        if text[-1] == server.pair.end_id:
            break
    return {"choices": [{"token_ids": text[len(body["prompt"]) :], "prompt_logprobs": [None, *places]}]}


class _Server(ThreadingHTTPServer):
    daemon_threads, request_queue_size = True, 256
    fake: FakeServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def _serve(self) -> None:
        fake = self.server.fake
        fake.open.add(self)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        given = self.headers.get("Authorization")
        if fake.key and given != f"Bearer {fake.key}":
            status, said, way = 401, {"error": f"no such key: {given}"}, ""
        else:
            status, said, way = fake.said(self.path, json.loads(body) if body else None)
        data = b"<html>" if isinstance(said, str) else json.dumps(said).encode()
        with suppress(OSError):
            self._send(status, data, way)

    do_GET = do_POST = _serve

    def _send(self, status: int, data: bytes, way: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data[:40] if way == "cut" else data)
        self.close_connection |= way == "cut"

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(pair: Any, **options: Any) -> Iterator[FakeServer]:
    """A server that has a pair's LLM, while the block runs."""
    server = FakeServer(pair, **options)
    try:
        yield server
    finally:
        server.stop()
