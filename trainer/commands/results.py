"""Commands that hand on what came out, and the one that trains the tiny pair."""

from __future__ import annotations

from pathlib import Path

from trainer import TrainerError
from trainer.commands.options import RESULTS, Add, Command, Options


def _add_ship(add: Add) -> None:
    add("--router", "the measured router's folder", type=Path, required=True)
    add("--method", "what it is called in the summaries", required=True)
    about = "one for each task; together they say where to start, and what was timed of a task lies beside its summary"
    add("--summaries", about, type=Path, nargs="+", required=True)
    add(
        "--acceptance",
        "of the curves (default: 0, and all that were measured)",
        nargs="+",
        type=float,
        metavar="ALPHA",
    )
    about = "what `transfer` wrote: its curves come first, and are what the page expects of a visitor's own text"
    add("--transfer", about, type=Path, metavar="FILE")
    add("--out", "the new folder, e.g. assets/routers/mine", type=Path, required=True)


def _ship(options: Options) -> None:
    """Give a router the curves that were measured, and its starting threshold."""
    from trainer.evaluation.method_names import OTHERS
    from trainer.evaluation.seconds import load_seconds
    from trainer.evaluation.summary import load_summary
    from trainer.evaluation.transfer import load_transfer
    from trainer.ship import (
        beside_confidence,
        check_measured,
        curve_of,
        curves_of,
        free_text_curves,
        ship,
        timed_settings,
        untrained_curves,
    )

    summaries = [load_summary(path) for path in options.summaries]
    if options.acceptance:
        curves = [curve_of(each, options.method, alpha) for alpha in options.acceptance for each in summaries]
    else:
        curves = [curve for each in summaries for curve in curves_of(each, options.method)]
    free_text = load_transfer(options.transfer) if options.transfer else None
    check_measured(options.router, options.method, [*summaries, *([free_text] if free_text else [])])
    curves = [*(free_text_curves(free_text, options.method) if free_text else ()), *curves]
    beside = beside_confidence(summaries, options.method, free_text)
    seconds = (
        load_seconds(each["preset"], each["task"], path.parent)
        for each, path in zip(summaries, options.summaries, strict=True)
    )
    timed = timed_settings(list(filter(None, seconds)), options.method)
    others = beside_confidence(summaries, OTHERS)
    card = ship(options.router, curves, options.out, untrained_curves(summaries, free_text), beside, timed, others).card
    print(f"{options.out}: starts at threshold {card.threshold}, acceptance {card.acceptance:g}")


def _add_summarise(add: Add) -> None:
    add("--evaluation", "folder that `evaluate` wrote", type=Path, required=True)
    add("--main", "that the others are compared with (default: the last of CITER's rounds)", metavar="METHOD")
    add("--results", "gets the summary", RESULTS)


def _summarise(options: Options) -> None:
    """Summarise answers that are there already, without a model."""
    from trainer.evaluation.record import read_evaluation
    from trainer.evaluation.summary import summarise, write_summary

    print(write_summary(summarise(read_evaluation(options.evaluation), main=options.main), options.results))


def _add_keep(add: Add) -> None:
    add("--run", "folder that `run` or `iterate` wrote", type=Path, required=True)
    add("--out", "gets what is kept of it, e.g. assets/runs/mine", type=Path, required=True)
    about = "answers that another stage has anew, such as evaluation/confidence@0.3:0.9"
    add("--without", about, [], nargs="+", metavar="STAGE/METHOD")


def _keep(options: Options) -> None:
    """Keep of a run what took hours: answers, rollouts and evaluations, compressed."""
    from trainer.keep import keep

    print(f"{options.out}: {keep(options.run, options.out, options.without) / 1e6:.1f} MB")


def _add_report(add: Add) -> None:
    add("--results", "the summaries", RESULTS)
    add("--page", "gets all figures", Path("docs/results.md"))
    add("--readme", "gets a short table", Path("README.md"))
    add("--check", "write nothing; fail if either is not what the summaries say", False)


def _report(options: Options) -> None:
    """Rewrite docs/results.md, the README's table of results and the charts from the summaries."""
    from trainer.report.report import check, report

    if not options.check:
        report(options.results, options.page, options.readme)
    elif not check(options.results, options.page, options.readme):
        raise TrainerError(
            f"{options.page} or {options.readme} is not what {options.results} says: run `python -m trainer report`"
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


COMMANDS = {
    "ship": Command(_add_ship, _ship),
    "summarise": Command(_add_summarise, _summarise),
    "keep": Command(_add_keep, _keep),
    "report": Command(_add_report, _report),
    "publish": Command(_add_publish, _publish),
    "tiny": Command(_add_tiny, _tiny),
}
