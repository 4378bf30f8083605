"""From a pair's name to two loaded models and their tokenizer. Falling back to another pair is left to the caller."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging as transformers_logging

from engine.errors import WeightsError
from engine.pairs.origin import Origin, origin_of, read_tokenizer
from engine.pairs.presets import Preset
from engine.pairs.room import Room, room_of, unconverted
from engine.settings import Settings
from engine.tokenizer import check_same_tokenizer, tokenizer_fingerprint
from engine.weights import store
from engine.weights.convert import converted, load_folder
from engine.weights.files import remove
from engine.weights.progress import ProgressCallback, say


@dataclass(frozen=True)
class LoadedPair:
    """Two models in eval mode and without gradients, and their tokenizer."""

    slm: PreTrainedModel
    llm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    quantisation: str  # "NF4", "int8" or "fp32", for people


@dataclass(frozen=True)
class _Loaded:
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase


def load_models(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> LoadedPair:
    """Loads a pair, fetching and converting what is not there yet.

    Raises:
        WeightsError: no source has a file, it is not what it should be, disk or memory do not hold it, the GPU is
            missing, or the two tokenizers differ. The message says which and what to do.
    """
    _set_up(settings)
    device = _device(preset)
    layout = layout_of(preset, settings)
    origins = [origin_of(model, settings, progress) for model in (preset.slm, preset.llm)]
    if missing := unconverted(origins, settings, layout):
        _compare(origins)
        room_of(origins, missing, settings, layout, device).check()
    slm, llm = (_load(origin, settings, layout, progress) for origin in origins)
    if tokenizer_fingerprint(slm.tokenizer) != tokenizer_fingerprint(llm.tokenizer):
        check_same_tokenizer(preset.slm.title, slm.tokenizer, preset.llm.title, llm.tokenizer)
    for title, model in ((preset.slm.title, slm.model), (preset.llm.title, llm.model)):
        _check_rows(title, model, slm.tokenizer)
    return LoadedPair(_moved(slm.model, device), _moved(llm.model, device), slm.tokenizer, store.form(layout))


def room_for(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> Room:
    """What `load_models` would take, or `load_slm` where a server has the LLM, and what there is.

    Raises as they do, but not where there is too little. Of a repo of the Hub the small files are fetched, and a file
    of the user's is hashed, once.
    """
    device, layout = _device(preset), layout_of(preset, settings)
    models = [preset.slm] if settings.llm_url else [preset.slm, preset.llm]
    origins = [origin_of(model, settings, progress) for model in models]
    if (missing := unconverted(origins, settings, layout)) and len(origins) > 1:
        _compare(origins)
    return room_of(origins, missing, settings, layout, device)


def _moved(model: PreTrainedModel, device: torch.device) -> PreTrainedModel:
    # pyright takes transformers' wrapper of `to` for a function of something else.
    return model if device.type == "cpu" else model.to(device)  # pyright: ignore[reportArgumentType]


def load_slm(
    preset: Preset, settings: Settings, progress: ProgressCallback | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """As `load_models`, of a pair whose LLM is elsewhere: the SLM, the tokenizer, and how its weights are stored."""
    _set_up(settings)
    device, layout = _device(preset), layout_of(preset, settings)
    origins = [origin_of(preset.slm, settings, progress)]
    if missing := unconverted(origins, settings, layout):
        room_of(origins, missing, settings, layout, device).check()
    slm = _load(origins[0], settings, layout, progress)
    _check_rows(preset.slm.title, slm.model, slm.tokenizer)
    return _moved(slm.model, device), slm.tokenizer, store.form(layout)


def _set_up(settings: Settings) -> None:
    if settings.threads:
        torch.set_num_threads(settings.threads)
    transformers_logging.disable_progress_bar()  # `progress` has it


def _check_rows(title: str, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
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
    slm, llm = origins
    if slm.folder and llm.folder and slm.folder != llm.folder:
        check_same_tokenizer(slm.title, slm.tokenizer(), llm.title, llm.tokenizer())


def _load(origin: Origin, settings: Settings, layout: str, progress: ProgressCallback | None) -> _Loaded:
    return _dense(origin, progress) if layout == store.FP32 else _load_converted(origin, settings, layout, progress)


def _dense(origin: Origin, progress: ProgressCallback | None) -> _Loaded:
    """A model as it is, in fp32."""
    say(progress, f"loading {origin.title}")
    tokenizer = origin.tokenizer()
    with origin.open() as (model, read):
        if read is None:
            return _Loaded(model.float().eval().requires_grad_(False), tokenizer)
        return _Loaded(store.dense(model, lambda name: read(name, torch.float32)), tokenizer)


def _load_converted(origin: Origin, settings: Settings, layout: str, progress: ProgressCallback | None) -> _Loaded:
    """Loads a model's quantised form, converting it if need be, and once more if it turns out damaged."""
    folder = converted(origin, settings, layout, progress)
    say(progress, f"loading {origin.title}")
    try:
        return _of_folder(folder, origin.title, settings)
    except Exception as error:  # the libraries raise whatever they stumble over, tokenizers a bare Exception
        say(progress, f"{origin.title} in the cache is damaged ({error}) and is made again")
    remove(folder)
    converted(origin, settings, layout, progress)
    try:
        return _of_folder(folder, origin.title, settings)
    except Exception as error:
        raise WeightsError(f"{origin.title} cannot be loaded from {folder}: {error}") from error


def _of_folder(folder: Path, title: str, settings: Settings) -> _Loaded:
    return _Loaded(load_folder(folder, settings.lm_head_4bit), read_tokenizer(title, folder))
