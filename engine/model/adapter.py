"""What an SLM has learned of its LLM's own texts: low-rank changes of its matrices (LoRA, Hu et al. 2021), in one file.

The file lies beside a router, which was fitted to the changed SLM. The changes are added to the SLM's weights before
these are quantised, so an aligned SLM costs nothing more when it runs.

A matrix [out, in] has three tensors: `<name>.down` int8 [rank, in], `<name>.up` int8 [rank, out], and `<name>.scale`
float32 [rank]. Its change is `up.T @ (scale * down)`. The card is JSON in the header of the file.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import Field, TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from engine.errors import WeightsError, first_fault, shown
from engine.models.files import read_bytes, replacing

MAX_BYTES = 200_000_000
"""Bytes that an adapter's file may have. That of a 0.5B model with rank 16 has nine million."""

_WAY_OUT = "Get the file again, make it with `python -m trainer align`, or set CITER_ADAPTER=none"
_LARGEST = 127  # of an int8 code


@dataclass(frozen=True)
class AdapterCard:
    """What an adapter is for.

    Attributes:
        slm: The SLM's title, for people.
        base: The identity of the SLM's files (`ModelFiles.base`). The adapter fits no other weights.
        learned: What it learned from and how well, for people.
        sha256: Of all bytes behind the header, so that damage is noticed.
    """

    slm: Annotated[str, Field(min_length=1, max_length=300)]
    base: Annotated[str, Field(min_length=1, max_length=1000)]
    rank: Annotated[int, Field(ge=1, le=1024)]
    learned: dict[str, Any] = field(default_factory=dict)
    sha256: str = ""
    format: Literal[1] = 1


@dataclass(frozen=True)
class Adapter:
    """An adapter in memory, with the SHA-256 of the whole file in hex as its `digest`."""

    card: AdapterCard
    tensors: Mapping[str, Tensor]
    digest: str

    @classmethod
    def load(cls, path: Path) -> Adapter:
        """Reads a file; a WeightsError names the file and what is wrong with it."""
        try:
            content = read_bytes(path, MAX_BYTES)
            card, tensors = _read(content)
        except OSError as error:
            raise WeightsError(f"The adapter {path} cannot be read ({error.strerror or error}). {_WAY_OUT}") from None
        except (ValueError, SafetensorError) as error:
            raise WeightsError(f"The adapter {path} is damaged: {shown(str(error))}. {_WAY_OUT}") from None
        return cls(card, tensors, hashlib.sha256(content).hexdigest())

    def check(self, title: str, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Raises a WeightsError where a change is for no matrix of a model, or for one of another shape."""
        for name in (each.removesuffix(".down") for each in self.tensors if each.endswith(".down")):
            shape = self.tensors[f"{name}.up"].shape[1], self.tensors[f"{name}.down"].shape[1]
            if shapes.get(f"{name}.weight") != shape:
                raise WeightsError(f"The adapter changes {shown(name)} {shape}, which {title} lacks. {_WAY_OUT}")

    def changed(self, name: str, weight: Tensor) -> Tensor:
        """A weight [out, in] with its change added, in its own dtype; any other tensor as it is."""
        layer = name.removesuffix(".weight")
        if f"{layer}.down" not in self.tensors or layer == name:
            return weight
        down, up, scale = (self.tensors[f"{layer}.{part}"].float() for part in ("down", "up", "scale"))
        return (weight.float() + up.T @ (scale[:, None] * down)).to(weight.dtype)


def save_adapter(path: Path, factors: Mapping[str, tuple[Tensor, Tensor]], card: AdapterCard) -> None:
    """Writes an adapter, whole or not at all; its folder must be there.

    Args:
        path: The file.
        factors: By layer, `down` [rank, in] and `up` [out, rank] in float32; the change is `up @ down`.
        card: Without its SHA-256.
    """
    tensors: dict[str, Tensor] = {}
    for name, (down, up) in factors.items():
        (low, one), (high, other) = _rounded(down), _rounded(up.T)
        tensors |= {f"{name}.down": low, f"{name}.up": high, f"{name}.scale": one * other}
    sha256 = hashlib.sha256(_parts(save(tensors))[1]).hexdigest()
    metadata = {"card": json.dumps({**asdict(card), "sha256": sha256}, allow_nan=False)}
    with replacing(path) as temporary:
        temporary.write_bytes(save(tensors, metadata))


def _rounded(factor: Tensor) -> tuple[Tensor, Tensor]:
    """A factor [rank, n] as int8 codes, and the scale of each row."""
    scale = factor.abs().amax(1).clamp_min(torch.finfo(torch.float32).tiny) / _LARGEST
    return (factor / scale[:, None]).round().to(torch.int8).contiguous(), scale


def _read(content: bytes) -> tuple[AdapterCard, dict[str, Tensor]]:
    """Card and tensors of a file's bytes; a ValueError or a SafetensorError if they are not an adapter's."""
    header, data = _parts(content)
    try:
        metadata = json.loads(header).get("__metadata__") or {}
        card = TypeAdapter(AdapterCard).validate_json(metadata.get("card", ""), strict=True)
    except ValidationError as error:
        raise ValueError(f"its card: {first_fault(error, '')}") from None
    except (AttributeError, RecursionError):
        raise ValueError("it has no card") from None
    if hashlib.sha256(data).hexdigest() != card.sha256:
        raise ValueError("its bytes have changed since it was written")
    tensors = load(content)
    if any(len(tensor) != card.rank for tensor in tensors.values()):
        raise ValueError(f"its matrices are not of rank {card.rank}")
    return card, tensors


def _parts(content: bytes) -> tuple[bytes, bytes]:
    """The header (JSON) and the data of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return content[8:end], content[end:]
