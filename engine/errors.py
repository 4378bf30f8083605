"""The engine's errors: one base class, so that a caller can catch everything a user can cause with one `except`.

Every message names the bad value and the way out, because the page and the command line show it as it is.
A broken invariant of this project's own code is an `assert`, not one of these.
"""

from __future__ import annotations


class EngineError(Exception):
    """Base of everything the engine raises on purpose; `str(error)` is fit to be shown to a user."""


class InvalidRequest(EngineError):
    """A single request cannot be served: an empty prompt, too many tokens, a threshold that is not a number."""


class WeightsError(EngineError):
    """Models cannot be had or do not fit: no door open, wrong hash, no space, no GPU, unlike tokenizers."""


class RouterError(EngineError):
    """A router's folder is unreadable, or the router does not fit the loaded SLM."""


class SettingsError(EngineError):
    """A setting is unknown or out of range; the message names the environment variable."""
