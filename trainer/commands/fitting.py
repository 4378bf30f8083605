"""Commands that learn from it: routers, and rounds of rollouts and routers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trainer import TrainerError
from trainer.commands.options import (
    Add,
    Command,
    Options,
    add_questions,
    fit_settings,
    fit_settings_of_rounds,
    labelled_questions,
    load_pair,
)
from trainer.settings import FitSettings, RolloutSettings, add_settings, chosen

if TYPE_CHECKING:
    from trainer.questions.question import Question

FURTHEST = 20_000  # questions among which those of an id are looked for: arithmetic has no last one


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
    if options.co_llm and options.rollouts:
        raise TrainerError("--co-llm learns from likelihoods, and from no rollouts: leave out --rollouts")
    if options.query:
        _fit_query(options)
        return
    settings = replace(fit_settings(options), target=options.target)
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

    labels, *others = options.labels
    if others or options.rollouts:
        raise TrainerError("--query learns from one folder of labels, and from no rollouts")
    answers = load_answers(options.query, Role.SLM)
    slm_right = are_right(answers, _questions_named(options.data, set(answers)))
    settings = replace(QUERY, seed=options.seed)
    fit_query(labels, slm_right, options.out, settings, options.description, command=command("trainer"))


def _questions_named(sources: list[str], names: set[str]) -> list[Question]:
    """Those of the data with these ids, wherever they stand: they may have been answered from an offset on."""
    from trainer.questions.sources import load_questions

    limit = len(names)
    while True:
        found = load_questions(sources, limit, need_reference=False)
        own = [question for question in found if question.id in names]
        if len(own) == len(names) or len(found) < limit or limit > FURTHEST:
            return own
        limit *= 4


def _add_iterate(add: Add) -> None:
    add_questions(add)
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
    fitting = fit_settings_of_rounds(options)
    questions = labelled_questions(options, more=options.validation)
    labelled, validation = questions[: options.questions], questions[options.questions :]
    rollouts = RolloutSettings(**chosen(options, RolloutSettings))
    rollouts = replace(rollouts, both=options.both or options.cost_weight > 0)
    pair = load_pair(options)
    iterate(pair, labelled, validation, options.labels, options.out, options.rounds, rollouts, fitting)


COMMANDS = {
    "fit": Command(_add_fit, _fit),
    "iterate": Command(_add_iterate, _iterate),
}
