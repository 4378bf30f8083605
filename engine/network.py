"""The small network of routers, and the folder that it is shipped in with its card.

Weights are safetensors and the card is JSON: nothing is ever unpickled. A folder may be a stranger's, so the weights'
names, types and shapes are compared with the card before any of them is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from engine.errors import RouterError, first_fault
from engine.weights.cache_folder import sha256_of
from engine.weights.files import disk_error, read_bytes, replacing

SHA256 = "sha256"  # a card's key beside its fields: of the weights' file, so that a changed one is noticed
AGAIN = "get the folder again"
_MAX_HEADER = 100_000  # bytes of the weights' table of contents; these networks have some ten tensors

Width = Annotated[int, Field(ge=1, le=1_000_000)]
Name = Annotated[str, Field(min_length=1, max_length=300)]
Shapes = Mapping[str, tuple[int, ...]]
Card = TypeVar("Card")


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


class FoldedNetwork:
    """A network that learns no more, as three products: standardising and the score of `skip` are in their weights.

    After a pass over all weights of a model nothing is in the processor's caches, and an operator costs tens of
    microseconds however small it is. So there are as few as can be. Folded in float64, so that only the order of
    rounding differs.
    """

    def __init__(self, network: RouterNetwork) -> None:
        layers: list[Any] = [network.layers[n] for n in (0, 3, 6)]
        weights = [layer.weight.detach().double() for layer in layers]
        biases = [layer.bias.detach().double() for layer in layers]
        mean, scale, skip = network.mean.double(), network.scale.double(), network.skip
        if skip is not None:
            # Two units that the linear score passes through: score = relu(score) - relu(-score).
            both = torch.eye(2, dtype=torch.float64, device=mean.device)
            linear = torch.zeros(1, len(mean), dtype=torch.float64, device=mean.device)
            linear[:, -skip.in_features :], bias = skip.weight.detach(), skip.bias.detach().double()
            weights[0], biases[0] = torch.cat([weights[0], linear, -linear]), torch.cat([biases[0], bias, -bias])
            weights[1], biases[1] = torch.block_diag(weights[1], both), torch.cat([biases[1], 0 * both[0]])
            weights[2] = torch.cat([weights[2], both[:1] - both[1:]], dim=1)
        weights[0] = weights[0] / scale
        biases[0] = biases[0] - weights[0] @ mean
        self._layers = [(w.float(), b.float()) for w, b in zip(weights, biases, strict=True)]

    def __call__(self, features: torch.Tensor) -> torch.Tensor:
        """As the network's own: float32 features [n, inputs] → logits of the routing score [n]."""
        first, second, third = self._layers
        hidden = nn.functional.linear(features, *first).relu_()
        return nn.functional.linear(nn.functional.linear(hidden, *second).relu_(), *third).squeeze(-1)


@dataclass(frozen=True)
class NetworkFolder(Generic[Card]):
    """How networks of one kind lie in a folder: two files, and the one place that writes and checks them.

    Attributes:
        kind: For people, as in "router".
        weights, card: Names of the files.
        card_type: A dataclass whose annotations say what a card may hold.
    """

    kind: str
    weights: str
    card: str
    card_type: type[Card]

    def save(self, folder: Path, network: RouterNetwork, card: Card) -> None:
        """Writes both files into a folder, which is created; a RouterError where `load` would refuse them."""
        if network.fault:
            raise RouterError(f"The {self.kind} is not written into {folder}: {network.fault}; it has not learned")
        weights = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
        new = not folder.exists()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with replacing(folder / self.weights) as weights_path, replacing(folder / self.card) as card_path:
                save_file(weights, weights_path)
                fields: Any = {**asdict(card), SHA256: sha256_of(weights_path)}  # pyright: ignore[reportArgumentType]
                text = json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
                self._check_card(text.encode("utf-8"), folder / self.card)
                card_path.write_bytes(text.encode("utf-8"))
        except (OSError, SafetensorError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            full = "" if disk_error(error) is None else ": free some space, or choose another folder"
            raise RouterError(f"The {self.kind} cannot be written into {folder} ({reason}){full}") from error
        except ValueError as error:  # NaN, or half a surrogate pair
            raise RouterError(f"{folder / self.card} cannot be written: {error}") from None
        finally:
            if new:
                with suppress(OSError):  # it holds what was written, or could not be made
                    folder.rmdir()

    def load(self, folder: Path, build: Callable[[Card, Shapes], RouterNetwork]) -> tuple[RouterNetwork, Card, str]:
        """Reads a folder; returns the network, its card and the SHA-256 of the weights' file.

        Args:
            build: What the network should be, from the card and the shapes that the weights' file names. It is called
                where tensors take no memory.

        Raises:
            RouterError: A file is missing, no file, damaged, or not that of the other.
        """
        path = folder / self.weights
        try:
            card, stated = self._check_card(read_bytes(folder / self.card), folder / self.card)
            network = self._read_weights(path, lambda shapes: build(card, shapes))
            sha256 = sha256_of(path)
        except OSError as error:
            raise RouterError(f"The {self.kind} in {folder} cannot be read: {error.strerror or error}") from error
        except SafetensorError as error:
            raise RouterError(f"{path} is corrupt ({error}); {AGAIN}") from error
        if stated not in (None, sha256):
            raise RouterError(f"{path} has changed since it was written, its SHA-256 is not that of its card; {AGAIN}")
        if network.fault:
            raise RouterError(f"{path}: {network.fault}; {AGAIN}")
        return network, card, sha256

    def _check_card(self, content: bytes, path: Path) -> tuple[Card, str | None]:
        """The card, and what it says the SHA-256 of the weights is, if it does."""
        try:
            card = TypeAdapter(self.card_type).validate_json(content, strict=True)
            json.dumps(asdict(card), allow_nan=False)  # pyright: ignore[reportArgumentType]
            stated = TypeAdapter(dict[str, Any]).validate_json(content).get(SHA256)
        except ValidationError as error:
            raise RouterError(f"{path} is not a {self.kind}'s card: {first_fault(error)}") from None
        except ValueError as error:
            raise RouterError(f"{path} is not a {self.kind}'s card: {error}") from None
        if not isinstance(stated, str | None):
            raise RouterError(f"{path} is not a {self.kind}'s card: {SHA256}: it is not a text")
        return card, stated

    def _read_weights(self, path: Path, build: Callable[[Shapes], RouterNetwork]) -> RouterNetwork:
        with path.open("rb") as file:
            header = int.from_bytes(file.read(8), "little") if path.is_file() else 0
        if header > _MAX_HEADER:
            raise SafetensorError(f"its table of contents has {header:,} bytes, at most {_MAX_HEADER:,} are read")
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: (str(each.get_dtype()), tuple(each.get_shape())) for name, each in slices.items()}
            with torch.device("meta"):
                network = build({name: shape for name, (_, shape) in found.items()})
            wanted = {name: ("F32", tuple(tensor.shape)) for name, tensor in network.state_dict().items()}
            for name in sorted(wanted.keys() | found.keys()):
                if found.get(name) != wanted.get(name):
                    here, there = _spelled(found.get(name)), _spelled(wanted.get(name))
                    raise RouterError(f"{path} does not match its card: {name[:80]!r} is {here} and should be {there}")
            # Copies: a mapped file that another program cuts off would end this one.
            network.load_state_dict({name: file.get_tensor(name).clone() for name in wanted}, assign=True)
        return network


def _spelled(tensor: tuple[str, tuple[int, ...]] | None) -> str:
    return "not there" if tensor is None else f"{tensor[0]} {list(tensor[1])}"
