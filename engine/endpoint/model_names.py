"""The name of a model is a setting of the pair: `cpu:0.4@0.1`, `cpu:llm`."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from engine.errors import InvalidRequest, shown
from engine.guard.refusals import Refusal, blamed
from engine.setting import DEFAULT_THRESHOLD, Setting
from engine.settings import Settings

if TYPE_CHECKING:  # they import torch, for which the page does not wait when it starts
    from engine.pair import Pair

_NUMBER = r"[0-9]{1,3}(?:\.[0-9]{1,12})?"
_DIALS = re.compile(rf"(?P<threshold>{_NUMBER})(?:@(?P<acceptance>{_NUMBER}))?")


Citer = dict[Literal["policy", "threshold", "acceptance", "max_draft"], Any]
"""The field `citer` of a body: parts of a setting. Null leaves a part to the model's name."""


def model_names(pair: Pair) -> list[str]:
    """The names in the list of models. Those with dials are too many to list."""
    return [pair.preset, f"{pair.preset}:slm", f"{pair.preset}:llm"]


def named_setting(name: str, pair: Pair, settings: Settings) -> Setting:
    """The setting that a model's name stands for. Raises a Refusal with status 404 that lists the names."""
    if name == pair.preset:
        return _of_policy(pair.default_policy(settings.policy), pair, settings)
    preset, colon, dials = name.rpartition(":")
    stated = _stated(dials)
    if not colon or preset != pair.preset or not (stated or dials in ("llm", "slm")):
        raise _unknown(
            f"There is no model {shown(name, True)} here. The pair is {pair.preset}: ask for {pair.preset}, "
            f"{pair.preset}:0.5 (with a threshold), {pair.preset}:0.5@0.1 (and an acceptance), {pair.preset}:slm, "
            f"{pair.preset}:llm."
        )
    setting = _of_policy(pair.default_policy("router"), pair, settings)
    if not stated:
        return replace(setting, policy=dials, acceptance=0.0)  # else the LLM would verify what the SLM writes
    try:
        return replace(setting, **stated)
    except InvalidRequest as error:
        raise _unknown(f"There is no model {shown(name, True)}: {error}") from None


def chosen_setting(name: str, citer: Citer, pair: Pair, settings: Settings) -> Setting:
    """The setting of a model's name, changed by the field `citer`. Raises Refusal.

    Where `citer` names another policy, dials that neither states are that policy's own.
    """
    setting, given = named_setting(name, pair, settings), {k: v for k, v in citer.items() if v is not None}
    policy = given.get("policy")
    if policy is not None and policy not in pair.policies:
        there = ", ".join(pair.policies)
        raise Refusal(400, f"citer.policy = {shown(policy, True)}: choose one of {there}.", "citer.policy")
    if policy is not None and policy != setting.policy:
        setting = replace(_of_policy(policy, pair, settings), **_stated(name.removeprefix(f"{pair.preset}:")))
    with blamed("citer"):
        setting = replace(setting, **given)
    with blamed("citer" if "acceptance" in given else "model"):
        pair.check_acceptance(setting.acceptance)
    return setting


def _of_policy(policy: str, pair: Pair, settings: Settings) -> Setting:
    own = (pair.threshold, pair.acceptance) if policy == "router" else (DEFAULT_THRESHOLD, 0.0)
    given = settings.threshold, settings.acceptance
    threshold, acceptance = (mine if value is None else value for mine, value in zip(own, given, strict=True))
    return Setting(policy, threshold, acceptance, settings.max_draft)


def _stated(dials: str) -> dict[str, float]:
    """The dials in a name by their fields in `Setting`; none where they are no numbers."""
    given = _DIALS.fullmatch(dials)
    found = given.groupdict() if given else {}
    return {dial: float(value) for dial, value in found.items() if value is not None}


def _unknown(said: str) -> Refusal:
    return Refusal(404, said, "model", "model_not_found")
