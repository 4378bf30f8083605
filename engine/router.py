"""The learned router: a small MLP on the SLM's hidden state, and the folder it is shipped in.

CITER's router (Zheng et al., COLM 2025, section 3): hidden state → routing score in [0, 1], how safe it is to let the
SLM write the next token. How its files are written and checked is in `engine.network`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from engine.errors import RouterError
from engine.events import MAX_THRESHOLD
from engine.model.logits import LOGIT_FEATURES
from engine.network import FoldedNetwork, Name, NetworkFolder, RouterNetwork, Shapes, Width
from engine.operating_points import FILE as OPERATING_POINTS
from engine.operating_points import OperatingPoints

WEIGHTS, CARD = "router.safetensors", "router.json"
FORMAT = 1
POLARITY = "score is the estimate that the SLM is preferred; score < threshold → LLM"


@dataclass(frozen=True)
class RouterCard:
    """What a router is and where it fits; stored as `router.json`.

    Attributes:
        slm, llm: Names of the pair it was trained for.
        tokenizer: Fingerprint of the pair's tokenizer.
        logit_features: Whether the MLP also sees `logit_features` of the SLM (needs `lm_head` at every token).
        polarity: Always `POLARITY`; stored so that no reader has to guess.
        training, metrics: Data and settings it was trained with, and figures measured on held-out questions.
        threshold, acceptance: Where both dials start. `fit` takes the threshold that separates the preferences of the
            stopping questions best (Youden's J), at acceptance 0; `ship` takes both from measured curves.
        description: One line for people, shown on the page.
    """

    name: Name
    slm: Name
    llm: Name
    hidden_size: Width
    tokenizer: Name
    logit_features: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.1
    polarity: Literal[POLARITY] = POLARITY  # pyright: ignore[reportInvalidTypeForm]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    threshold: Annotated[float, Field(ge=0, le=MAX_THRESHOLD, allow_inf_nan=False)] = 0.5
    acceptance: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    description: Annotated[str, Field(max_length=10_000)] = ""
    format: Literal[1] = FORMAT


FOLDER = NetworkFolder("router", WEIGHTS, CARD, RouterCard)


class Router:
    """A network with its card, ready to score.

    Attributes:
        operating_points: What its thresholds gave with the LLM of the card, if that was measured.
        warning: Set where it is used with another LLM than it was trained for, or its operating points are not its own.
    """

    def __init__(self, network: RouterNetwork, card: RouterCard) -> None:
        self.network = network.eval()
        self.card = card
        self.operating_points: OperatingPoints | None = None
        self.warning: str | None = None
        self._folded: FoldedNetwork | None = None

    @property
    def name(self) -> str:
        """That of the card."""
        return self.card.name

    @property
    def description(self) -> str:
        """One line for people: what it was trained on."""
        return self.card.description

    @property
    def bytes(self) -> int:
        """Weights that one score reads."""
        return self.network.bytes

    @property
    def flops(self) -> int:
        """2 × parameters of the linear layers."""
        return self.network.flops

    @torch.inference_mode()
    def score(self, features: torch.Tensor) -> torch.Tensor:
        """Features [n, inputs] (see `features`) → routing scores [n], float32 in [0, 1]."""
        self._folded = self._folded or FoldedNetwork(self.network)  # the weights are not changed from the first on
        return self._folded(features).sigmoid_()

    def to(self, device: torch.device) -> None:
        """Moves the network to where the features are."""
        self.network.to(device)
        self._folded = None

    def save(self, folder: Path) -> None:
        """Writes `router.safetensors` and `router.json` into a folder, which is created."""
        FOLDER.save(folder, self.network, self.card)

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Reads a router's folder; raises RouterError if it is missing, corrupt or of another format.

        Operating points of other weights are left out, with a warning.
        """
        network, card, sha256 = FOLDER.load(folder, _network_of)
        router = cls(network, card)
        points = OperatingPoints.load(folder)
        if points is None or points.router == sha256:
            router.operating_points = points
        else:
            router.warning = (
                f"{OPERATING_POINTS} of router {router.name} was measured with other weights, so it is left out: "
                "measure the operating points again, or delete the file."
            )
        return router

    def fit_to(self, slm: str, llm: str, hidden_size: int, tokenizer: str) -> None:
        """Raises RouterError for an SLM of another width, tokenizer or name; sets `warning` if only the LLM differs."""
        card = self.card
        here = {"hidden size": hidden_size, "tokenizer": tokenizer[:12], "SLM": slm}
        there = {"hidden size": card.hidden_size, "tokenizer": card.tokenizer[:12], "SLM": card.slm}
        differ = [f"{what} is {there[what]} there and {here[what]} here" for what in here if there[what] != here[what]]
        if differ:
            raise RouterError(
                f"Router {card.name!r} was trained for {card.slm}, not for {slm}: {'; '.join(differ)}. "
                "Choose a router for this SLM, or train one with `python -m trainer`."
            )
        if card.llm != llm:
            self.warning = f"Router {card.name} was trained against {card.llm}; its threshold may mean less with {llm}."


def _network_of(card: RouterCard, shapes: Shapes) -> RouterNetwork:
    """The network of a card; its width is read off the weights.

    A narrow network learns less by heart and moves fewer bytes per token.
    """
    last = shapes.get("layers.6.weight", ())
    width = last[-1] if last and 1 <= last[-1] <= card.hidden_size else card.hidden_size
    skip = LOGIT_FEATURES if card.logit_features and "skip.weight" in shapes else 0
    return RouterNetwork(input_size(card.hidden_size, card.logit_features), width, card.dropout, skip)


def input_size(hidden_size: int, with_logits: bool) -> int:
    """Width of the router's input."""
    return hidden_size + LOGIT_FEATURES * with_logits


def features(hidden: torch.Tensor, certainty: torch.Tensor | None) -> torch.Tensor:
    """The router's input, float32 [n, d] or [n, d + LOGIT_FEATURES], from the SLM's hidden states [n, d].

    `certainty` are its `logit_features` [n, LOGIT_FEATURES], or None for a router that does not look at them.
    """
    return hidden.float() if certainty is None else torch.cat([hidden, certainty], dim=-1)  # the wider type is taken
