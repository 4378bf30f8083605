"""What a run costs: bytes moved, FLOPs, seconds and price, as folds over its events.

What a pass costs is measured where a model is loaded (`ModelCost`); a run's cost follows from what each event says was
fed to which model. All figures are those of a single stream: in a batch the weights are read once for all rows, which
is not credited here. Seconds come from the table of measured passes, for the run and for both extremes; the clock's
time of a run is in its events and is no cost. SLM-only and LLM-only are computed for the same number of generated
tokens: one model reads the prompt in its first pass and one token in each further pass.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from typing import Annotated, Any

from pydantic import Field

from engine.errors import check_number
from engine.events import TokenEvent, charged, tokens_read
from engine.events.parsing import Amount, Count, Many, Seconds

UNITS = ("bytes", "flops", "seconds", "price")


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes moved, floating-point operations, seconds by measured passes, and price in currency."""

    bytes: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    price: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(*(getattr(self, unit) + getattr(other, unit) for unit in UNITS))


@dataclass(frozen=True, slots=True)
class Prices:
    """Currency per million tokens of each model.

    A forward pass answers for one position, at the full price; the other tokens it reads (prompt, catch-up) are billed
    at `reading_ratio` of it. Hosted models list input at about a quarter of output, hence the default. A price that is
    negative or not finite is an InvalidRequest.
    """

    slm: float = 0.1
    llm: float = 1.0
    reading_ratio: float = 0.25

    def __post_init__(self) -> None:
        check_number("SLM price", self.slm, 0.0, 1e6, "currency per million tokens")
        check_number("LLM price", self.llm, 0.0, 1e6, "currency per million tokens")
        check_number(
            "reading ratio", self.reading_ratio, 0.0, 1.0, "share of the full price for a token that is only read"
        )


PassTimes = Annotated[Many[tuple[Count, Seconds]], Field(max_length=100)]


@dataclass(frozen=True, slots=True)
class ModelCost:
    """What one forward pass of a model moves and computes.

    Attributes:
        trunk_bytes: Weights that every pass reads, as stored (4-bit blocks and their scales, norms, biases).
        head_bytes: `lm_head`, read only when applied.
        embedding_bytes: One row of the embedding, read per token.
        kv_bytes: Keys and values of one token over all layers.
        trunk_flops: 2 × parameters of the trunk's linear layers, per token.
        head_flops: 2 × parameters of `lm_head`, per position it is applied to.
        attention_flops: Per pair of query and key, over all layers and heads.
        pass_seconds: Measured one-token pass with `lm_head`.
        token_seconds: Measured seconds per further token in the same pass, where there is no table.
        pass_table, head_table: Measured (tokens, seconds): of a pass of so many tokens with `lm_head` at one position,
            and of `lm_head` alone at so many.
        router_bytes, router_flops: For the SLM, what a score of the router in use costs on top; 0 for the LLM.
    """

    trunk_bytes: Amount
    head_bytes: Amount
    embedding_bytes: Amount
    kv_bytes: Amount
    trunk_flops: Amount
    head_flops: Amount
    attention_flops: Amount
    pass_seconds: Seconds = 0.0
    token_seconds: Seconds = 0.0
    router_bytes: Amount = 0
    router_flops: Amount = 0
    pass_table: PassTimes = ()
    head_table: PassTimes = ()

    def seconds(self, fed: float, head: float = 1) -> float:
        """Seconds of a pass over `fed` tokens with `lm_head` at `head` positions; both may be means of some passes.

        The tables are scaled so that a pass over one token takes `pass_seconds`. Older tables have 0 for
        `lm_head` at one position.
        """
        if not fed:
            return 0.0
        if not self.pass_table:
            return self.pass_seconds + (fed - 1) * self.token_seconds
        one, heads = self.pass_table[0][1], self.head_table
        of_head = heads[0][1] if heads else 0.0
        of_heads = _at(heads, head) if heads and head > 1 else head * of_head
        longer = _at(self.pass_table, fed) + of_heads - of_head
        return self.pass_seconds / one * longer if one > 1e-9 else longer

    def forward(self, fed: int, cached: int, head: int, price: float, reading_ratio: float) -> Cost:
        """The cost of a pass over `fed` new tokens (0: none), with `cached` ones in the KV cache.

        `lm_head` is applied to `head` positions. Every key and value is read once, the new ones are also
        written. See `Prices` for `price` and `reading_ratio`.
        """
        if fed == 0:
            return Cost()
        weights = self.trunk_bytes + (head > 0) * self.head_bytes
        keys_seen = fed * cached + fed * (fed + 1) // 2
        return Cost(
            bytes=weights + fed * self.embedding_bytes + (cached + 2 * fed) * self.kv_bytes,
            flops=fed * self.trunk_flops + head * self.head_flops + keys_seen * self.attention_flops,
            seconds=self.seconds(fed, head),
            price=(1 + (fed - 1) * reading_ratio) * price / 1e6,
        )


def _at(table: Sequence[tuple[int, float]], tokens: float) -> float:
    """Read off the straight line between two measured lengths, or beyond the last of them."""
    after = next((n for n, (length, _) in enumerate(table) if length >= tokens), len(table) - 1)
    (low, start), (high, end) = table[max(0, after - 1)], table[after]
    return end if low == high else start + (end - start) * (tokens - low) / (high - low)


@dataclass(frozen=True, slots=True)
class Costs:
    """What each model costs in a run (the router counts to the SLM), and alone for as many generated tokens."""

    slm: Cost = Cost()
    llm: Cost = Cost()
    slm_only: Cost = Cost()
    llm_only: Cost = Cost()

    def __add__(self, other: Costs) -> Costs:
        return Costs(*(getattr(self, each.name) + getattr(other, each.name) for each in fields(Costs)))

    @property
    def run(self) -> Cost:
        return self.slm + self.llm

    @property
    def unknown(self) -> list[str]:
        """Units in which only the SLM's part of the run is known, because the LLM is on a server."""
        return [
            unit for unit in ("bytes", "flops") if not getattr(self.llm_only, unit) and getattr(self.slm_only, unit)
        ]

    def as_dict(self) -> dict[str, Any]:
        """The costs by unit, for programs, with the names of units that are not known."""
        beside = {"run": self.run, "slm_only": self.slm_only, "llm_only": self.llm_only}
        by_unit = {unit: {which: getattr(cost, unit) for which, cost in beside.items()} for unit in UNITS}
        return {**by_unit, "unknown": self.unknown}


def costs(
    events: Sequence[TokenEvent], prompt_tokens: int, slm: ModelCost, llm: ModelCost, prices: Prices | None = None
) -> Costs:
    """Folds a text's events, in order, into its cost and that of both extremes; `prices` is for the unit "price"."""
    prices = prices or Prices()
    ratio = prices.reading_ratio
    of_slm, of_llm, slm_cached, llm_cached = Cost(), Cost(), 0, 0
    for event in charged(events):
        # An LLM that read more than was missing read the whole text again.
        rereads = llm_cached + event.llm_fed > prompt_tokens + event.index + len(event.taken_back)
        of_slm += slm.forward(event.slm_fed, slm_cached, event.slm_head, prices.slm, ratio)
        of_llm += llm.forward(event.llm_fed, 0 if rereads else llm_cached, event.llm_head, prices.llm, ratio)
        if event.router:
            of_slm += Cost(bytes=slm.router_bytes, flops=slm.router_flops)
        slm_cached = tokens_read(slm_cached, event.slm_fed, prompt_tokens, event.index)
        llm_cached = tokens_read(llm_cached, event.llm_fed, prompt_tokens, event.index)
    alone = [cost_alone(*each, prompt_tokens, len(events), ratio) for each in ((slm, prices.slm), (llm, prices.llm))]
    return Costs(of_slm, of_llm, *alone)


def cost_alone(model: ModelCost, price: float, prompt_tokens: int, tokens: int, ratio: float = 0.0) -> Cost:
    """The cost of a text of so many tokens that one model writes alone; see `Prices` for `price` and `ratio`."""
    passes = [(1, prompt_tokens + n - 1) if n else (prompt_tokens, 0) for n in range(tokens)]
    return sum((model.forward(*each, 1, price, ratio) for each in passes), Cost())


def modelled_seconds(events: Iterable[TokenEvent], slm: ModelCost, llm: ModelCost) -> float:
    """Seconds of all passes of a text, or of some events of its stream, by the measured passes of both models."""
    return sum(
        slm.seconds(event.slm_fed, event.slm_head) + llm.seconds(event.llm_fed, event.llm_head)
        for event in charged(events)
    )
