"""The learned router: a small MLP on the SLM's hidden state, and the folder it is shipped in.

CITER's router (Zheng et al., COLM 2025, section 3): hidden state → routing score in [0, 1], how safe it is to let the
SLM write the next token. Knows its own file format and which SLM it fits; does not know how it was trained.
Weights are safetensors and the card is JSON: nothing is ever unpickled.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from engine.download import sha256_of
from engine.errors import RouterError
from engine.logits import LOGIT_FEATURES
from engine.operating_points import FILE as OPERATING_POINTS
from engine.operating_points import OperatingPoints

WEIGHTS, CARD = "router.safetensors", "router.json"
FORMAT = 1
POLARITY = "score is the estimate that the SLM is preferred; score < threshold → LLM"


@dataclass(frozen=True)
class RouterCard:
    """What a router is and where it fits; stored as `router.json`.

    Attributes:
        name: Folder name.
        slm, llm: Names of the pair it was trained for.
        hidden_size: Width of the SLM's hidden state.
        tokenizer: Fingerprint of the pair's tokenizer.
        logit_features: Whether the MLP also sees `logit_features` of the SLM (needs `lm_head` at every token).
        dropout: As trained; inactive when routing.
        polarity: Always `POLARITY`; stored so that no reader has to guess.
        training: Data and settings it was trained with.
        metrics: Measured on held-out questions.
        threshold: Where to start: it separates the preferences of the stopping questions best (Youden's J).
        description: One line for people, shown on the page.
    """

    name: str
    slm: str
    llm: str
    hidden_size: int
    tokenizer: str
    logit_features: bool = False
    dropout: float = 0.1
    polarity: str = POLARITY
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    threshold: float = 0.5
    description: str = ""
    format: int = FORMAT


class RouterNetwork(nn.Module):
    """d → 2d → d → 1 with dropout (CITER, appendix), on standardised inputs; d is the width of the input.

    The mean and scale of the inputs are part of the weights: hidden states of different models differ by orders of
    magnitude, and logit features differ from both. With a skip connection the logit features have a linear score of
    their own, to which the layers add a correction.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, inputs: int, hidden: int, dropout: float = 0.1, skip: bool = False) -> None:
        """A network for `inputs` features whose first layers have 2 × `hidden` and `hidden` units.

        Args:
            inputs: Features; with a skip connection the last `LOGIT_FEATURES` of them are the logit features.
            hidden: Units of the second layer.
            dropout: After each hidden layer, in training.
            skip: Whether it has a skip connection.
        """
        super().__init__()
        self.register_buffer("mean", torch.zeros(inputs))
        self.register_buffer("scale", torch.ones(inputs))
        self.layers = nn.Sequential(
            nn.Linear(inputs, 2 * hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(2 * hidden, hidden),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, 1),
        )
        self.skip = nn.Linear(LOGIT_FEATURES, 1) if skip else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """float32 features [n, inputs] → logits of the routing score [n]."""
        inputs = (features - self.mean) / self.scale
        logits = self.layers(inputs)
        if self.skip is not None:
            logits = logits + self.skip(inputs[:, -LOGIT_FEATURES:])
        return logits.squeeze(-1)


class Router:
    """A network with its card, ready to score.

    Attributes:
        card: What it is.
        operating_points: What its thresholds gave when they were measured with the LLM of the card; None if nobody did.
        warning: Set where it is used with another LLM than it was trained for, or its operating points are not its own.
    """

    def __init__(self, network: RouterNetwork, card: RouterCard) -> None:
        self.network = network.eval()
        self.card = card
        self.operating_points: OperatingPoints | None = None
        self.warning: str | None = None

    @property
    def name(self) -> str:
        """Name of its folder."""
        return self.card.name

    @property
    def description(self) -> str:
        """One line for people: what it was trained on."""
        return self.card.description

    @property
    def bytes(self) -> int:
        """Weights that one score reads."""
        return sum(p.numel() * p.element_size() for p in self.network.state_dict().values())

    @property
    def flops(self) -> int:
        """2 × parameters of the linear layers."""
        return 2 * sum(m.weight.numel() for m in self.network.modules() if isinstance(m, nn.Linear))

    @torch.inference_mode()
    def score(self, features: torch.Tensor) -> torch.Tensor:
        """Features [n, inputs] (see `features`) → routing scores [n], float32 in [0, 1]."""
        return torch.sigmoid(self.network(features))

    def save(self, folder: Path) -> None:
        """Writes `router.safetensors` and `router.json` into a folder, which is created."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file({name: t.contiguous() for name, t in self.network.state_dict().items()}, folder / WEIGHTS)
        (folder / CARD).write_text(json.dumps(asdict(self.card), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Reads a router's folder.

        Raises:
            RouterError: Missing, corrupt, of another format or with values that are not finite. Operating points may
                be missing; those of other weights (the router was trained again) are left out, with a warning.
        """
        try:
            card = TypeAdapter(RouterCard).validate_json((folder / CARD).read_bytes())
            weights = load_file(folder / WEIGHTS)
        except OSError as error:
            raise RouterError(f"The router in {folder} cannot be read: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RouterError(f"{folder / CARD} is not a router's card: {where}: {first['msg']}") from None
        except SafetensorError as error:
            raise RouterError(f"{folder / WEIGHTS} is corrupt ({error}); get the folder again") from error
        if card.format != FORMAT or card.polarity != POLARITY:
            raise RouterError(f"{folder / CARD} has format {card.format}; this program reads format {FORMAT}")
        # Its width is read off the weights: a narrow network learns less by heart and moves fewer bytes per token.
        last = weights.get("layers.6.weight", torch.empty(0))
        width = last.shape[-1] if 1 <= last.shape[-1] <= card.hidden_size else card.hidden_size
        inputs = input_size(card.hidden_size, card.logit_features)
        skip = card.logit_features and "skip.weight" in weights
        network = RouterNetwork(inputs, width, card.dropout, skip)
        try:
            network.load_state_dict(weights)
        except RuntimeError as error:
            raise RouterError(f"{folder / WEIGHTS} does not match its card: {str(error).splitlines()[-1]}") from error
        if not all(bool(torch.isfinite(t).all()) for t in network.state_dict().values()):
            raise RouterError(f"{folder / WEIGHTS} holds values that are not finite; get the folder again")
        router = cls(network, card)
        router._take_points(OperatingPoints.load(folder), folder)
        return router

    def _take_points(self, points: OperatingPoints | None, folder: Path) -> None:
        if points is None or points.router == sha256_of(folder / WEIGHTS):
            self.operating_points = points
        else:
            self.warning = (
                f"{OPERATING_POINTS} of router {self.name} was measured with other weights, so it is left out: "
                "measure the operating points again, or delete the file."
            )

    def fit_to(self, slm: str, llm: str, hidden_size: int, tokenizer: str) -> None:
        """Checks that the router fits the loaded pair, and sets `warning` if only its LLM differs.

        Raises:
            RouterError: Trained on another SLM: another width, tokenizer or name, so its input means something else.
        """
        card = self.card
        reasons = [
            f"{what} is {theirs} there and {ours} here"
            for what, theirs, ours in (
                ("hidden size", card.hidden_size, hidden_size),
                ("tokenizer", card.tokenizer[:12], tokenizer[:12]),
                ("SLM", card.slm, slm),
            )
            if theirs != ours
        ]
        if reasons:
            raise RouterError(
                f"Router {card.name!r} was trained for {card.slm}, not for {slm}: {'; '.join(reasons)}. "
                "Choose a router for this SLM, or train one with `python -m trainer`."
            )
        if card.llm != llm:
            self.warning = f"Router {card.name} was trained against {card.llm}; its threshold may mean less with {llm}."


def input_size(hidden_size: int, with_logits: bool) -> int:
    """Width of the router's input."""
    return hidden_size + (LOGIT_FEATURES if with_logits else 0)


def features(hidden: torch.Tensor, certainty: torch.Tensor | None) -> torch.Tensor:
    """The router's input.

    Args:
        hidden: The SLM's hidden states [n, d].
        certainty: Its `logit_features` [n, LOGIT_FEATURES], or None for a router that does not look at them.

    Returns:
        float32 [n, d] or [n, d + LOGIT_FEATURES], on the CPU's or GPU's own device.
    """
    hidden = hidden.float()
    return hidden if certainty is None else torch.cat([hidden, certainty], dim=-1)
