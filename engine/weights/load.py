"""From a pair's name to two loaded models and their tokenizer. Falling back to another pair is left to the caller."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from safetensors import SafetensorError

from engine.errors import WeightsError
from engine.pairs.adapter import aligned, find_adapter
from engine.pairs.origin import Origin, origin_of, read_tokenizer
from engine.pairs.presets import PRESETS, ROUTERS, Model, Preset
from engine.pairs.room import room_of, unconverted
from engine.settings import Settings
from engine.tokenizer import check_same_tokenizer, tokenizer_fingerprint
from engine.weights import store
from engine.weights.cache_folder import locked
from engine.weights.convert import converted, fingerprint_of, load_folder, problem
from engine.weights.files import disk_error, remove
from engine.weights.progress import ProgressCallback, say
from engine.weights.router_hub import router_folder

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Read = TypeVar("_Read")
_WANTING = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)  # the machine lacks something, and no file is at fault


@dataclass(frozen=True)
class LoadedPair:
    """Two models in eval mode and without gradients, and their tokenizer.

    Attributes:
        slm, llm: Of transformers, or a `StoredModel`; the LLM is None where it is elsewhere.
        fingerprint: The tokenizer's.
        quantisation: "NF4", "int8" or "fp32", for people.
        identity: Changes when any file of the models does, of a pair of the user's own; empty for a preset's. The
            adapter is not part of it, but of `slm_name`.
        slm_name: The SLM's title, and its adapter.
    """

    slm: Any
    llm: Any
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    quantisation: str
    identity: str
    slm_name: str


@dataclass(frozen=True)
class _Loaded:
    """One model, the fingerprint of its tokenizer, and what reads that."""

    model: Any
    fingerprint: str
    tokenizer: Callable[[], Any]


def load_models(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> LoadedPair:
    """Loads a pair, fetching and converting what is not there yet.

    Raises:
        WeightsError: no source has a file, it is not what it should be, disk or memory do not hold it, the GPU is
            missing, or the two tokenizers differ. The message says which and what to do.
    """
    return _load_pair(preset, settings, progress, [preset.slm, preset.llm])


def load_slm(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> LoadedPair:
    """As `load_models`, of a pair whose LLM is elsewhere."""
    return _load_pair(preset, settings, progress, [preset.slm])


def _load_pair(
    preset: Preset, settings: Settings, progress: ProgressCallback | None, models: Sequence[Model]
) -> LoadedPair:
    device, layout = _device(preset), layout_of(preset, settings)
    origins = [slm_origin(preset, settings, progress), *(origin_of(each, settings, progress) for each in models[1:])]
    missing = unconverted(origins, settings, layout)
    if missing:
        _compare(origins)
        room_of(origins, missing, settings, layout, device).check()
    with ThreadPoolExecutor(1) as aside:
        if not missing:  # it takes a second, and transformers does not bear to be imported by two threads at once
            aside.submit(import_module, "transformers.models.auto.tokenization_auto")
        loaded = [_load(origin, settings, layout, device, progress) for origin in origins]
    tokenizer = loaded[0].tokenizer()
    for model, read in zip(models, loaded, strict=True):
        if read.fingerprint != loaded[0].fingerprint:
            check_same_tokenizer(models[0].title, tokenizer, model.title, read.tokenizer())
        _check_rows(model.title, read.model, tokenizer)
    return LoadedPair(
        loaded[0].model,
        loaded[1].model if len(loaded) > 1 else None,
        tokenizer,
        loaded[0].fingerprint,
        store.form(layout),
        "" if preset.name in PRESETS else " ".join(origin.files for origin in origins),
        origins[0].title,
    )


def slm_origin(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> Origin:
    """The SLM's files, with the adapter that the settings name; raises as `origin_of` and `find_adapter`."""
    base = origin_of(preset.slm, settings, progress)
    own = router_folder(settings, preset, ROUTERS, progress) if settings.adapter == "auto" else None
    adapter = find_adapter(settings.adapter, ROUTERS, own)
    return base if adapter is None else aligned(base, adapter)


def _check_rows(title: str, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    # Every token needs a row; more rows than tokens are padding and do no harm.
    if model.config.vocab_size < len(tokenizer):
        raise WeightsError(
            f"{title} has {model.config.vocab_size} rows in its vocabulary, fewer than the tokenizer's "
            f"{len(tokenizer)} tokens: the tokenizer is not this model's"
        )


def layout_of(preset: Preset, settings: Settings) -> str:
    """How a pair's weights are stored: a layout of `engine.weights.store`."""
    if preset.weights == store.FP32:
        return store.FP32
    return "plain" if _device(preset).type == "cuda" else store.cpu_layout(settings.cpu_weights)


def _device(preset: Preset) -> torch.device:
    """Where a pair runs. Of several processes each has a GPU of its own, as `accelerate launch` (or torchrun) says."""
    if preset.device == "cpu" or (preset.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise WeightsError(f"preset {preset.name} needs CUDA, and torch sees no GPU: set CITER_PRESET=cpu or tiny")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))


def _compare(origins: list[Origin]) -> None:
    """Refuses two models whose tokenizers differ, where that can be seen before anything large is fetched."""
    slm, llm = origins[0], origins[-1]
    if slm.folder and llm.folder and slm.folder != llm.folder:
        check_same_tokenizer(slm.title, slm.tokenizer(), llm.title, llm.tokenizer())


def _load(
    origin: Origin, settings: Settings, layout: str, device: torch.device, progress: ProgressCallback | None
) -> _Loaded:
    if layout == store.FP32:
        return _dense(origin, device, progress)

    def load(folder: Path) -> tuple[Any, str]:
        say(progress, f"loading {origin.title}")
        return load_folder(folder, device), fingerprint_of(folder)

    model, fingerprint = _from_folder(origin, settings, layout, progress, load)
    read = partial(read_tokenizer, origin.title)
    return _Loaded(model, fingerprint, lambda: _from_folder(origin, settings, layout, progress, read))


def _dense(origin: Origin, device: torch.device, progress: ProgressCallback | None) -> _Loaded:
    """A model as it is, in fp32."""
    say(progress, f"loading {origin.title}")
    tokenizer = origin.tokenizer()
    with origin.open() as (model, read):
        if read is None:
            model = model.float().eval().requires_grad_(False)
        else:
            model = store.dense(model, lambda name: read(name, torch.float32))
    dense: Any = model
    return _Loaded(dense.to(device), tokenizer_fingerprint(tokenizer), lambda: tokenizer)


def _from_folder(
    origin: Origin,
    settings: Settings,
    layout: str,
    progress: ProgressCallback | None,
    read: Callable[[Path], _Read],
) -> _Read:
    """Reads of a model's quantised form, converting it if need be, and once more if it turns out damaged.

    What fails for another reason, as for want of memory, is a WeightsError, and the folder stays.
    """
    folder = converted(origin, settings, layout, progress)
    try:
        return read(folder)
    except Exception as error:  # the libraries raise whatever they stumble over, tokenizers a bare Exception
        if not _removed_if_damaged(folder, origin.identity, error, progress):
            raise _not_loaded(origin, folder, error) from error
        say(progress, f"{origin.title} in the cache is damaged ({error}) and is made again")
    converted(origin, settings, layout, progress)
    try:
        return read(folder)
    except Exception as error:
        raise _not_loaded(origin, folder, error) from error


def _not_loaded(origin: Origin, folder: Path, error: Exception) -> WeightsError:
    return WeightsError(f"{origin.title} cannot be loaded from {folder}: {str(error) or type(error).__name__}")


def _removed_if_damaged(folder: Path, identity: str, error: Exception, progress: ProgressCallback | None) -> bool:
    """Takes a folder away if an error while it was read is its own fault; says whether it is."""
    if isinstance(error, WeightsError) and isinstance(error.__cause__, Exception):
        error = error.__cause__  # of the tokenizer
    if isinstance(error, MemoryError | ImportError) or disk_error(error) in _WANTING:
        return False  # and what cannot be opened for that reason would seem damaged now
    of_content = isinstance(error, SafetensorError | KeyError | ValueError) and disk_error(error) is None
    if not of_content and problem(folder, identity, progress, again=True) is None:
        return False
    with locked(folder, progress):
        if of_content or problem(folder, identity, progress) is not None:  # else another process has made it since
            remove(folder)
    return True
