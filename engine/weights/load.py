"""From a preset to two loaded models and their tokenizer. Falling back to another preset is left to the caller."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging as transformers_logging

from engine.errors import WeightsError
from engine.settings import Settings
from engine.tokenizer import check_same_tokenizer
from engine.weights.files import remove
from engine.weights.presets import GgufModel, HubModel, LocalModel, Preset
from engine.weights.progress import ProgressCallback, say


@dataclass(frozen=True)
class LoadedPair:
    """Two models in eval mode and without gradients, and their tokenizer."""

    slm: PreTrainedModel
    llm: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    quantisation: str  # "NF4", "int8" or "fp32", for people


def load_models(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> LoadedPair:
    """Loads a preset's pair, fetching and converting what is not there yet.

    Raises:
        WeightsError: no source has a file, it is not what it should be, the disk is full, the GPU is missing, or the
            two tokenizers differ. The message says which and what to do.
    """
    if settings.threads:
        torch.set_num_threads(settings.threads)
    transformers_logging.disable_progress_bar()  # `progress` has it
    slm, llm = preset.slm, preset.llm
    if isinstance(slm, GgufModel) and isinstance(llm, GgufModel):
        pair = _load_gguf(slm, llm, settings, progress)
    elif isinstance(slm, HubModel) and isinstance(llm, HubModel):
        pair = _load_hub(slm, llm, settings, progress)
    elif isinstance(slm, LocalModel) and isinstance(llm, LocalModel):
        pair = _load_local(slm, llm, preset, progress)
    else:
        raise WeightsError(f"preset {preset.name} mixes two kinds of source: give both models the same kind")
    for title, model in ((slm.title, pair.slm), (llm.title, pair.llm)):
        # Every token needs a row; more rows than tokens are padding and do no harm.
        if model.config.vocab_size < len(pair.tokenizer):
            raise WeightsError(
                f"{title} has {model.config.vocab_size} rows in its vocabulary, fewer than the tokenizer's "
                f"{len(pair.tokenizer)} tokens: the tokenizer is not this model's"
            )
    return pair


def load_slm(
    preset: Preset, settings: Settings, progress: ProgressCallback | None = None
) -> tuple[PreTrainedModel, PreTrainedTokenizerBase, str]:
    """As `load_models`, of a preset whose LLM is elsewhere: the SLM, the tokenizer, and how its weights are stored."""
    if settings.threads:
        torch.set_num_threads(settings.threads)
    transformers_logging.disable_progress_bar()
    slm = preset.slm
    if isinstance(slm, GgufModel):
        from engine.weights.store import cpu_layout, form

        folder, model = _load_converted(slm, settings, settings.slm_gguf, progress)
        return model, _load_tokenizer(folder), form(cpu_layout(settings.cpu_weights))
    if isinstance(slm, LocalModel):
        say(progress, f"loading {slm.title}")
        return _load_local_model(slm), _load_tokenizer(preset.tokenizer_folder or slm.folder), "fp32"
    raise WeightsError(
        f"preset {preset.name} with an LLM on a server is not made: set CITER_PRESET=cpu for its SLM, or unset "
        "CITER_LLM_URL"
    )


def _load_gguf(slm: GgufModel, llm: GgufModel, settings: Settings, progress: ProgressCallback | None) -> LoadedPair:
    from engine.weights.convert import fingerprint_of  # late: it takes a second that the other presets can do without
    from engine.weights.store import cpu_layout, form

    slm_folder, slm_model = _load_converted(slm, settings, settings.slm_gguf, progress)
    llm_folder, llm_model = _load_converted(llm, settings, settings.llm_gguf, progress)
    tokenizer = _load_tokenizer(slm_folder)
    if fingerprint_of(slm_folder) != fingerprint_of(llm_folder):
        check_same_tokenizer(slm.title, tokenizer, llm.title, _load_tokenizer(llm_folder))
    return LoadedPair(slm_model, llm_model, tokenizer, form(cpu_layout(settings.cpu_weights)))


def _load_converted(
    model: GgufModel, settings: Settings, user_path: Path | None, progress: ProgressCallback | None
) -> tuple[Path, PreTrainedModel]:
    """Loads a model's NF4 form, converting it if need be, and once more if it turns out damaged."""
    from engine.weights.convert import converted, load_folder

    folder = converted(model, settings, user_path, progress)
    say(progress, f"loading {model.title}")
    try:
        return folder, load_folder(folder, settings.lm_head_4bit)
    except Exception as error:  # the libraries raise whatever they stumble over, tokenizers a bare Exception
        say(progress, f"{model.title} in the cache is damaged ({error}) and is made again")
    remove(folder)
    converted(model, settings, user_path, progress)
    try:
        return folder, load_folder(folder, settings.lm_head_4bit)
    except Exception as error:
        raise WeightsError(f"{model.title} cannot be loaded from {folder}: {error}") from error


def _load_hub(slm: HubModel, llm: HubModel, settings: Settings, progress: ProgressCallback | None) -> LoadedPair:
    """Loads from the Hub and quantises on the GPU. Written from the libraries' documentation; not run by our tests."""
    if not torch.cuda.is_available():
        raise WeightsError("preset gpu needs CUDA, and torch sees no GPU: set CITER_PRESET=cpu or tiny")
    if not settings.hub:
        raise WeightsError("preset gpu loads from the Hub, and CITER_HUB is false: set it to true, or CITER_PRESET=cpu")
    tokenizers = [_from_hub(AutoTokenizer, model) for model in (slm, llm)]
    check_same_tokenizer(slm.title, tokenizers[0], llm.title, tokenizers[1])
    # Of several processes each has a GPU of its own, as `accelerate launch` (or torchrun) says in the environment.
    torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    quantisation = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_compute_dtype=torch.bfloat16,
        bnb_4bit_use_double_quant=True,
    )
    models = []
    for model in (slm, llm):
        say(progress, f"loading {model.title}", "hub")
        loaded = _from_hub(
            AutoModelForCausalLM,
            model,
            quantization_config=quantisation,
            dtype=torch.bfloat16,
            device_map={"": torch.cuda.current_device()},
        )
        models.append(loaded.eval().requires_grad_(False))
    return LoadedPair(models[0], models[1], tokenizers[0], "NF4")


def _from_hub(auto_class: Any, model: HubModel, **options: Any) -> Any:
    try:
        return auto_class.from_pretrained(model.hub_id, **options)
    except (OSError, ImportError, ValueError, RuntimeError) as error:
        raise WeightsError(
            f"{model.hub_id} cannot be loaded: {error}. Check the network and the GPU's memory, or set CITER_PRESET=cpu"
        ) from error


def _load_local(slm: LocalModel, llm: LocalModel, preset: Preset, progress: ProgressCallback | None) -> LoadedPair:
    say(progress, f"loading {slm.title} and {llm.title}")
    tokenizer_folder = preset.tokenizer_folder or slm.folder
    return LoadedPair(_load_local_model(slm), _load_local_model(llm), _load_tokenizer(tokenizer_folder), "fp32")


def _load_local_model(model: LocalModel) -> PreTrainedModel:
    if not model.folder.is_dir():
        raise WeightsError(f"{model.title}: {model.folder} is not there; the checkout is incomplete")
    try:
        loaded = AutoModelForCausalLM.from_pretrained(model.folder, dtype=torch.float32, local_files_only=True)
    except Exception as error:  # as above
        raise WeightsError(f"{model.title} cannot be loaded from {model.folder}: {error}") from error
    return loaded.eval().requires_grad_(False)


def _load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # as above
        raise WeightsError(f"the tokenizer in {folder} cannot be loaded: {error}") from error
