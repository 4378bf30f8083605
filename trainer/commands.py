"""The options of each of the trainer's commands, and the call they become.

Options of rollouts, fitting and recipes are made from `trainer.settings`. Heavy modules are imported inside the
functions that run, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.settings import Settings, add_model_options, load_settings
from trainer import TrainerError
from trainer.settings import (
    RECIPES,
    FitSettings,
    Recipe,
    RolloutSettings,
    add_settings,
    chosen,
    counts_for,
    own_recipe,
)

if TYPE_CHECKING:
    from engine import Pair
    from trainer.questions.question import Question

Add = Callable[..., None]
"""`trainer.__main__.add_option` with the parser of the command."""

Options = argparse.Namespace

RESULTS = Path("assets/results")


class Command(NamedTuple):
    """What adds a command's options, and what runs it."""

    add_options: Callable[[Add], None]
    run: Callable[[Options], None]

    @property
    def summary(self) -> str:
        """One line of help: the docstring of the function that runs."""
        return str(self.run.__doc__)


def _fitting(options: Options) -> FitSettings:
    return FitSettings(**chosen(options, FitSettings))


def _add_questions(add: Add, questions: int = 600, split: str = "train") -> None:
    """Options of every command that runs the models on questions."""
    add_model_options(add)
    add(
        "--data",
        "files of JSON lines with id, question, [choices], reference, answer; or csqa, arc-challenge, mmlu-psychology, "
        "gsm8k, math from the Hub; or arithmetic, the tiny pair's own language. Several are mixed evenly",
        ["arithmetic"],
        nargs="+",
        metavar="SOURCE",
    )
    add("--split", "of a set that has both", split, choices=["train", "dev"])
    add("--questions", "how many", questions, metavar="N")
    add("--offset", "skip the first N", 0, metavar="N")
    add("--out", "folder; run the same command again to go on where it stopped", type=Path, required=True)


def _settings(options: Options) -> Settings:
    """Those of the environment with the models of the options: the tiny pair, unless one is named."""
    preset = options.preset or ("auto" if options.slm and options.llm else "tiny")
    return load_settings(preset=preset, slm=options.slm, llm=options.llm)


def _load(options: Options) -> Pair:
    from engine import load

    return load(None, _settings(options))


def _questions(options: Options, need_reference: bool = False, more: int = 0) -> list[Question]:
    from trainer.questions.sources import load_questions

    wanted = options.questions + more
    return load_questions(options.data, wanted, options.split, need_reference=need_reference, offset=options.offset)


def _labelled_questions(options: Options, more: int = 0) -> list[Question]:
    """The questions of `--labels`: where labels are on the data's references, none without one is among theirs."""
    from trainer.labels.labels import shards

    return _questions(options, shards(options.labels).load()[1]["reference"] == "data", more)


def _add_run(add: Add) -> None:
    add_model_options(add)
    add("--task", "csqa or gsm8k with the cpu pair; arithmetic with the tiny one (default: the preset's first)")
    about = (
        "questions for any pair: files of which the first are trained on and the last evaluated on, or names as for "
    )
    add("--data", about + "`answer`", nargs="+", metavar="SOURCE")
    add_settings(add, Recipe, keep_defaults=False)
    add("--out", "folder of the stages (default: runs/<pair>-<task>)", type=Path)
    about = f"gets the summary (default: {RESULTS} for a preset's own task, else a folder in --out)"
    add("--results", about, type=Path)
    add("--routers", "gets the best router", Path("assets/routers"))
    add_settings(add, FitSettings)


def _run(options: Options) -> None:
    """Do all of it: questions, labels, rollouts, routers, evaluation, summary."""
    from engine.pairs.presets import choose_preset
    from trainer.pipeline import run
    from trainer.shards import require_one_process

    require_one_process("run")
    pair = choose_preset(_settings(options)).name
    recipe, own = _recipe(options, pair)
    folder = options.out or Path("runs") / f"{pair}-{recipe.task}"
    results = options.results or (folder / "results" if own else RESULTS)
    print(run(recipe, _load(options), folder, results, options.routers, _fitting(options)))


def _recipe(options: Options, pair: str) -> tuple[Recipe, bool]:
    """What to do for a pair, and whether it is the user's own: a recipe of no preset, for questions that are given."""
    changes = {name: value for name, value in chosen(options, Recipe).items() if value is not None}
    tasks = [task for preset, task in RECIPES if preset == pair]
    if tasks and not options.data:
        task = options.task or tasks[0]
        if task not in tasks:
            known = ", ".join(tasks)
            raise TrainerError(f"--task {task}: the {pair} preset has {known}; for other questions give --data")
        return replace(RECIPES[pair, task], **changes), False
    if not (options.data or (options.train and options.dev)):
        raise TrainerError(f"{pair} has no recipe of its own: give questions with --data, or with --train and --dev")
    from trainer.questions.sources import count_in_files

    task = options.task or Path((options.data or options.train)[0]).stem
    changes = {"train": options.data, "dev": options.data, **changes}
    counts = counts_for(count_in_files(options.data)) if options.data else {}
    return own_recipe(pair, task, **{**counts, **changes}), True


def _add_answer(add: Add) -> None:
    _add_questions(add)
    add("--role", "which model", "llm", choices=["slm", "llm"])
    add("--max-new-tokens", "of an answer", 256)


def _answer(options: Options) -> None:
    """Let one model answer questions alone."""
    from engine import Role
    from trainer.labels.answers import answer

    answer(_load(options), Role(options.role), _questions(options), options.out, options.max_new_tokens)


def _add_label(add: Add) -> None:
    _add_questions(add)
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
    answers = load_answers(options.answers, Role.LLM) if options.answers else None
    questions = _questions(options, need_reference=answers is None)
    label(_load(options), questions, options.out, answers, run_llm=not options.skip_llm)


def _add_rollout(add: Add) -> None:
    _add_questions(add)
    add_settings(add, RolloutSettings)
    add("--labels", "folder that `label` wrote for the same questions", type=Path, required=True)
    add("--router", "finishes the texts; without it the SLM does, alone (round 1)", type=Path)
    add("--threshold", "of that router (default: its own)", type=float)


def _rollout(options: Options) -> None:
    """Finish answers from tokens that labels leave undecided, and grade them."""
    from engine.router import Router
    from trainer.labels.rollouts import roll_out

    router = Router.load(options.router) if options.router else None
    threshold = options.threshold if options.threshold is not None else router.card.threshold if router else 0.0
    settings = RolloutSettings(**chosen(options, RolloutSettings), threshold=threshold)
    questions = _labelled_questions(options)
    roll_out(_load(options), questions, options.labels, options.out, settings, router)


def _add_fit(add: Add) -> None:
    add("--labels", "folder that `label` wrote; several are joined", type=Path, nargs="+", required=True)
    about = "folders that `rollout` wrote for these labels; where there are none the shortcut's preferences count"
    add("--rollouts", about, [], type=Path, nargs="+")
    add("--out", "the router's folder, e.g. assets/routers/mine", type=Path, required=True)
    add("--co-llm", "the Co-LLM-style baseline: from likelihoods instead of preferences", False)
    about = "what a score of 1 means: the SLM is preferred, or the LLM will keep its token (for acceptance above 0)"
    add("--target", about, "preferred", choices=["preferred", "kept"])
    about = "the query-router baseline, in settings of its own: what `answer --role slm` wrote to questions of --data"
    add("--query", about, type=Path, metavar="ANSWERS")
    add("--data", "with --query: the questions, as for `answer` (split train)", nargs="+", metavar="SOURCE")
    add("--description", "one line for people, shown on the page", "")
    add_settings(add, FitSettings)


def _fit(options: Options) -> None:
    """Train a router on labels and rollouts, and measure it on questions it never saw."""
    from engine.provenance import command
    from trainer.fit.baselines import fit_co_llm
    from trainer.fit.fit_router import fit

    if (options.query is None) != (options.data is None) or (options.query and options.co_llm):
        raise TrainerError(
            "--query and --data belong together, without --co-llm: the SLM's answers and their questions"
        )
    if options.target == "kept" and (options.query or options.co_llm):
        raise TrainerError("--target kept is a router of its own: leave out --query and --co-llm")
    if options.query:
        _fit_query(options)
        return
    settings = replace(_fitting(options), target=options.target)
    about: dict[str, Any] = {"description": options.description, "command": command("trainer")}
    if not options.co_llm:
        fit(options.labels, options.out, settings, rollouts=options.rollouts, **about)
    elif len(options.labels) > 1:
        raise TrainerError("--co-llm learns from one folder of labels")
    else:
        fit_co_llm(options.labels[0], options.out, replace(settings, logit_features=False), **about)


def _fit_query(options: Options) -> None:
    from engine import Role
    from engine.provenance import command
    from trainer.fit.baselines import QUERY, fit_query
    from trainer.labels.answers import are_right, load_answers
    from trainer.labels.labels import shards
    from trainer.questions.sources import load_questions

    labels, *others = options.labels
    if others or options.rollouts:
        raise TrainerError("--query learns from one folder of labels, and from no rollouts")
    labelled = shards(labels).load()[1]["questions"]
    questions = load_questions(options.data, len(labelled), need_reference=False)
    slm_right = are_right(load_answers(options.query, Role.SLM), questions)
    settings = replace(QUERY, seed=options.seed)
    fit_query(labels, slm_right, options.out, settings, options.description, command=command("trainer"))


def _add_judge(add: Add) -> None:
    _add_questions(add)
    add("--answers", "folder of `answer --role llm` for the same questions", type=Path, required=True)
    about = "folders that `rollout --both` wrote, from labels on those answers"
    add("--rollouts", about, type=Path, nargs="+", required=True)
    about = "folder for the LLM's states at the tokens it would not have written; goes on where it stopped"
    add("--refused", about, type=Path, required=True)


def _judge(options: Options) -> None:
    """Learn which of the SLM's tokens do no harm to the answer though the LLM would write others."""
    from engine import Role
    from engine.provenance import command
    from trainer.fit.fit_judge import fit_judge, harmless_tokens
    from trainer.labels.answers import load_answers
    from trainer.labels.refused import gather
    from trainer.labels.rollouts import load_rollouts

    rolled_out = {each.question for folder in options.rollouts for each in load_rollouts(folder)[0]}
    questions = [question for question in _questions(options) if question.id in rolled_out]
    answers = load_answers(options.answers, Role.LLM)
    if gather(_load(options), questions, answers, options.refused):
        fit_judge(harmless_tokens(options.refused, options.rollouts), options.out, command=command("trainer"))


def _add_iterate(add: Add) -> None:
    _add_questions(add)
    add("--labels", "folder that `label` wrote for the same questions", type=Path, required=True)
    add("--rounds", "at most; stops when one brings nothing", 3)
    add("--validation", "further questions to compare rounds on", 100, metavar="N")
    add_settings(add, RolloutSettings)
    add_settings(add, FitSettings)


def _iterate(options: Options) -> None:
    """Roll out and fit in rounds, each with the router of the round before."""
    from trainer.rounds import iterate
    from trainer.shards import require_one_process

    require_one_process("iterate")
    questions = _labelled_questions(options, more=options.validation)
    labelled, validation = questions[: options.questions], questions[options.questions :]
    rollouts = RolloutSettings(**chosen(options, RolloutSettings))
    rollouts = replace(rollouts, both=options.both or options.cost_weight > 0)
    pair, fitting = _load(options), _fitting(options)
    iterate(pair, labelled, validation, options.labels, options.out, options.rounds, rollouts, fitting)


def _add_evaluate(add: Add) -> None:
    _add_questions(add, 300, "dev")
    add("--task", "name of the questions, in results", "arithmetic")
    about = "slm, llm, oracle, random, confidence, entropy, margin, assisted, name=folder of a router, assisted-tuned="
    about += "folder of `speculate`; with @acceptance[/max_draft] behind it elsewhere on the plane: confidence@0.3/8"
    add("--methods", about, ["slm", "llm", "oracle", "random", "confidence"], nargs="+", metavar="METHOD")
    add(
        "--labels",
        "folder of labels, whose held-out scores say where thresholds have to lie; without it and --shares, a folder "
        "goes on with the thresholds that it was begun with",
        type=Path,
    )
    add("--shares", "LLM shares to find thresholds for (default: nine)", nargs="+", type=float, metavar="SHARE")
    add("--thresholds", "of all methods that score, instead of those for shares", nargs="+", type=float, metavar="T")
    add("--judge", "folder of `judge`, for methods with +judge behind their name: confidence+judge@0.3", type=Path)
    add("--max-new-tokens", "of an answer", 256)
    add("--assisted", "speculative decoding as well", False)
    about = "name of the shards: under another name more methods join those in the folder, on the same questions"
    add("--stage", about, "evaluation")
    add("--main", "that the others are compared with (default: the last of CITER's rounds)", metavar="METHOD")
    add("--results", "gets the summary", RESULTS)


def _evaluate(options: Options) -> None:
    """Answer questions with every method at every threshold, and summarise."""
    from engine.batch.judge import Judge
    from trainer.evaluation.evaluate import chosen_thresholds, evaluate
    from trainer.evaluation.method_names import check_names, title_of
    from trainer.evaluation.methods import SHARES, build_methods
    from trainer.evaluation.record import read_evaluation
    from trainer.evaluation.summary import summarise, write_summary
    from trainer.fit.labelled_tokens import held_out_tokens

    check_names(options.task, options.methods)
    questions = _questions(options)
    tokens = held_out_tokens(options.labels) if options.labels else None
    if tokens is not None and (seen := {question.id for question in questions} & set(tokens.about["questions"])):
        raise TrainerError(
            f"{len(seen)} of {len(questions)} questions are in {options.labels}, e.g. {min(seen)}: routers learned "
            "from those; evaluate on others (--split dev, --offset, or another file)"
        )
    pair = _load(options)
    pair.use_judge(Judge.load(options.judge) if options.judge else None)
    begun = {} if options.labels or options.shares else chosen_thresholds(options.out, options.stage)
    if options.thresholds:
        begun = {title_of(method): options.thresholds for method in options.methods}
    stages = {options.stage: build_methods(options.methods, pair, tokens, options.shares or SHARES, begun)}
    if options.assisted:
        stages["assisted"] = build_methods(["assisted"], pair, None)
    answering = partial(evaluate, pair, questions, folder=options.out, task=options.task)
    done = [answering(m, max_new_tokens=options.max_new_tokens, stage=stage) for stage, m in stages.items()]
    if not all(done):
        print("other processes are still writing their shards; when they are done, the same command writes the summary")
        return
    print(write_summary(summarise(read_evaluation(options.out), main=options.main), options.results))


def _add_seconds(add: Add) -> None:
    _add_questions(add, 20, "dev")
    add("--task", "name of the questions, in results", "arithmetic")
    about = "METHOD:THRESHOLD, methods as for `evaluate`; the LLM alone is always among them"
    add("--points", about, ["slm", "confidence:0.6"], nargs="+", metavar="POINT")
    add("--max-new-tokens", "of an answer", 256)
    add("--results", "gets what was measured", RESULTS)


def _seconds(options: Options) -> None:
    """Measure seconds of answers, one text at a time, methods taking turns; on an idle machine."""
    from trainer.evaluation.method_names import check_names
    from trainer.evaluation.seconds import measure, points_of, seconds_table, write_seconds

    check_names(options.task, [point.rpartition(":")[0] or point for point in options.points])
    questions = _questions(options)
    pair = _load(options)
    methods = points_of(options.points, pair)
    summary = measure(pair, questions, methods, options.out, options.task, options.max_new_tokens)
    if summary is not None:
        print(f"{seconds_table(summary)}\n\nwrote {write_seconds(summary, options.results)}")


def _add_speculate(add: Add) -> None:
    _add_questions(add, 60)
    add("--max-new-tokens", "of an answer", 256)
    add("--drafts", "tokens drafted before the LLM reads them (default: seven)", nargs="+", type=int, metavar="N")
    add("--confidences", "below which the SLM drafts no further (default: five)", nargs="+", type=float, metavar="P")


def _speculate(options: Options) -> None:
    """Choose draft length and confidence of speculative decoding, the rival, on training questions."""
    from trainer.evaluation.tune_speculative import CONFIDENCES, DRAFTS, tune

    drafts, confidences = options.drafts or DRAFTS, options.confidences or CONFIDENCES
    tune(
        _load(options),
        _questions(options),
        options.out,
        options.max_new_tokens,
        drafts=drafts,
        confidences=confidences,
    )


def _add_ship(add: Add) -> None:
    add("--router", "the measured router's folder", type=Path, required=True)
    add("--method", "what it is called in the summaries", required=True)
    add("--summaries", "the first one's task says where to start", type=Path, nargs="+", required=True)
    add(
        "--acceptance",
        "of the curves; the first is where to start (default: 0, and all that were measured)",
        nargs="+",
        type=float,
        metavar="ALPHA",
    )
    add("--out", "the new folder, e.g. assets/routers/mine", type=Path, required=True)


def _ship(options: Options) -> None:
    """Give a router the curves that were measured, and its starting threshold."""
    from trainer.evaluation.summary import load_summary
    from trainer.ship import curve_of, curves_of, ship, untrained_curves

    summaries = [load_summary(path) for path in options.summaries]
    if options.acceptance:
        curves = [curve_of(each, options.method, alpha) for alpha in options.acceptance for each in summaries]
    else:
        curves = [curve for each in summaries for curve in curves_of(each, options.method)]
    card = ship(options.router, curves, options.out, untrained_curves(summaries)).card
    print(f"{options.out}: starts at threshold {card.threshold}, acceptance {card.acceptance:g}")


def _add_report(add: Add) -> None:
    add("--results", "the summaries", RESULTS)
    add("--page", "gets all figures", Path("docs/results.md"))
    add("--readme", "gets a short table", Path("README.md"))
    add("--check", "write nothing; fail if either is not what the summaries say", False)


def _report(options: Options) -> None:
    """Rewrite docs/results.md, the README's table of results and the charts from the summaries."""
    from trainer.evaluation.report import check, report

    if not options.check:
        report(options.results, options.page, options.readme)
    elif not check(options.results, options.page, options.readme):
        raise TrainerError(
            f"{options.page} or {options.readme} is not what {options.results} says: run `python -m trainer report`"
        )


def _add_export(add: Add) -> None:
    add("--evaluation", "folder that `evaluate` wrote", type=Path, required=True)
    add("--data", "the questions' files or sets, as `evaluate` had them", required=True, nargs="+", metavar="SOURCE")
    add("--split", "of a set that has both", "dev", choices=["train", "dev"])
    add("--offset", "as `evaluate` had it", 0, metavar="N")
    add("--format", "of which benchmark", choices=["llmrouterbench", "routerarena"], required=True)
    add("--out", "folder for its files", type=Path, required=True)


def _export(options: Options) -> None:
    """Write an evaluation as records of a benchmark of routers: each method, threshold and acceptance is one model."""
    from trainer.evaluation.record import read_evaluation
    from trainer.export import export
    from trainer.questions.sources import load_questions

    evaluation = read_evaluation(options.evaluation)
    wanted = {"split": options.split, "need_reference": False, "offset": options.offset}
    questions = load_questions(options.data, len(evaluation.questions), **wanted)
    files = export(evaluation, questions, options.format, options.split, options.out)
    print(
        f"{len(evaluation.points)} models, {len(evaluation.questions)} questions: {len(files)} files in {options.out}"
    )


def _add_publish(add: Add) -> None:
    add("folder", "the router's folder, as `fit` wrote it", type=Path)
    add("repo", "owner/name of the model repo; made if it is not there")
    add("--send", "do send; without it the command only says what it would send", False)
    add("--private", "make the repo a private one", False)
    add("--revision", "branch to commit to", "main")
    add("--message", "the commit's message (default: the router's name)")


def _publish(options: Options) -> None:
    """Say which files of a router would go to the Hugging Face Hub; with --send, publish them."""
    from trainer.publish import publish

    how = {name: getattr(options, name) for name in ("send", "private", "revision", "message")}
    publish(options.folder, options.repo, **how)


def _add_tiny(add: Add) -> None:
    add("--out", "the pair's folder", Path("assets/tiny"))
    add("--seed", "seed of weights and questions", 0)
    add("--steps", "optimiser steps of the LLM; the SLM takes fewer", 1600)
    add("--threads", "CPU threads", 1)
    add("--evaluate-only", "measure the pair in --out, train nothing", False)


def _tiny(options: Options) -> None:
    """Train the two small models that the tests and a machine without network use."""
    from trainer.tiny.build import run

    run(options.out, options.seed, options.steps, options.threads, options.evaluate_only)


COMMANDS: dict[str, Command] = {
    "run": Command(_add_run, _run),
    "answer": Command(_add_answer, _answer),
    "label": Command(_add_label, _label),
    "rollout": Command(_add_rollout, _rollout),
    "fit": Command(_add_fit, _fit),
    "judge": Command(_add_judge, _judge),
    "iterate": Command(_add_iterate, _iterate),
    "evaluate": Command(_add_evaluate, _evaluate),
    "seconds": Command(_add_seconds, _seconds),
    "speculate": Command(_add_speculate, _speculate),
    "ship": Command(_add_ship, _ship),
    "report": Command(_add_report, _report),
    "export": Command(_add_export, _export),
    "publish": Command(_add_publish, _publish),
    "tiny": Command(_add_tiny, _tiny),
}
