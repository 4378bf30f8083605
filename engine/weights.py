"""From a preset to two loaded models and their tokenizer.

Knows how each kind of source is loaded. Knows nothing of routing, and never falls back from one preset to another:
it raises `WeightsError`, and the caller decides whether the tiny pair will do.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from engine.errors import WeightsError
from engine.presets import GgufModel, HubModel, LocalModel, Preset
from engine.progress import ProgressCallback, say
from engine.settings import Settings
from engine.vocabulary import check_same_tokenizer, tokenizer_fingerprint

__all__ = ["LoadedPair", "check_same_tokenizer", "load_models", "tokenizer_fingerprint"]

# What reading a damaged folder raises, according to where the damage is.
DAMAGE = (SafetensorError, KeyError, ValueError, OSError, RuntimeError)


@dataclass(frozen=True)
class LoadedPair:
    """Two models ready to generate.

    Attributes:
        slm: the small model, in eval mode, without gradients.
        llm: the large model, likewise.
        tokenizer: shared by both.
        slm_title: the small model's name for people.
        llm_title: the large model's name for people.
        quantisation: `NF4` or `fp32`, for the page's header.
        device: `cpu` or `cuda`.
        fingerprint: the tokenizer's (see `tokenizer_fingerprint`); a router is bound to it.
    """

    slm: PreTrainedModel
    llm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    slm_title: str
    llm_title: str
    quantisation: str
    device: str
    fingerprint: str


def load_models(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> LoadedPair:
    """Load a preset's pair, fetching and converting what is not there yet.

    Args:
        preset: from `choose_preset`.
        settings: cache folder, doors, user paths, threads, and whether `lm_head` is in 4 bits.
        progress: called now and then; see `engine.progress`.

    Raises:
        WeightsError: no door is open, a file is not what it should be, the disk is full, the GPU is missing, or the
            two tokenizers differ. The message says which and what to do.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    transformers_logging.disable_progress_bar()  # `progress` tells it, to whoever asked
    slm, llm = preset.slm, preset.llm
    if isinstance(slm, GgufModel) and isinstance(llm, GgufModel):
        pair = _load_gguf(slm, llm, settings, progress)
    elif isinstance(slm, HubModel) and isinstance(llm, HubModel):
        pair = _load_hub(slm, llm, settings, progress)
    elif isinstance(slm, LocalModel) and isinstance(llm, LocalModel):
        pair = _load_local(slm, llm, preset, progress)
    else:
        raise WeightsError(f"preset {preset.name} mixes two kinds of source: give both models the same kind")
    _check_vocabulary_fits(pair)
    return pair


def _load_gguf(slm: GgufModel, llm: GgufModel, settings: Settings, progress: ProgressCallback | None) -> LoadedPair:
    # Late, because bitsandbytes takes a second that the other presets can do without.
    from engine.convert import fingerprint_of

    slm_folder, slm_model = _load_converted(slm, settings, settings.slm_gguf, progress)
    llm_folder, llm_model = _load_converted(llm, settings, settings.llm_gguf, progress)
    tokenizer = _load_tokenizer(slm_folder)
    if fingerprint_of(slm_folder) != fingerprint_of(llm_folder):
        check_same_tokenizer(slm.title, tokenizer, llm.title, _load_tokenizer(llm_folder))
    return LoadedPair(
        slm=slm_model,
        llm=llm_model,
        tokenizer=tokenizer,
        slm_title=slm.title,
        llm_title=llm.title,
        quantisation="NF4",
        device="cpu",
        fingerprint=fingerprint_of(slm_folder),
    )


def _load_converted(
    model: GgufModel, settings: Settings, user_path: Path | None, progress: ProgressCallback | None
) -> tuple[Path, PreTrainedModel]:
    """Load a model's NF4 form, converting it if need be, and once more if it turns out damaged."""
    from engine.convert import converted, load_folder

    folder = converted(model, settings, user_path, progress)
    say(progress, f"loading {model.title}")
    try:
        return folder, load_folder(folder, settings.lm_head_4bit)
    except DAMAGE as error:
        say(progress, f"{model.title} in the cache is damaged ({error}) and is made again")
    shutil.rmtree(folder, ignore_errors=True)
    folder = converted(model, settings, user_path, progress)
    try:
        return folder, load_folder(folder, settings.lm_head_4bit)
    except DAMAGE as error:
        raise WeightsError(f"{model.title} cannot be loaded from {folder}: {error}") from error


def _load_hub(slm: HubModel, llm: HubModel, settings: Settings, progress: ProgressCallback | None) -> LoadedPair:
    """Load from the Hub and quantise on the GPU. Written from the libraries' documentation; not run by our tests."""
    if not torch.cuda.is_available():
        raise WeightsError("preset gpu needs CUDA, and torch sees no GPU: set CITER_PRESET=cpu or tiny")
    if not settings.hub:
        raise WeightsError("preset gpu loads from the Hub, and CITER_HUB is false: set it to true, or CITER_PRESET=cpu")
    tokenizers = [_from_hub(AutoTokenizer, model, {}) for model in (slm, llm)]
    check_same_tokenizer(slm.title, tokenizers[0], llm.title, tokenizers[1])
    # Of several processes each has a GPU of its own, as `accelerate launch` (or torchrun) says in the environment.
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    models = []
    for model in (slm, llm):
        say(progress, f"loading {model.title}", "hub")
        quantisation = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_compute_dtype=torch.bfloat16,
            bnb_4bit_use_double_quant=True,
        )
        options = {
            "quantization_config": quantisation,
            "dtype": torch.bfloat16,
            "device_map": {"": torch.cuda.current_device()},
        }
        models.append(_from_hub(AutoModelForCausalLM, model, options).eval().requires_grad_(False))
    return LoadedPair(
        slm=models[0],
        llm=models[1],
        tokenizer=tokenizers[0],
        slm_title=slm.title,
        llm_title=llm.title,
        quantisation="NF4",
        device="cuda",
        fingerprint=tokenizer_fingerprint(tokenizers[0]),
    )


def _from_hub(auto_class: Any, model: HubModel, options: dict[str, Any]) -> Any:
    try:
        return auto_class.from_pretrained(model.hub_id, **options)
    except (OSError, ImportError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{model.hub_id} cannot be loaded: {error}. Check the network and the GPU's memory, or set CITER_PRESET=cpu"
        ) from error


def _load_local(slm: LocalModel, llm: LocalModel, preset: Preset, progress: ProgressCallback | None) -> LoadedPair:
    say(progress, f"loading {slm.title} and {llm.title}")
    models = [_load_local_model(model) for model in (slm, llm)]
    tokenizer = _load_tokenizer(preset.tokenizer_folder or slm.folder)
    return LoadedPair(
        slm=models[0],
        llm=models[1],
        tokenizer=tokenizer,
        slm_title=slm.title,
        llm_title=llm.title,
        quantisation="fp32",
        device="cpu",
        fingerprint=tokenizer_fingerprint(tokenizer),
    )


def _load_local_model(model: LocalModel) -> PreTrainedModel:
    if not model.folder.is_dir():
        raise WeightsError(f"{model.title}: {model.folder} is not there; the checkout is incomplete")
    try:
        loaded = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, SafetensorError) as error:
        raise WeightsError(f"{model.title} cannot be loaded from {model.folder}: {error}") from error
    return loaded.eval().requires_grad_(False)


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise WeightsError(f"the tokenizer in {folder} cannot be loaded: {error}") from error


def _check_vocabulary_fits(pair: LoadedPair) -> None:
    """Every token needs a row in both models; more rows than tokens are padding and do no harm."""
    for title, model in ((pair.slm_title, pair.slm), (pair.llm_title, pair.llm)):
        if model.config.vocab_size < len(pair.tokenizer):
            raise WeightsError(
                f"{title} has {model.config.vocab_size} rows in its vocabulary, fewer than the tokenizer's "
                f"{len(pair.tokenizer)} tokens: the tokenizer is not this model's"
            )
