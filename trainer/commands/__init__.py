"""The trainer's commands: each is a model of its options, whose docstring is its help and whose `run` does it."""

from trainer.commands import labels, results, routers
from trainer.commands.on_pair import Command

COMMANDS: dict[str, type[Command]] = {
    "run": routers.Run,
    "answer": labels.Answer,
    "align": labels.Align,
    "label": labels.Label,
    "rollout": labels.Rollout,
    "fit": routers.Fit,
    "evaluate": results.Evaluate,
    "ship": results.Ship,
    "report": results.Report,
}
"""By name, in the order of `--help`."""
