"""Commands that make what is learned from: answers, labels and rollouts."""

from __future__ import annotations

from pathlib import Path

from engine.settings import add_model_options
from trainer import TrainerError
from trainer.commands.options import (
    Add,
    Command,
    Options,
    add_questions,
    labelled_questions,
    load_pair,
    questions_of,
    settings_of,
)
from trainer.settings import AlignSettings, RolloutSettings, add_settings, chosen


def _add_answer(add: Add) -> None:
    add_questions(add)
    add("--role", "which model", "llm", choices=["slm", "llm"])
    add("--max-new-tokens", "of an answer", 256)


def _answer(options: Options) -> None:
    """Let one model answer questions alone."""
    from engine import Role
    from trainer.labels.answers import answer

    answer(load_pair(options), Role(options.role), questions_of(options), options.out, options.max_new_tokens)


def _add_align(add: Add) -> None:
    add_model_options(add)
    add("--data", "files of questions that the LLM has answered", [], nargs="*", metavar="FILE")
    about = "folders of `answer --role llm`, one for each of --data, in its order"
    add("--answers", about, [], nargs="*", type=Path, metavar="FOLDER")
    add("--prompts", "general prompts, a JSON object of lists (default: those of assets/align_prompts.json)", type=Path)
    add("--out", "folder; run the same command again to go on where it stopped", type=Path, required=True)
    add_settings(add, AlignSettings)


def _align(options: Options) -> None:
    """Let the SLM learn the LLM's own texts: an adapter, which is merged into its weights."""
    from trainer.align.stage import align
    from trainer.align.texts import PROMPTS, AnsweredTask, read_general_prompts
    from trainer.questions.sources import read_jsonl
    from trainer.shards import require_one_process

    require_one_process("align")
    if len(options.data) != len(options.answers):
        raise TrainerError(f"{len(options.data)} --data, {len(options.answers)} --answers: give one folder for each")
    files = [Path(name) for name in options.data]
    names = [path.parent.name if path.stem in ("train", "dev") else path.stem for path in files]
    tasks = [
        AnsweredTask(name, read_jsonl(path), folder)
        for name, path, folder in zip(names, files, options.answers, strict=True)
    ]
    how = AlignSettings(**chosen(options, AlignSettings))
    prompts = read_general_prompts(options.prompts or PROMPTS)
    print(align(settings_of(options), tasks, prompts, options.out, how))


def _add_label(add: Add) -> None:
    add_questions(add)
    about = "teacher-force on the data's worked answers, or on the LLM's own"
    add("--reference", about, "data", choices=["data", "llm"])
    add("--answers", "folder of `answer --role llm`, for --reference llm", type=Path)
    add("--skip-llm", "with --reference llm: do without log-probabilities under the LLM", False)


def _label(options: Options) -> None:
    """Say for each token of reference answers which model is preferred, with both models."""
    from engine import Role
    from trainer.labels.answers import load_answers
    from trainer.labels.labels import label

    if (options.reference == "llm") != (options.answers is not None):
        raise TrainerError("--reference llm and --answers belong together: make the answers with `answer --role llm`")
    if options.skip_llm and options.reference != "llm":
        raise TrainerError("--skip-llm is for --reference llm: of the data's references it is not known what it writes")
    questions = questions_of(options, need_reference=options.answers is None)
    pair = load_pair(options)
    answers = load_answers(options.answers, Role.LLM, pair) if options.answers else None
    label(pair, questions, options.out, answers, run_llm=not options.skip_llm)


def _add_rollout(add: Add) -> None:
    add_questions(add)
    add_settings(add, RolloutSettings)
    add("--labels", "folder that `label` wrote for the same questions", type=Path, required=True)
    add("--router", "finishes the texts; without it the SLM does, alone (round 1)", type=Path)
    add("--threshold", "of that router (default: its own)", type=float)


def _rollout(options: Options) -> None:
    """Finish answers from tokens that labels leave undecided, and grade them."""
    from engine.router import Router
    from trainer.labels.rollouts import roll_out

    if options.threshold is not None and not options.router:
        raise TrainerError("--threshold is the router's: name one with --router, or leave it out")
    router = Router.load(options.router) if options.router else None
    threshold = options.threshold if options.threshold is not None else router.card.threshold if router else 0.0
    settings = RolloutSettings(**chosen(options, RolloutSettings), threshold=threshold)
    questions = labelled_questions(options)
    roll_out(load_pair(options), questions, options.labels, options.out, settings, router)


COMMANDS = {
    "answer": Command(_add_answer, _answer),
    "align": Command(_add_align, _align),
    "label": Command(_add_label, _label),
    "rollout": Command(_add_rollout, _rollout),
}
