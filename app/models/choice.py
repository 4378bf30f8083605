"""What a visitor may choose of the models, and the settings that a choice means. No gradio, and nothing is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence
from ipaddress import ip_address
from typing import Any, Literal

from app.entrance.said import said_text
from engine import InvalidRequest, Settings, load_settings
from engine.endpoint.addresses import on_space
from engine.pairs.own import PRESET_NAMES, read_pairs
from engine.pairs.presets import ROUTERS
from engine.settings import Server

Allowed = Literal["off", "named", "any"]

AUTO = "auto"
"""Of routers the pair's own."""

_NOT_HERE = "Which models this page has is its host's choice (CITER_SERVER__CHOOSE)."
_NAMED_ONLY = "On this page only the pairs and routers of its lists can be chosen (CITER_SERVER__CHOOSE)."


def allowed(server: Server) -> Allowed:
    """What visitors may choose: as the setting says, or by where the page listens."""
    if server.choose != "auto":
        return server.choose
    host = server.host or os.environ.get("GRADIO_SERVER_NAME") or "127.0.0.1"
    published = on_space() or server.hosts or server.proxies or not _is_loopback(host)
    return "off" if published else "any"


def pair_names(settings: Settings) -> list[str]:
    """The presets and the pairs of the host's file."""
    own = read_pairs(settings.pairs) if settings.pairs is not None else {}
    return [*PRESET_NAMES, *own]


def routers_of(settings: Settings) -> list[str]:
    """`AUTO`, the routers shipped here, and the host's own."""
    names = [AUTO, *sorted(folder.name for folder in ROUTERS.glob("*") if folder.is_dir())]
    return names if settings.router in names else [*names, settings.router]


def chosen(settings: Settings, may: Allowed, values: Sequence[Any]) -> Settings:
    """The host's settings with a visitor's choice of models.

    Args:
        settings, may: The host's, and what it allows.
        values: Pair, SLM, LLM and router, as the page's fields hold them: texts, of which an empty one names nothing.

    Raises:
        EngineError: A value is no text, too long, not allowed here, or names nothing.
    """
    if may == "off":
        raise InvalidRequest(_NOT_HERE)
    names = ("preset", "slm", "llm", "router")
    said: dict[str, Any] = dict(zip(names, values, strict=True))
    given = {name: said_text(said, name).strip() or None for name in names}
    given |= {"preset": given["preset"] or AUTO, "router": given["router"] or AUTO}
    if may == "named":
        own = given["preset"] == settings.preset
        there = {"slm": settings.slm, "llm": settings.llm} if own else {"slm": None, "llm": None}
        asked = {(name, given[name]) for name in there if given[name] is not None}
        if asked - {("slm", settings.slm), ("llm", settings.llm)} or given["router"] not in routers_of(settings):
            raise InvalidRequest(_NAMED_ONLY)
        given |= there
    named = load_settings(**{**settings.model_dump(), **given})
    return named if models_of(named) == models_of(settings) else named.model_copy(update={"llm_url": ""})


def models_of(settings: Settings) -> tuple[Any, ...]:
    """What says which two models the settings mean, and where the LLM is."""
    return settings.preset, settings.slm, settings.llm, settings.llm_url


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False
