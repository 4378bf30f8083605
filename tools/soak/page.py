"""The page as a client of `tools/soak` sees it: gradio's events and the feed, without a browser."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx

LONGEST = 300.0
"""Seconds after which a text counts as lost."""

ENDS = ("done", "stopped", "failed")
_FAULTS = ("internal error", "server failed", "Internal Server Error")  # words, and yet no reason
# A feed says something every 15 s, so silence is as bad as a broken connection.
_TIMEOUT = httpx.Timeout(30, read=40)


class Lost(Exception):
    """What should have come did not, or what should have held did not."""


class Refused(Exception):
    """The page gave a reason in words."""


@dataclass(frozen=True)
class Served:
    """A page that runs.

    Attributes:
        url: Where, with a slash at its end.
        events: Numbers of the page's events by name.
        fields: What the fields of `write` hold at first, with their ids.
        reads_prompts, takes: The components that are asked to read a file of prompts, and for a text as a file.
        preset: Its pair.
    """

    url: str
    events: dict[str, int]
    fields: tuple[tuple[str | None, Any], ...]
    reads_prompts: int
    takes: int
    preset: str = "tiny"

    @property
    def tiny(self) -> bool:
        """Whether its pair writes in an instant, and in fp32, so that a text never depends on those beside it."""
        return self.preset == "tiny"

    @property
    def long(self) -> str:
        """A prompt whose answer goes on for thousands of tokens."""
        return "Start with 1. Add 2." if self.tiny else "Count from 1 to 2000, one number a line."

    @classmethod
    def read(cls, url: str, preset: str = "tiny") -> Served:
        """From what the page says of itself."""
        config = httpx.get(f"{url}config", timeout=_TIMEOUT).raise_for_status().json()
        props = {each["id"]: each["props"] for each in config["components"]}
        write = next(each for each in config["dependencies"] if each["api_name"] == "write")
        fields = tuple((props[n].get("elem_id"), props[n].get("value")) for n in write["inputs"])
        offers = {name: n for n, each in props.items() for name in each.get("server_fns") or ()}
        events = {each["api_name"]: each["id"] for each in config["dependencies"]}
        return cls(url, events, fields, offers["read_prompts"], offers["take"], preset)

    def client(self, address: str) -> httpx.Client:
        """A client that a proxy would say has this address."""
        timeout = _TIMEOUT if self.tiny else httpx.Timeout(30, read=LONGEST)  # a text may wait for a row
        return httpx.Client(base_url=self.url, timeout=timeout, headers={"X-Forwarded-For": address})

    def body(self, asked: Asked, chat: bool = True, **more: Any) -> dict[str, Any]:
        """What a program sends for the text that a window would get for the same fields."""
        prompt = {"messages": [{"role": "user", "content": asked.prompt}]} if chat else {"prompt": asked.prompt}
        model = f"{self.preset}:{asked.threshold}@{asked.acceptance}"
        return {"model": model, **prompt, "max_tokens": asked.tokens, "temperature": 0, **more}


@dataclass(frozen=True)
class Asked:
    """What an honest visitor asks for; the finished text depends on this alone."""

    prompt: str
    threshold: float
    acceptance: float
    tokens: int

    def fields(self, served: Served) -> list[Any]:
        """The values of the page's fields."""
        entered = {
            "prompt": self.prompt,
            "threshold": self.threshold,
            "acceptance": self.acceptance,
            "max-new-tokens": self.tokens,
        }
        return [entered.get(name or "", value) for name, value in served.fields]


def server_events(client: httpx.Client, path: str, params: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Name and data of each event of a stream, until it ends."""
    name = ""
    for line in streamed_lines(client, "GET", path, params=params):
        if line.startswith("event:"):
            name = line[6:].strip()
        elif line.startswith("data:"):
            yield name, line[5:].strip()


def streamed_lines(client: httpx.Client, method: str, path: str, **asked: Any) -> Iterator[str]:
    """The lines of an answer as they come; raises what a refusal says, and Lost if there is no end to it."""
    until = time.monotonic() + LONGEST
    with client.stream(method, path, **asked) as answer:
        if answer.status_code != 200:
            answer.read()
            raise refusal_of(answer)
        for line in lines_of(answer):
            if time.monotonic() > until:
                raise Lost(f"no end after {LONGEST:.0f} s")
            yield line


def lines_of(answer: httpx.Response) -> Iterator[str]:
    """A stream's lines; a line feed ends one and nothing else does, since a text may hold U+2028 or U+0085."""
    rest: list[bytes] = []
    for part in answer.iter_bytes():
        first, *more = part.split(b"\n")
        rest.append(first)
        for each in more:
            yield b"".join(rest).decode().removesuffix("\r")
            rest = [each]


def refusal_of(answer: httpx.Response) -> Exception:
    """What a status other than 200 says: a reason in words, or nothing that helps anybody.

    Gradio has the reason as `error` or `detail`, `/v1` inside of `error`.
    """
    try:
        said = answer.json()
        said = said.get("detail") or said.get("error")
        said = said.get("message") if isinstance(said, dict) else said  # of `/v1`
    except (ValueError, AttributeError):
        said = answer.text
    refused = refusal(said)
    return refused if isinstance(refused, Refused) else Lost(f"status {answer.status_code}: {refused}")


def refusal(output: Any) -> Exception:
    """The exception for an error in place of a result: Refused with its reason, or Lost if it gives none."""
    said = output.get("error") if isinstance(output, dict) else output
    if not isinstance(said, str) or " " not in said or any(fault in said for fault in _FAULTS):
        return Lost(f"ended with {str(said)[:160]!r}")
    return Refused(said[:200])


class BareWindow:
    """A window of the page without a browser; what it shows is put together as `assets/page/lib/channel.js` does.

    Attributes:
        tokens: Texts of the tokens on its page.
        run, state, number, finish: Of the newest run that it heard of.
        first: When the first token of the newest run came (`time.perf_counter`); None before.
    """

    def __init__(self, served: Served, client: httpx.Client, session: str) -> None:
        self.served, self.client, self.session = served, client, session
        self.tokens: list[str] = []
        self.run, self.state, self.finish, self.note = "", "idle", None, ""
        self.number = self.shown = -1
        self.first: float | None = None
        # Open for as long as the window is, as a browser's.
        beat = client.build_request("GET", f"gradio_api/heartbeat/{session}")
        self._heartbeat = client.send(beat, stream=True)
        self._key = self.post("key", [None]).json()["data"][0]

    def close(self) -> None:
        """Closes the tab."""
        self._heartbeat.close()

    def post(self, name: str, data: list[Any] | None = None, **more: Any) -> httpx.Response:
        """An event of the page that is answered at once."""
        body = {"data": data or [], "fn_index": self.served.events[name], "session_hash": self.session, **more}
        answer = self.client.post("gradio_api/run/predict", json=body)
        if answer.status_code != 200:
            raise refusal_of(answer)
        return answer

    def follow(self, enough: Callable[[], bool] = lambda: False) -> bool:
        """Reads the feed until `enough` or until the server has no more; whether it was enough."""
        if enough():
            return True
        began = time.perf_counter()
        known = {"stream": str(self.shown)} if self.shown == self.number >= 0 and self.state in ENDS else {}
        for name, data in server_events(self.client, f"gradio_api/citer/feed/{self._key}", known):
            if name == "quiet":
                return enough()
            if name == "stream":
                self._take(json.loads(data))
                if enough():
                    return True
        raise Lost(f"the feed broke off; {self._where(began)}")

    def _take(self, message: dict[str, Any]) -> None:
        number, cut = message["n"], message["cut"]
        if number < self.number:
            return
        if number != self.number:
            self.first = None
        self.number, self.run, self.state = number, message["run"], message["state"]
        self.finish, self.note = message["finish"], message["note"]
        if number != self.shown and not cut + message["count"]:
            return  # the last text stays until there is a new one
        if cut > len(self.tokens):
            raise Lost("tokens are missing in the feed")
        self.shown = number
        del self.tokens[cut:]
        self.tokens += [token[0] for token in message["tokens"]]
        if self.tokens and self.first is None:
            self.first = time.perf_counter()

    def ended(self, since: int) -> bool:
        """Whether a run after the one of the number `since` has come to its end."""
        return self.number > since and self.state in ENDS

    def write(self, asked: Asked) -> float:
        """Presses Generate and reads to the end; seconds to the first token."""
        before, began = self.number, time.perf_counter()
        self.post("write", asked.fields(self.served))
        over = self.follow(lambda: self.ended(before))
        if not over and not self.follow(lambda: self.ended(before)):
            raise Lost(f"the feed went quiet before the text had ended; {self._where(began)}")
        self.check_end("done")
        return (self.first or time.perf_counter()) - began

    def trace(self) -> dict[str, Any]:
        """The text that it shows, as the page gives it out."""
        asked = {"component_id": self.served.takes, "fn_name": "take", "session_hash": self.session}
        answer = self.client.post(
            "gradio_api/component_server", json={**asked, "data": {"run": self.run, "kind": "json"}}
        )
        if answer.status_code != 200:
            raise refusal_of(answer)
        return json.loads(answer.json())

    def check_end(self, *ends: str) -> None:
        """Raises Refused or Lost unless the newest text ended in one of `ends`."""
        if self.state == "failed":
            raise refusal(self.note)
        if self.state not in ends:
            raise Lost(f"a text ended as {self.state!r} ({self.note[:80]}); it is number {self.number}")

    def _where(self, began: float) -> str:
        """What the window knew when it had waited in vain."""
        waited = time.perf_counter() - began
        return f"number {self.number} is {self.state!r} ({self.note[:40]}) after {waited:.0f} s"
