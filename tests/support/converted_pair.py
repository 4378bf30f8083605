"""A random pair as GGUF files in a cache folder, converted by whoever loads it."""

from __future__ import annotations

import copy
import hashlib
import shutil
from pathlib import Path

from transformers import Qwen2ForCausalLM

from engine.models import load as weights
from engine.models import store
from engine.models.fetch import PinnedFile
from engine.models.load import load_models
from engine.models.sources import Preset, Source
from engine.settings import load_settings
from tests.support.random_gguf import WORDS, random_qwen, write_gguf

LOADED = """
from pathlib import Path, PosixPath
import engine.pair
from engine import load_settings
from engine.models.fetch import PinnedFile
from engine.models.sources import Preset, Source
from engine.models.load import load_models
cache = Path({files.settings.cache_dir!r})
settings = load_settings(cache_dir=cache)
loaded = load_models({files.preset!r}, settings)
"""
"""A program that loads a pair of `Files` in a process of its own; to be formatted with `files`."""


class Files:
    """A cache folder with the GGUF files of a random pair in it, and the preset that names them."""

    def __init__(self, folder: Path) -> None:
        self.settings = load_settings(cache_dir=folder)
        self.slm_dense, self.llm_dense = random_qwen(1), random_qwen(2, width=192)
        self.preset = Preset("test", self.add("small", self.slm_dense), self.add("large", self.llm_dense))

    def add(self, title: str, model: Qwen2ForCausalLM, words: list[str] = WORDS) -> Source:
        path = self.settings.cache_dir / "gguf" / f"{title}.gguf"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_gguf(path, model, words)
        return Source(title, PinnedFile(path.name, hashlib.sha256(path.read_bytes()).hexdigest()))

    def folder(self, title: str) -> Path:
        return self.settings.cache_dir / store.form(store.cpu_layout()).lower() / f"{title}-{store.cpu_layout()}"

    def load(self, **overrides) -> tuple[weights.LoadedPair, list[str]]:
        said: list[str] = []
        settings = self.settings.model_copy(update=overrides)
        return load_models(self.preset, settings, said.append), said

    def copied_to(self, folder: Path) -> Files:
        """The same with a cache of its own, which may be spoilt."""
        own = copy.copy(self)
        shutil.copytree(self.settings.cache_dir, folder, copy_function=shutil.copy2)
        own.settings = self.settings.model_copy(update={"cache_dir": folder})
        return own
