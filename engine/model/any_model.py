"""What the decode loop needs of a language model, wherever it runs: in this process, or behind a server."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch

from engine.errors import InvalidRequest
from engine.events.cost import ModelCost
from engine.model.kv_cache import Span


def check_acceptance(llm: AnyModel, acceptance: float) -> None:
    """Raises InvalidRequest for an acceptance that an LLM cannot serve."""
    if acceptance > 0 and not llm.judges:
        raise InvalidRequest(
            f"acceptance = {acceptance:g}: {llm.name} is on a server that tells no probabilities of a draft, so it "
            "cannot judge what the SLM wrote: set the acceptance to 0"
        )


def synchronise(device: torch.device) -> None:
    """Waits for a GPU; a CPU is never behind."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


class AnyCache(Protocol):
    """The texts that a model has read, one per row; see `engine.model.kv_cache.RaggedCache`.

    Attributes:
        lengths: Tokens per row, at most `capacity`.
    """

    lengths: list[int]
    capacity: int

    def grow(self, rows: int, capacity: int) -> None:
        """Makes room for so many rows of so many tokens."""

    def clear(self, row: int) -> None:
        """Empties a row."""

    def leave(self, row: int) -> None:
        """Gives up the requests in flight for a row. What it holds stays."""

    def truncate(self, row: int, length: int) -> None:
        """Rolls a row back."""

    def copy(self, spans: Sequence[Span]) -> None:
        """Copies tokens from one row to another."""


class AnyModel(Protocol):
    """A language model that reads tokens and answers at positions; `LanguageModel` is here, `ServedModel` elsewhere.

    Attributes:
        name: For people.
        vocabulary: Length of the tokenizer, and of the logits.
        hidden_size: Width of its hidden states; 0 where there are none.
        context: Tokens that a text may have, where that is known.
        fed: Tokens fed so far over all rows.
        cost: What its passes cost.
        device: Where its answers are.
        local: Whether it runs in this process, so that it reads in pieces, and knows its candidates at every token.
        judges: Whether it can verify a draft: one answer has its logits at each token.
        rereads: Whether it reads the whole text again to verify a draft.
        gone: Whether its server is gone, and texts are to be written on without it.
    """

    name: str
    vocabulary: int
    hidden_size: int
    context: int | None
    fed: int
    cost: ModelCost
    local: bool
    judges: bool
    rereads: bool

    @property
    def device(self) -> torch.device: ...  # noqa: D102

    @property
    def gone(self) -> bool: ...  # noqa: D102

    def new_cache(self, rows: int, capacity: int) -> Any:
        """An empty `AnyCache`."""

    def feed(
        self, cache: Any, rows: Sequence[int], chunks: Sequence[Sequence[int]], looks: Sequence[int] | None = None
    ) -> Sequence[torch.Tensor | None]:
        """Reads new tokens; see `LanguageModel.feed`. None stands for a row whose answer is still on its way.

        Such a row is as it was; it is to be fed the same again.
        """
        ...

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """Hidden states that `feed` gave [n, d] → float32 logits [n, vocabulary]."""
        ...

    def calibrate(self) -> None:
        """Measures what its passes take."""
