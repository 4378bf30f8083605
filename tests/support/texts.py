"""Prompts, requests and comparisons of texts that tests of the engine share."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

import torch

from engine import Request, Sampling, TokenEvent, build_request, fold_revealed
from engine.batch.text import Text
from engine.decoding import Decoding
from engine.pair import Pair

PROMPTS = (
    "Mia counts 32 stamps. 42 are added. 5 are added. 45 are taken out. How many stamps are left?",
    "Start with 19. Take 7 away. Take 4 away. Subtract 3. Multiply by 4. What is the result?",
    "Yuki counts 51 apples. 37 get lost. The number grows 4 times. How many apples are left?",
    "Ben has $20. Ben earns $15. Ben spends $9. How much money is it now?",
)
LONG = " ".join(PROMPTS)  # over 100 tokens of the tiny pair's
GREEDY, SAMPLED = Sampling(), Sampling(temperature=1.3, top_p=0.95, repetition_penalty=1.1)
THRESHOLDS = (0.0, 0.3, 0.7, 0.9, 0.97, 1.01)
DRAFTS = (1, 3, 8, "auto")
PLANE = list(product((0.0, 0.3, 0.9, 1.01), (0.0, 0.3, 1.0)))


def asked(prompt: str = PROMPTS[0], threshold: float = 0.7, **options: Any) -> Request:
    """A request of 32 tokens at most, of the router unless something else is said."""
    return build_request(prompt, threshold=threshold, **{"max_new_tokens": 32, **options})


def verified(prompt: str = PROMPTS[0], threshold: float = 0.3, **options: Any) -> Request:
    """A request in whose text the LLM takes tokens back."""
    return asked(prompt, threshold, **{"acceptance": 0.6, "max_draft": 8, "sampling": SAMPLED, "seed": 11, **options})


def ids(events: Iterable[TokenEvent]) -> list[int]:
    """The tokens of a text."""
    return [event.id for event in events]


def facts(events: Iterable[TokenEvent]) -> list[list[Any]]:
    """All that events say but for the clock, the batch, and the batch's rounding."""
    fields = ("index", "id", "text", "role", "threshold", "acceptance", "slm_fed", "llm_fed", "slm_head", "llm_head")
    others = ("router", "provisional", "finish_reason")
    return [
        [*(getattr(e, name) for name in (*fields, *others)), [lost.id for lost in e.taken_back]]
        for e in fold_revealed(events)
    ]


def expected(pair: Pair, request: Request) -> list[list[Any]]:
    """The facts of a text that is written alone."""
    return facts(pair.generate(request).events)


def resume(decoding: Decoding, text: Text, request: Request, events: Sequence[TokenEvent]) -> None:
    """A text goes on from some events, as another request with the same prompt asks."""
    decoding.remove(text, keep=True)
    text.go_on(request, events)
    decoding.add([text])


def raw(prompt: str, **options: Any) -> Request:
    """A request of the random pair's, which writes on without a chat template."""
    return build_request(prompt, **{"policy": "confidence", "raw": True, "max_new_tokens": 40, **options})


TIE = 0.25  # bf16 keeps 8 bits: logits of 16 to 32 are rounded to 1/8, so two that differ by less than 2/8 may swap


def assert_same_up_to_a_tie(model: Any, start: torch.Tensor, ours: list[int], theirs: list[int]) -> None:
    """Texts may part only where the model holds two tokens for equally likely, as far as bf16 can tell."""
    if ours == theirs:
        return
    n = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=False)) if a != b)
    text = torch.cat([start, torch.tensor([ours[:n]], dtype=torch.long, device=start.device)], dim=1)
    with torch.inference_mode():
        logits = model(text).logits[0, -1].float()
    gap = abs(float(logits[ours[n]] - logits[theirs[n]]))
    assert gap <= TIE, f"token {n} differs by {gap} logits, which is no rounding"
