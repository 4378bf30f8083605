"""One GGUF file turned into an NF4 model folder in the cache, once.

Knows the folder's form, how to tell that it is whole, and how to make it again. Knows nothing of pairs or presets;
the bytes come from `engine.download`, the quantisation from `engine.nf4`.

A folder holds `manifest.json`, `config.json`, the tokenizer and `model.safetensors`. It is written under a temporary
name and renamed when complete, so that a killed conversion leaves nothing under the final one.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import shutil
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, PretrainedConfig, PreTrainedModel
from transformers.utils import logging as transformers_logging

from engine import nf4
from engine.download import fetch, sha256_of
from engine.presets import GgufModel
from engine.progress import ProgressCallback, say
from engine.settings import Settings
from engine.storage import locked, make_folder, read_json, require_space, write_json, writing
from engine.vocabulary import PADDING, tokenizer_fingerprint

FORMAT = 1  # raise when the folder's form or the quantisation changes; older folders are then made again
MANIFEST = "manifest.json"
WEIGHTS = "model.safetensors"

# The two official Q4_K_M files hold the tied embedding twice, as `token_embd` and, in a better format, as `output`.
# They differ by 4 % (0.5B: Q5_0, Q8_0) and 7 % (1.5B: Q4_K, Q6_K); two matrices that are not tied differ by over 100 %.
TIED_BELOW = 0.25


def converted(
    model: GgufModel, settings: Settings, user_path: Path | None, progress: ProgressCallback | None = None
) -> Path:
    """Return the folder of a model's NF4 form, made now if it is not there or not whole.

    Raises:
        WeightsError: the GGUF file cannot be had, or the disk is full.
    """
    folder = folder_of(model, settings)
    if user_path is not None:
        fetch(model.file, settings, user_path, progress)  # a wrong path is told even if the cache could do without it
    if problem(folder, model) is None:
        return folder
    with locked(folder, progress):
        reason = problem(folder, model)  # another process may have made it while this one waited
        if reason is not None:
            if folder.exists():
                say(progress, f"{model.title} in the cache is made again: {reason}")
            path = fetch(model.file, settings, user_path, progress)
            _convert(model, path, folder, progress)
    return folder


def folder_of(model: GgufModel, settings: Settings) -> Path:
    """Return where a model's NF4 form lies; one folder per CPU layout, so that machines may share a cache."""
    return settings.cache_dir / "nf4" / f"{Path(model.file.name).stem}-{nf4.cpu_layout()}"


def problem(folder: Path, model: GgufModel) -> str | None:
    """Say why a folder cannot be used as it is; None if it can.

    Sizes, versions and the hashes of the small files are looked at; the weights are too large to hash at every start.
    """
    if not folder.is_dir():
        return "it is not there"
    manifest = read_json(folder / MANIFEST)
    if not manifest:
        return f"its {MANIFEST} is missing or damaged"
    for key, value in _stamp(model).items():
        if manifest.get(key) != value:
            return f"its {key} is {manifest.get(key)}, not {value}"
    for name, size in manifest.get("files", {}).items():
        path = folder / name
        if not path.is_file():
            return f"its {name} is missing"
        if path.stat().st_size != size:
            return f"its {name} has {path.stat().st_size} bytes, not {size}"
    for name, sha256 in manifest.get("sha256", {}).items():
        if sha256_of(folder / name) != sha256:
            return f"its {name} has changed"
    return None


def fingerprint_of(folder: Path) -> str:
    """Return the tokenizer fingerprint that the conversion wrote down."""
    return str(read_json(folder / MANIFEST).get("tokenizer", ""))


def load_folder(folder: Path, lm_head_4bit: bool) -> PreTrainedModel:
    """Load a converted model.

    Raises:
        safetensors.SafetensorError, KeyError, ValueError, OSError: the folder is damaged in a way that `problem`
            does not see.
    """
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return nf4.build(config, folder / WEIGHTS, read_json(folder / MANIFEST)["layout"], lm_head_4bit)


def _stamp(model: GgufModel) -> dict[str, str | int]:
    """Everything that makes a folder outdated when it changes."""
    return {
        "format": FORMAT,
        "source_sha256": model.file.sha256,
        "bitsandbytes": version("bitsandbytes"),
        "layout": nf4.cpu_layout(),
    }


def _convert(model: GgufModel, path: Path, folder: Path, progress: ProgressCallback | None) -> None:
    # The result is a little larger than the GGUF file, because the embedding is kept in bf16.
    needed = int(1.3 * model.file.bytes)
    temporary = folder.with_name(folder.name + ".tmp")
    shutil.rmtree(temporary, ignore_errors=True)  # of a killed conversion; the lock is ours
    require_space(folder.parent, needed)
    try:
        with writing(folder.parent, needed), _one_reader():
            make_folder(temporary)
            say(progress, f"converting {model.title} to NF4, once: reading the tokenizer")
            fingerprint = _convert_tokenizer(path, temporary)
            say(progress, f"converting {model.title} to NF4, once: reading the weights")
            dense = _load_dense(path)
            say(progress, f"converting {model.title} to NF4, once: quantising")
            _clean_config(dense).save_pretrained(temporary)
            nf4.save(nf4.quantise(dense, nf4.cpu_layout()), temporary / WEIGHTS)
            write_json(temporary / MANIFEST, {**_stamp(model), "tokenizer": fingerprint, **_inventory(temporary)})
            shutil.rmtree(folder, ignore_errors=True)
            temporary.replace(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        gc.collect()  # the dense model's gigabytes, before the next one is loaded
    say(progress, f"{model.title} is converted")


@contextlib.contextmanager
def _one_reader() -> Iterator[None]:
    """Let transformers parse a file's metadata once.

    It makes a new reader for the tokenizer, for the configuration and for the weights, and each goes through 150,000
    tokens and as many merges in Python: 12 s a time.
    """
    module: Any = gguf
    reader = module.GGUFReader
    module.GGUFReader = functools.cache(reader)
    try:
        yield
    finally:
        module.GGUFReader = reader


def _inventory(folder: Path) -> dict[str, dict[str, Any]]:
    paths = sorted(folder.iterdir())
    return {
        "files": {path.name: path.stat().st_size for path in paths},
        "sha256": {path.name: sha256_of(path) for path in paths if path.name != WEIGHTS},
    }


def _load_dense(path: Path) -> PreTrainedModel:
    """Dequantise a GGUF file to bf16 and tie the embedding again where the file holds it twice."""
    quiet = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        dense = AutoModelForCausalLM.from_pretrained(
            path.parent,
            gguf_file=path.name,
            quantization_config=GgufConfig(dequantize=True),
            dtype=torch.bfloat16,
        )
    finally:
        if quiet:
            transformers_logging.enable_progress_bar()
    _tie_again(dense)
    return dense


def _tie_again(dense: PreTrainedModel) -> None:
    embedding: Any = dense.get_input_embeddings()
    head: Any = dense.get_output_embeddings()
    if head.weight is embedding.weight or _relative_difference(embedding.weight, head.weight) >= TIED_BELOW:
        return
    embedding.weight = head.weight  # the head's copy is the more exact one, and serves both
    dense.config.tie_word_embeddings = True


def _relative_difference(first: torch.Tensor, second: torch.Tensor) -> float:
    if first.shape != second.shape:
        return float("inf")
    one, two = first[:4096].float(), second[:4096].float()
    return ((one - two).norm() / two.norm()).item()


def _clean_config(dense: PreTrainedModel) -> PretrainedConfig:
    config: Any = dense.config
    config._name_or_path = ""
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it says GGUF, which the folder no longer is
    return config


def _convert_tokenizer(path: Path, folder: Path) -> str:
    """Write the GGUF file's tokenizer without its padding entries, and return its fingerprint."""
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    stored = folder / "tokenizer.json"
    data = json.loads(stored.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    data["model"]["vocab"] = {token: index for token, index in vocabulary.items() if not PADDING.fullmatch(token)}
    stored.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return tokenizer_fingerprint(AutoTokenizer.from_pretrained(folder, local_files_only=True))
