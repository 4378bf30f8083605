"""The options of each of the trainer's commands, and the call they become."""

from trainer.commands import evaluating, fitting, labels, results, whole
from trainer.commands.options import Command

COMMANDS: dict[str, Command] = {
    **whole.COMMANDS,
    **labels.COMMANDS,
    **fitting.COMMANDS,
    **evaluating.COMMANDS,
    **results.COMMANDS,
}
"""By name, in the order of `--help`."""
