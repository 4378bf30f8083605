"""Other programs as visitors of `tools/soak`: they ask `/v1`, whole and streamed, and some leave in mid-text."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx

from tools.soak.page import LONGEST, Asked, Lost, refusal, refusal_of, streamed_lines
from tools.soak.visitors import Visitor

_LEAVES_AFTER = 5  # pieces of a stream


class ProgramVisitor(Visitor):
    """A program with an OpenAI client."""

    def visit(self) -> None:
        with self.served.client(self.address) as client:
            match self.random.choice(["whole", "streamed", "streamed", "left"]):
                case "whole":
                    self.attempt("texts by a program", lambda: self._whole(client))
                case "streamed":
                    self.attempt("texts streamed to a program", lambda: self._streamed(client))
                case "left":
                    self.attempt("programs gone in mid-text", lambda: self._leave(client))

    def _whole(self, client: httpx.Client) -> None:
        asked, chat = self._asked(), self.random.random() < 0.5
        path = "v1/chat/completions" if chat else "v1/completions"
        answer = client.post(path, json=self.served.body(asked, chat), timeout=LONGEST)
        if answer.status_code != 200:
            raise refusal_of(answer)
        (choice,) = answer.json()["choices"]
        self._check(asked, chat, choice["message"]["content"] if chat else choice["text"], choice["finish_reason"])

    def _streamed(self, client: httpx.Client) -> None:
        asked, began = self._asked(), time.perf_counter()
        text, finish, first = "", None, None
        for piece in self._pieces(client, asked):
            for choice in piece["choices"]:
                text += choice["delta"].get("content") or ""
                finish = choice["finish_reason"] or finish
                first = first or (time.perf_counter() if text else None)
        self._check(asked, True, text, finish)
        self.tally.time("first token, by a program", (first or time.perf_counter()) - began)

    def _leave(self, client: httpx.Client) -> None:
        for count, _ in enumerate(self._pieces(client, self._asked())):
            if count == _LEAVES_AFTER:
                return

    def _asked(self) -> Asked:
        asked = self.asked()
        return replace(asked, threshold=min(asked.threshold, 1.0))

    def _check(self, asked: Asked, chat: bool, text: str, finish: str | None) -> None:
        if finish not in ("stop", "length"):
            raise Lost(f"a program's text ended as {finish!r}")
        # Of a bare prompt the text is another than of the same words in the models' chat template.
        self.texts.check(asked if chat else replace(asked, prompt=f"bare: {asked.prompt}"), text)

    def _pieces(self, client: httpx.Client, asked: Asked) -> Iterator[dict[str, Any]]:
        """The pieces of a stream; raises the error that stands in place of one."""
        asks, ended = self.served.body(asked, stream=True), False
        for line in streamed_lines(client, "POST", "v1/chat/completions", json=asks):
            if line == "data: [DONE]":
                ended = True
            elif line.startswith("data: "):
                piece = json.loads(line[6:])
                if piece.get("error"):
                    raise refusal(piece["error"].get("message"))
                yield piece
        if not ended:
            raise Lost("a program's stream broke off")
