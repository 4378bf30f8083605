"""One model's files before it is loaded: what they are, what they take, how tensors and tokenizer are read.

Nothing large is fetched until the weights are asked for. Nothing is ever unpickled: weights in other files than
safetensors and GGUF are refused.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from engine.errors import EngineError, WeightsError, shown
from engine.events.progress import ProgressCallback
from engine.model.adapter import Adapter
from engine.model.config import CONFIG, GENERATION, read_config, skeleton
from engine.models.cache import known_sha256
from engine.models.download import fetch
from engine.models.files import MAX_JSON, read_bytes
from engine.models.gguf_file import GgufFile
from engine.models.hub import Snapshot, Wanted, fetch_repo
from engine.models.sources import PinnedFile, Source, aligned_title, base_title
from engine.settings import Settings

if TYPE_CHECKING:
    from transformers import PreTrainedModel

TOKENIZER, SINGLE, INDEX = "tokenizer.json", "model.safetensors", "model.safetensors.index.json"
MAX_INDEX = 20_000_000  # bytes of an index, and of a file's own table of contents
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


class Weights(Protocol):
    """Open files of weights, under the names of transformers."""

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor; None if the files lack it."""

    def read(self, name: str, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """One tensor."""
        ...


class ModelFiles:
    """One model's files.

    Attributes:
        title: For people; with the adapter.
        key: Names the model in the cache.
        base: Changes when any of the files does.
        identity: Changes when the adapter does, too.
        missing: Bytes that have yet to be fetched.
        folder: Where tokenizer and configuration lie, if they are files of their own.
    """

    title: str
    key: str
    base: str
    missing: int = 0
    folder: Path | None = None
    adapter: Adapter | None = None

    @property
    def identity(self) -> str:
        """Of the files, and of the adapter."""
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
        """The configuration, as transformers has it; fetches a GGUF file."""
        raise NotImplementedError

    @property
    def weights(self) -> int:
        """How many there are; of a GGUF file that is not here yet, about."""
        return sum(tensor.numel() for tensor in skeleton(self.config).state_dict().values())

    def tokenizer(self) -> Any:
        """The tokenizer; fetches a GGUF file."""
        raise NotImplementedError

    def _open(self) -> Weights:
        raise NotImplementedError

    def open(self) -> tuple[PreTrainedModel, Callable[..., Tensor]]:
        """The model without memory for its weights, and what reads a tensor by its name in a dtype (bf16).

        Raises:
            WeightsError: A tensor is not there, or not as the configuration says.
        """
        model, weights, adapter = skeleton(self.config), self._open(), self.adapter
        for name, wanted in model.state_dict().items():
            shape = weights.shape(name)
            if shape is None:
                raise WeightsError(f"{self.title}: its files hold no {name}, which its configuration asks for")
            if shape != tuple(wanted.shape):
                raise WeightsError(
                    f"{self.title}: {name} is {shape} in its files and {tuple(wanted.shape)} by its configuration"
                )
        if adapter is None:
            return model, weights.read
        adapter.check(base_title(self.title), {name: tuple(value.shape) for name, value in model.state_dict().items()})
        return model, lambda name, *dtype: adapter.changed(name, weights.read(name, *dtype))


def files_of(source: Source, settings: Settings, progress: ProgressCallback | None = None) -> ModelFiles:
    """What a model's files are; a WeightsError if they are not there, or not of a model that this engine decodes."""
    kind = _Gguf if source.gguf else _Repo if source.repo else _Folder
    return kind(source, settings, progress)


class _Gguf(ModelFiles):
    def __init__(self, source: Source, settings: Settings, progress: ProgressCallback | None) -> None:
        assert source.gguf is not None
        file, path = source.gguf, source.gguf_path(settings.cache_dir)
        self._path = functools.cache(lambda: fetch(file, settings, source.path, progress))
        stem = _plain(Path(file.name).stem)
        self.title, self.base = source.title, file.sha256
        self.key = stem if file.repo or source.path is None else f"{stem}-{file.sha256[:12]}"
        self.missing = 0 if path is not None and path.is_file() else file.bytes

    @functools.cached_property
    def _file(self) -> GgufFile:
        return GgufFile(self.title, self._path())

    @property
    def config(self) -> Any:
        return self._file.config

    @property
    def weights(self) -> int:
        return int(self.missing * 8 / _BITS) if self.missing else super().weights

    def _open(self) -> Weights:
        return self._file

    def tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        path, _ = self._path(), self._file  # checked before a library maps it
        try:
            with _one_reader():
                return AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name, trust_remote_code=False)
        except (EngineError, OSError):
            raise
        except Exception as error:  # the libraries raise whatever they stumble over
            raise WeightsError(f"{self.title}: its tokenizer cannot be read ({shown(str(error))})") from error


@contextlib.contextmanager
def _one_reader() -> Iterator[None]:
    """Lets transformers parse a GGUF file's tokens and merges once, not twice: 12 s a time in Python."""
    import gguf

    readers: Any = gguf
    reader = readers.GGUFReader
    readers.GGUFReader = functools.cache(reader)
    try:
        yield
    finally:
        readers.GGUFReader = reader


class _Safetensors(ModelFiles):
    """A configuration, and files of safetensors, one tensor of which is read at a time."""

    folder: Path
    _config: Any

    @property
    def config(self) -> Any:
        return self._config

    def tokenizer(self) -> Any:
        return read_tokenizer(self.title, self.folder)

    def _parts(self) -> Sequence[Path]:
        raise NotImplementedError

    def _open(self) -> Weights:
        return SafetensorsFiles(self.title, self._parts(), bool(self._config.tie_word_embeddings))


class _Folder(_Safetensors):
    """A folder of the user's, known by what its files hold, each hashed once."""

    def __init__(self, source: Source, settings: Settings, progress: ProgressCallback | None) -> None:
        assert source.folder is not None
        self.title, self._folder, self.folder = source.title, source.folder, source.tokenizer or source.folder
        if not (self._folder / CONFIG).is_file():
            raise WeightsError(
                f"{self.title}: {self._folder} is not there, or holds no {CONFIG}: it is no model's folder"
            )
        self._config = read_config(self.title, self._folder)
        digest, folders = hashlib.sha256(), (self._folder, self.folder)
        small = {path for folder in folders for name in _LIMITS if (path := folder / name).is_file()}
        for path in sorted({*self._parts(), *small}):
            digest.update(f"{path.name}\0{known_sha256(path, settings.cache_dir, progress)}\n".encode())
        self.base = digest.hexdigest()
        self.key = f"{_plain(self.title)}-{self.base[:12]}"

    def _parts(self) -> Sequence[Path]:
        parts = [self._folder / name for name in parts_of(self.title, self._folder)]
        if missing := [path.name for path in parts if not path.is_file()]:
            raise WeightsError(
                f"{self.title}: {self._folder} holds no {missing[0]}; weights are read from safetensors only, never "
                "from pickled files: convert them, or fetch what is missing"
            )
        return parts


class _Repo(_Safetensors):
    """A repo of the Hub at one commit."""

    def __init__(self, source: Source, settings: Settings, progress: ProgressCallback | None) -> None:
        wanted = Wanted(
            "CITER_SLM / CITER_LLM", "model", WeightsError, (CONFIG, TOKENIZER), _LIMITS, "name a folder that holds it"
        )
        snapshot = fetch_repo(source.repo, wanted, settings, _MODELS, progress)
        self.title, self.folder = source.title, snapshot.folder
        self._config = read_config(self.title, self.folder)
        self._repo_id = source.repo.partition("@")[0]
        self.base = f"{self._repo_id}@{snapshot.commit}"
        self.key = f"{_plain(self._repo_id.replace('/', '--'))}-{snapshot.commit[:12]}"
        self._snapshot, self._names = snapshot, parts_of(self.title, self.folder)
        here = settings.cache_dir / _MODELS / self.key
        self.missing = sum(snapshot.sizes.get(name, 0) for name in self._names if not (here / name).is_file())
        self._fetch = lambda file: fetch(file, settings, None, progress)

    def _parts(self) -> Sequence[Path]:
        return [self._fetch(self._pinned(self._snapshot, name)) for name in self._names]

    def _pinned(self, snapshot: Snapshot, name: str) -> PinnedFile:
        if not (sha256 := snapshot.sha256.get(name)) or name not in snapshot.sizes:
            raise WeightsError(
                f"{self.title}: the repo {self._repo_id} has no {name} of which the Hub says size and hash; weights "
                "are read from safetensors only: choose a repo that has them, or name a GGUF file's path"
            )
        place = f"{_MODELS}/{self.key}"
        size, commit = snapshot.sizes[name], snapshot.commit
        return PinnedFile(name, size, sha256, self._repo_id, commit, login=True, place=place)


def parts_of(title: str, folder: Path) -> list[str]:
    """Names of the files that hold a model's tensors, by its index if it has one; a WeightsError if that is none."""
    if not (folder / INDEX).is_file():
        return [SINGLE]
    try:
        index = json.loads(read_bytes(folder / INDEX, MAX_INDEX).decode("utf-8"))
        parts = sorted(set(index["weight_map"].values()))
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(f"{title}: its {INDEX} cannot be read ({shown(str(error))})") from None
    named = all(isinstance(each, str) and _PART.fullmatch(each) for each in parts)
    if not named or not 0 < len(parts) <= _MOST_PARTS:
        raise WeightsError(f"{title}: its {INDEX} names {shown(parts)}, and not files of safetensors beside it")
    return parts


class SafetensorsFiles:
    """The tensors of some files; they are mapped, not read."""

    def __init__(self, title: str, paths: Sequence[Path], tied: bool) -> None:
        """Reads the files' tables of contents; a WeightsError if one is damaged, or holds other than numbers."""
        self._files: dict[str, Any] = {}
        self._tied = tied
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
        kinds = {name: opened.get_slice(name).get_dtype() for name, opened in self._files.items()}
        for name, kind in kinds.items():
            if kind not in _FLOATS and name.endswith((".weight", ".bias")):
                raise WeightsError(f"{title}: {name} is stored as {kind}; known are {', '.join(sorted(_FLOATS))}")

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of a tensor; None if the files lack it."""
        stored = self._stored(name)
        return tuple(self._files[stored].get_slice(stored).get_shape()) if stored in self._files else None

    def read(self, name: str, dtype: torch.dtype = torch.bfloat16) -> Tensor:
        """One tensor."""
        stored = self._stored(name)
        return self._files[stored].get_tensor(stored).to(dtype)

    def _stored(self, name: str) -> str:
        return _EMBEDDING if self._tied and name == _HEAD else name


def _plain(text: str) -> str:
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
