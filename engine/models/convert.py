"""A model's files turned, once, into a folder in the cache: the model in few bits, its tokenizer and a manifest.

The folder is written under a temporary name and renamed when complete, so that a killed conversion leaves nothing under
the final one. Damage is found by hash, said in words, and mended by converting again.
"""

from __future__ import annotations

import json
import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from engine.errors import shown
from engine.events.progress import ProgressCallback, say
from engine.model.config import CONFIG, check_widths
from engine.models import store
from engine.models.cache import fault_of, locked, make_folder, writing
from engine.models.files import read_json, remove, sha256_of, write_json
from engine.models.model_files import ModelFiles
from engine.models.store import WEIGHTS
from engine.settings import Settings
from engine.tokenizer import PADDING, tokenizer_fingerprint

FORMAT = 1  # raise when the folder's form or the quantisation changes; older folders are then made again
MANIFEST = "manifest.json"
"""Of a converted folder: its stamp, `files` (bytes by name), `sha256` (by name), and the `tokenizer`'s fingerprint."""


def folder_of(model: ModelFiles, settings: Settings, layout: str) -> Path:
    """Where a model's quantised form lies; one folder per layout, so that machines may share a cache."""
    return settings.cache_dir / store.form(layout).lower() / f"{model.key}-{layout}"


def converted(model: ModelFiles, settings: Settings, layout: str, progress: ProgressCallback | None = None) -> Path:
    """The folder of a model in a layout (see `engine.models.store`), made now if it is not there or not whole."""
    folder = folder_of(model, settings, layout)
    if problem(folder, model.identity, settings.cache_dir, progress) is None:
        return folder
    with locked(folder, progress):
        # Another process may have made it while this one waited.
        reason = problem(folder, model.identity, settings.cache_dir, progress)
        if reason is not None:
            if os.path.lexists(folder):
                say(progress, f"{model.title} in the cache is made again: {reason}")
            _convert(model, folder, layout, progress)
    return folder


def problem(folder: Path, identity: str, cache: Path, progress: ProgressCallback | None = None) -> str | None:
    """Why a folder of `folder_of` cannot be used for the model of an `identity`, in words; None if it can.

    `cache` is the cache's folder, which remembers the hashes of large files.
    """
    if not folder.is_dir():
        return "it is not a folder" if os.path.lexists(folder) else "it is not there"
    manifest = read_json(folder / MANIFEST)
    for key, value in _stamp(identity, folder.name.rpartition("-")[2]).items():
        if manifest.get(key) != value:
            return f"its {MANIFEST} says {key} {shown(manifest.get(key), True)}, not {value!r}"
    sizes, hashes = manifest.get("files"), manifest.get("sha256")
    if not isinstance(sizes, dict) or not isinstance(hashes, dict) or not {WEIGHTS, CONFIG} <= sizes.keys():
        return f"its {MANIFEST} does not name its files"
    for name, size in sizes.items():
        if fault := fault_of(folder / name, size, hashes.get(name), cache, progress):
            return f"its {shown(name)} {fault}"
    return None


def _stamp(identity: str, layout: str) -> dict[str, Any]:
    """The entries of a manifest that make a folder outdated when they change."""
    about = {"format": FORMAT, "bitsandbytes": version("bitsandbytes"), "layout": layout}
    return {**about, "source_sha256": identity}


def _convert(model: ModelFiles, folder: Path, layout: str, progress: ProgressCallback | None) -> None:
    doing = f"converting {model.title} to {store.form(layout)}, once"
    temporary = folder.with_name(folder.name + ".tmp")
    remove(temporary)  # a killed conversion's; the lock is ours
    try:
        say(progress, f"{doing}: reading the tokenizer")
        skeleton, read = model.open()
        check_widths(model.title, skeleton.config, layout)
        with writing(folder.parent, store.stored_bytes(model.weights, layout)):
            make_folder(temporary)
            fingerprint = _convert_tokenizer(model, temporary)
            say(progress, f"{doing}: quantising")
            skeleton.config.save_pretrained(temporary)
            store.save(store.quantise(skeleton, layout, read), temporary / WEIGHTS)
            sizes = {path.name: path.stat().st_size for path in sorted(temporary.iterdir())}
            hashes = {name: sha256_of(temporary / name) for name in sizes}
            made = {"tokenizer": fingerprint, "files": sizes, "sha256": hashes}
            write_json(temporary / MANIFEST, _stamp(model.identity, layout) | made)
            remove(folder)
            temporary.replace(folder)
    finally:
        remove(temporary)
    say(progress, f"{model.title} is converted")


def _convert_tokenizer(model: ModelFiles, folder: Path) -> str:
    """Writes the tokenizer without the padding entries of GGUF files; returns its fingerprint."""
    from transformers import AutoTokenizer

    model.tokenizer.save_pretrained(folder)
    stored = folder / "tokenizer.json"
    data = json.loads(stored.read_text(encoding="utf-8"))
    vocabulary = data["model"]["vocab"]
    if isinstance(vocabulary, dict):
        data["model"]["vocab"] = {token: index for token, index in vocabulary.items() if not PADDING.fullmatch(token)}
        stored.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")
    return tokenizer_fingerprint(AutoTokenizer.from_pretrained(folder, local_files_only=True))
