"""What is measured: a pair in the engine, the same two models as transformers runs them, and the prompts.

The models for transformers are loaded a second time, since the engine may change the modules of its pair. They have the
engine's own weights and products, so that only the loops around them differ.
"""

from __future__ import annotations

import json
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedTokenizerBase

from engine.events import Role
from engine.events.progress import ProgressCallback
from engine.models import store
from engine.models.load import folder_of, layout_for, slm_files
from engine.models.model_files import files_of
from engine.models.sources import choose_preset
from engine.pair import load
from engine.provenance import ROOT
from engine.request import Request
from engine.settings import Settings
from engine.tokenizer import render

PROMPTS = ROOT / "assets" / "prompts.json"


class Subject:
    """The pair of the settings; `gguf` has files of the same models for llama.cpp, where there are any."""

    def __init__(self, settings: Settings, progress: ProgressCallback | None = None) -> None:
        """Loads the pair, and measures its passes anew: stored times may be of another day."""
        self._settings, self._preset = settings, choose_preset(settings, progress)
        self.pair = load(None, settings, progress)
        for model in self.pair.models:
            model.calibrate()
        models = {Role.SLM: self._preset.slm, Role.LLM: self._preset.llm}
        paths = {role: model.gguf_path(settings.cache_dir) for role, model in models.items()}
        self.gguf: dict[Role, Path] = {role: path for role, path in paths.items() if path and path.exists()}

    @property
    def device(self) -> torch.device:
        return self.pair.slm.device

    @cached_property
    def plain(self) -> dict[Role, Any]:
        layout = layout_for(self._preset, self._settings)
        if layout == store.FP32:
            return dict(zip(Role, (model.model for model in load(None, self._settings).models), strict=True))
        files = slm_files(self._preset, self._settings), files_of(self._preset.llm, self._settings)
        models: list[Any] = [store.as_transformers(folder_of(each, self._settings, layout), layout) for each in files]
        return {role: model.to(self.device) for role, model in zip(Role, models, strict=True)}


def prompt_of(tokenizer: PreTrainedTokenizerBase, length: int, number: int = 0) -> list[int]:
    """The last `length` token ids of a message of questions, which `number` puts in another order.

    They are real, because a speculative decoder's speed depends on how well the SLM guesses the LLM, and many, so that
    the answer is long.
    """
    questions: list[str] = json.loads(PROMPTS.read_text(encoding="utf-8"))
    first = number % len(questions)
    questions = questions[first:] + questions[:first]
    text, ids = "", []
    while len(ids) < length:
        text += "\n".join(questions) + "\n"
        ids = render(tokenizer, Request(text, raw=not tokenizer.chat_template))
    return ids[-length:]
