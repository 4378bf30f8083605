"""An LLM's server in this process, in any of the dialects, and one that misbehaves on demand.

The shapes are those that the servers document; the model behind them is a real one of the engine's.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import torch

OWNERS = {"vllm": "vllm", "sglang": "sglang", "llama.cpp": "llamacpp", "citer": "citer"}

TOGETHER_SECONDS = 20.0
"""How long a question waits for those that should be there with it: less than a client waits before it asks again."""


class FakeServer:
    """One server.

    Attributes:
        kind: Its dialect, as CITER_LLM_SERVER names it.
        key: Wanted of every request, if any.
        fault: Called with the number of each question, from 1: "held" (until `answers` is set), "cut", "drip", "500",
            "503", "429", "token", "json", "shape", or None for an answer.
        retry_after: How many seconds it says to wait where it is busy or not ready.
        asked, seen: How many questions there were; all bodies of them.
        looks: How often it was looked for.
        together: So many must once be there at the same time before any is answered; 1, as at first, waits for none.
        at_once: The most questions that were being answered at the same time.
        tokens: What a text is in its tokens.
        encoding: What each reply claims to be encoded in, if anything; it is not.
    """

    def __init__(self, kind: str, pair: Any, key: str | None = None, delay: float = 0.0) -> None:
        self.kind, self.pair, self.key, self.delay = kind, pair, key, delay
        self.fault: Callable[[int], str | None] = lambda number: None
        self.tokens: Callable[[str], list[int]] = lambda text: pair.tokenizer.encode(text, add_special_tokens=False)
        self.encoding, self.retry_after = "", "0"
        self.asked = self.looks = self.at_once = self._now = 0
        self.answers = threading.Event()
        self.together = 1
        self.seen: list[dict[str, Any]] = []
        self.faults: Counter[str] = Counter()
        self.name = "org/tiny-llm"
        self._lock, self._running = threading.Condition(), threading.Lock()
        self._port = 0
        self.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Listens, at the same port as before if it did."""
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: Any) -> None:
                pass

            def do_GET(self) -> None:
                fake.reply(self, None)

            def do_POST(self) -> None:
                fake.reply(self, json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

        class Server(ThreadingHTTPServer):
            daemon_threads, request_queue_size = True, 256

        self.open: set[Any] = set()
        self._server = Server(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Is gone: nobody listens, open connections break off, and nothing that is held is answered."""
        self._server.shutdown()
        self._server.server_close()
        for connection in list(self.open):
            connection.close_connection = True
            _drop(connection)
        self.answers.set()

    def reply(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> None:
        self.open.add(handler)
        try:
            status, said = self._said(handler, body)
            data = said if isinstance(said, bytes) else json.dumps(said).encode()
            handler.send_response(200 if status == 298 else status)
            handler.send_header("Content-Type", "application/json")
            handler.send_header("Content-Length", str(len(data) + 50 * (status == 299)))
            if self.encoding:
                handler.send_header("Content-Encoding", self.encoding)
            if status in (429, 503):
                handler.send_header("Retry-After", self.retry_after)
            handler.end_headers()
            for start in range(0, len(data), size := -(-len(data) // 8) if status == 298 else len(data)):
                time.sleep(0.6 * (status == 298))
                handler.wfile.write(data[start : start + size])
            if status == 299:
                handler.close_connection = True
        except OSError:
            pass

    def _said(self, handler: BaseHTTPRequestHandler, body: dict[str, Any] | None) -> tuple[int, Any]:
        if self.key and handler.headers.get("Authorization") != f"Bearer {self.key}":
            return 401, {"error": f"no such key: {handler.headers.get('Authorization')}"}
        if body is None:
            self.looks += 1
            known = {"id": self.name, "owned_by": OWNERS[self.kind], "max_model_len": 2048}
            return (200, {"object": "list", "data": [known]}) if handler.path == "/v1/models" else (404, {})
        if handler.path.removeprefix("/v1") == "/tokenize":
            return 200, {"tokens": self.tokens(body.get("prompt") or body["content"])}
        with self._lock:
            self.asked += 1
            number = self.asked
            self.seen.append(body)
            self._now += 1
            self.at_once = max(self.at_once, self._now)
            self._lock.notify_all()
            if not self._lock.wait_for(lambda: self.at_once >= self.together, TOGETHER_SECONDS):
                self.together = 1  # they never come: the test that waits for them has failed, and says so
        try:
            fault = self.fault(number)
            self.faults[fault or ""] += 1
            time.sleep(self.delay)
            return self._answer(body, fault)
        finally:
            with self._lock:
                self._now -= 1

    def _answer(self, body: dict[str, Any], fault: str | None) -> tuple[int, Any]:
        if fault in ("500", "503", "429"):
            return int(fault), {"error": "not now"}
        if fault == "held":
            self.answers.wait()
        if fault == "json":
            return 200, b"<html>a proxy's page</html>"
        if fault == "shape":
            return 200, {"object": "error"}
        said = SHAPES[self.kind](self, body, fault == "token")
        data = json.dumps(said).encode()
        if fault == "drip":
            return 298, data
        return (299, data[:40]) if fault == "cut" else (200, data)

    def likeliest(self, tokens: list[int], looks: int, top: int) -> list[list[tuple[int, float]]]:
        """The LLM's after each of the last tokens, best first."""
        llm = self.pair.llm
        with self._running:
            hidden = llm.feed(llm.new_cache(1, len(tokens)), [0], [tokens])[0]
            found = torch.log_softmax(llm.logits(hidden[-looks:]).double(), -1).topk(top, dim=-1)
        return [
            list(zip(ids, values, strict=True))
            for ids, values in zip(found.indices.tolist(), found.values.tolist(), strict=True)
        ]


def _completions(server: FakeServer, body: dict[str, Any], wrong: bool) -> dict[str, Any]:
    tokens, top = body["prompt"], body["logprobs"]
    assert body["max_tokens"] == 1 and body["return_token_ids"] and body["return_tokens_as_token_ids"]
    looks = len(tokens) if body.get("prompt_logprobs") else 1
    *of_prompt, last = server.likeliest(tokens, looks, top)
    choice: dict[str, Any] = {
        "index": 0,
        "text": "",
        "finish_reason": "length",
        "token_ids": [last[0][0]],
        "logprobs": {"top_logprobs": [{f"token_id:{-1 if wrong else id}": value for id, value in last}]},
    }
    if body.get("prompt_logprobs"):
        told = [
            {
                str(id): {"logprob": value, "rank": rank, "decoded_token": ""}
                for rank, (id, value) in enumerate(place, 1)
            }
            for place in of_prompt
        ]
        for place, actual in zip(told, tokens[1:], strict=True):
            place.setdefault(str(actual), {"logprob": -50.0, "rank": 10**5, "decoded_token": ""})
        choice["prompt_logprobs"] = [None, *told]
    return {"object": "text_completion", "choices": [choice], "usage": {"prompt_tokens": len(tokens)}}


def _generate(server: FakeServer, body: dict[str, Any], wrong: bool) -> dict[str, Any]:
    tokens, top = body["input_ids"], body["top_logprobs_num"]
    assert body["return_logprob"] and body["sampling_params"]["max_new_tokens"] == 1
    start = body.get("logprob_start_len", len(tokens) - 1)
    *of_prompt, last = server.likeliest(tokens, len(tokens) - start, top)
    entries = [[[value, -1 if wrong else id, None] for id, value in place] for place in (*of_prompt, last)]
    return {
        "text": "",
        "meta_info": {
            "prompt_tokens": len(tokens),
            "input_top_logprobs": [None, *entries[:-1]],
            "output_top_logprobs": entries[-1:],
            "output_token_logprobs": [entries[-1][0]],
        },
    }


def _completion(server: FakeServer, body: dict[str, Any], wrong: bool) -> dict[str, Any]:
    assert body["n_predict"] == 1 and body["cache_prompt"]
    (last,) = server.likeliest(body["prompt"], 1, body["n_probs"])
    entries = [{"id": "x" if wrong else id, "token": "", "bytes": [], "logprob": value} for id, value in last]
    return {
        "content": "",
        "tokens": [last[0][0]],
        "completion_probabilities": [{**entries[0], "top_logprobs": entries}],
    }


SHAPES: dict[str, Callable[..., Any]] = {
    "vllm": _completions,
    "citer": _completions,
    "sglang": _generate,
    "llama.cpp": _completion,
}


@contextmanager
def served(kind: str, pair: Any, **options: Any) -> Iterator[FakeServer]:
    """A server that has a pair's LLM, while the block runs."""
    server = FakeServer(kind, pair, **options)
    try:
        yield server
    finally:
        server.stop()


def _drop(handler: BaseHTTPRequestHandler) -> None:
    try:
        handler.connection.shutdown(2)
        handler.connection.close()
    except OSError:
        pass
