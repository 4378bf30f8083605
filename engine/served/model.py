"""A language model behind a server, for the decode loop; the local one is `engine.model.language_model`.

Its "hidden state" at a position holds the ids of the likeliest tokens and their log-probabilities, as the server told
them. Its logits are these, and next to nothing for all other tokens. So a greedy token is the LLM's own, and a sampled
one is drawn here, with the text's own seed, as with `top_k` at that many.

Rows are asked about side by side. A row whose answer is still on its way waits, and the others write on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from dataclasses import dataclass, replace
from functools import partial
from statistics import median
from typing import Any, ClassVar, TypeVar

import torch

from engine.errors import InvalidRequest, ServerError
from engine.events.cost import ModelCost
from engine.model.language_model import LanguageModel
from engine.served.connection import Connection
from engine.served.dialects import (
    LEAST_LOGPROB,
    Dialect,
    Inquiry,
    Likely,
    checked_id,
    checked_logprob,
    ranked,
    shaped,
)
from engine.served.text_cache import Asked, TextCache

_WAIT_SECONDS = 0.02
"""How long a step waits for answers; then it goes on without the rows that have none."""

UNKNOWN = ModelCost(0, 0, 0, 0, 0, 0, 0, head_table=((1, 0.0),))
"""The cost of a model whose configuration is not known here, but for its seconds."""

_TIMED, _TIMES = (1, 16), 3

Found = TypeVar("Found")


@dataclass(eq=False)
class ServedModel:
    """An LLM elsewhere, with the interface of `LanguageModel`.

    Attributes:
        connection, dialect: Where it is, and how it is asked.
        name, model: Its names, for people and for the server.
        vocabulary: Length of the tokenizer.
        device: Where its answers are, the SLM's.
        context: Tokens that a text may have, where that is known.
        cost: What its passes cost; bytes and FLOPs are 0 where they are not known.
        fed: Tokens asked about that no earlier question of the same row was about; the server may have read more.
    """

    connection: Connection
    dialect: Dialect
    name: str
    model: str
    vocabulary: int
    device: torch.device
    context: int | None = None
    cost: ModelCost = UNKNOWN
    fed: int = 0

    local: ClassVar = False
    hidden_size: ClassVar = 0

    def __post_init__(self) -> None:
        self.judges, self.top = self.dialect.judges, self.dialect.most

    def new_cache(self, rows: int, capacity: int) -> TextCache:
        return TextCache(rows, capacity)

    def feed(
        self, cache: TextCache, rows: Sequence[int], chunks: Sequence[Sequence[int]], looks: Sequence[int] | None = None
    ) -> list[torch.Tensor | None]:
        """Asks about texts that have new tokens; see `LanguageModel.feed`.

        Returns:
            Per row the states after its last tokens, float64 [looks, 2 · top]; None where the answer is on its way.

        Raises:
            ServerError: One of the rows will get no answer. All rows are as they were.
        """
        wanted = [len(chunk) for chunk in chunks] if looks is None else looks
        asked = {
            row: (tuple(cache.text(row, chunk)), count)
            for row, chunk, count in zip(rows, chunks, wanted, strict=True)
            if count
        }
        futures = {row: cache.ask(row, question, self._send) for row, question in asked.items()}
        wait(futures.values(), _WAIT_SECONDS)
        # After an error the question stays, so that the caller finds the row at fault without another wait.
        answers = {row: self._states(each.result()) if each.done() else None for row, each in futures.items()}
        read: list[torch.Tensor | None] = []
        for row, chunk in zip(rows, chunks, strict=True):
            read.append(answers[row] if row in asked else torch.empty(0, 2 * self.top))
            if read[-1] is not None:
                cache.settle(row)
                cache.add(row, chunk)
                self.fed += len(chunk)
        return read

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """States [n, 2 · top] → float32 logits [n, vocabulary], which are log-probabilities."""
        ids, logprobs = hidden.split(self.top, dim=-1)
        logits = torch.full((len(hidden), self.vocabulary), LEAST_LOGPROB, device=hidden.device)
        return logits.scatter_(-1, ids.long(), logprobs.float())

    def complete(self, prompt: Sequence[int], max_tokens: int) -> Future[list[int]]:
        """Lets the server write a whole greedy text after a prompt of token ids, for the trainer's references.

        It has the end token if the server tells it. A server that is not asked for whole texts is a ServerError.
        """
        # Without a penalty of 1 the model's own generation settings would hold.
        body = {"max_tokens": max_tokens, "repetition_penalty": 1.0, "return_token_ids": True}
        return self._completion(prompt, body, lambda choice: [checked_id(id) for id in choice["token_ids"]])

    def score(self, tokens: Sequence[int], start: int, top: int = 1) -> Future[list[tuple[float, Likely]]]:
        """The log-probabilities along a text of token ids in one question, for the trainer's labels.

        Gives for each token from `start` (at least 1) its natural log-probability, and the `top` likeliest there.
        Raises as `complete`.
        """
        question = Inquiry(tokens, len(tokens) - start, top, self.model, self.vocabulary)

        def place(token: int, said: Any) -> tuple[float, Likely]:
            return checked_logprob(said[str(token)]["logprob"]), ranked(question, said)

        def read(choice: Any) -> list[tuple[float, Likely]]:
            return [place(*each) for each in zip(tokens[start:], choice["prompt_logprobs"][start:], strict=True)]

        return self._completion(tokens, {"max_tokens": 1, "prompt_logprobs": top}, read)

    def _completion(self, prompt: Sequence[int], body: dict[str, Any], read: Callable[[Any], Found]) -> Future[Found]:
        if not self.judges:
            raise ServerError(
                f"{self.name} is behind {self.dialect.name}, which is not asked for whole texts: serve it with vLLM"
            )
        body |= {"model": self.model, "prompt": list(prompt), "temperature": 0}
        return self.connection.ask(self.dialect.path, body, lambda reply: shaped(lambda: read(reply["choices"][0])))

    def calibrate(self) -> None:
        """Times questions about one new token and about some, in texts whose beginning the server knows."""
        start = [1 + n % (self.vocabulary - 1) for n in range(32)]
        times: dict[int, list[float]] = {length: [] for length in _TIMED}
        for turn in range(_TIMES):
            for length in _TIMED:
                start += [1 + (7 * turn + n) % (self.vocabulary - 1) for n in range(length)]
                started = time.perf_counter()
                self._send((tuple(start), 1)).result()
                times[length].append(time.perf_counter() - started)
        one, some = (median(times[length]) for length in _TIMED)
        self.cost = replace(
            self.cost,
            pass_seconds=one,
            token_seconds=max(0.0, some - one) / (_TIMED[1] - 1),
            pass_table=((1, one), (_TIMED[1], max(one, some))),
            head_table=((1, 0.0),),
        )

    def _send(self, asked: Asked) -> Future[list[Likely]]:
        tokens, looks = asked
        question = Inquiry(tokens, looks, self.top, self.model, self.vocabulary)
        body, read = self.dialect.body(question), partial(self.dialect.answer, question)
        return self.connection.ask(self.dialect.path, body, read)

    def _states(self, answer: Sequence[Likely]) -> torch.Tensor:
        """Ids and log-probabilities side by side; a short list is filled with its last token, which changes nothing.

        Where the server's own choice has an equal, it is made a hair likelier here.
        """
        rows: list[list[float]] = []
        for ids, logprobs in answer:
            own = logprobs[0] + 1e-6 if logprobs[1:] and logprobs[1] == logprobs[0] else logprobs[0]
            lack = self.top - len(ids)
            rows.append([*ids, *ids[-1:] * lack, own, *logprobs[1:], *([own, *logprobs[1:]][-1:] * lack)])
        return torch.tensor(rows, dtype=torch.float64, device=self.device)


AnyModel = LanguageModel | ServedModel


def check_acceptance(llm: AnyModel, acceptance: float) -> None:
    """Raises InvalidRequest for an acceptance that an LLM cannot serve."""
    if acceptance > 0 and not llm.judges:
        raise InvalidRequest(
            f"acceptance = {acceptance:g}: {llm.name} is on a server that tells no probabilities of a draft, so it "
            "cannot judge what the SLM wrote: set the acceptance to 0"
        )
