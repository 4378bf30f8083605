"""The learned router: a small MLP on the SLM's hidden state, and the folder that it is shipped in.

CITER's router (Zheng et al., COLM 2025, section 3): hidden state → routing score in [0, 1], how safe it is to let the
SLM write the next token.

Weights are safetensors and the card is JSON: nothing is ever unpickled. A folder may be a stranger's, so the weights'
names, types and shapes are compared with the card before any of them is read.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn

from engine.errors import RouterError, first_fault
from engine.events import Threshold
from engine.events.parsing import Share
from engine.model.logits import LOGIT_FEATURES
from engine.models.files import disk_error, read_bytes, replacing, sha256_of
from engine.operating_points import FILE as OPERATING_POINTS
from engine.operating_points import OperatingPoints

WEIGHTS, CARD = "router.safetensors", "router.json"
POLARITY = "score is the estimate that the SLM is preferred; score < threshold → LLM"
_AGAIN = "get the folder again"
_MAX_HEADER = 100_000  # bytes of the weights' table of contents; these networks have some ten tensors

_Width = Annotated[int, Field(ge=1, le=1_000_000)]
_Name = Annotated[str, Field(min_length=1, max_length=300)]


class RouterNetwork(nn.Module):
    """inputs → 2 × hidden → hidden → 1 with dropout (CITER, appendix), on standardised inputs.

    The mean and scale of the inputs are part of the weights: hidden states of different models differ by orders of
    magnitude, and logit features differ from both. With `skip` the last so many inputs, the logit features, have a
    linear score of their own, to which the layers add a correction.
    """

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, inputs: int, hidden: int, dropout: float = 0.1, skip: int = 0) -> None:
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
        self.skip = nn.Linear(skip, 1) if skip else None

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """float32 features [n, inputs] → logits of the routing score [n]."""
        inputs = (features - self.mean) / self.scale
        logits = self.layers(inputs)
        if self.skip is not None:
            logits = logits + self.skip(inputs[:, -self.skip.in_features :])
        return logits.squeeze(-1)

    @property
    def bytes(self) -> int:
        """Weights that one run reads."""
        return sum(tensor.nbytes for tensor in self.state_dict().values())

    @property
    def flops(self) -> int:
        """2 × parameters of the linear layers."""
        return 2 * sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear))

    @property
    def fault(self) -> str | None:
        """Why it cannot score, whatever it is given; None if it can."""
        for name, tensor in self.state_dict().items():
            if not bool(torch.isfinite(tensor).all()):
                return f"{name} has values that are not finite"
        if not bool((self.scale > 0).all() and torch.isfinite(1 / self.scale).all()):
            return "scale has values that are not above 0, and inputs are divided by it"
        return None


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
        sha256: Of the file of weights (hex), so that a changed one is noticed.
    """

    name: _Name
    slm: _Name
    llm: _Name
    hidden_size: _Width
    tokenizer: _Name
    logit_features: bool = False
    dropout: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.1
    polarity: Literal[POLARITY] = POLARITY  # pyright: ignore[reportInvalidTypeForm]
    training: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    threshold: Threshold = 0.5
    acceptance: Share = 0.0
    description: Annotated[str, Field(max_length=10_000)] = ""
    format: Literal[1] = 1
    sha256: str | None = field(default=None, compare=False)


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

    @property
    def name(self) -> str:
        return self.card.name

    @torch.inference_mode()
    def score(self, features: torch.Tensor) -> torch.Tensor:
        """Features [n, inputs] (see `features`) → routing scores [n], float32 in [0, 1]."""
        return self.network(features).sigmoid_()

    def save(self, folder: Path) -> None:
        """Writes `router.safetensors` and `router.json` into a folder, which is created.

        Raises:
            RouterError: They cannot be written, or `load` would refuse them.
        """
        if self.network.fault:
            raise RouterError(f"The router is not written into {folder}: {self.network.fault}; it has not learned")
        weights = {name: tensor.contiguous() for name, tensor in self.network.state_dict().items()}
        new = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / WEIGHTS) as weights_path, replacing(folder / CARD) as card_path:
                weights_path.write_bytes(save(weights))  # `save_file` would let nobody else read it
                fields = {**asdict(self.card), "sha256": sha256_of(weights_path)}
                text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
                _read_card(text.encode("utf-8"), folder / CARD)
                card_path.write_bytes(text.encode("utf-8"))
        except (OSError, SafetensorError) as error:
            way_out = "" if disk_error(error) is None else ": free some space, or choose another folder"
            raise RouterError(f"The router cannot be written into {folder} ({error}){way_out}") from error
        except ValueError as error:  # NaN, or half a surrogate pair
            raise RouterError(f"{folder / CARD} cannot be written: {error}") from None
        finally:
            if new:
                with suppress(OSError):  # it holds what was written, or could not be made
                    folder.rmdir()

    @classmethod
    def load(cls, folder: Path) -> Router:
        """Reads a router's folder; raises RouterError if it is missing, damaged or of another format.

        Operating points of other weights are left out, with a warning.
        """
        path = folder / WEIGHTS
        try:
            card = _read_card(read_bytes(folder / CARD), folder / CARD)
            network, sha256 = _read_weights(path, card), sha256_of(path)
        except OSError as error:
            raise RouterError(f"The router in {folder} cannot be read: {error.strerror or error}") from error
        except SafetensorError as error:
            raise RouterError(f"{path} is corrupt ({error}); {_AGAIN}") from error
        if card.sha256 not in (None, sha256):
            raise RouterError(f"{path} has changed since it was written, its SHA-256 is not that of its card; {_AGAIN}")
        if network.fault:
            raise RouterError(f"{path}: {network.fault}; {_AGAIN}")
        router, points = cls(network, card), OperatingPoints.load(folder)
        if points is None or points.router == sha256:
            router.operating_points = points
        else:
            router.warning = (
                f"{OPERATING_POINTS} of router {router.name} was measured with other weights, so it is left out: "
                "measure the operating points again, or delete the file."
            )
        return router

    def check_fits(self, slm: str, llm: str, hidden_size: int, tokenizer: str) -> None:
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


def _read_card(content: bytes, path: Path) -> RouterCard:
    try:
        card = TypeAdapter(RouterCard).validate_json(content, strict=True)
        json.dumps(asdict(card), allow_nan=False)
    except ValidationError as error:
        raise RouterError(f"{path} is not a router's card: {first_fault(error)}") from None
    except ValueError as error:
        raise RouterError(f"{path} is not a router's card: {error}") from None
    return card


def _read_weights(path: Path, card: RouterCard) -> RouterNetwork:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little") if path.is_file() else 0
    if header > _MAX_HEADER:
        raise SafetensorError(f"its table of contents has {header:,} bytes, at most {_MAX_HEADER:,} are read")
    with safe_open(path, framework="pt") as file:
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        found = {name: (str(each.get_dtype()), tuple(each.get_shape())) for name, each in slices.items()}
        with torch.device("meta"):
            network = _network_of(card, {name: shape for name, (_, shape) in found.items()})
        wanted = {name: ("F32", tuple(tensor.shape)) for name, tensor in network.state_dict().items()}
        for name in sorted(wanted.keys() | found.keys()):
            if (here := found.get(name)) != (there := wanted.get(name)):
                raise RouterError(f"{path} does not match its card: {name[:80]!r} is {here} and should be {there}")
        # Copies: a mapped file that another program cuts off would end this one.
        network.load_state_dict({name: file.get_tensor(name).clone() for name in wanted}, assign=True)
    return network


def _network_of(card: RouterCard, shapes: dict[str, tuple[int, ...]]) -> RouterNetwork:
    """The network of a card; its width is read off the weights.

    A narrow network learns less by heart and moves fewer bytes per token.
    """
    last = shapes.get("layers.6.weight", ())
    width = last[-1] if last and 1 <= last[-1] <= card.hidden_size else card.hidden_size
    skip = LOGIT_FEATURES if card.logit_features and "skip.weight" in shapes else 0
    return RouterNetwork(input_size(card.hidden_size, card.logit_features), width, card.dropout, skip)


def input_size(hidden_size: int, with_logits: bool) -> int:
    return hidden_size + LOGIT_FEATURES * with_logits


def features(hidden: torch.Tensor, certainty: torch.Tensor | None) -> torch.Tensor:
    """The router's input, float32 [n, d] or [n, d + LOGIT_FEATURES], from the SLM's hidden states [n, d].

    `certainty` are its `logit_features` [n, LOGIT_FEATURES], or None for a router that does not look at them.
    """
    return hidden.float() if certainty is None else torch.cat([hidden, certainty], dim=-1)  # the wider type is taken
