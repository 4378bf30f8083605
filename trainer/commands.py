"""The options of each of the trainer's commands, and the call they become.

Knows argparse. Heavy modules are imported inside the functions that run, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from trainer import publish
from trainer.errors import TrainerError

if TYPE_CHECKING:
    from trainer.data import Question
    from trainer.fit import FitSettings

Parser = argparse.ArgumentParser
Options = argparse.Namespace


class Command(NamedTuple):
    """One line of help, what adds the options, and what runs the command."""

    summary: str
    add_options: Callable[[Parser], None]
    run: Callable[[Options], None]


def _add_questions(parser: Parser, questions: int, split: str = "train") -> None:
    """Options of every command that runs the models on questions."""
    add = parser.add_argument
    add("--preset", default="tiny", choices=["tiny", "cpu", "gpu"], help="pair of models (default: %(default)s)")
    add(
        "--data",
        nargs="+",
        default=["arithmetic"],
        metavar="SOURCE",
        help="files of JSON lines with id, question, [choices], reference, answer; or csqa, arc-challenge, "
        "mmlu-psychology, gsm8k, math from the Hub; or arithmetic, the tiny pair's own language. Several are mixed "
        "evenly (default: arithmetic)",
    )
    add("--split", default=split, choices=["train", "dev"], help="of a set that has both (default: %(default)s)")
    add("--questions", type=int, default=questions, metavar="N", help="how many (default: %(default)s)")
    add("--offset", type=int, default=0, metavar="N", help="skip the first N (default: %(default)s)")
    add("--out", type=Path, required=True, help="folder; run the same command again to go on where it stopped")


def _questions(options: Options, need_reference: bool = False, more: int = 0) -> list[Question]:
    from trainer.data import load_questions

    wanted = options.questions + more
    return load_questions(options.data, wanted, options.split, need_reference=need_reference, offset=options.offset)


def _on_references(labels: Path) -> bool:
    """Whether labels are on the data's references, so that no question without one is among theirs."""
    from trainer.label import shards

    return shards(labels).load()[1]["reference"] == "data"


def _add_answer(parser: Parser) -> None:
    _add_questions(parser, 600)
    parser.add_argument("--role", default="llm", choices=["slm", "llm"], help="which model (default: %(default)s)")
    parser.add_argument("--max-new-tokens", type=int, default=256, help="of an answer (default: %(default)s)")


def _run_answer(options: Options) -> None:
    from engine import Role, load
    from trainer.answer import answer

    answer(load(options.preset), Role(options.role), _questions(options), options.out, options.max_new_tokens)


def _add_label(parser: Parser) -> None:
    _add_questions(parser, 600)
    add = parser.add_argument
    add(
        "--reference",
        default="data",
        choices=["data", "llm"],
        help="teacher-force on the data's worked answers, or on the LLM's own (default: %(default)s)",
    )
    add("--answers", type=Path, help="folder of `answer --role llm`, for --reference llm")
    add("--skip-llm", action="store_true", help="with --reference llm: do without log-probabilities under the LLM")


def _run_label(options: Options) -> None:
    from engine import Role, load
    from trainer.answer import load_answers
    from trainer.label import label

    if (options.reference == "llm") != (options.answers is not None):
        raise TrainerError("--reference llm and --answers belong together: make the answers with `answer --role llm`")
    answers = load_answers(options.answers, Role.LLM) if options.answers else None
    questions = _questions(options, need_reference=answers is None)
    label(load(options.preset), questions, options.out, answers, run_llm=not options.skip_llm)


def _add_rollouts(parser: Parser) -> None:
    add = parser.add_argument
    add("--labels", type=Path, required=True, help="folder that `label` wrote for the same questions")
    add("--budget", type=int, default=8, help="tokens rolled out per question at most (default: %(default)s)")
    add("--both", action="store_true", help="try the LLM's token as well, which a cost weight above 0 needs")
    add("--max-new-tokens", type=int, default=256, help="of a whole answer (default: %(default)s)")
    add("--rollout-seed", type=int, default=0, help="of the draw of tokens (default: %(default)s)")


def _add_rollout(parser: Parser) -> None:
    _add_questions(parser, 600)
    _add_rollouts(parser)
    parser.add_argument("--router", type=Path, help="finishes the texts; without it the SLM does, alone (round 1)")
    parser.add_argument("--threshold", type=float, help="of that router (default: its own)")


def _run_rollout(options: Options) -> None:
    from engine import load
    from engine.router import Router
    from trainer.rollout import RolloutSettings, roll_out

    router = Router.load(options.router) if options.router else None
    threshold = options.threshold if options.threshold is not None else router.card.threshold if router else 0.0
    settings = RolloutSettings(options.budget, options.both, options.max_new_tokens, threshold, options.rollout_seed)
    questions = _questions(options, _on_references(options.labels))
    roll_out(load(options.preset), questions, options.labels, options.out, settings, router)


def _add_fitting(parser: Parser) -> None:
    add = parser.add_argument
    add("--hidden-only", action="store_true", help="do not show the router the SLM's logit features")
    add("--learning-rate", type=float, default=3e-4, help="of AdamW (default: %(default)s)")
    add("--weight-decay", type=float, default=0.01, help="of AdamW (default: %(default)s)")
    add("--dropout", type=float, default=0.1, help="after each hidden layer (default: %(default)s)")
    add("--width", type=int, help="units of the second hidden layer (default: the SLM's hidden size, as in the paper)")
    add("--skip", action="store_true", help="start from a linear score of the logit features, and learn to correct it")
    add("--wrong-references", action="store_true", help="learn from references, too, that end in a wrong answer")
    add("--epochs", type=int, default=40, help="at most; stops early (default: %(default)s)")
    add("--balanced", action="store_true", help="weigh both preferences alike; the score is calibrated again after")
    add("--cost-weight", type=float, default=0.0, help="λ: right answers that an LLM-only answer's bytes are worth")
    add("--shortcut-weight", type=float, default=0.0, help="0 to 1: of disagreements not rolled out (default: 0)")
    add("--seed", type=int, default=0, help="of weights, order and dropout (default: %(default)s)")


def _fitting(options: Options) -> FitSettings:
    from trainer.fit import FitSettings

    return FitSettings(
        logit_features=not options.hidden_only,
        learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        dropout=options.dropout,
        epochs=options.epochs,
        class_balance="balanced" if options.balanced else "none",
        cost_weight=options.cost_weight,
        skip=options.skip,
        width=options.width,
        wrong_references=options.wrong_references,
        shortcut_weight=options.shortcut_weight,
        seed=options.seed,
    )


def _add_fit(parser: Parser) -> None:
    add = parser.add_argument
    add("--labels", type=Path, nargs="+", required=True, help="folder that `label` wrote; several are joined")
    add(
        "--rollouts",
        type=Path,
        nargs="+",
        default=[],
        help="folders that `rollout` wrote for these labels; where there are none the shortcut's preferences count",
    )
    add("--out", type=Path, required=True, help="the router's folder, e.g. assets/routers/mine")
    add("--co-llm", action="store_true", help="the Co-LLM-style baseline: from likelihoods instead of preferences")
    add(
        "--query",
        type=Path,
        metavar="ANSWERS",
        help="the query-router baseline, in settings of its own: what `answer --role slm` wrote to questions of --data",
    )
    add("--data", nargs="+", metavar="SOURCE", help="with --query: the questions, as for `answer` (split train)")
    add("--description", default="", help="one line for people, shown on the page")
    _add_fitting(parser)


def _run_fit(options: Options) -> None:
    from trainer.baselines import fit_co_llm
    from trainer.fit import fit
    from trainer.provenance import command

    if (options.query is None) != (options.data is None) or (options.query and options.co_llm):
        raise TrainerError(
            "--query and --data belong together, without --co-llm: the SLM's answers and their questions"
        )
    if options.query:
        _fit_query(options)
    elif options.co_llm:
        settings = replace(_fitting(options), logit_features=False)
        if len(options.labels) > 1:
            raise TrainerError("--co-llm learns from one folder of labels")
        fit_co_llm(options.labels[0], options.out, settings, options.description, command=command())
    else:
        settings = _fitting(options)
        fit(options.labels, options.out, settings, options.description, options.rollouts, command=command())


def _fit_query(options: Options) -> None:
    from engine import Role
    from trainer.answer import are_right, load_answers
    from trainer.baselines import QUERY, fit_query
    from trainer.data import load_questions
    from trainer.label import shards
    from trainer.provenance import command

    labels, *others = options.labels
    if others or options.rollouts:
        raise TrainerError("--query learns from one folder of labels, and from no rollouts")
    labelled = shards(labels).load()[1]["questions"]
    questions = load_questions(options.data, len(labelled), need_reference=False)
    slm_right = are_right(load_answers(options.query, Role.SLM), questions)
    settings = replace(QUERY, seed=options.seed)
    fit_query(labels, slm_right, options.out, settings, options.description, command=command())


def _add_iterate(parser: Parser) -> None:
    _add_questions(parser, 600)
    _add_rollouts(parser)
    add = parser.add_argument
    add("--rounds", type=int, default=3, help="at most; stops when one brings nothing (default: %(default)s)")
    add("--validation", type=int, default=100, metavar="N", help="further questions to compare rounds on")
    _add_fitting(parser)


def _run_iterate(options: Options) -> None:
    from engine import load
    from trainer.iterate import iterate
    from trainer.rollout import RolloutSettings
    from trainer.shards import alone

    alone("iterate")
    found = _questions(options, _on_references(options.labels), more=options.validation)
    iterate(
        load(options.preset),
        found[: options.questions],
        found[options.questions :],
        options.labels,
        options.out,
        options.rounds,
        RolloutSettings(
            options.budget,
            options.both or options.cost_weight > 0,
            options.max_new_tokens,
            seed=options.rollout_seed,
        ),
        _fitting(options),
        options.max_new_tokens,
    )


def _add_evaluate(parser: Parser) -> None:
    _add_questions(parser, 300, "dev")
    add = parser.add_argument
    add("--task", default="arithmetic", help="name of the questions, in results (default: %(default)s)")
    add(
        "--methods",
        nargs="+",
        default=["slm", "llm", "oracle", "random", "confidence"],
        metavar="METHOD",
        help="slm, llm, oracle, random, confidence, entropy, margin, or name=folder of a router (default: %(default)s)",
    )
    add(
        "--labels",
        type=Path,
        help="folder of labels, whose held-out scores say where thresholds have to lie; without it and --shares, "
        "a folder goes on with the thresholds that it was begun with",
    )
    add("--shares", nargs="+", type=float, metavar="SHARE", help="LLM shares to find thresholds for (default: nine)")
    add("--max-new-tokens", type=int, default=256, help="of an answer (default: %(default)s)")
    add("--assisted", action="store_true", help="speculative decoding as well")
    add(
        "--stage",
        default="evaluation",
        help="name of the shards: with another name in the same folder, more methods join those that are there, on the "
        "same questions (default: %(default)s)",
    )
    add("--main", metavar="METHOD", help="that the others are compared with (default: the last of CITER's rounds)")
    add("--results", type=Path, default=Path("assets/results"), help="gets the summary (default: %(default)s)")


def _run_evaluate(options: Options) -> None:
    from engine import load
    from trainer.assisted import assist
    from trainer.evaluate import chosen_thresholds, evaluate
    from trainer.methods import SHARES, build_methods
    from trainer.results import check_names, read_evaluation
    from trainer.summary import summarise, write_summary
    from trainer.tokens import held_out_tokens

    check_names(options.task, options.methods)
    questions = _questions(options)
    tokens = held_out_tokens(options.labels) if options.labels else None
    if tokens is not None and (seen := {question.id for question in questions} & set(tokens.about["questions"])):
        raise TrainerError(
            f"{len(seen)} of {len(questions)} questions are in {options.labels}, e.g. {min(seen)}: routers learned "
            "from those; evaluate on others (--split dev, --offset, or another file)"
        )
    pair = load(options.preset)
    begun = {} if options.labels or options.shares else chosen_thresholds(options.out, options.stage)
    methods = build_methods(options.methods, pair, tokens, options.shares or SHARES, begun)
    done = evaluate(pair, questions, methods, options.out, options.task, options.max_new_tokens, stage=options.stage)
    if options.assisted:
        done &= assist(pair, questions, options.out, options.max_new_tokens)
    if not done:
        print("other processes are still writing their shards; when they are done, the same command writes the summary")
        return
    print(write_summary(summarise(read_evaluation(options.out), main=options.main), options.results))


def _add_ship(parser: Parser) -> None:
    add = parser.add_argument
    add("--router", type=Path, required=True, help="the measured router's folder")
    add("--method", required=True, help="what it is called in the summaries")
    add("--summaries", type=Path, nargs="+", required=True, help="the first one's task says where to start")
    add("--out", type=Path, required=True, help="the new folder, e.g. assets/routers/mine")


def _run_ship(options: Options) -> None:
    from trainer.operating import curve_of, ship
    from trainer.summary import load_summary

    curves = [curve_of(load_summary(path), options.method) for path in options.summaries]
    shipped = ship(options.router, curves, options.out)
    print(f"{options.out}: starts at threshold {shipped.card.threshold}")


def _add_report(parser: Parser) -> None:
    add = parser.add_argument
    add("--results", type=Path, default=Path("assets/results"), help="the summaries (default: %(default)s)")
    add("--readme", type=Path, default=Path("README.md"), help="whose results section is rewritten")
    add("--check", action="store_true", help="write nothing; fail if the section is not what the summaries say")


def _run_report(options: Options) -> None:
    from trainer.report import check, report

    if not options.check:
        report(options.results, options.readme)
    elif not check(options.results, options.readme):
        raise TrainerError(f"{options.readme} is not what {options.results} says: run `python -m trainer report`")


def _add_run(parser: Parser) -> None:
    add = parser.add_argument
    add("--preset", default="tiny", choices=["tiny", "cpu"], help="pair of models (default: %(default)s)")
    add("--task", help="csqa or gsm8k with the cpu pair; arithmetic with the tiny one (default: the preset's first)")
    add("--train", nargs="+", metavar="SOURCE", help="questions to train on, instead of the benchmark from the Hub")
    add("--dev", nargs="+", metavar="SOURCE", help="questions to evaluate on")
    add("--dev-questions", type=int, metavar="N", help="how many of them")
    add("--rounds", type=int, help="of rollouts, at most (default: the recipe's)")
    add("--out", type=Path, help="folder of the stages (default: runs/<preset>-<task>)")
    add("--results", type=Path, default=Path("assets/results"), help="gets the summary (default: %(default)s)")
    add("--routers", type=Path, default=Path("assets/routers"), help="gets the best router (default: %(default)s)")
    _add_fitting(parser)


def _run_run(options: Options) -> None:
    from trainer.recipes import RECIPES
    from trainer.run import run
    from trainer.shards import alone

    alone("run")
    tasks = [task for preset, task in RECIPES if preset == options.preset]
    task = options.task or tasks[0]
    if task not in tasks:
        raise TrainerError(f"--task {task}: the {options.preset} preset has {', '.join(tasks)}")
    recipe = RECIPES[options.preset, task]
    changes = {
        "train": options.train,
        "dev": options.dev,
        "dev_questions": options.dev_questions,
        "rounds": options.rounds,
    }
    recipe = replace(recipe, **{k: tuple(v) if isinstance(v, list) else v for k, v in changes.items() if v is not None})
    folder = options.out or Path("runs") / f"{options.preset}-{task}"
    print(run(recipe, folder, options.results, options.routers, _fitting(options)))


def _add_tiny(parser: Parser) -> None:
    add = parser.add_argument
    add("--out", type=Path, default=Path("assets/tiny"), help="the pair's folder (default: %(default)s)")
    add("--seed", type=int, default=0, help="seed of weights and questions (default: %(default)s)")
    add(
        "--steps", type=int, default=1600, help="optimiser steps of the LLM; the SLM takes fewer (default: %(default)s)"
    )
    add("--threads", type=int, default=1, help="CPU threads (default: %(default)s)")
    add("--evaluate-only", action="store_true", help="measure the pair in --out, train nothing")


def _run_tiny(options: Options) -> None:
    from trainer.tiny import run

    run(options.out, options.seed, options.steps, options.threads, options.evaluate_only)


COMMANDS: dict[str, Command] = {
    "run": Command("do all of it: questions, labels, rollouts, routers, evaluation, summary", _add_run, _run_run),
    "answer": Command("let one model answer questions alone", _add_answer, _run_answer),
    "label": Command(
        "say for each token of reference answers which model is preferred, with both models", _add_label, _run_label
    ),
    "rollout": Command(
        "finish answers from tokens that labels leave undecided, and grade them", _add_rollout, _run_rollout
    ),
    "fit": Command(
        "train a router on labels and rollouts, and measure it on questions it never saw", _add_fit, _run_fit
    ),
    "iterate": Command(
        "roll out and fit in rounds, each with the router of the round before", _add_iterate, _run_iterate
    ),
    "evaluate": Command(
        "answer questions with every method at every threshold, and summarise", _add_evaluate, _run_evaluate
    ),
    "ship": Command("give a router the curves that were measured, and its starting threshold", _add_ship, _run_ship),
    "report": Command(
        "rewrite the README's results section and the charts from the summaries", _add_report, _run_report
    ),
    "publish": Command(
        "say which files of a router would go to the Hugging Face Hub; with --send, publish them",
        publish.add_options,
        publish.run,
    ),
    "tiny": Command(
        "train the two small models that the tests and a machine without network use", _add_tiny, _run_tiny
    ),
}
