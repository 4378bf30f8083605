"""A language model behind a server, for the decode loop; the local one is `engine.model.language_model`.

Its "hidden state" at a position holds the ids of the likeliest tokens and their log-probabilities, as the server told
them. Its logits are these, and −10,000 for all other tokens. So a greedy token is the LLM's own, and a sampled one is
drawn here, with the text's own seed, as if `top_k` were `vllm.TOP`.

Rows are asked about side by side. A row whose answer is still on its way waits, and the others write on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from statistics import median
from typing import Any, ClassVar, TypeVar

import torch

from engine.events.cost import ModelCost
from engine.model.kv_cache import Span
from engine.model.language_model import LanguageModel
from engine.served import vllm
from engine.served.connection import Connection

_WAIT_SECONDS = 0.02
"""How long a step waits for answers; then it goes on without the rows that have none."""

UNKNOWN = ModelCost(0, 0, 0, 0, 0, 0, 0, head_table=((1, 0.0),))
"""The cost of a model whose configuration is not known here, but for its seconds."""

_TIMED, _TIMES = (1, 16), 3

Asked = tuple[tuple[int, ...], int]
"""A text, and after how many of its last tokens the answer is wanted."""

Found = TypeVar("Found")


class TextCache:
    """The texts of some rows, with the interface of `engine.model.kv_cache.RaggedCache`."""

    def __init__(self, rows: int, capacity: int) -> None:
        self.capacity = capacity
        self.texts: list[list[int]] = [[] for _ in range(rows)]
        self._pending: dict[int, tuple[Asked, Future[Any]]] = {}

    @property
    def lengths(self) -> list[int]:
        return [len(text) for text in self.texts]

    def grow(self, rows: int, capacity: int) -> None:
        self.texts += [[] for _ in range(rows - len(self.texts))]
        self.capacity = capacity

    def clear(self, row: int) -> None:
        """Empties a row after a failure; its question is forgotten as well."""
        self.leave(row)
        self.truncate(row, 0)

    def leave(self, row: int) -> None:
        """Forgets the row's question, and cancels it if it is on its way; the next one is sent anew."""
        _, future = self._pending.pop(row, (None, None))
        if future is not None:
            future.cancel()

    def truncate(self, row: int, length: int) -> None:
        """Rolls a row back to its first `length` tokens; a question on its way may still be the right one."""
        del self.texts[row][length:]

    def copy(self, spans: Sequence[Span]) -> None:
        """Adds to each target's text what a source's has at the same places."""
        for source, target, start, stop in spans:
            self.texts[target][start:] = self.texts[source][start:stop]

    def ask(self, row: int, asked: Asked, send: Callable[[tuple[int, ...], int], Future[Any]]) -> Future[Any]:
        """The answer to a question about a row. It is sent unless it is on its way; an older one is given up."""
        known, future = self._pending.get(row, (None, None))
        if future is None or known != asked:
            self.leave(row)
            future = send(*asked)
            self._pending[row] = asked, future
        return future


@dataclass(eq=False)
class ServedModel:
    """An LLM elsewhere, with the interface of `LanguageModel`.

    Attributes:
        name, model: Its names, for people and for the server.
        device: Where its answers are, the SLM's.
        cost: What its passes cost; bytes and FLOPs are 0 where they are not known.
        fed: Tokens asked about that no earlier question of the same row was about; the server may have read more.
    """

    connection: Connection
    name: str
    model: str
    vocabulary: int
    device: torch.device
    context: int | None = None
    cost: ModelCost = UNKNOWN
    fed: int = 0

    local: ClassVar = False
    hidden_size: ClassVar = 0

    def new_cache(self, rows: int, capacity: int) -> TextCache:
        return TextCache(rows, capacity)

    def feed(
        self, cache: TextCache, rows: Sequence[int], chunks: Sequence[Sequence[int]], looks: Sequence[int] | None = None
    ) -> list[torch.Tensor | None]:
        """Asks about texts that have new tokens; see `LanguageModel.feed`.

        Returns:
            Per row the states after its last tokens, float64 [looks, 2 · TOP]; None where the answer is on its way.

        Raises:
            ServerError: One of the rows will get no answer. All rows are as they were.
        """
        wanted = [len(chunk) for chunk in chunks] if looks is None else looks
        futures = {
            row: cache.ask(row, ((*cache.texts[row], *chunk), count), self.look)
            for row, chunk, count in zip(rows, chunks, wanted, strict=True)
            if count
        }
        wait(futures.values(), _WAIT_SECONDS)
        # After an error the question stays, so that the caller finds the row at fault without another wait.
        answers = {row: each.result() if each.done() else None for row, each in futures.items()}
        read: list[torch.Tensor | None] = []
        for row, chunk in zip(rows, chunks, strict=True):
            found = answers.get(row, [])
            if found is None:
                read.append(None)
                continue
            read.append(torch.tensor(found, dtype=torch.float64, device=self.device).reshape(len(found), 2 * vllm.TOP))
            cache.leave(row)
            cache.texts[row] += chunk
            self.fed += len(chunk)
        return read

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """States [n, 2 · TOP] → float32 logits [n, vocabulary], which are log-probabilities."""
        ids, logprobs = hidden.split(vllm.TOP, dim=-1)
        logits = torch.full((len(hidden), self.vocabulary), vllm.LEAST_LOGPROB, device=hidden.device)
        return logits.scatter_(-1, ids.long(), logprobs.float())

    def look(self, tokens: Sequence[int], looks: int) -> Future[list[list[float]]]:
        """Asks about a text once: see `vllm.states`."""
        return self.ask(tokens, vllm.look_fields(looks), lambda choice: vllm.states(choice, looks, self.vocabulary))

    def ask(self, prompt: Sequence[int], fields: dict[str, Any], read: Callable[[Any], Found]) -> Future[Found]:
        """Asks about a prompt of token ids; `read` gets the reply's first choice (see `Connection.ask`)."""
        body = {**fields, "model": self.model, "prompt": list(prompt), "temperature": 0}
        return self.connection.ask(vllm.COMPLETIONS, body, lambda reply: read(reply["choices"][0]))

    def spelled(self, text: str) -> Future[list[int]]:
        """The server's token ids for a text, in which special tokens are read as such."""
        body = {"model": self.model, "prompt": text, "add_special_tokens": False}
        return self.connection.ask(vllm.TOKENIZE, body, lambda reply: vllm.ids(reply["tokens"]))

    def calibrate(self) -> None:
        """Times questions about one new token and about some, in texts whose beginning the server knows."""
        start = [1 + n % (self.vocabulary - 1) for n in range(32)]
        times: dict[int, list[float]] = {length: [] for length in _TIMED}
        for turn in range(_TIMES):
            for length in _TIMED:
                start += [1 + (7 * turn + n) % (self.vocabulary - 1) for n in range(length)]
                started = time.perf_counter()
                self.look(start, 1).result()
                times[length].append(time.perf_counter() - started)
        one, some = (median(times[length]) for length in _TIMED)
        passes = (1, one), (_TIMED[1], max(one, some))
        self.cost = replace(self.cost, pass_seconds=one, pass_table=passes, head_table=((1, 0.0),))


AnyModel = LanguageModel | ServedModel
