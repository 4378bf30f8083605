"""A GGUF file turned, once, into a folder in the cache: the model in NF4 or int8, its tokenizer and a manifest.

The folder is written under a temporary name and renamed when complete, so that a killed conversion leaves nothing under
the final one.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import os
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import gguf
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GgufConfig, PreTrainedModel
from transformers import modeling_gguf_pytorch_utils as gguf_loading

from engine.settings import Settings
from engine.tokenizer import PADDING, tokenizer_fingerprint
from engine.weights import manifest, store
from engine.weights.cache_folder import locked, make_folder, require_space, writing
from engine.weights.download import fetch
from engine.weights.files import remove
from engine.weights.manifest import Manifest
from engine.weights.presets import GgufModel
from engine.weights.progress import ProgressCallback, say

FORMAT = 1  # raise when the folder's form or the quantisation changes; older folders are then made again
WEIGHTS, CONFIG = "model.safetensors", "config.json"

# The two official Q4_K_M files hold the tied embedding twice, as `token_embd` and, in a better format, as `output`.
# They differ by 4 % (0.5B: Q5_0, Q8_0) and 7 % (1.5B: Q4_K, Q6_K); two matrices that are not tied differ by over 100 %.
TIED_BELOW = 0.25


def converted(
    model: GgufModel, settings: Settings, user_path: Path | None, progress: ProgressCallback | None = None
) -> Path:
    """The folder of a model's NF4 form, made now if it is not there or not whole."""
    folder = folder_of(model, settings)
    if user_path is not None:
        fetch(model.file, settings, user_path, progress)  # a wrong path is an error even where the cache needs no file
    if problem(folder, model, progress) is None:
        return folder
    with locked(folder, progress):
        reason = problem(folder, model, progress)  # another process may have made it while this one waited
        if reason is not None:
            if os.path.lexists(folder):
                say(progress, f"{model.title} in the cache is made again: {reason}")
            path = fetch(model.file, settings, user_path, progress)
            _convert(model, path, folder, progress)
    return folder


def folder_of(model: GgufModel, settings: Settings) -> Path:
    """Where a model's quantised form lies; one folder per CPU layout, so that machines may share a cache."""
    layout = store.cpu_layout(settings.cpu_weights)
    return settings.cache_dir / store.form(layout).lower() / f"{Path(model.file.name).stem}-{layout}"


def problem(
    folder: Path, model: GgufModel, progress: ProgressCallback | None = None, again: bool = False
) -> str | None:
    """Why a folder cannot be used as it is, in words; None if it can. `again` hashes large files, too, once more."""
    return manifest.problem(folder, _stamp(model, folder), {WEIGHTS, CONFIG}, progress, again)


def fingerprint_of(folder: Path) -> str:
    """The tokenizer's fingerprint, as the conversion wrote it down."""
    return Manifest.load(folder).tokenizer


def load_folder(folder: Path, lm_head_4bit: bool) -> PreTrainedModel:
    """Loads a converted model; raises whatever the libraries do for damage that `problem` does not see."""
    config = AutoConfig.from_pretrained(folder, local_files_only=True)
    return store.build(config, folder / WEIGHTS, Manifest.load(folder).layout, lm_head_4bit)


def _layout(folder: Path) -> str:
    """The layout that `folder_of` named a folder by."""
    return folder.name.rpartition("-")[2]


def _stamp(model: GgufModel, folder: Path) -> dict[str, Any]:
    """Everything that makes a folder outdated when it changes."""
    return {
        "format": FORMAT,
        "source_sha256": model.file.sha256,
        "bitsandbytes": version("bitsandbytes"),
        "layout": _layout(folder),
    }


def _convert(model: GgufModel, path: Path, folder: Path, progress: ProgressCallback | None) -> None:
    form = store.form(_layout(folder))
    # NF4 is a little larger than the GGUF file, because the embedding is kept in bf16.
    needed = int((1.3 if form == "NF4" else 1.9) * model.file.bytes)
    temporary = folder.with_name(folder.name + ".tmp")
    remove(temporary)  # of a killed conversion; the lock is ours
    require_space(folder.parent, needed)
    try:
        with writing(folder.parent, needed), _quick_and_quiet_reading():
            make_folder(temporary)
            say(progress, f"converting {model.title} to {form}, once: reading the tokenizer")
            fingerprint = _convert_tokenizer(path, temporary)
            say(progress, f"converting {model.title} to {form}, once: reading the weights")
            dense = _load_dense(path)
            say(progress, f"converting {model.title} to {form}, once: quantising")
            dense.config.save_pretrained(temporary)
            store.save(store.quantise(dense, _layout(folder)), temporary / WEIGHTS)
            Manifest.of(temporary, _stamp(model, folder), fingerprint).save(temporary)
            remove(folder)
            temporary.replace(folder)
    finally:
        remove(temporary)
        gc.collect()  # the dense model's gigabytes, before the next one is loaded
    say(progress, f"{model.title} is converted")


@contextlib.contextmanager
def _quick_and_quiet_reading() -> Iterator[None]:
    """Lets transformers parse a GGUF file's metadata once, and draw no bar of its own.

    It makes a new reader for the tokenizer, for the configuration and for the weights, and each goes through 150,000
    tokens and as many merges in Python: 12 s a time. Its switch for progress bars does not reach the one for GGUF.
    """
    readers, bars = cast(Any, gguf), cast(Any, gguf_loading)
    reader, bar = readers.GGUFReader, bars.tqdm
    readers.GGUFReader, bars.tqdm = functools.cache(reader), functools.partial(bar, disable=True)
    try:
        yield
    finally:
        readers.GGUFReader, bars.tqdm = reader, bar


def _load_dense(path: Path) -> PreTrainedModel:
    """Dequantises a GGUF file to bf16, ties the embedding where the file holds it twice, and cleans the config."""
    dense = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    config: Any = dense.config
    embedding: Any = dense.get_input_embeddings()
    head: Any = dense.get_output_embeddings()
    if head.weight is not embedding.weight and _relative_difference(embedding.weight, head.weight) < TIED_BELOW:
        embedding.weight = head.weight  # the head's copy is the more exact one, and serves both
        config.tie_word_embeddings = True
    config._name_or_path = ""
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it says GGUF, which the folder no longer is
    return dense


def _relative_difference(first: torch.Tensor, second: torch.Tensor) -> float:
    if first.shape != second.shape:
        return float("inf")
    one, two = first[:4096].float(), second[:4096].float()
    return ((one - two).norm() / two.norm()).item()


def _convert_tokenizer(path: Path, folder: Path) -> str:
    """Writes the GGUF file's tokenizer without its padding entries; returns its fingerprint."""
    AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name).save_pretrained(folder)
    stored = folder / "tokenizer.json"
    data = json.loads(stored.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    data["model"]["vocab"] = {token: index for token, index in vocabulary.items() if not PADDING.fullmatch(token)}
    stored.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return tokenizer_fingerprint(AutoTokenizer.from_pretrained(folder, local_files_only=True))
