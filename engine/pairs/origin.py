"""A model before it is loaded: what its files are, what they take, and how its tensors and its tokenizer are read.

Three kinds, one for each kind of `engine.pairs.presets.Model`. Nothing large is fetched until `tensors` or `dense` is
asked for.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import math
import re
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch

from engine.errors import EngineError, WeightsError, shown
from engine.pairs.config import CONFIG, GENERATION, check_gguf, read_config, skeleton
from engine.pairs.gguf_header import GgufHeader
from engine.pairs.pinned import PinnedFile
from engine.pairs.presets import FolderModel, GgufModel, HubModel, Model
from engine.pairs.tensors import INDEX, MAX_INDEX, Tensors, parts_of
from engine.settings import Settings
from engine.weights.cache_folder import sha256_once, user_note
from engine.weights.download import fetch
from engine.weights.files import MAX_JSON
from engine.weights.hub_repo import Wanted, fetch_repo
from engine.weights.progress import ProgressCallback
from engine.weights.store import Counts, counts_of

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

TOKENIZER = "tokenizer.json"
MODELS = "models"
"""Folder of the cache for files of repos, and for notes on folders of the user's."""

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

_BITS = 4.85  # of a weight in the usual GGUF file, Q4_K_M

Read = Callable[..., torch.Tensor]
"""Of a tensor's name and a dtype, bf16 if none is given."""


class Origin:
    """One model's files.

    Attributes:
        title: For people.
        folder: Where tokenizer and configuration lie, if they are files of their own.
        fetched: Bytes that have yet to be fetched.
    """

    folder: Path | None = None
    fetched: int = 0

    def __init__(self, title: str, settings: Settings, progress: ProgressCallback | None) -> None:
        self.title, self._settings, self._progress = title, settings, progress

    @property
    def key(self) -> str:
        """Names the model in the cache."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """Changes when any of the files does."""
        raise NotImplementedError

    @property
    def files(self) -> str:
        """The identity without an adapter."""
        return self.identity

    @property
    def counts(self) -> Counts:
        """How many weights there are; of a GGUF file that is not here yet, about."""
        raise NotImplementedError

    @property
    def dense_bytes(self) -> int:
        """Memory of the whole model as it is read, before anything is made of it."""
        return 0

    def tokenizer(self) -> Any:
        """The tokenizer; asks for the weights where they hold it."""
        return read_tokenizer(self.title, cast(Path, self.folder))

    def open(self) -> AbstractContextManager[tuple[PreTrainedModel, Read | None]]:
        """The model without memory for its weights, and what reads each of those by name; or the model with them."""
        raise NotImplementedError


class _Gguf(Origin):
    """One GGUF file; its tensors are turned back into bf16 all at once, as transformers does it."""

    def __init__(self, model: GgufModel, settings: Settings, progress: ProgressCallback | None) -> None:
        super().__init__(model.title, settings, progress)
        self._model = model
        self._at = model.path or settings.cache_dir / model.file.place / model.file.name
        self.fetched = 0 if self._at.is_file() else model.file.bytes

    @property
    def key(self) -> str:
        stem = plain_name(Path(self._model.file.name).stem)
        ours = self._model.path is None or self._model.file.hub_repo
        return stem if ours else f"{stem}-{self.identity[:12]}"

    @property
    def identity(self) -> str:
        return self._model.file.sha256

    @property
    def counts(self) -> Counts:
        if not self._at.is_file():
            weights = self._model.file.bytes * 8 / _BITS
            return Counts(int(0.85 * weights), int(0.12 * weights), tied=True)
        sizes = {name: math.prod(tensor.shape) for name, tensor in self._header.tensors.items()}
        matrices = sum(size for name, size in sizes.items() if name.startswith("blk."))
        return Counts(matrices, sizes["token_embd.weight"], "output.weight" not in sizes)

    @property
    def dense_bytes(self) -> int:
        return 2 * self.counts.all

    @functools.cached_property
    def _header(self) -> GgufHeader:
        header = GgufHeader.read(self._at)
        check_gguf(self.title, header)
        return header

    @functools.cached_property
    def _path(self) -> Path:
        path = fetch(self._model.file, self._settings, self._model.path, self._progress)
        _ = self._header  # checked
        return path

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            return AutoTokenizer.from_pretrained(self._path.parent, gguf_file=self._path.name, trust_remote_code=False)
        except (EngineError, OSError):
            raise
        except Exception as error:  # the libraries raise whatever they stumble over
            raise WeightsError(f"{self.title}: its tokenizer cannot be read ({shown(str(error))})") from error

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[PreTrainedModel, Read | None]]:
        from engine.pairs.gguf_dense import dense_of_gguf

        yield dense_of_gguf(self._path), None


class _Safetensors(Origin):
    """A configuration and files of safetensors, one tensor of which is read at a time."""

    _config: PretrainedConfig

    @property
    def counts(self) -> Counts:
        return counts_of(skeleton(self._config))

    def _parts(self) -> list[Path]:
        raise NotImplementedError

    @contextlib.contextmanager
    def open(self) -> Iterator[tuple[PreTrainedModel, Read | None]]:
        model, tensors = skeleton(self._config), Tensors(self.title, self._parts())
        tensors.check(model)
        yield model, functools.partial(tensors.read, tied=bool(model.config.tie_word_embeddings))


class _Folder(_Safetensors):
    """A folder of the user's, known by what its files hold, each hashed once."""

    def __init__(self, model: FolderModel, settings: Settings, progress: ProgressCallback | None) -> None:
        super().__init__(model.title, settings, progress)
        self._folder, self.folder = model.folder, model.tokenizer or model.folder
        if not (model.folder / CONFIG).is_file():
            raise WeightsError(
                f"{self.title}: {model.folder} is not there, or holds no {CONFIG}: it is no model's folder"
            )
        self._config = read_config(self.title, model.folder)

    def _parts(self) -> list[Path]:
        parts = [self._folder / name for name in parts_of(self.title, self._folder)]
        if missing := [path.name for path in parts if not path.is_file()]:
            raise WeightsError(
                f"{self.title}: {self._folder} holds no {missing[0]}; weights are read from safetensors only, never "
                "from pickled files: convert them, or fetch what is missing"
            )
        return parts

    @property
    def key(self) -> str:
        return f"{plain_name(self.title)}-{self.identity[:12]}"

    @functools.cached_property
    def identity(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        notes, digest = self._settings.cache_dir / MODELS, hashlib.sha256()
        small = [folder / name for folder in (self._folder, self.folder) if folder for name in _LIMITS]
        for path in sorted({*self._parts(), *(path for path in small if path.is_file())}):
            sha256 = sha256_once(path, user_note(notes, path), self._progress)
            digest.update(f"{path.name}\0{sha256}\n".encode())
        return digest.hexdigest()


class _Repo(_Safetensors):
    """A repo of the Hub at one commit."""

    def __init__(self, model: HubModel, settings: Settings, progress: ProgressCallback | None) -> None:
        super().__init__(model.title, settings, progress)
        wanted = Wanted(
            "CITER_SLM / CITER_LLM", "model", WeightsError, (CONFIG, TOKENIZER), _LIMITS, "name a folder that holds it"
        )
        hub, timeout, cache = settings.hub, settings.hub_timeout, settings.cache_dir / MODELS
        self._repo_id = model.repo.repo_id
        self._snapshot = fetch_repo(model.repo, wanted, cache, hub=hub, timeout=timeout, progress=progress)
        self.folder = self._snapshot.folder
        self._config = read_config(self.title, self.folder)
        self._files = [self._pinned(name) for name in parts_of(self.title, self.folder)]
        here = [(settings.cache_dir / file.place / file.name).is_file() for file in self._files]
        self.fetched = sum(file.bytes for file, there in zip(self._files, here, strict=True) if not there)

    @property
    def key(self) -> str:
        return f"{plain_name(self._repo_id.replace('/', '--'))}-{self._snapshot.commit[:12]}"

    @property
    def identity(self) -> str:
        return f"{self._repo_id}@{self._snapshot.commit}"

    def _pinned(self, name: str) -> PinnedFile:
        known = self._snapshot.holds.get(name)
        if known is None or known.bytes < 0 or not known.sha256:
            raise WeightsError(
                f"{self.title}: the repo {self._repo_id} has no {name} of which the Hub says size and hash; weights "
                "are read from safetensors only: choose a repo that has them, or name a GGUF file's path"
            )
        place = f"{MODELS}/{self.key}"
        return PinnedFile(
            name, known.bytes, known.sha256, self._repo_id, self._snapshot.commit, login=True, place=place
        )

    def _parts(self) -> list[Path]:
        return [fetch(file, self._settings, None, self._progress) for file in self._files]


def origin_of(model: Model, settings: Settings, progress: ProgressCallback | None = None) -> Origin:
    """What a model's files are; a WeightsError if they are not there, or not of a model that this engine decodes."""
    match model:
        case GgufModel():
            return _Gguf(model, settings, progress)
        case FolderModel():
            return _Folder(model, settings, progress)
        case HubModel():
            return _Repo(model, settings, progress)


def plain_name(text: str) -> str:
    """A text as a part of a file's name."""
    return re.sub(r"[^\w.-]+", "-", text, flags=re.ASCII).strip("-.")[:80] or "model"


def read_tokenizer(title: str, folder: Path) -> Any:
    """The tokenizer in a folder, read from `tokenizer.json`; no code that a folder holds is run.

    Of several chat templates it has the default one alone: no other is asked for.
    """
    from transformers import AutoTokenizer

    if not (folder / TOKENIZER).is_file():
        raise WeightsError(
            f"{title}: {folder} holds no {TOKENIZER}, which the engine decodes with: save the tokenizer there with "
            "transformers' `save_pretrained`"
        )
    for name, limit in _LIMITS.items():
        if (path := folder / name).is_file() and path.stat().st_size > limit:
            raise WeightsError(f"{title}: {path} has {path.stat().st_size:,} bytes; at most {limit:,} are read")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except Exception as error:  # the libraries raise whatever they stumble over, tokenizers a bare Exception
        raise WeightsError(f"{title}: the tokenizer in {folder} cannot be loaded ({shown(str(error))})") from error
    if isinstance(tokenizer.chat_template, dict):
        tokenizer.chat_template = tokenizer.chat_template.get("default")
    return tokenizer
