"""The engine's errors: what a user can cause. A broken invariant of this project's own code is an `assert` instead.

Every message names the bad value and the way out, because the page and the command line show it unchanged.
"""

from __future__ import annotations

import argparse
import logging
import math
import os
import re
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from pydantic import ValidationError


class EngineError(Exception):
    """The base class of all errors here; `str(error)` can be shown to a user."""


class InvalidRequest(EngineError):
    """A single request cannot be served: an empty prompt, too many tokens, a threshold that is not a number."""


class PromptTooLong(InvalidRequest):
    """A prompt, with what comes before it, leaves no room for a token in the context."""


class WeightsError(EngineError):
    """Models cannot be loaded or do not fit: no source has them, wrong hash, no space, no GPU, unlike tokenizers."""


class RouterError(EngineError):
    """A router's folder is unreadable, or the router does not fit the loaded SLM."""


class ServerError(EngineError):
    """The LLM's server cannot be reached, refuses, or gives an invalid answer; the text so far stays."""


class SettingsError(EngineError):
    """A setting is unknown or out of range; the message names the environment variable."""


def first_fault(error: ValidationError, whole: str = "the file") -> str:
    """The first fault that pydantic found, in words. `whole` names the place if the value as a whole is wrong."""
    return fault_words(first := error.errors(include_url=False)[0], fault_place(first) or whole)


def fault_place(fault: Any) -> str:
    """Where one of pydantic's faults is, as "events.3.role"; empty for all that was read."""
    return ".".join(str(part) for part in fault["loc"])


def fault_words(fault: Any, place: str, hidden: bool = False) -> str:
    """One of pydantic's faults as "place = value: what is wrong", without the value where it is `hidden`."""
    place, value, kind = shown(place), fault["input"], fault["type"]
    if kind == "missing":
        return f"{place} is missing"
    if kind == "extra_forbidden":
        return f"{place} is no field here: leave it out"
    said = fault["msg"].removeprefix("Value error, ").replace("Input should", "must").replace("String should", "must")
    if place and not isinstance(value, dict | list | tuple):
        place += " = " + ("…" if hidden else shown(value, True))
    return f"{place}: {shown(said, limit=300)}".removeprefix(": ")


def shown(value: Any, quoted: bool = False, limit: int = 80) -> str:
    """A value as a message shows it: one line of at most `limit` printable characters."""
    long = isinstance(value, str | bytes | list | tuple) and len(value) > limit
    try:
        text = value if isinstance(value, str) and not quoted else repr(value[:limit] if long else value)
    except (ValueError, RecursionError):  # a whole number of thousands of digits
        text = f"a value of type {type(value).__name__}"
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[: limit + 1])
    return text if len(text) <= limit and not long else text[: limit - 1] + "…"


def check_text(name: str, value: Any, most: int) -> None:
    """Raises an InvalidRequest for what is no text, has over `most` characters, or cannot be written as UTF-8."""
    if not isinstance(value, str):
        raise InvalidRequest(f"{name} = {shown(value, True)} is not a text")
    if len(value) > most:
        raise InvalidRequest(f"{name} has {len(value):,} characters; at most {most:,} are accepted.")
    if half := re.search("[\ud800-\udfff]", value):
        raise InvalidRequest(
            f"{name} holds half a surrogate pair at character {half.start() + 1}, which is no text: is it UTF-8?"
        )


def check_number(name: str, value: float, low: float, high: float, hint: str) -> None:
    """Raises an InvalidRequest, with value and range, for what is not a finite number in [low, high]."""
    ok = isinstance(value, int | float) and not isinstance(value, bool)
    if not ok or not low <= value <= high or not math.isfinite(value):  # the range first: some integers are no floats
        raise InvalidRequest(f"{name} = {shown(value, True)} must be a number from {low:g} to {high:g} ({hint})")


def check_whole(name: str, value: int, low: int, high: int, hint: str) -> None:
    """Raises an InvalidRequest, with value and range, for what is not a whole number in [low, high]."""
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise InvalidRequest(f"{name} = {shown(value, True)} must be a whole number from {low} to {high} ({hint})")


def log_fault(logger: logging.Logger, what: str, error: BaseException) -> None:
    """Logs that `what` failed, and where in the code; not the error's message, which may hold a visitor's text."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    places = " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames)
    logger.error("%s: %s at %s", what, type(error).__name__, places or "an unknown place")


def exit_status(run: Callable[[], int | None], *told: type[Exception]) -> int:
    """Runs a command line; an error that the user can put right is one line on stderr, without a traceback.

    `told` are errors besides `EngineError` and `OSError` that are printed so. Returns the exit status: that of `run`
    (None is 0); 2 for an error of the user's; 130 if interrupted; 141 if the reader of the output has gone.
    """
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):  # none, or not a text stream
            stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]
    try:
        try:
            return run() or 0
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()  # while an error can still be told
    except (EngineError, *told) as error:
        return _told(f"error: {error}", 2)
    except KeyboardInterrupt as stop:
        return _told(str(stop) or "stopped", 130)
    except BrokenPipeError:
        return _without_output(141)
    except OSError as error:
        if error.errno is None:
            raise
        name = f" ({error.filename})" if error.filename else ""
        return _without_output(_told(f"error: {error.strerror}{name}", 2))


def _told(message: str, status: int) -> int:
    with suppress(OSError, ValueError):  # nobody may be listening there either
        print(message, file=sys.stderr, flush=True)
    return status


def _without_output(status: int) -> int:
    """Discards output that cannot be written; else Python would try again when it ends, and print a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return status


class CommandParser(argparse.ArgumentParser):
    """An argument parser whose errors show what was typed as `shown` does, short and without control codes."""

    def error(self, message: str) -> NoReturn:
        """Prints what is wrong with the options and ends the program with exit status 2."""
        super().error("".join(part if part.isspace() else shown(part) for part in _WORDS.findall(message)))


_WORDS = re.compile(r"'(?:[^'\\]|\\.)*'|\s+|\S+?(?=\s|'|$)|.", re.DOTALL)  # a value in quotes counts as one
