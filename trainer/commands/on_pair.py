"""What commands that run the models have in common: which pair, and which questions.

Heavy modules are imported inside the functions that run, so that `--help` answers at once.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from engine.settings import Settings, load_settings
from trainer.options import Count, Number, Options, Words, option

if TYPE_CHECKING:
    from engine import Pair
    from trainer.questions import Question

RESULTS = Path("assets/results")
SERVED_ROWS = 128  # questions on their way to an LLM's server at once
DATA = (
    "files of JSON lines with id, question, [choices], reference, answer, or of a JSON list of general prompts; "
    "several are mixed evenly"
)
_MODEL = "a repo of the Hub, a folder of safetensors, or a GGUF file, instead of the preset's"


class Command(Options):
    def run(self) -> None:
        raise NotImplementedError


class OnPair(Command):
    """A command that loads a pair. Options alone name the models, so that a stored command says which they were."""

    preset: str | None = option(None, "pair of models: auto, gpu, cpu or tiny", "NAME")
    slm: str | None = option(None, f"small model: {_MODEL}", "MODEL")
    llm: str | None = option(None, f"large model: {_MODEL}; of the same tokenizer", "MODEL")

    def settings(self) -> Settings:
        """The environment's settings with the models of the options; without such options, the tiny pair."""
        preset = self.preset or ("auto" if self.slm and self.llm else "tiny")
        settings = load_settings(preset=preset, slm=self.slm, llm=self.llm)
        if not settings.llm_url:
            return settings
        # Nobody watches, so a server may be away for a day, may answer slowly, and gets many questions at once.
        waiting = {"llm_patience": 86_400.0, "llm_timeout": max(600.0, settings.llm_timeout)}
        return settings.model_copy(update={**waiting, "rows": SERVED_ROWS})

    def pair(self) -> Pair:
        """The models; raises as `engine.load`."""
        from engine import load

        return load(None, self.settings())


class OnData(OnPair):
    """A command that works through questions, into a folder."""

    data: Words = option(("assets/arithmetic/train.jsonl",), DATA, "FILE")
    out: Path = option(..., "folder; the same command goes on where it stopped, also beside another process")

    def named(self, ids: Collection[str]) -> list[Question]:
        from trainer.questions import named_questions

        return named_questions(self.data, ids)


class OnQuestions(OnData):
    """A command for which questions are counted off."""

    questions: Count = option(600, "how many", "N")
    offset: Number = option(0, "skip the first N", "N")

    def asked(self) -> list[Question]:
        from trainer.questions import load_questions

        return load_questions(self.data, self.questions, offset=self.offset)
