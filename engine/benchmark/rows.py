"""The rows of the table: what is compared, and what each row cannot avoid doing."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.benchmark.forced import ForcedShare, router_of, spread
from engine.benchmark.subject import DEFAULT, OWN, Subject
from engine.benchmark.writers import Writer, alone, generate, llama, naive, routed, speculative
from engine.cost import ModelCost
from engine.events import Role, role_at
from engine.router import Router

BASELINE = "generate-llm"
SHARES = (0.1, 0.2, 0.3, 0.5)
MAIN_SHARE = 0.3
BATCHES = (4, 16)


@dataclass(frozen=True)
class Row:
    """One way of writing.

    Attributes:
        name: For `--only` and the JSON.
        title: For the table.
        writer: Makes it ready; loads what is not loaded yet.
        share: Of the tokens that the LLM writes.
        batch: Texts written at once.
        bounded: Whether the bytes it must move are known: they are those of the engine's weights for the same tokens by
            the same models, also where a row reads larger weights or reads them more often.
        first_token: Whether the time to the first token is measured. It is the same for every share above 0.
        uses_router: Whether the SLM reads every token and a router scores it.
        allocates_in_run: Whether its KV cache is allocated by a run, and not when the model is loaded.
    """

    name: str
    title: str
    writer: Callable[[Subject], Writer]
    share: float
    batch: int = 1
    bounded: bool = True
    first_token: bool = False
    uses_router: bool = False
    allocates_in_run: bool = True

    def roles(self, tokens: int, seed: int = 0) -> list[Role]:
        """Who writes each of `tokens` tokens of row `seed` of the batch."""
        if self.share in (0.0, 1.0):
            return [Role.LLM if self.share else Role.SLM] * tokens
        return [role_at(score, self.share) for score in spread(tokens, seed)]


def _generate(form: str, role: Role) -> Callable[[Subject], Writer]:
    return lambda subject: generate(subject.plain(form, role))


def _alone(role: Role) -> Callable[[Subject], Writer]:
    return lambda subject: alone(subject.pair, role)


def _routed(share: float) -> Callable[[Subject], Writer]:
    def make(subject: Subject) -> Writer:
        router = router_of(subject.pair)
        return routed(subject.pair, lambda tokens: ForcedShare(router, tokens), share)

    return make


def _naive(subject: Subject) -> Writer:
    router = router_of(subject.pair)
    # With this engine's weights: a dense `lm_head` would make each of the LLM's prefills slower still on a CPU.
    models = subject.plain(OWN, Role.SLM), subject.plain(OWN, Role.LLM)
    return naive(*models, lambda tokens: ForcedShare(router, tokens), MAIN_SHARE)


def _speculative(subject: Subject) -> Writer:
    return speculative(subject.plain(OWN, Role.SLM), subject.plain(OWN, Role.LLM), subject.pair.tokenizer)


def _llama(role: Role) -> Callable[[Subject], Writer]:
    return lambda subject: llama(subject.gguf[role], subject.pair.context)


_ENDS = ((Role.SLM, "slm", "SLM only", 0.0), (Role.LLM, "llm", "LLM only", 1.0))

ROWS: tuple[Row, ...] = (
    *(Row(f"generate-{n}", f"{t}, `generate`", _generate(DEFAULT, r), s, first_token=True) for r, n, t, s in _ENDS),
    *(
        Row(f"generate-own-{n}", f"{t}, `generate`, this engine’s weights", _generate(OWN, r), s, first_token=True)
        for r, n, t, s in _ENDS
    ),
    *(Row(f"engine-{n}", f"{t}, this engine", _alone(r), s, first_token=True) for r, n, t, s in _ENDS),
    *(
        Row(
            f"routed-{s:.0%}".rstrip("%"),
            f"routed, {100 * s:.0f} % LLM",
            _routed(s),
            s,
            first_token=s == MAIN_SHARE,
            uses_router=True,
        )
        for s in SHARES
    ),
    *(
        Row(
            f"routed-30x{n}",
            f"routed, 30 % LLM, {n} texts at once",
            _routed(MAIN_SHARE),
            MAIN_SHARE,
            n,
            uses_router=True,
        )
        for n in BATCHES
    ),
    Row(
        "naive-30", "routed, 30 % LLM, naive: no LLM cache, this engine’s weights", _naive, MAIN_SHARE, uses_router=True
    ),
    Row("assisted", "assisted generation, this engine’s weights", _speculative, 1.0, bounded=False, first_token=True),
    *(
        Row(
            f"llama-{n}",
            f"{t}, llama.cpp, Q4_K_M",
            _llama(r),
            s,
            bounded=False,
            first_token=True,
            allocates_in_run=False,
        )
        for r, n, t, s in _ENDS
    ),
)


def available(row: Row, subject: Subject) -> str | None:
    """Why a row cannot be measured here; None if it can."""
    if not row.name.startswith("llama-"):
        return None
    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed: pip install -e '.[llama]'"
    if not subject.gguf:
        return "this pair has no GGUF files"
    return None


def bytes_to_move(
    slm: ModelCost, llm: ModelCost, prompt: int, roles: Sequence[Sequence[Role]], router: Router | None
) -> float:
    """Bytes that texts written side by side must move, with each model's weights read once a step.

    Args:
        slm, llm: What a pass of each costs.
        prompt: Tokens of each prompt.
        roles: Who writes each token, per text; all equally long.
        router: Scores every token, so that the SLM reads all of them; None if nothing does.
    """
    costs = {Role.SLM: slm, Role.LLM: llm}
    read = {role: [0] * len(roles) for role in Role}
    total = 0.0
    for position in range(len(roles[0])):
        for role, cost in costs.items():
            writing = [text[position] is role for text in roles]
            scored = router if role is Role.SLM else None
            running = [True] * len(roles) if scored else writing
            heads = running if scored and scored.card.logit_features else writing
            if any(running):
                total += cost.trunk_bytes + any(heads) * cost.head_bytes
            for text, runs in enumerate(running):
                if runs:
                    cached = read[role][text]
                    fed = prompt + position - cached
                    total += fed * cost.embedding_bytes + (cached + 2 * fed) * cost.kv_bytes
                    read[role][text] = prompt + position
        total += router.bytes if router else 0
    return total


def cache_bytes(slm: ModelCost, llm: ModelCost, row: Row, tokens: int) -> int:
    """Keys and values of `tokens` tokens per text in the models that a row runs."""
    if not row.allocates_in_run:
        return 0
    both = row.uses_router or row.name == "assisted"
    used = [slm] * (both or row.share == 0) + [llm] * (both or row.share > 0)
    return sum(cost.kv_bytes for cost in used) * tokens * row.batch
