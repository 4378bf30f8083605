"""From a pair's files to two loaded models and their tokenizer, by way of a converted folder in the cache.

A model's files are turned, once, into a folder: the model in few bits, its tokenizer, and a manifest. The folder is
written under a temporary name and renamed when complete, so that a killed conversion leaves nothing under the final
one. Falling back to another pair is left to the caller.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from filelock import FileLock

from engine.errors import WeightsError
from engine.events.progress import ProgressCallback, say
from engine.model.adapter import Adapter
from engine.model.config import CONFIG, check_widths, skeleton
from engine.model.memory import memory_bytes
from engine.models import store
from engine.models.files import read_json, remove, storing, write_json
from engine.models.model_files import ModelFiles, files_of, read_tokenizer
from engine.models.sources import PRESETS, Preset, slm_adapter
from engine.settings import Settings
from engine.tokenizer import PADDING, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

FORMAT = 1  # raise when the folder's form or the quantisation changes; older folders are then made again
MANIFEST = "manifest.json"
"""Says what a converted folder was made of and how, its `files` (bytes by name), and the `tokenizer`'s fingerprint."""


class LoadedPair(NamedTuple):
    """What `engine.pair.Pair` is made of; `llm` is None where it is on a server."""

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
    layout = layout_for(preset, settings)
    files = [slm_files(preset, settings, progress)]
    if with_llm:
        files.append(files_of(preset.llm, settings, progress))
    there = {each: _manifest(each, folder_of(each, settings, layout)) for each in files}  # FP32 converts nothing
    missing = [each for each, manifest in there.items() if not manifest]
    _check_memory(missing, layout, settings.memory)
    fingerprints = {_fingerprint(each, manifest, progress) for each, manifest in there.items()}
    if len(fingerprints) > 1:
        raise WeightsError(
            f"{' and '.join(each.title for each in files)} cannot be a pair, their tokenizers differ in a token, its "
            "number, the merges or the end token. Choose two models of one family."
        )
    with ThreadPoolExecutor(1) as aside:
        if not missing:  # the import takes a second; a conversion would import transformers in a second thread, too
            aside.submit(import_module, "transformers.models.auto.tokenization_auto")
        models = [_load(each, preset, settings, progress) for each in files]
    folder = folder_of(files[0], settings, layout)
    tokenizer = files[0].tokenizer if layout == store.FP32 else read_tokenizer(files[0].title, folder)
    for each, model in zip(files, models, strict=True):
        # Every token needs a row; more rows than tokens are padding and do no harm.
        if (rows := model.config.vocab_size) < len(tokenizer):
            raise WeightsError(
                f"{each.title} has {rows} rows in its vocabulary, fewer than the tokenizer's {len(tokenizer)} tokens: "
                "the tokenizer is not this model's"
            )
    own = "" if preset.name in PRESETS else " ".join(each.base for each in files)
    about = fingerprints.pop(), store.form(layout), own, files[0].title
    return LoadedPair(models[0], models[1] if with_llm else None, tokenizer, *about)


def slm_files(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> ModelFiles:
    """The SLM's files, with the adapter that the settings name; a WeightsError for one that is damaged or another's."""
    model = files_of(preset.slm, settings, progress)
    if (adapter := slm_adapter(preset, settings, progress)) is not None:
        model.align(Adapter.load(adapter))
    return model


def layout_for(preset: Preset, settings: Settings) -> str:
    """How a pair's weights are stored: a layout of `engine.models.store`."""
    if preset.weights == store.FP32:
        return store.FP32
    if _device(preset).type == "cuda":
        return "plain"
    wanted = settings.cpu_weights
    layout = store.cpu_layout(wanted)
    if layout == "int8" and wanted in ("nf4", "bf16"):
        raise WeightsError(f"CITER_CPU_WEIGHTS = {wanted} needs a processor with AVX512-BF16: set it to auto or int8")
    return layout


def folder_of(model: ModelFiles, settings: Settings, layout: str) -> Path:
    """Where a model's quantised form lies; one folder per layout, so that machines may share a cache."""
    return settings.cache_dir / store.form(layout).lower() / f"{model.key}-{layout}"


def _device(preset: Preset) -> torch.device:
    if preset.device == "cpu" or (preset.device == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    if not torch.cuda.is_available():
        raise WeightsError(f"preset {preset.name} needs CUDA, and torch sees no GPU: set CITER_PRESET=cpu or tiny")
    return torch.device("cuda")


def _check_memory(missing: Sequence[ModelFiles], layout: str, gigabytes: float | None) -> None:
    """Refuses models that memory does not hold, by a WeightsError, before their weights are fetched or converted."""
    each_bytes = {store.FP32: 4.0, "int8": 1.6}.get(layout, 1.1)  # a small model's embedding is a third, in bf16
    models = [skeleton(each.config).state_dict() for each in missing]
    stored = each_bytes * sum(tensor.numel() for model in models for tensor in model.values())
    if (memory := memory_bytes(gigabytes)) and stored > memory:
        raise WeightsError(
            f"not enough memory: {' and '.join(each.title for each in missing)} take {stored / 1e9:,.2f} GB, and "
            f"there are {memory / 1e9:,.2f} GB. Choose smaller models (CITER_SLM, CITER_LLM, or CITER_PRESET=tiny)."
        )


def _fingerprint(model: ModelFiles, manifest: dict[str, Any], progress: ProgressCallback | None) -> str:
    """The fingerprint of a model's tokenizer, from the manifest if the model is converted."""
    if manifest:
        return str(manifest.get("tokenizer"))
    say(progress, f"reading the tokenizer of {model.title}")
    return tokenizer_fingerprint(model.tokenizer)


def _load(model: ModelFiles, preset: Preset, settings: Settings, progress: ProgressCallback | None) -> Any:
    device, layout = _device(preset), layout_for(preset, settings)
    if layout == store.FP32:
        say(progress, f"loading {model.title}")
        return store.dense(*model.open(), torch.float32).to(device)
    folder = folder_of(model, settings, layout)
    if not _manifest(model, folder):
        with storing(folder.parent), FileLock(f"{folder}.lock"):
            if not _manifest(model, folder):  # another process may have made it while this one waited
                _convert(model, folder, layout, progress)
    say(progress, f"loading {model.title}")
    try:
        wide = settings.cpu_weights == "bf16"
        return store.load(folder / store.WEIGHTS, read_json(folder / CONFIG), layout, device, wide)
    except Exception as error:  # the libraries raise whatever they stumble over
        raise WeightsError(
            f"{model.title} cannot be loaded from {folder}: {str(error) or type(error).__name__}. "
            "If that folder is damaged, remove it: it is then made again"
        ) from error


def _manifest(model: ModelFiles, folder: Path) -> dict[str, Any]:
    """The manifest of a folder that is a complete and current conversion of these files; else empty."""
    manifest = read_json(folder / MANIFEST)
    sizes, made_of = manifest.get("files"), _made_of(model, folder.name.rpartition("-")[2])
    if not isinstance(sizes, dict) or not made_of.items() <= manifest.items():
        return {}
    with suppress(OSError):  # a link to itself
        if all((folder / name).is_file() and (folder / name).stat().st_size == size for name, size in sizes.items()):
            return manifest
    return {}


def _made_of(model: ModelFiles, layout: str) -> dict[str, Any]:
    """The entries of a manifest that make a folder outdated when they change."""
    made_of = {"format": FORMAT, "bitsandbytes": version("bitsandbytes"), "layout": layout}
    return {**made_of, "source_sha256": model.identity}


def _convert(model: ModelFiles, folder: Path, layout: str, progress: ProgressCallback | None) -> None:
    say(progress, f"converting {model.title} to {store.form(layout)}, once")
    temporary = folder.with_name(folder.name + ".tmp")
    remove(temporary)  # a killed conversion's; the lock is ours
    try:
        temporary.mkdir()
        skeleton, read = model.open()
        check_widths(model.title, skeleton.config, layout)
        _save_tokenizer(model.tokenizer, temporary)
        skeleton.config.save_pretrained(temporary)
        store.save(store.quantise(skeleton, layout, read), temporary / store.WEIGHTS)
        sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
        about = {"tokenizer": tokenizer_fingerprint(model.tokenizer), "files": sizes}
        write_json(temporary / MANIFEST, _made_of(model, layout) | about)
        remove(folder)
        temporary.replace(folder)
    finally:
        remove(temporary)
    say(progress, f"{model.title} is converted")


def _save_tokenizer(tokenizer: PreTrainedTokenizerBase, folder: Path) -> None:
    """Writes a tokenizer without the padding entries of GGUF files."""
    tokenizer.save_pretrained(folder)
    stored = folder / "tokenizer.json"
    data = json.loads(stored.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    if isinstance(vocabulary, dict):
        data["model"]["vocab"] = {token: index for token, index in vocabulary.items() if not PADDING.fullmatch(token)}
        stored.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
