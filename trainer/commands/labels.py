"""Commands that make what is learned from: answers, an adapter, labels and rollouts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from trainer import TrainerError
from trainer.commands.on_pair import OnData, OnPair, OnQuestions
from trainer.options import Count, Paths, Words, option
from trainer.settings import AlignSettings, RolloutSettings


class Answer(OnQuestions):
    """Let one model answer questions alone."""

    role: Literal["slm", "llm"] = option("llm", "which model")
    max_new_tokens: Count = option(256, "of an answer", "N")

    def run(self) -> None:
        from engine import Role
        from trainer.labels.answers import answer

        answer(self.pair(), Role(self.role), self.asked(), self.out, self.max_new_tokens)


class Align(AlignSettings, OnPair):
    """Let the SLM learn the LLM's own texts: an adapter, which is merged into its weights."""

    data: Words = option((), "files of questions that the LLM has answered", "FILE")
    answers: Paths = option((), "folders of `answer`, one for each of --data, in its order", "FOLDER")
    prompts: Path | None = option(
        None, "general prompts, a JSON object of lists (default: assets/align_prompts.json)", "FILE"
    )
    out: Path = option(..., "folder; the same command goes on where it stopped")

    def run(self) -> None:
        from engine import Role
        from trainer.align.stage import align
        from trainer.align.texts import PROMPTS, AnsweredTask, read_general_prompts
        from trainer.labels.answers import load_answers
        from trainer.questions import named_questions, task_named_by

        if len(self.data) != len(self.answers):
            raise TrainerError(f"{len(self.data)} --data, {len(self.answers)} --answers: give one folder for each")
        tasks = []
        for data, folder in zip(self.data, self.answers, strict=True):
            questions = named_questions([data], load_answers(folder, Role.LLM).keys())
            tasks.append(AnsweredTask(task_named_by(data), questions, folder))
        prompts = read_general_prompts(self.prompts or PROMPTS)
        print(align(self.settings(), tasks, prompts, self.out, self.part(AlignSettings)))


class Label(OnQuestions):
    """Say for each token of reference answers, the LLM's own or the data's, which model is preferred."""

    answers: Path | None = option(
        None,
        "folder of `answer`: the LLM's own answers, all of them labelled (default: the data's references)",
        "FOLDER",
    )
    with_llm: bool = option(False, "with --answers: log-probabilities under the LLM, too, for `fit --method co-llm`")
    keep_states: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = option(
        1.0, "of the tokens that both models agree on, the share whose hidden states are stored", "X"
    )

    def run(self) -> None:
        from engine import Role
        from trainer.labels.answers import load_answers
        from trainer.labels.labels import label

        pair = self.pair()
        answers = load_answers(self.answers, Role.LLM, pair) if self.answers else None
        questions = self.asked() if answers is None else self.named(answers.keys())
        label(pair, questions, self.out, answers, run_llm=self.with_llm, keep_states=self.keep_states)


class Rollout(RolloutSettings, OnData):
    """Finish answers from tokens that labels leave undecided, and grade them."""

    labels: Path = option(..., "folder that `label` wrote for the same questions")
    router: Path | None = option(None, "finishes the texts, at its own threshold; without it the SLM does (round 1)")

    def run(self) -> None:
        from engine.router import Router
        from trainer.labels.labels import labels_about
        from trainer.labels.rollouts import roll_out

        router = Router.load(self.router) if self.router else None
        questions = self.named(labels_about(self.labels)["questions"])
        roll_out(self.pair(), questions, self.labels, self.out, self.part(RolloutSettings), router)
