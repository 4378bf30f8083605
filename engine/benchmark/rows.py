"""The rows of the table: which ways of writing are compared, and the bytes that each of them must move."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.benchmark.forced import AGREEMENT, ForcedCertainty, forced
from engine.benchmark.subject import Subject
from engine.benchmark.writers import (
    ForcedShare,
    Writer,
    alone,
    generate,
    llama,
    naive,
    routed,
    router_of,
    shuffled_scores,
    speculative,
    verified,
)
from engine.events import Role, role_at
from engine.events.cost import ModelCost
from engine.policy import ConfidencePolicy, Policy, RouterPolicy
from engine.router import Router

BASELINE = "generate-llm"
SHARES = (0.1, 0.2, 0.3, 0.5)
MAIN_SHARE = 0.3
BATCHES = (4, 16)
CONFIDENCES = (0.0, 0.6, 0.8)
"""Of the SLM, below which the LLM is asked at acceptance 1; 0 is speculative decoding."""


@dataclass(frozen=True)
class TableRow:
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
    """

    name: str
    title: str
    writer: Callable[[Subject], Writer]
    share: float
    batch: int = 1
    bounded: bool = True
    first_token: bool = False
    uses_router: bool = False

    def roles(self, tokens: int, seed: int = 0) -> list[Role]:
        """Who writes each of `tokens` tokens of row `seed` of the batch."""
        if self.share in (0.0, 1.0):
            return [Role.LLM if self.share else Role.SLM] * tokens
        return [role_at(score, self.share) for score in shuffled_scores(tokens, seed)]


def _alone(name: str, how: str, make: Callable[[Subject, Role], Writer], **traits: bool) -> list[TableRow]:
    """The rows of one way with either model alone."""
    ends = ((Role.SLM, 0.0), (Role.LLM, 1.0))
    return [
        TableRow(
            f"{name}-{role.value}",
            f"{role.value.upper()} only, {how}",
            lambda subject, role=role: make(subject, role),
            share,
            first_token=True,
            **traits,
        )
        for role, share in ends
    ]


def _routed(share: float, batch: int = 1) -> TableRow:
    def make(subject: Subject) -> Writer:
        router = router_of(subject.pair)
        return routed(subject.pair, lambda tokens: ForcedShare(router, tokens), share)

    percent = f"{share:.0%}".rstrip("%")
    name, title = f"routed-{percent}", f"routed, {percent} % LLM"
    if batch > 1:
        name, title = f"{name}x{batch}", f"{title}, {batch} texts at once"
    first_token = share == MAIN_SHARE and batch == 1
    return TableRow(name, title, make, share, batch, first_token=first_token, uses_router=True)


def _naive(subject: Subject) -> Writer:
    router = router_of(subject.pair)
    models = subject.plain(Role.SLM), subject.plain(Role.LLM)
    return naive(*models, lambda tokens: ForcedShare(router, tokens), MAIN_SHARE)


def _verified(name: str, title: str, choose: Callable[[Subject], tuple[Callable[[int], Policy], float]]) -> TableRow:
    """The LLM's own text by verified routing; random weights agree as `engine.benchmark.forced` says."""

    def make(subject: Subject) -> Writer:
        policies, threshold = choose(subject)
        return verified(forced(subject.pair) if subject.random else subject.pair, policies, threshold)

    return TableRow(f"verified-{name}", f"acceptance 1, {title}", make, 1.0, bounded=False)


def _by_router(subject: Subject) -> tuple[Callable[[int], Policy], float]:
    router = router_of(subject.pair)
    if subject.random:
        return lambda prompt: ForcedCertainty(router, prompt), AGREEMENT
    return lambda _: RouterPolicy(router), subject.pair.threshold


def _by_confidence(threshold: float) -> TableRow:
    title = f"SLM confidence < {threshold:g}" if threshold else "threshold 0 (speculative decoding)"
    return _verified(f"{threshold:g}", title, lambda _: (lambda _: ConfidencePolicy(), threshold))


def _speculative(subject: Subject) -> Writer:
    return speculative(subject.plain(Role.SLM), subject.plain(Role.LLM), subject.pair.tokenizer)


OURS = "this engine’s weights"
_LLAMA = "llama-"  # what the names of its two rows begin with

ROWS: tuple[TableRow, ...] = (
    *_alone("generate", f"`generate`, {OURS}", lambda subject, role: generate(subject.plain(role))),
    *_alone("engine", "this engine", lambda subject, role: alone(subject.pair, role)),
    *(_routed(share) for share in SHARES),
    *(_routed(MAIN_SHARE, batch) for batch in BATCHES),
    _verified("router", "the router at its threshold", _by_router),
    *(_by_confidence(threshold) for threshold in CONFIDENCES),
    TableRow("naive-30", f"routed, 30 % LLM, naive: no LLM cache, {OURS}", _naive, MAIN_SHARE, uses_router=True),
    TableRow("assisted", f"assisted generation, {OURS}", _speculative, 1.0, bounded=False, first_token=True),
    *_alone(
        "llama",
        "llama.cpp, Q4_K_M",
        lambda subject, role: llama(subject.gguf[role], subject.pair.context),
        bounded=False,
    ),
)


def available(row: TableRow, subject: Subject) -> str | None:
    """Why a row cannot be measured here; None if it can."""
    if not row.name.startswith(_LLAMA):
        return None
    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed: pip install -e '.[llama]'"
    role = Role(row.name.removeprefix(_LLAMA))
    if role not in subject.gguf:
        return f"this pair has no GGUF file of its {role.value.upper()}"
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
