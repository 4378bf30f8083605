"""The settings of an LLM behind a server. They are the operator's: no request can name a server or bring a key."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr
from pydantic_core import PydanticCustomError
from pydantic_settings import BaseSettings

SECRET = ("llm_key", "llm_url", "api_key")
"""Fields whose value no message shows; a URL may be mistyped with a password in it."""


def _server_url(text: str) -> str:
    """The server's address without what the APIs add to it: "http://host:8000/v1/" is "http://host:8000"."""
    if not text:
        return ""
    try:
        parts = urlsplit(text)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0 and text.isprintable()
    except ValueError:
        parts, good = urlsplit(""), False
    if not good or parts.username is not None or parts.query or parts.fragment or " " in text:
        reason = "must be the server's address, as http://host:8000, with no name, password or query in it"
        raise PydanticCustomError("url", reason)  # pyright: ignore[reportArgumentType]
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def _sendable(key: SecretStr) -> SecretStr:
    """A key that fits into one line of a request; one with a line break would fail there, and only there."""
    text = key.get_secret_value()
    if not text.isprintable() or text != text.strip():
        reason = "must be printable characters in one line, with no space at an end"
        raise PydanticCustomError("key", reason)  # pyright: ignore[reportArgumentType]
    return key


class ServedSettings(BaseSettings):
    llm_url: Annotated[str, AfterValidator(_server_url)] = Field(
        "",
        max_length=2048,
        description="Address of the vLLM server that has the LLM, as `http://host:8000`; the LLM is then not loaded "
        "here. See docs/deploy.md.",
    )
    llm_name: str = Field(
        "", max_length=300, description="What the server calls the model; may be left out where it has one only."
    )
    llm_key: Annotated[SecretStr, AfterValidator(_sendable)] | None = Field(
        None, description="Key that the server wants, sent as a bearer token."
    )
    llm_timeout: float = Field(30.0, gt=0, le=3600, description="Seconds that one reply of the server may take.")
    llm_patience: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="Seconds that a text waits for a server that fails or is busy; then it stops, to be gone on with.",
    )
    llm_config: Path | None = Field(
        None,
        description="Path of the served model's `config.json`, or its folder, for the bytes and FLOPs that its passes "
        "cost; unset, they are not known.",
    )
