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
from engine.models.cache import known_sha256
from engine.models.download import fetch
from engine.models.files import MAX_JSON, read_object
from engine.models.gguf_file import GgufFile
from engine.models.hub import Listed, Wanted, fetch_repo
from engine.models.sources import PinnedFile, Source, aligned_title, base_title
from engine.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENIZER, SINGLE, INDEX = "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
MAX_INDEX = 20_000_000  # bytes
_MODELS = "models"  # folder of the cache
_BITS = 4.85  # of a weight in the usual GGUF file, Q4_K_M
_LIMITS = {
    CONFIG: MAX_JSON,
    GENERATION: MAX_JSON,
    INDEX: MAX_INDEX,
    TOKENIZER: 100_000_000,
    "tokenizer_config.json": 10_000_000,
    "special_tokens_map.json": MAX_JSON,
    "chat_template.jinja": MAX_JSON,
}
"""Small files of a model, and the bytes that each may have."""

_FLOATS = {"F32", "F16", "BF16"}
_PART = re.compile(r"[\w-][\w.-]{0,200}\.safetensors", re.ASCII)
_MOST_PARTS = 1_000
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
        missing: Bytes that have yet to be fetched.
        adapter: Added to the weights as they are read.
    """

    title: str
    key: str
    base: str
    get: Callable[[], Any]
    folder: Path | None = None
    given_config: Any = None
    missing: int = 0
    adapter: Adapter | None = None

    @cached_property
    def _weights(self) -> Any:
        return self.get()

    @property
    def identity(self) -> str:
        """Changes when any of the files, or the adapter, does."""
        return f"{self.base}+{self.adapter.digest}" if self.adapter else self.base

    def aligned(self, adapter: Adapter) -> None:
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

    @property
    def weights(self) -> int:
        """Number of weights; for a GGUF file that is not here yet, an estimate."""
        if self.missing and not self.folder:
            return int(self.missing * 8 / _BITS)
        return sum(tensor.numel() for tensor in skeleton(self.config).state_dict().values())

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
    make = _gguf if source.gguf else _repo if source.repo else _folder
    return make(source, settings, progress)


def _gguf(source: Source, settings: Settings, progress: ProgressCallback | None) -> ModelFiles:
    file, path = source.gguf, source.gguf_path(settings.cache_dir)
    assert file is not None
    assert path is not None
    stem = _plain(Path(file.name).stem)
    key = stem if file.repo or source.path is None else f"{stem}-{file.sha256[:12]}"

    def get() -> GgufFile:
        return GgufFile(source.title, fetch(file, settings, source.path, progress))

    return ModelFiles(source.title, key, file.sha256, get, missing=0 if path.is_file() else file.bytes)


def _folder(source: Source, settings: Settings, progress: ProgressCallback | None) -> ModelFiles:
    """A folder of the user's, known by what its files hold, each hashed once."""
    title, weights, folder = source.title, source.folder, source.tokenizer or source.folder
    assert weights is not None
    assert folder is not None
    if not (weights / CONFIG).is_file():
        raise WeightsError(f"{title}: {weights} is not there, or holds no {CONFIG}: it is no model's folder")
    parts = [weights / name for name in parts_of(title, weights)]
    if missing := [path.name for path in parts if not path.is_file()]:
        raise WeightsError(
            f"{title}: {weights} holds no {missing[0]}; weights are read from safetensors only, never "
            "from pickled files: convert them, or fetch what is missing"
        )
    config = read_config(title, weights)
    digest = hashlib.sha256()
    small = {path for each in (weights, folder) for name in _LIMITS if (path := each / name).is_file()}
    for path in sorted({*parts, *small}):
        digest.update(f"{path.name}\0{known_sha256(path, settings.cache_dir, progress)}\n".encode())
    base, tied = digest.hexdigest(), bool(config.tie_word_embeddings)
    key = f"{_plain(title)}-{base[:12]}"
    return ModelFiles(title, key, base, lambda: SafetensorsFiles(title, parts, tied), folder, config)


def _repo(source: Source, settings: Settings, progress: ProgressCallback | None) -> ModelFiles:
    title, wanted = source.title, Wanted("CITER_SLM / CITER_LLM", "model", WeightsError, (CONFIG, TOKENIZER), _LIMITS)
    snapshot = fetch_repo(source.repo, wanted, settings, progress)
    repo, names, config = source.hub_repo, parts_of(title, snapshot.folder), read_config(title, snapshot.folder)
    key = f"{_plain(repo.replace('/', '--'))}-{snapshot.commit[:12]}"

    def pinned(name: str) -> PinnedFile:
        size, sha256 = snapshot.listed.get(name, Listed())
        if size < 0 or not sha256:
            raise WeightsError(
                f"{title}: the repo {repo} has no {name} of which the Hub says size and hash; weights "
                "are read from safetensors only: choose a repo that has them, or name a GGUF file's path"
            )
        place = f"{_MODELS}/{key}"
        return PinnedFile(name, size, sha256, repo, snapshot.commit, login=True, place=place)

    def get() -> SafetensorsFiles:
        paths = [fetch(pinned(name), settings, None, progress) for name in names]
        return SafetensorsFiles(title, paths, bool(config.tie_word_embeddings))

    here = settings.cache_dir / _MODELS / key
    absent = [snapshot.listed.get(name, Listed(0)).bytes for name in names if not (here / name).is_file()]
    missing = sum(size for size in absent if size > 0)
    return ModelFiles(title, key, f"{repo}@{snapshot.commit}", get, snapshot.folder, config, missing)


def parts_of(title: str, folder: Path) -> list[str]:
    """Names of the files that hold a model's tensors, by its index if it has one; a WeightsError if that is none."""
    if not (folder / INDEX).is_file():
        return [SINGLE]
    try:
        parts = sorted(set(read_object(folder / INDEX, MAX_INDEX)["weight_map"].values()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{title}: its {INDEX} cannot be read ({shown(str(error))})") from None
    named = all(isinstance(each, str) and _PART.fullmatch(each) for each in parts)
    if not named or not 0 < len(parts) <= _MOST_PARTS:
        raise WeightsError(f"{title}: its {INDEX} names {shown(parts)}, and not files of safetensors beside it")
    return parts


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
