"""Commands that measure: answers of every method, their seconds, and the best settings of the rival."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from engine.settings import add_model_options
from trainer import TrainerError
from trainer.commands.options import RESULTS, Add, Command, Options, add_questions, load_pair, questions_of

if TYPE_CHECKING:
    pass

ASSISTED = "assisted"  # a method, and the stage that --assisted adds
PROMPTS = (Path("assets/prompts.json"), Path("assets/free_prompts.json"))


def _add_evaluate(add: Add) -> None:
    add_questions(add, 300, "dev")
    add("--task", "name of the questions, in results", "arithmetic")
    about = "slm, llm, oracle, random, confidence, entropy, margin, assisted, name=folder of a router, assisted-tuned="
    about += "folder of `speculate`; with @acceptance[/max_draft] behind it elsewhere on the plane, and its own "
    about += "thresholds behind a colon: confidence@0.3/8:0.5,0.7"
    add("--methods", about, ["slm", "llm", "oracle", "random", "confidence"], nargs="+", metavar="METHOD")
    add(
        "--labels",
        "folder of labels, whose held-out scores say where thresholds have to lie; without it and --shares, a folder "
        "goes on with the thresholds that it was begun with",
        type=Path,
    )
    add("--shares", "LLM shares to find thresholds for (default: nine)", nargs="+", type=float, metavar="SHARE")
    about = "of all methods that score and have none behind their name, instead of those for shares"
    add("--thresholds", about, nargs="+", type=float, metavar="T")
    add("--max-new-tokens", "of an answer", 256)
    add("--assisted", "speculative decoding as well", False)
    about = "name of the shards: under another name more methods join those in the folder, on the same questions"
    add("--stage", about, "evaluation")
    add("--main", "that the others are compared with (default: the last of CITER's rounds)", metavar="METHOD")
    add("--results", "gets the summary", RESULTS)


def _evaluate(options: Options) -> None:
    """Answer questions with every method at every threshold, and summarise."""
    from trainer.evaluation.evaluate import check_main, check_stage, chosen_thresholds, evaluate
    from trainer.evaluation.method_names import check_names, title_of
    from trainer.evaluation.methods import SHARES, build_methods
    from trainer.evaluation.record import Unfinished, read_evaluation
    from trainer.evaluation.summary import missing_ends, summarise, write_summary
    from trainer.fit.labelled_tokens import held_out_tokens
    from trainer.questions.apart import check_apart

    check_names(options.task, options.methods, options.stage)
    if options.assisted and ASSISTED in (options.stage, *options.methods):
        raise TrainerError(f"--assisted adds {ASSISTED} in a stage of that name: leave out one of the two")
    if options.main:
        check_main(options.main, [*options.methods, *[ASSISTED] * options.assisted], options.out)
    questions = questions_of(options)
    tokens = held_out_tokens(options.labels) if options.labels else None
    if tokens is not None:
        texts = tokens.about.get("texts", {})
        trained = {name: texts.get(name) for name in tokens.about["questions"]}
        way_out = f"routers learned from {options.labels}; give others (--split dev, --offset, or another file)"
        check_apart(trained, questions, way_out)
    pair = load_pair(options)
    begun = {} if options.labels or options.shares else chosen_thresholds(options.out, options.stage)
    if options.thresholds:
        begun = {title_of(method): options.thresholds for method in options.methods}
    stages = {options.stage: build_methods(options.methods, pair, tokens, options.shares or SHARES, begun)}
    if options.assisted:
        stages[ASSISTED] = build_methods([ASSISTED], pair, None)
    for stage, methods in stages.items():  # all of them before the hours of the first
        check_stage(pair, questions, methods, options.out, options.task, options.max_new_tokens, stage)
    answering = partial(evaluate, pair, questions, folder=options.out, task=options.task)
    done = [answering(m, max_new_tokens=options.max_new_tokens, stage=stage) for stage, m in stages.items()]
    if not all(done):
        print("other processes are still writing their shards; when they are done, the same command writes the summary")
        return
    try:
        evaluation = read_evaluation(options.out)
    except Unfinished as error:
        print(f"{options.out} has these answers now, but a summary waits for another stage: {error}")
        return
    if missing := missing_ends(evaluation.points):
        print(f"{options.out} has these answers now; for a summary evaluate {' and '.join(missing)} there, too")
        return
    print(write_summary(summarise(evaluation, main=options.main), options.results))


def _add_seconds(add: Add) -> None:
    add_questions(add, 20, "dev")
    add("--task", "name of the questions, in results", "arithmetic")
    about = "METHOD:THRESHOLD[,THRESHOLD...], methods as for `evaluate`; the LLM alone is always among them"
    add("--points", about, ["slm", "confidence:0.6"], nargs="+", metavar="POINT")
    add("--max-new-tokens", "of an answer", 256)
    add("--results", "gets what was measured", RESULTS)


def _seconds(options: Options) -> None:
    """Measure seconds of answers, one text at a time, methods taking turns; on an idle machine."""
    from trainer.evaluation.method_names import check_names
    from trainer.evaluation.seconds import measure, points_of, write_seconds
    from trainer.report.seconds_report import seconds_table

    check_names(options.task, options.points)
    questions = questions_of(options)
    pair = load_pair(options)
    methods = points_of(options.points, pair)
    summary = measure(pair, questions, methods, options.out, options.task, options.max_new_tokens)
    if summary is not None:
        print(f"{seconds_table(summary)}\n\nwrote {write_seconds(summary, options.results)}")


def _add_transfer(add: Add) -> None:
    add_model_options(add)
    prompts = [str(path) for path in PROMPTS]
    add("--prompts", "JSON files with a list of texts each", prompts, nargs="+", metavar="FILE")
    about = "methods as for `evaluate`; both models alone are always among them"
    add("--methods", about, ["confidence"], nargs="+", metavar="METHOD")
    about = "of all methods that score and have none behind their name"
    add("--thresholds", about, [0.7, 0.9, 0.98], nargs="+", type=float, metavar="T")
    add("--max-new-tokens", "of a text", 256)
    about = "name of the shards: under another name more methods or thresholds join those in the folder"
    add("--stage", about, "transfer")
    add("--out", "folder; run the same command again to go on where it stopped", type=Path, required=True)
    add("--results", "gets what was measured", RESULTS)


def _transfer(options: Options) -> None:
    """Measure on prompts of another kind how much of the LLM's own text each method gives."""
    from trainer.evaluation.method_names import check_names, title_of
    from trainer.evaluation.methods import build_methods
    from trainer.evaluation.transfer import measure, read_prompts, write_transfer
    from trainer.report.transfer_report import budgets_table

    methods = list(dict.fromkeys(["slm", "llm", *options.methods]))
    check_names("free-text", methods, options.stage)
    prompts = read_prompts([Path(path) for path in options.prompts])
    pair = load_pair(options)
    chosen = {title_of(method): options.thresholds for method in methods}
    built = build_methods(methods, pair, None, chosen=chosen)
    summary = measure(pair, prompts, built, options.out, options.max_new_tokens, stage=options.stage)
    if summary is not None:
        print(f"{budgets_table(summary)}\n\nwrote {write_transfer(summary, options.results)}")


def _add_speculate(add: Add) -> None:
    add_questions(add, 60)
    add("--max-new-tokens", "of an answer", 256)
    add("--drafts", "tokens drafted before the LLM reads them (default: eight)", nargs="+", type=int, metavar="N")
    add("--confidences", "below which the SLM drafts no further (default: five)", nargs="+", type=float, metavar="P")


def _speculate(options: Options) -> None:
    """Choose draft length and confidence of speculative decoding, the rival, on training questions."""
    from trainer.fit.tune_speculative import CONFIDENCES, DRAFTS, tune

    drafts, confidences = options.drafts or DRAFTS, options.confidences or CONFIDENCES
    tune(
        load_pair(options),
        questions_of(options),
        options.out,
        options.max_new_tokens,
        drafts=drafts,
        confidences=confidences,
    )


COMMANDS = {
    "evaluate": Command(_add_evaluate, _evaluate),
    "seconds": Command(_add_seconds, _seconds),
    "transfer": Command(_add_transfer, _transfer),
    "speculate": Command(_add_speculate, _speculate),
}
