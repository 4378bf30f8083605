"""The name of a model is the pair's, and behind a colon a setting: `cpu`, `cpu:llm`, `cpu:0.4@0.1`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.errors import InvalidRequest, shown
from engine.guard.refusals import Refusal
from engine.setting import Setting, stated
from engine.settings import Settings

if TYPE_CHECKING:  # it imports torch, for which the page does not wait when it starts
    from engine.pair import Pair


def model_names(pair: Pair) -> list[str]:
    """The names in the list of models. Those with dials are too many to list."""
    return [pair.preset, f"{pair.preset}:slm", f"{pair.preset}:llm"]


def named_setting(name: str, pair: Pair, settings: Settings) -> Setting:
    """The setting that a model's name stands for. Raises a Refusal with status 404 that says which names there are.

    Without a policy it goes on from the settings. What is left out is the router's own.
    """
    preset, colon, said = name.partition(":")
    if preset != pair.preset:
        raise _unknown(name, pair, f"the pair is {pair.preset}")
    try:
        setting = pair.setting(stated(said) if colon else {}, settings.stated)
    except InvalidRequest as error:
        raise _unknown(name, pair, str(error)) from None
    if setting.policy not in pair.policies:
        raise _unknown(name, pair, f"its policies are {', '.join(pair.policies)}")
    return setting


def _unknown(name: str, pair: Pair, why: str) -> Refusal:
    ways = ", ".join(f"{pair.preset}{each}" for each in ("", ":slm", ":llm", ":0.5@0.1", ":confidence < 0.5 @ 0.1/8"))
    return Refusal(
        404, f"There is no model {shown(name, True)} here: {why}. Ask for {ways}.", "model", "model_not_found"
    )
