"""The judge: a small MLP that estimates whether a drafted token which is not the LLM's own does harm to the answer.

It learns from rollouts of both tokens (AutoJudge, Garipov et al. 2025, arXiv 2504.20039, learns from where the answer
changes) and stands in for the likelihood ratio, against the same acceptance. It looks at one position alone, the LLM's
hidden state and the ratio there, so the text does not depend on when the LLM reads. How its files are written and
checked is in `engine.network`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from engine.errors import RouterError
from engine.network import Name, NetworkFolder, RouterNetwork, Shapes, Width

WEIGHTS, CARD = "judge.safetensors", "judge.json"


@dataclass(frozen=True)
class JudgeCard:
    """What a judge is and where it fits; stored as `judge.json`.

    Attributes:
        slm, llm: Names of the pair it was trained for.
        tokenizer: Fingerprint of the pair's tokenizer.
        hidden_size: The LLM's.
        width: Of its network.
        training, metrics: What it learned from, and figures from questions it did not learn from.
    """

    name: Name
    slm: Name
    llm: Name
    tokenizer: Name
    hidden_size: Width
    width: Width
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)


FOLDER = NetworkFolder("judge", WEIGHTS, CARD, JudgeCard)


class Judge:
    """A network with its card, ready to judge."""

    def __init__(self, network: RouterNetwork, card: JudgeCard) -> None:
        self.network, self.card = network.eval(), card

    @torch.inference_mode()
    def harmless(self, hidden: torch.Tensor, log_ratio: torch.Tensor) -> float:
        """The estimate in [0, 1] for one token, from the LLM's hidden state [d] before it and its log p / max p []."""
        inputs = torch.cat([hidden.float(), log_ratio.float()[None]])
        estimate = float(torch.sigmoid(self.network(inputs[None])))
        if not math.isfinite(estimate):
            raise RouterError(
                f"Judge {self.card.name!r} gave the estimate {estimate}, which is no number: its weights or the LLM's "
                'are damaged. Get them again, or ask with judge="ratio".'
            )
        return estimate

    def save(self, folder: Path) -> None:
        """Writes `judge.safetensors` and `judge.json` into a folder, which is created."""
        FOLDER.save(folder, self.network, self.card)

    @classmethod
    def load(cls, folder: Path) -> Judge:
        """Reads a judge's folder; raises RouterError if it is missing, corrupt or does not match its card."""
        network, card, _ = FOLDER.load(folder, _network_of)
        return cls(network, card)

    def fit_to(self, slm: str, llm: str, hidden_size: int, tokenizer: str) -> None:
        """Raises RouterError for another pair: hidden states of another model mean nothing here."""
        card = self.card
        if (card.slm, card.llm, card.hidden_size, card.tokenizer) != (slm, llm, hidden_size, tokenizer):
            raise RouterError(
                f"Judge {card.name!r} was trained for {card.slm} with {card.llm}, and this pair is {slm} with {llm}: "
                "choose that pair, or train a judge with `python -m trainer judge`"
            )


def _network_of(card: JudgeCard, shapes: Shapes) -> RouterNetwork:
    return RouterNetwork(card.hidden_size + 1, card.width, skip=1)
