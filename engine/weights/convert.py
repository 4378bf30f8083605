"""A model's files turned, once, into a folder in the cache: the model in NF4 or int8, its tokenizer and a manifest.

The folder is written under a temporary name and renamed when complete, so that a killed conversion leaves nothing under
the final one.
"""

from __future__ import annotations

import gc
import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from engine.model.stored import StoredModel
from engine.pairs.config import check_widths
from engine.pairs.origin import Origin
from engine.settings import Settings
from engine.tokenizer import PADDING, tokenizer_fingerprint
from engine.weights import manifest, store
from engine.weights.cache_folder import locked, make_folder, require_space, writing
from engine.weights.files import read_json, remove
from engine.weights.manifest import Manifest
from engine.weights.progress import ProgressCallback, say
from engine.weights.store import WEIGHTS

FORMAT = 1  # raise when the folder's form or the quantisation changes; older folders are then made again
CONFIG = "config.json"


def converted(origin: Origin, settings: Settings, layout: str, progress: ProgressCallback | None = None) -> Path:
    """The folder of a model's form in a layout (see `store.cpu_layout`), made now if it is not there or not whole."""
    folder = folder_of(origin.key, settings, layout)
    if problem(folder, origin.identity, progress) is None:
        return folder
    with locked(folder, progress):
        reason = problem(folder, origin.identity, progress)  # another process may have made it while this one waited
        if reason is not None:
            if os.path.lexists(folder):
                say(progress, f"{origin.title} in the cache is made again: {reason}")
            _convert(origin, folder, progress)
    return folder


def folder_of(key: str, settings: Settings, layout: str) -> Path:
    """Where a model's quantised form lies; one folder per layout, so that machines may share a cache."""
    return settings.cache_dir / store.form(layout).lower() / f"{key}-{layout}"


def problem(
    folder: Path, identity: str | None, progress: ProgressCallback | None = None, again: bool = False
) -> str | None:
    """Why a folder cannot be used as it is, in words; None if it can.

    `identity` is the origin's, None for any; `again` hashes large files once more.
    """
    return manifest.problem(folder, _stamp(identity, folder), {WEIGHTS, CONFIG}, progress, again)


def fingerprint_of(folder: Path) -> str:
    """The tokenizer's fingerprint, as the conversion wrote it down."""
    return Manifest.load(folder).tokenizer


def load_folder(folder: Path, device: torch.device | str = "cpu") -> StoredModel:
    """Loads a converted model; raises whatever the libraries do for damage that `problem` does not see."""
    return store.load(folder / WEIGHTS, read_json(folder / CONFIG), _layout(folder), device)


def _layout(folder: Path) -> str:
    """The layout that `folder_of` named a folder by."""
    return folder.name.rpartition("-")[2]


def _stamp(identity: str | None, folder: Path) -> dict[str, Any]:
    """Everything that makes a folder outdated when it changes."""
    stamp = {"format": FORMAT, "bitsandbytes": version("bitsandbytes"), "layout": _layout(folder)}
    return stamp if identity is None else {**stamp, "source_sha256": identity}


def _convert(origin: Origin, folder: Path, progress: ProgressCallback | None) -> None:
    from engine.pairs.gguf_dense import quick_and_quiet_reading

    layout = _layout(folder)
    form, needed = store.form(layout), origin.counts.stored(layout)
    temporary = folder.with_name(folder.name + ".tmp")
    remove(temporary)  # of a killed conversion; the lock is ours
    require_space(folder.parent, needed)
    try:
        with writing(folder.parent, needed), quick_and_quiet_reading():
            make_folder(temporary)
            say(progress, f"converting {origin.title} to {form}, once: reading the tokenizer")
            fingerprint = _convert_tokenizer(origin, temporary)
            say(progress, f"converting {origin.title} to {form}, once: reading the weights")
            with origin.open() as (model, read):
                check_widths(origin.title, model.config, layout)
                say(progress, f"converting {origin.title} to {form}, once: quantising")
                model.config.save_pretrained(temporary)
                store.save(store.quantise(model, layout, read or _reads(model)), temporary / WEIGHTS)
            Manifest.of(temporary, _stamp(origin.identity, folder), fingerprint).save(temporary)
            remove(folder)
            temporary.replace(folder)
    finally:
        remove(temporary)
        gc.collect()  # the dense model's gigabytes, before the next one is loaded
    say(progress, f"{origin.title} is converted")


def _reads(model: Any) -> store.Read:
    tensors = model.state_dict()
    return lambda name: tensors[name]


def _convert_tokenizer(origin: Origin, folder: Path) -> str:
    """Writes the tokenizer without the padding entries of GGUF files; returns its fingerprint."""
    origin.tokenizer().save_pretrained(folder)
    stored = folder / "tokenizer.json"
    data = json.loads(stored.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    if isinstance(vocabulary, dict):
        data["model"]["vocab"] = {token: index for token, index in vocabulary.items() if not PADDING.fullmatch(token)}
        stored.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    from transformers import AutoTokenizer

    return tokenizer_fingerprint(AutoTokenizer.from_pretrained(folder, local_files_only=True))
