"""More attackers of `tools/soak`: much of everything at once, and what nobody's page would send.

Each expects to be refused with a word and a status that says whose fault it is (4xx, or 503 where there is no room), or
to be answered shortly. A status of 500 is harm: it says that the server failed.
"""

from __future__ import annotations

import json
import time
from typing import Any

import httpx

from tools.soak.attackers import LONG_ANSWER, Attack, Attacker
from tools.soak.page import Asked, Lost, refusal_of

_BOMB, _TRACE, _WRONG = 20_000_000, 15_000_000, 3_500_000  # bytes
_WINDOWS = 1_100  # more than the page remembers
_COLUMNS = 500_000
_WITH_DATA = {"open_trace": [], "change_text": [60], "go_to": [], "open_text": []}  # and its fields
_FIELDS: list[dict[str, Any]] = [
    {"messages": []},
    {"messages": "x"},
    {"messages": [{"role": "user", "content": "x" * 300_000}]},
    {"max_tokens": 10**30},
    {"temperature": float("nan")},
    {"n": 10**6},
    {"model": None},
    {"wings": [[]]},
    {"logit_bias": {"x": "y"}},
]
_JUNK: list[Any] = [7, "x", [], [[]], [None] * 5000, {"": {"": None}}, {"index": "x", "number": 1e308}, {"run": []}, -1]


class Flooder(Attacker):
    """Does what `Attacker` does, and these."""

    def attacks(self) -> list[Attack]:
        """All that it can do."""
        return [
            *super().attacks(),
            ("long session hashes", self.long_hashes),
            ("20 MB of nested JSON", self.bomb),
            ("large traces opened", self.large_trace),
            ("traces opened that are wrong everywhere", self.wrong_trace),
            ("junk as an event's data", self.junk),
            ("prompts files of 500,000 columns", self.wide_prompts),
            ("more than 1,024 windows", self.windows),
            ("events that do not exist", self.unknown),
            ("requests to `/v1` that make no sense", self.endpoint_junk),
            ("streams of `/v1` that nobody reads", self.endpoint_unread),
        ]

    def _judge(self, answer: httpx.Response, may_be_taken: bool = False) -> bool:
        """Whether the request was taken; raises Lost unless it may be, or was refused as the module says."""
        status = answer.status_code
        if len(answer.content) > LONG_ANSWER:
            raise Lost("what was sent was given back")
        if status == 200 and may_be_taken:
            return True
        if not (400 <= status < 500 or status == 503):
            raise Lost(f"status {status} where a refusal was due: {answer.text[:80]}")
        reason = refusal_of(answer)
        if isinstance(reason, Lost):
            raise reason
        return False

    def _event(self, name: str, session: str, data: list[Any] | None = None, **more: Any) -> dict[str, Any]:
        return {"data": data or [], "fn_index": self.served.events[name], "session_hash": session, **more}

    def _session(self) -> str:
        return f"{self.marker}{self.random.randrange(10**9)}"

    def long_hashes(self, client: httpx.Client) -> None:
        session = self._session() * self.random.choice([10, 2_000, 20_000])
        path, name = self.random.choice(
            [("run/predict", "key"), ("run/predict", "versions"), ("run/predict", "whole"), ("run/predict", "write")]
        )
        data = Asked(self.marker, 0.3, 0, 20).fields(self.served) if name == "write" else []
        self._judge(client.post(f"gradio_api/{path}", json=self._event(name, session, data)))

    def bomb(self, client: httpx.Client) -> None:
        many = b"[]," * (_BOMB // 3) + b"[]"
        body = b'{"data": [' + many + b'], "fn_index": 0, "session_hash": "x"}'
        path = self.random.choice(["gradio_api/run/predict", "gradio_api/component_server", "v1/completions"])
        headers = {"content-type": "application/json"}
        self._judge(client.post(path, content=body, headers=headers))

    def large_trace(self, client: httpx.Client) -> None:
        """With its tokens many times over; the page says in words what it thinks of it."""
        events = self.trace["events"]
        self._open(client, self.trace | {"events": events * (_TRACE // len(json.dumps(self.trace)))})

    def wrong_trace(self, client: httpx.Client) -> None:
        """Small enough to be read, and each value of one of its lists is a fault of its own."""
        name = self.random.choice([name for name, value in self.trace.items() if isinstance(value, list)])
        wrong: Any = self.random.choice([None, [], {}, "x", -1.5])
        self._open(client, self.trace | {name: [wrong] * (_WRONG // len(json.dumps([wrong])))})

    def _open(self, client: httpx.Client, trace: dict[str, Any]) -> None:
        event = {"name": f"{self.marker}.json", "text": json.dumps(trace)}
        body = self._event("open_trace", self._session(), event_data=event)
        self._judge(client.post("gradio_api/run/predict", json=body), True)

    def junk(self, client: httpx.Client) -> None:
        session = self._session()
        for name, fields in _WITH_DATA.items():
            body = self._event(name, session, fields, event_data=self.random.choice(_JUNK))
            answer = client.post("gradio_api/run/predict", json=body)
            self._judge(answer, True)

    def wide_prompts(self, client: httpx.Client) -> None:
        heads = ",".join(f"c{n}" for n in range(_COLUMNS)) if self.random.random() < 0.5 else "prompt," * _COLUMNS + "x"
        content = f"{heads}\n{'1,' * _COLUMNS}1\n"
        data = {"name": f"{self.marker}.csv", "text": content}
        body = {"data": data, "component_id": self.served.reads_prompts, "fn_name": "read_prompts"}
        answer = client.post("gradio_api/component_server", json={**body, "session_hash": self._session()})
        if self._judge(answer, True) and not json.loads(answer.json()).get("error"):
            raise Lost("a file of 500,000 columns was taken")

    def windows(self, client: httpx.Client) -> None:
        """Each asks for the key of its feed; refused or not, the page has to answer the last as the first."""
        for _ in range(_WINDOWS):
            if time.monotonic() >= self.until:
                return
            self._judge(client.post("gradio_api/run/predict", json=self._event("key", self._session())), True)

    def unknown(self, client: httpx.Client) -> None:
        number: Any = self.random.choice([10**6, -1, 10**30, self.marker, 1.5, [0]])
        body = {"data": [], "fn_index": number, "session_hash": self._session()}
        for path in ("queue/join", "run/predict", f"call/{self.marker}", f"run/{self.marker}"):
            self._judge(client.post(f"gradio_api/{path}", json=body))
        self._judge(client.get(f"gradio_api/call/generate/{self.marker}"))

    def endpoint_junk(self, client: httpx.Client) -> None:
        good = self.served.body(Asked(f"Start with 1. {self.marker}", 0.3, 0, 16))
        sent = [
            b"[" * 100_000,
            b"\xff\xfe",
            (self.marker * 400_000).encode(),
            *(json.dumps(good | each).encode() for each in _FIELDS),
            json.dumps(good | {"stop": [self.marker] * 100_000}).encode(),
            json.dumps(good | {"model": self.marker * 1000}).encode(),
        ]
        headers = {"content-type": "application/json"}
        for content in self.random.sample(sent, 4):
            self._judge(client.post("v1/chat/completions", content=content, headers=headers))
        self._judge(client.post("v1/embeddings", json={"input": self.marker}))

    def endpoint_unread(self, client: httpx.Client) -> None:
        """Each asks for as much as there may be and reads nothing of it."""
        asked = self.served.body(Asked(f"{self.served.long} {self.marker}", 0.5, 0, 1500), stream=True, n=4)
        streams: list[httpx.Response] = []
        try:
            for _ in range(12):
                streams.append(
                    client.send(client.build_request("POST", "v1/chat/completions", json=asked), stream=True)
                )
                if streams[-1].status_code != 200:
                    streams[-1].read()
                    self._judge(streams[-1])
            time.sleep(self.random.uniform(0, 5))
        finally:
            for stream in streams:
                stream.close()
