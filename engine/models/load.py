"""From a pair's name to two loaded models and their tokenizer. Falling back to another pair is left to the caller."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from engine.errors import WeightsError
from engine.events.progress import ProgressCallback, say
from engine.model.adapter import Adapter, find_adapter
from engine.model.config import CONFIG
from engine.model.memory import allowed_bytes
from engine.models import store
from engine.models.cache import HASHES, in_words, make_folder, no_space
from engine.models.convert import MANIFEST, converted, folder_of, problem
from engine.models.files import read_json, remove
from engine.models.model_files import ModelFiles, files_of, read_tokenizer
from engine.models.router_folder import router_folder
from engine.models.sources import PRESETS, ROUTERS, Preset
from engine.settings import Settings
from engine.tokenizer import check_same_tokenizer, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class LoadedPair:
    """Two models in eval mode and without gradients, and their tokenizer.

    Attributes:
        slm, llm: A `StoredModel`, or in fp32 one of transformers; the LLM is None where it is on a server.
        fingerprint: The tokenizer's.
        quantisation, identity, slm_name: See `engine.pair.Pair`.
    """

    slm: Any
    llm: Any
    tokenizer: PreTrainedTokenizerBase
    fingerprint: str
    quantisation: str
    identity: str
    slm_name: str


def load_models(
    preset: Preset, settings: Settings, progress: ProgressCallback | None = None, with_llm: bool = True
) -> LoadedPair:
    """Loads a pair, fetching and converting what is missing; `with_llm` is false where the LLM is on a server.

    Raises:
        WeightsError: No source has a file, it is not what it should be, disk or memory do not hold it, the GPU is
            missing, or the two tokenizers differ. The message says which and what to do.
    """
    device, layout = _device(preset), layout_for(preset, settings)
    models = [slm_files(preset, settings, progress)]
    if with_llm:
        models.append(files_of(preset.llm, settings, progress))
    cache, missing = settings.cache_dir, models
    if layout != store.FP32:
        missing = [each for each in models if problem(folder_of(each, settings, layout), each.identity, cache)]
    if missing:
        _check_room(missing, settings, layout)
        small, large = models[0], models[-1]
        if small.folder and large.folder and small.folder != large.folder:  # can be compared before more is fetched
            check_same_tokenizer(small.title, small.tokenizer, large.title, large.tokenizer)
    with ThreadPoolExecutor(1) as aside:
        if not missing:  # the import takes a second; a conversion would import transformers in a second thread, too
            aside.submit(import_module, "transformers.models.auto.tokenization_auto")
        loaded = [_load(model, settings, layout, device, progress) for model in models]
    (slm, fingerprint), tokenizer = loaded[0], _tokenizer(models[0], settings, layout, progress)
    for files, (model, other) in zip(models, loaded, strict=True):
        if other != fingerprint:
            theirs = _tokenizer(files, settings, layout, progress)
            check_same_tokenizer(models[0].title, tokenizer, files.title, theirs)
        # Every token needs a row; more rows than tokens are padding and do no harm.
        if (rows := model.config.vocab_size) < len(tokenizer):
            raise WeightsError(
                f"{files.title} has {rows} rows in its vocabulary, fewer than the tokenizer's {len(tokenizer)} tokens: "
                "the tokenizer is not this model's"
            )
    llm, identity = loaded[-1][0] if with_llm else None, " ".join(model.base for model in models)
    own = "" if preset.name in PRESETS else identity
    return LoadedPair(slm, llm, tokenizer, fingerprint, store.form(layout), own, models[0].title)


def slm_files(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> ModelFiles:
    """The SLM's files, with the adapter that the settings name; a WeightsError for one that is damaged or another's."""
    model = files_of(preset.slm, settings, progress)
    adapter = slm_adapter(preset, settings, progress)
    if adapter is not None:
        model.aligned(Adapter.load(adapter))
    return model


def slm_adapter(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> Path | None:
    """The file of the adapter that the settings name for a preset's SLM; raises as `find_adapter`."""
    own = router_folder(settings, preset, ROUTERS, progress) if settings.adapter == "auto" else None
    return find_adapter(settings.adapter, ROUTERS, own)


def layout_for(preset: Preset, settings: Settings) -> str:
    """How a pair's weights are stored: a layout of `engine.models.store`."""
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


def _check_room(missing: Sequence[ModelFiles], settings: Settings, layout: str) -> None:
    """Refuses what disk or memory do not hold, by a WeightsError, before anything large is fetched or converted."""
    titles = " and ".join(model.title for model in missing)
    download = sum(model.missing for model in missing)
    stored = sum(store.stored_bytes(model.weights, layout) for model in missing)
    disk = download + (0 if layout == store.FP32 else stored)
    if disk:
        make_folder(settings.cache_dir)
        if disk > shutil.disk_usage(settings.cache_dir).free:
            needs = f"{titles} need {in_words(disk)} there, {in_words(download)} of it to download"
            raise no_space(settings.cache_dir, needs)
    if (memory := allowed_bytes(settings.memory)) and stored > memory:
        raise WeightsError(
            f"not enough memory: {titles} take {in_words(stored)}, and {in_words(memory)} may be taken. Choose "
            "smaller models (CITER_SLM, CITER_LLM, or CITER_PRESET=tiny)."
        )


def _load(
    model: ModelFiles, settings: Settings, layout: str, device: torch.device, progress: ProgressCallback | None
) -> tuple[Any, str]:
    """A model, and its tokenizer's fingerprint, for which a converted model's tokenizer need not be read."""

    def load(folder: Path) -> tuple[Any, str]:
        say(progress, f"loading {model.title}")
        loaded = store.load(folder / store.WEIGHTS, read_json(folder / CONFIG), layout, device)
        return loaded, str(read_json(folder / MANIFEST).get("tokenizer"))

    if layout != store.FP32:
        return _from_folder(model, settings, layout, progress, load)
    say(progress, f"loading {model.title}")
    return store.dense(*model.open(), torch.float32).to(device), tokenizer_fingerprint(model.tokenizer)


def _tokenizer(model: ModelFiles, settings: Settings, layout: str, progress: ProgressCallback | None) -> Any:
    if layout == store.FP32:
        return model.tokenizer
    return _from_folder(model, settings, layout, progress, partial(read_tokenizer, model.title))


def _from_folder(
    model: ModelFiles,
    settings: Settings,
    layout: str,
    progress: ProgressCallback | None,
    read: Callable[[Path], _Read],
) -> _Read:
    """Reads from a model's converted folder, which is made if need be, and made again where it turns out damaged."""
    while True:
        folder = converted(model, settings, layout, progress)
        try:
            return read(folder)
        except Exception as error:  # the libraries raise whatever they stumble over, tokenizers a bare Exception
            remove(settings.cache_dir / HASHES)  # so that all files are hashed anew
            if problem(folder, model.identity, settings.cache_dir, progress) is None:
                reason = str(error) or type(error).__name__
                raise WeightsError(f"{model.title} cannot be loaded from {folder}: {reason}") from error
