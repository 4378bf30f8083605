"""The text that is explained where the visitor has none yet."""

from __future__ import annotations

from functools import cache, partial
from types import SimpleNamespace
from typing import Any

from engine import ModelCost, Request, Role, TokenEvent
from engine.events import role_at


@cache
def example() -> Any:
    """A made-up text of a pair whose LLM is about three times its SLM."""
    scores = [0.93, 0.98, 0.99, 0.96, 0.95, 0.97, 0.41, 0.88, 0.99, 0.98, 0.52, 0.96]
    ratios = [1.0, 1.0, 1.0, 0.62, 0.04, 1.0, None, 1.0, 0.71, 1.0, None, None]
    texts = ["Ben", " has", " 20", " +", " 6", " =", " 26", " dollars", " now", ":", " 26", "."]
    events, unseen = [], 24  # the prompt
    for index, (text, score, ratio) in enumerate(zip(texts, scores, ratios, strict=True)):
        made_up = partial(
            TokenEvent, score=score, threshold=0.8, seconds=0.0, index=index, acceptance=0.3, slm_head=True
        )
        fed = 24 if index == 0 else 1
        if index == 4:  # the LLM looks at token 7, reads all six before it, and takes the fifth and the sixth back
            back = (
                made_up(104, " 9", Role.SLM, slm_fed=1, llm_fed=0),
                made_up(105, " =", Role.SLM, slm_fed=1, llm_fed=0, index=5),
            )
            event = made_up(index, text, Role.LLM, slm_fed=0, llm_fed=unseen + 2, taken_back=back, ratio=ratio)
            unseen = 1
        elif role_at(score, 0.8) is Role.LLM:
            event = made_up(index, text, Role.LLM, slm_fed=fed, llm_fed=unseen, slm_head=False)
            unseen = 1
        else:
            event = made_up(index, text, Role.SLM, slm_fed=fed, llm_fed=0, ratio=ratio)
            unseen += 1
        events.append(event)
    pair = SimpleNamespace(
        slm_cost=ModelCost(280_000_000, 76_000_000, 1_000, 24_000, 720_000_000, 272_000_000, 90_000, 0.03, 0.002),
        llm_cost=ModelCost(740_000_000, 131_000_000, 1_700, 57_000, 2_620_000_000, 466_000_000, 172_000, 0.08, 0.005),
    )
    request = Request("made up", threshold=0.8, acceptance=0.3)
    return SimpleNamespace(request=request, events=events, prompt_tokens=24, pair=pair, active=False)
