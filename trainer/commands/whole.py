"""The command that does all of it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from engine.settings import add_model_options
from trainer import TrainerError
from trainer.commands.options import RESULTS, Add, Command, Options, fit_settings_of_rounds, settings_of
from trainer.settings import RECIPES, AlignSettings, FitSettings, Recipe, add_settings, chosen, counts_for, own_recipe


def _add_run(add: Add) -> None:
    add_model_options(add)
    tasks = ", ".join(task for preset, task in RECIPES if preset == "cpu")
    add("--task", f"{tasks} with the cpu pair; arithmetic with the tiny one (default: the preset's first)")
    about = (
        "questions for any pair: files of which the first are trained on and the last evaluated on, or names as for "
    )
    add("--data", about + "`answer`", nargs="+", metavar="SOURCE")
    add_settings(add, Recipe, keep_defaults=False)
    add("--out", "folder of the stages (default: runs/<pair>-<task>)", type=Path)
    about = f"gets the summary (default: {RESULTS} for a preset's own task, else a folder in --out)"
    add("--results", about, type=Path)
    add("--routers", "gets the best router", Path("assets/routers"))
    add("--align", "first let the SLM learn the LLM's own texts, as `align` does by default", False)
    add_settings(add, FitSettings)


def _run(options: Options) -> None:
    """Do all of it: questions, labels, rollouts, routers, evaluation, summary."""
    from engine import load
    from engine.models.sources import choose_preset
    from trainer.evaluation.method_names import check_names
    from trainer.pipeline import align_first, run
    from trainer.shards import require_one_process

    require_one_process("run")
    fitting = fit_settings_of_rounds(options)
    settings = settings_of(options)
    if options.align:
        settings = settings.model_copy(update={"adapter": "none"})
    pair = choose_preset(settings).name
    recipe, own = _recipe(options, pair)
    check_names(recipe.task, [])  # a file's name may be none: --task gives another
    folder = options.out or Path("runs") / f"{pair}-{recipe.task}{'-aligned' if options.align else ''}"
    results = options.results or (folder / "results" if own else RESULTS)
    adapter = align_first(recipe, settings, folder, AlignSettings()) if options.align else None
    if adapter is not None:
        settings = settings.model_copy(update={"adapter": str(adapter)})
    print(run(recipe, load(None, settings), folder, results, options.routers, fitting, adapter))


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


COMMANDS = {
    "run": Command(_add_run, _run),
}
