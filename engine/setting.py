"""What a text is written at: who decides, from which score on, what the LLM keeps, and how long drafts may get.

One notation: `router < 0.88 @ 0.3/8` is the policy, the threshold, the acceptance and the draft limit.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from engine.errors import InvalidRequest, check_number, check_whole, shown
from engine.events import MAX_THRESHOLD
from engine.policy import POLICIES, REGISTRY

DEFAULT_THRESHOLD = 0.5
MAX_DRAFT = 1024
LLM_ONLY = 1.01
"""The threshold of LLM-only: above every score, and the end of the page's slider."""

DraftLimit = int | Literal["auto"]
"""At most so many drafted tokens are unread; "auto" weighs what a verification costs (`engine.batch.verify.due`)."""

_NUMBER = r"\d*\.?\d+(?:e-?\d+)?"
_NOTATION = re.compile(
    rf"\s*(?P<policy>[a-z]\w*)?\s*(?:<?\s*(?P<threshold>{_NUMBER})\s*)?"
    rf"(?:@\s*(?P<acceptance>{_NUMBER})\s*(?:/\s*(?P<max_draft>\d+|auto)\s*)?)?",
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Setting:
    """What a text is written at. A value out of its range is an InvalidRequest that names it and the way out.

    Attributes:
        policy: A name in `engine.policy.REGISTRY`.
        threshold: score < threshold → LLM; 0 is SLM-only, above 1 LLM-only. For "random" it is the LLM share.
        acceptance: A drafted token is kept if the LLM would write it, too, or if its probability is at least so many
            times that of the LLM's likeliest token. 0 keeps all (CITER as published), 1 gives the LLM-only text.
        max_draft: The LLM reads after so many drafted tokens at the latest. It changes what a text costs, never the
            text; with acceptance 0 the LLM reads only where it writes.
    """

    policy: str = "router"
    threshold: float = DEFAULT_THRESHOLD
    acceptance: float = 0.0
    max_draft: DraftLimit = "auto"

    def __post_init__(self) -> None:
        check_number("threshold", self.threshold, 0.0, MAX_THRESHOLD, "0 is SLM-only, above 1 is LLM-only")
        hint = "0 keeps all that the SLM wrote, 1 what the LLM would have written"
        check_number("acceptance", self.acceptance, 0.0, 1.0, hint)
        if self.max_draft != "auto":
            hint = 'drafted tokens before the LLM reads them, or "auto"'
            check_whole("max_draft", self.max_draft, 1, MAX_DRAFT, hint)
        if self.policy not in tuple(REGISTRY):
            raise unknown_policy(self.policy)

    def __str__(self) -> str:
        """The notation that `parse` reads; what is at its default behind the threshold is left out."""
        draft = "" if self.max_draft == "auto" else f"/{self.max_draft}"
        behind = f" @ {_plain(self.acceptance)}{draft}" if self.acceptance or draft else ""
        return f"{self.policy} < {_plain(self.threshold)}{behind}"

    @classmethod
    def parse(cls, text: str) -> Setting:
        """Reads the notation; parts that are left out are at their defaults. Raises InvalidRequest."""
        return cls(**stated(text))


def stated(text: str) -> dict[str, Any]:
    """The parts of a setting in the notation, by their fields in `Setting`. Raises InvalidRequest."""
    found = _NOTATION.fullmatch(text)
    if found is None or not text.strip():
        raise InvalidRequest(f"setting = {shown(text, True)}: write one as router < 0.88 @ 0.3/8")
    given: dict[str, Any] = {name: value for name, value in found.groupdict().items() if value is not None}
    given |= {name: float(given[name]) for name in ("threshold", "acceptance") if name in given}
    if given.get("max_draft", "auto") != "auto":
        given["max_draft"] = int(given["max_draft"])
    return given


def unknown_policy(policy: Any) -> InvalidRequest:
    return InvalidRequest(f"policy = {shown(policy, True)} is unknown: choose one of {', '.join(POLICIES)}")


def _plain(number: float) -> str:
    return repr(float(number)).removesuffix(".0")
