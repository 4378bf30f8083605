"""What methods are called: names on the command line and in records, and what people read.

A method is given to commands as `name[=folder][@acceptance[/max_draft]][:threshold[,threshold...]]`:
`router=folder@0.3`, `confidence@1/8:0.4,0.6`. A plain name is at acceptance 0, and a draft is as long as the engine
finds best.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Annotated, NamedTuple

from pydantic import Field, TypeAdapter, ValidationError

from engine.errors import first_fault
from engine.setting import MAX_DRAFT, DraftLimit
from trainer import TrainerError

Rate = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]  # part of a file's name
MethodName = Annotated[str, Field(pattern=r"^\w[\w .,:+=@()-]*$")]  # stands in tables and pages as it is

METHODS = {
    "slm": "SLM only",
    "llm": "LLM only",
    "oracle": "oracle",
    "assisted": "speculative decoding",
    "assisted-tuned": "speculative decoding, tuned",
    "random": "random",
    "confidence": "SLM confidence",
    "entropy": "SLM entropy",
    "margin": "SLM margin",
    "query": "query router",
    "query-refit": "query router, fitted again",
    "co-llm": "Co-LLM style, the LLM's answers",
    "co-llm-data": "Co-LLM style, the data's references",
    "co-llm-refit": "Co-LLM style, the LLM's answers, fitted again",
    "citer-shortcut": "CITER without rollouts",
    "citer-shortcut-refit": "CITER without rollouts, fitted again",
    "kept": "router for what the LLM keeps",
    "citer": "CITER",
    "citer-joint": "CITER on several tasks",
    "citer-joint+judge": "CITER on several tasks, learned judge",
    "citer-others": "CITER on the other tasks",
}
"""Known methods and what people call them, in the order of tables and legends; others follow by name."""

SPECULATIVE = ("assisted", "assisted-tuned")
"""Speculative decoding: acceptance 1 is part of what the method is, and so is the length of a draft."""

JUDGED = "citer-joint+judge"
"""The one method that was measured with a learned judge of drafts: the judge is gone, what was measured stays."""

OF_TASK = "citer-of-"
"""The beginning of the name of another task's own router, before that task: `citer-of-csqa` on GSM8K."""

OTHERS = "citer-others"
"""A router that learned from several tasks, but not from the one that it answers."""

ALL_BUT = "citer-but-"
"""The beginning of such a router's name, before that task, where routers of several tasks stand side by side."""

FIXED = ("slm", "llm", "oracle", *SPECULATIVE)
"""Methods that are one point, where the others have a curve from one model alone to the other."""


class AskedMethod(NamedTuple):
    """A method as it is asked for; `folder` is "" where the name says all, `thresholds` () where none was given."""

    name: str
    folder: str
    acceptance: float
    max_draft: DraftLimit
    thresholds: tuple[float, ...] = ()


DIGITS = range(3, 18)
"""Significant digits that a threshold may be written with; with the last of them every float is itself."""

_DIALS = re.compile(r"(?P<method>.+)@(?P<acceptance>\d*\.?\d+)(?:/(?P<draft>\w+))?")


def parsed(text: str) -> AskedMethod:
    """Reads `name[=folder][@acceptance[/max_draft]][:threshold[,threshold...]]`.

    Raises:
        TrainerError: A number is out of range, or what stands behind the colon is none.
    """
    method, thresholds = _thresholds(text)
    found = _DIALS.fullmatch(method)
    name, _, folder = (found["method"] if found else method).partition("=")
    acceptance, draft = (float(found["acceptance"]), found["draft"] or "auto") if found else (0.0, "auto")
    if acceptance > 1:
        raise TrainerError(f"{text}: acceptance {acceptance:g} is not from 0 (keep all) to 1 (as the LLM alone)")
    if draft != "auto" and not (draft.isdecimal() and 1 <= int(draft) <= MAX_DRAFT):
        raise TrainerError(f"{text}: a draft of {draft!r} tokens; give a whole number from 1 to {MAX_DRAFT}, or auto")
    return AskedMethod(name, folder, acceptance, "auto" if draft == "auto" else int(draft), thresholds)


def _thresholds(text: str) -> tuple[str, tuple[float, ...]]:
    """What stands before the last colon, and the thresholds behind it; a folder's own colon is part of its path."""
    method, colon, behind = text.rpartition(":")
    if not colon or "/" in behind or "\\" in behind:
        return text, ()
    try:
        thresholds = tuple(float(number) for number in behind.split(","))
    except ValueError:
        raise TrainerError(f"{text}: {behind!r} is no threshold; write METHOD:THRESHOLD[,THRESHOLD...]") from None
    check_thresholds(text, thresholds)
    return method, thresholds


def check_thresholds(method: str, thresholds: Sequence[float]) -> None:
    """Refuses, by a TrainerError, thresholds of a method that are not finite, or twice there."""
    if not all(map(math.isfinite, thresholds)) or len(set(thresholds)) < len(thresholds):
        numbers = ", ".join(f"{each:g}" for each in thresholds)
        raise TrainerError(f"{method}, at {numbers}: thresholds are finite numbers, each of them once")


def spelled(name: str, acceptance: float = 0.0, max_draft: DraftLimit = "auto") -> str:
    """The shortest text that `parsed` reads as these, and speculative decoding by its name alone."""
    if name in SPECULATIVE or (acceptance == 0 and max_draft == "auto"):
        return name
    return f"{name}@{acceptance:g}" + ("" if max_draft == "auto" else f"/{max_draft}")


def spelled_setting(
    name: str, acceptance: float, max_draft: DraftLimit, threshold: float, others: Iterable[float] = ()
) -> str:
    """As `spelled`, and with the threshold where one changes anything; `others` as for `spelled_threshold`."""
    title = spelled(name, acceptance, max_draft)
    fixed = name in FIXED and name != "assisted-tuned"  # its threshold is the confidence that ends its drafts
    return title if fixed else f"{title} < {spelled_threshold(threshold, others)}"


def spelled_threshold(threshold: float, others: Iterable[float] = ()) -> str:
    """A threshold in three significant digits, or as many more as tell it from `others` of its curve and from 1."""
    apart = {1.0, *others} - {threshold}
    for digits in DIGITS:
        if (text := f"{threshold:.{digits}g}") not in {f"{other:.{digits}g}" for other in apart}:
            return text
    return repr(threshold)


def title_of(text: str) -> str:
    """What a method that is asked for is called in records and summaries."""
    asked = parsed(text)
    return spelled(asked.name, asked.acceptance, asked.max_draft)


def check_names(task: str, methods: Sequence[str], stage: str = "evaluation") -> None:
    """Refuses, by a TrainerError, names that could not be read back, before hours are spent on answers under them.

    Methods are given as `parsed` reads them.
    """
    if stage.startswith("partial-"):  # which shards are called that are being written
        raise TrainerError(f"{stage!r} cannot be the name of a stage: let it begin with another word than partial-")
    kinds = {"task": TypeAdapter(Name), "stage": TypeAdapter(Name), "method": TypeAdapter(MethodName)}
    for what, name in [("task", task), ("stage", stage), *(("method", parsed(method).name) for method in methods)]:
        try:
            kinds[what].validate_python(name)
        except ValidationError as error:
            reason = first_fault(error, whole="")
            raise TrainerError(f"{name!r} cannot be the name of a {what}: {reason}") from None


def label(method: str) -> str:
    """What people call a method; a name that this project does not know is its own label."""
    if method.startswith(OF_TASK):
        return f"CITER of {method.removeprefix(OF_TASK)}"
    if method.startswith(ALL_BUT):
        return f"CITER on all but {method.removeprefix(ALL_BUT)}"
    return METHODS.get(method, method) if (number := _round(method)) is None else f"CITER round {number}"


def method_order(method: str) -> tuple[int, str]:
    """Sorts methods as `METHODS` has them, then the rounds of CITER, then unknown ones by name."""
    if method in METHODS:
        return list(METHODS).index(method), method
    return (1_000 if (number := _round(method)) is None else len(METHODS) + number), method


def main_method(methods: Iterable[str]) -> str | None:
    """The last of CITER's rounds, else "citer-joint", "citer" or "citer-shortcut"; None without any."""
    return max(filter(is_citer, methods), key=method_order, default=None)


def is_citer(method: str) -> bool:
    """Whether a method is this project's own: with rollouts, in whichever round, or without."""
    return method in ("citer", "citer-shortcut", "citer-joint") or _round(method) is not None


def from_other_tasks(method: str) -> bool:
    """Whether a method is a router that did not learn from the task that it answers."""
    return method == OTHERS or method.startswith(OF_TASK)


def _round(method: str) -> int | None:
    match = re.fullmatch(r"citer-r(\d{1,2})", method)
    return int(match[1]) if match else None
