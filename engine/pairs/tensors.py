"""A model's tensors in safetensors, by name: compared with its configuration before any of them is read.

Nothing is ever unpickled: weights in other files than safetensors are refused.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open

from engine.errors import WeightsError, shown
from engine.weights.files import read_bytes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
MAX_INDEX = 20_000_000  # bytes of an index, and of a file's own table of contents
_FLOATS = {"F32", "F16", "BF16"}
_PART = re.compile(r"[\w-][\w.-]{0,200}\.safetensors", re.ASCII)
_MOST_PARTS = 1_000
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


def parts_of(title: str, folder: Path) -> list[str]:
    """Names of the files that hold a model's tensors, by its index if it has one; a WeightsError if that is none."""
    if not (folder / INDEX).is_file():
        return [SINGLE]
    try:
        index = json.loads(read_bytes(folder / INDEX, MAX_INDEX).decode("utf-8"))
        parts = sorted(set(index["weight_map"].values()))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{title}: its {INDEX} cannot be read ({shown(str(error))})") from None
    if (
        not parts
        or len(parts) > _MOST_PARTS
        or not all(isinstance(each, str) and _PART.fullmatch(each) for each in parts)
    ):
        raise WeightsError(f"{title}: its {INDEX} names {shown(parts)}, and not files of safetensors beside it")
    return parts


class Tensors:
    """The tensors of some files; they are mapped, not read."""

    def __init__(self, title: str, paths: Sequence[Path]) -> None:
        """Reads the files' tables of contents; a WeightsError if one is damaged."""
        self._title = title
        self._files: dict[str, Any] = {}
        for path in paths:
            try:
                with path.open("rb") as file:
                    header = int.from_bytes(file.read(8), "little")
                if header > MAX_INDEX:
                    raise WeightsError(
                        f"{title}: {path} has a table of contents of {header:,} bytes; at most {MAX_INDEX:,} are read"
                    )
                opened: Any = safe_open(path, framework="pt", device="cpu").__enter__()
                self._files |= dict.fromkeys(opened.keys(), opened)
            except (OSError, SafetensorError) as error:
                raise WeightsError(f"{title}: {path} is not whole ({shown(str(error))})") from None

    def check(self, model: PreTrainedModel) -> None:
        """Raises a WeightsError unless each weight of a model is there, in its shape and as numbers."""
        tied = model.config.tie_word_embeddings
        for name, wanted in model.state_dict().items():
            stored = self._name(name, tied)
            if stored not in self._files:
                raise WeightsError(f"{self._title}: its files hold no {stored}, which its configuration asks for")
            found = self._files[stored].get_slice(stored)
            shape, kind = tuple(found.get_shape()), found.get_dtype()
            if shape != tuple(wanted.shape):
                raise WeightsError(
                    f"{self._title}: {stored} is {shape} in its files and {tuple(wanted.shape)} by its configuration"
                )
            if kind not in _FLOATS:
                raise WeightsError(
                    f"{self._title}: {stored} is stored as {kind}; known are {', '.join(sorted(_FLOATS))}"
                )

    def read(self, name: str, dtype: torch.dtype = torch.bfloat16, tied: bool = False) -> torch.Tensor:
        """One tensor, of a model that was checked."""
        stored = self._name(name, tied)
        return self._files[stored].get_tensor(stored).to(dtype)

    def _name(self, name: str, tied: bool) -> str:
        return _EMBEDDING if tied and name == _HEAD else name
