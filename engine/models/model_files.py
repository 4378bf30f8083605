"""One model's files before it is loaded: what they are, what they take, how tensors and tokenizer are read.

Nothing large is fetched until the weights are asked for. Nothing is ever unpickled: weights in other files than
safetensors and GGUF are refused.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import WeightsError, shown
from engine.events.progress import ProgressCallback
from engine.model.adapter import Adapter
from engine.model.config import CONFIG, GENERATION, read_config, skeleton
from engine.models.fetch import fetch, fetch_repo
from engine.models.files import known_sha256
from engine.models.gguf_file import GgufFile
from engine.models.sources import Source, aligned_title, base_title
from engine.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENIZER = "tokenizer.json"
_SMALL = (
    *(CONFIG, GENERATION, "model.safetensors.index.json", TOKENIZER),
    *("tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"),
)
"""Files of a model beside its weights."""

_WEIGHTS = "model*.safetensors"
_FLOATS = {"F32", "F16", "BF16"}
_HEAD, _EMBEDDING = "lm_head.weight", "model.embed_tokens.weight"


@dataclass(eq=False)
class ModelFiles:
    """One model's files.

    Attributes:
        title: For people; with the adapter.
        key: Names the model in the cache.
        base: Changes when any of the files does.
        get: Fetches and opens the weights, of a GGUF file where there is no `folder`.
        folder: Where tokenizer and configuration lie; None for a GGUF file, which holds both.
        adapter: Added to the weights as they are read.
    """

    title: str
    key: str
    base: str
    get: Callable[[], Any]
    folder: Path | None = None
    given_config: Any = None
    adapter: Adapter | None = None

    @cached_property
    def _weights(self) -> Any:
        return self.get()

    @property
    def identity(self) -> str:
        """Changes when any of the files, or the adapter, does."""
        return f"{self.base}+{self.adapter.digest}" if self.adapter else self.base

    def align(self, adapter: Adapter) -> None:
        """Takes an adapter, which is added to the weights as they are read; a WeightsError if it is for others."""
        if adapter.card.base != self.base:
            raise WeightsError(
                f"The adapter {adapter.digest[:8]} was made for {shown(adapter.card.slm)} with other weights than this "
                f"{self.title} has. Name the adapter of this SLM with CITER_ADAPTER, or set CITER_ADAPTER=none"
            )
        self.title, self.key = aligned_title(self.title, adapter.digest), f"{self.key}-{adapter.digest[:12]}"
        self.adapter = adapter

    @property
    def config(self) -> Any:
        return self.given_config or self._weights.config

    @cached_property
    def tokenizer(self) -> Any:
        return read_tokenizer(self.title, self.folder) if self.folder else self._weights.tokenizer()

    def open(self) -> tuple[PreTrainedModel, Callable[..., Tensor]]:
        """The model without memory for its weights, and a function that reads a tensor by its name in a dtype (bf16).

        A WeightsError if a tensor is missing, or has another shape than the configuration says.
        """
        model, weights, adapter = skeleton(self.config), self._weights, self.adapter
        shapes = {name: tuple(value.shape) for name, value in model.state_dict().items()}
        for name, wanted in shapes.items():
            shape = weights.shape(name)
            if shape is None:
                raise WeightsError(f"{self.title}: its files hold no {name}, which its configuration asks for")
            if shape != wanted:
                raise WeightsError(f"{self.title}: {name} is {shape} in its files and {wanted} by its configuration")
        if adapter is None:
            return model, weights.read
        adapter.check(base_title(self.title), shapes)
        return model, lambda name, *dtype: adapter.changed(name, weights.read(name, *dtype))


def files_of(source: Source, settings: Settings, progress: ProgressCallback | None = None) -> ModelFiles:
    """A model's files; a WeightsError if they are not there, or not of a model that this engine decodes."""
    title, where = source.title, source.where
    if isinstance(where, str):
        return _repo(title, where, settings, progress)
    if isinstance(where, Path):
        return _folder(title, where, source.tokenizer or where, settings, progress)
    stem, path = _plain(Path(where.name).stem), where.at(settings.cache_dir)
    key = f"{stem}-{where.sha256[:12]}" if where.path and not where.repo else stem
    return ModelFiles(title, key, where.sha256, lambda: GgufFile(title, where.path or fetch(where, path, progress)))


def _folder(
    title: str, weights: Path, folder: Path, settings: Settings, progress: ProgressCallback | None
) -> ModelFiles:
    """A folder of the user's, known by what its files hold, each hashed once."""
    if not (weights / CONFIG).is_file():
        raise WeightsError(f"{title}: {weights} is not there, or holds no {CONFIG}: it is no model's folder")
    parts, config = _parts(title, weights), read_config(title, weights)
    digest = hashlib.sha256()
    small = {path for each in (weights, folder) for name in _SMALL if (path := each / name).is_file()}
    for path in sorted({*parts, *small}):
        digest.update(f"{path.name}\0{known_sha256(path, settings.cache_dir, progress)}\n".encode())
    base, tied = digest.hexdigest(), bool(config.tie_word_embeddings)
    key = f"{_plain(title)}-{base[:12]}"
    return ModelFiles(title, key, base, lambda: SafetensorsFiles(title, parts, tied), folder, config)


def _repo(title: str, name: str, settings: Settings, progress: ProgressCallback | None) -> ModelFiles:
    """A repo of the Hub, known by its commit. Its weights are fetched when they are asked for."""

    def fetched(name: str, files: Sequence[str]) -> Path:
        return fetch_repo(name, "CITER_SLM / CITER_LLM", files, settings.cache_dir / "models", WeightsError, progress)

    folder, repo = fetched(name, _SMALL), name.partition("@")[0]
    config, base = read_config(title, folder), f"{repo}@{folder.name}"

    def get() -> SafetensorsFiles:
        return SafetensorsFiles(title, _parts(title, fetched(base, [_WEIGHTS])), bool(config.tie_word_embeddings))

    return ModelFiles(title, f"{_plain(repo.replace('/', '--'))}-{folder.name[:12]}", base, get, folder, config)


def _parts(title: str, folder: Path) -> list[Path]:
    """The files that hold a model's tensors; a WeightsError if there is none."""
    if parts := sorted(path for path in folder.glob(_WEIGHTS) if path.is_file()):
        return parts
    raise WeightsError(
        f"{title}: {folder} holds no model.safetensors; weights are read from safetensors only, never from pickled "
        "files: convert them, or fetch what is missing"
    )


class SafetensorsFiles:
    """The tensors of some files; they are mapped, not read."""

    def __init__(self, title: str, paths: Sequence[Path], tied: bool) -> None:
        """Reads the headers; a WeightsError for damage, and for weights that are no floats."""
        self._files: dict[str, Any] = {}
        self._tied = tied
        for path in paths:
            try:
                opened: Any = safe_open(path, framework="pt", device="cpu").__enter__()
                self._files |= dict.fromkeys(opened.keys(), opened)
            except (OSError, SafetensorError) as error:
                raise WeightsError(f"{title}: {path} is not whole ({shown(str(error))})") from None
        for name, opened in self._files.items():
            kind = opened.get_slice(name).get_dtype()
            if kind not in _FLOATS and name.endswith((".weight", ".bias")):
                raise WeightsError(f"{title}: {name} is stored as {kind}; known are {', '.join(sorted(_FLOATS))}")

    def shape(self, name: str) -> tuple[int, ...] | None:
        stored = self._stored(name)
        return tuple(self._files[stored].get_slice(stored).get_shape()) if stored in self._files else None

    def read(self, name: str, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        stored = self._stored(name)
        return self._files[stored].get_tensor(stored).to(dtype)

    def _stored(self, name: str) -> str:
        return _EMBEDDING if self._tied and name == _HEAD else name


def _plain(text: str) -> str:
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-.")[:80] or "model"


def read_tokenizer(title: str, folder: Path) -> Any:
    """The tokenizer in a folder, read from `tokenizer.json`, with its default chat template.

    No code that the folder holds is run.
    """
    from transformers import AutoTokenizer

    if not (folder / TOKENIZER).is_file():
        raise WeightsError(
            f"{title}: {folder} holds no {TOKENIZER}, which the engine decodes with: save the tokenizer there with "
            "transformers' `save_pretrained`"
        )
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the libraries raise whatever they stumble over, tokenizers a bare Exception
        raise WeightsError(f"{title}: the tokenizer in {folder} cannot be loaded ({shown(str(error))})") from error
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    return tokenizer
