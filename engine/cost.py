"""What a run costs: bytes moved, FLOPs, seconds and price, as folds over its events. Knows no torch and no models.

A model's cost is described by ten numbers (`ModelCost`, measured where the model is loaded); a run's cost follows from
what each event says was fed to which model. All figures are those of a single stream: in a batch the weights are read
once for all rows, which is not credited here.

Both ends of the dial are computed for the same number of generated tokens: one model reads the prompt in its first
pass and one token in each further pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import median

from engine.events import TokenEvent
from engine.request import number

UNITS = ("bytes", "flops", "seconds", "price")


@dataclass(frozen=True, slots=True)
class Cost:
    """Bytes moved, floating-point operations, wall-clock seconds, and price in currency."""

    bytes: float = 0.0
    flops: float = 0.0
    seconds: float = 0.0
    price: float = 0.0

    def __add__(self, other: Cost) -> Cost:
        return Cost(
            self.bytes + other.bytes,
            self.flops + other.flops,
            self.seconds + other.seconds,
            self.price + other.price,
        )


@dataclass(frozen=True, slots=True)
class Prices:
    """Currency per million tokens of each model.

    A forward pass answers for one position, at the full price; the other tokens it reads (prompt, catch-up) are billed
    at `reading_ratio` of it. Hosted models list input at about a quarter of output, hence the default.

    Raises:
        InvalidRequest: A price is negative or not finite.
    """

    slm: float = 0.1
    llm: float = 1.0
    reading_ratio: float = 0.25

    def __post_init__(self) -> None:
        number("SLM price", self.slm, 0.0, 1e6, "currency per million tokens")
        number("LLM price", self.llm, 0.0, 1e6, "currency per million tokens")
        number("reading ratio", self.reading_ratio, 0.0, 1.0, "share of the full price for a token that is only read")


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
        pass_seconds: Measured one-token pass with `lm_head`, used to model runs that did not happen.
        token_seconds: Measured seconds per further token in the same pass.
        router_bytes, router_flops: For the SLM: what a score of the router in use costs on top.
    """

    trunk_bytes: int
    head_bytes: int
    embedding_bytes: int
    kv_bytes: int
    trunk_flops: int
    head_flops: int
    attention_flops: int
    pass_seconds: float = 0.0
    token_seconds: float = 0.0
    router_bytes: int = 0
    router_flops: int = 0

    def forward(self, fed: int, cached: int, head: bool, price: float, reading_ratio: float) -> Cost:
        """One forward pass over `fed` new tokens with `cached` tokens already in the KV cache.

        Args:
            fed: New tokens; 0 means the model was not run.
            cached: Tokens whose keys and values are already stored.
            head: Whether `lm_head` is applied to the last position.
            price: Currency per million tokens.
            reading_ratio: Share of the price billed for each token but the one the pass answers for.

        Returns:
            Its cost. Every key and value is read once, the new ones are also written. `seconds` are modelled.
        """
        if fed == 0:
            return Cost()
        keys_seen = fed * cached + fed * (fed + 1) // 2
        return Cost(
            bytes=self.trunk_bytes
            + head * self.head_bytes
            + fed * self.embedding_bytes
            + (cached + 2 * fed) * self.kv_bytes,
            flops=fed * self.trunk_flops + head * self.head_flops + keys_seen * self.attention_flops,
            seconds=self.pass_seconds + (fed - 1) * self.token_seconds,
            price=(1 + (fed - 1) * reading_ratio) * price / 1e6,
        )


@dataclass(frozen=True, slots=True)
class Costs:
    """A run beside both extremes for the same number of generated tokens; the extremes' seconds are modelled."""

    run: Cost
    slm_only: Cost
    llm_only: Cost


def costs(
    events: Sequence[TokenEvent], prompt_tokens: int, slm: ModelCost, llm: ModelCost, prices: Prices | None = None
) -> Costs:
    """Folds the events of one row into its cost and that of both extremes.

    Args:
        events: One row's events, in order.
        prompt_tokens: Tokens of the rendered prompt.
        slm, llm: What a pass of each model costs.
        prices: For the unit "price".
    """
    return list(cumulative(events, prompt_tokens, slm, llm, prices))[-1] if events else Costs(Cost(), Cost(), Cost())


def cumulative(
    events: Sequence[TokenEvent], prompt_tokens: int, slm: ModelCost, llm: ModelCost, prices: Prices | None = None
) -> Iterator[Costs]:
    """Yields the running cost after each event; the last is the cost of the run. Arguments as for `costs`."""
    yield from Tally(prompt_tokens, slm, llm, prices).add(events)


class Tally:
    """The running cost of a text that grows: every event is folded once.

    The extremes' seconds follow the median pass of the events known so far, so those of earlier tokens settle only when
    a whole text is folded at once.

    Attributes:
        count: Events folded so far.
        total: Their cost.
    """

    def __init__(self, prompt_tokens: int, slm: ModelCost, llm: ModelCost, prices: Prices | None = None) -> None:
        """Begins with no event; arguments as for `costs`."""
        self._prompt_tokens, self._slm, self._llm = prompt_tokens, slm, llm
        self._prices = prices or Prices()
        self._slm_cached = self._llm_cached = 0
        self._slm_passes: list[float] = []
        self._llm_passes: list[float] = []
        self.count = 0
        self.total = Costs(Cost(), Cost(), Cost())

    def add(self, events: Sequence[TokenEvent]) -> list[Costs]:
        """Folds the next events of the row; returns the running cost after each of them."""
        self._slm_passes += [e.slm_seconds for e in events if e.slm_fed == 1]
        self._llm_passes += [e.llm_seconds for e in events if e.llm_fed == 1]
        slm_seconds = _pass_seconds(self._slm_passes, self._slm)
        llm_seconds = _pass_seconds(self._llm_passes, self._llm)
        return [self._add(event, slm_seconds, llm_seconds) for event in events]

    def _add(self, event: TokenEvent, slm_seconds: float, llm_seconds: float) -> Costs:
        slm, llm, prices, ratio = self._slm, self._llm, self._prices, self._prices.reading_ratio
        run = slm.forward(event.slm_fed, self._slm_cached, event.slm_head, prices.slm, ratio) + llm.forward(
            event.llm_fed, self._llm_cached, True, prices.llm, ratio
        )
        if event.router:
            run += Cost(bytes=slm.router_bytes, flops=slm.router_flops)
        self._slm_cached += event.slm_fed
        self._llm_cached += event.llm_fed
        fed, cached = (1, self._prompt_tokens + self.count - 1) if self.count else (self._prompt_tokens, 0)
        slm_alone = slm.forward(fed, cached, True, prices.slm, ratio)
        llm_alone = llm.forward(fed, cached, True, prices.llm, ratio)
        self.count += 1
        self.total = Costs(
            self.total.run + Cost(run.bytes, run.flops, event.seconds, run.price),
            self.total.slm_only + _with_pass(slm_alone, slm, slm_seconds),
            self.total.llm_only + _with_pass(llm_alone, llm, llm_seconds),
        )
        return self.total


def _pass_seconds(single: Sequence[float], model: ModelCost) -> float:
    """Seconds of a one-token pass: this run's own median where it has at least three, else measured at load."""
    return median(single) if len(single) >= 3 else model.pass_seconds


def _with_pass(cost: Cost, model: ModelCost, pass_seconds: float) -> Cost:
    return Cost(cost.bytes, cost.flops, cost.seconds - model.pass_seconds + pass_seconds, cost.price)


def modelled_seconds(events: Sequence[TokenEvent], slm: ModelCost, llm: ModelCost) -> float:
    """Seconds that one row would take alone, from the measured pass of each model: rows of a batch share the clock."""
    total = 0.0
    for event in events:
        total += slm.forward(event.slm_fed, 0, event.slm_head, 0, 0).seconds
        total += llm.forward(event.llm_fed, 0, True, 0, 0).seconds
    return total


def cost_alone(
    events: Sequence[TokenEvent], prompt_tokens: int, slm: ModelCost, llm: ModelCost, prices: Prices | None = None
) -> Cost:
    """What one row of a batch would cost by itself: as `costs` has it, with modelled seconds. Arguments as there."""
    return replace(costs(events, prompt_tokens, slm, llm, prices).run, seconds=modelled_seconds(events, slm, llm))
