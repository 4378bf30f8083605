"""All settings: what a user may change with `CITER_*` variables or a `.env` file.

`python -m engine.settings` prints them as a table. Nothing slow is imported, so that a bad value is reported at once.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from dotenv import dotenv_values
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.errors import InvalidRequest, SettingsError, exit_status, fault_words, shown
from engine.policy import POLICIES
from engine.setting import Setting, stated, unknown_policy

PREFIX = "CITER_"
ENV_FILE = ".env"
SECRET = ("llm_key", "llm_url", "api_key")
"""Fields whose value no message shows; a URL may be mistyped with a password in it."""

DEFAULT_ROWS = 32  # a sweep over both dials has 31 texts: where all have a row, they share their beginning


def _expanded(path: Path) -> Path:
    """Expands "~", since no shell reads a .env file."""
    try:
        return path.expanduser()
    except RuntimeError:
        raise ValueError("must be a path, and there is no such user's home folder") from None


_HomePath = Annotated[Path, AfterValidator(_expanded)]
_ModelName = Annotated[str, Field(min_length=1, max_length=4096, pattern=r"^[^\x00]+$")] | None


def _notation(text: str) -> str:
    """Refuses what is no setting in the notation, or out of its limits."""
    try:
        if text and Setting(**stated(text)).policy not in POLICIES:
            raise unknown_policy(text)
    except InvalidRequest as error:
        raise ValueError(str(error)) from None
    return text


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
        raise ValueError("must be the server's address, as http://host:8000, with no name, password or query in it")
    return text.rstrip("/").removesuffix("/v1").rstrip("/")


def _sendable(key: SecretStr) -> SecretStr:
    """A key that fits into one line of a request; one with a line break would fail there, and only there."""
    text = key.get_secret_value()
    if not text.isprintable() or text != text.strip():
        raise ValueError("must be printable characters in one line, with no space at an end")
    return key


def default_cache_dir() -> Path:
    """`$XDG_CACHE_HOME/citer-playground`, or `~/.cache/citer-playground` where XDG is unset or relative.

    On a Hugging Face Space with storage that lasts, it is there: `/data/citer-playground`.
    """
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))  # its specification says to ignore a relative one
    if xdg.is_absolute():
        return xdg / "citer-playground"
    lasting = Path("/data")
    on_space = "SPACE_ID" in os.environ and os.access(lasting, os.W_OK)
    return (lasting if on_space else Path.home() / ".cache") / "citer-playground"


class Settings(BaseSettings):
    """All settings, immutable. Build with `load_settings`, which turns validation errors into readable ones."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        # A .env is shared with other programs (HF_TOKEN); unknown CITER_ names are refused in load_settings.
        extra="ignore",
        frozen=True,
        allow_inf_nan=False,
    )

    preset: Literal["auto", "gpu", "cpu", "tiny"] = Field(
        "auto", description="Pair of models: `gpu`, `cpu`, `tiny`; `auto` is `gpu` with 8 GB of CUDA, else `cpu`."
    )
    slm: _ModelName = Field(
        None,
        description="Another SLM than the preset's: a repo of the Hugging Face Hub (`owner/name`, "
        "`owner/name@revision`), a folder of safetensors, or a GGUF file (docs/own-pair.md).",
    )
    llm: _ModelName = Field(None, description="Another LLM than the preset's, named alike; with the same tokenizer.")
    router: str = Field(
        "auto",
        min_length=1,
        max_length=4096,
        description="Router: a folder's name under `assets/routers`, a path, or a repo of the Hugging Face Hub "
        "(`owner/name`, `owner/name@revision`); `auto` is the preset's own.",
    )
    adapter: str = Field(
        "auto",
        min_length=1,
        max_length=4096,
        description="What the SLM has learned of its LLM's own texts (`python -m trainer align`): a file, a folder "
        "that holds one, a folder's name under `assets/routers`, or `none`; `auto` is the one beside the router, if "
        "there is one.",
    )
    setting: Annotated[str, AfterValidator(_notation)] = Field(
        "",
        max_length=200,
        description="The default setting of texts, e.g. `router < 0.88 @ 0.3/8`. Policy: "
        "`router`, `confidence` (of the SLM), `random` (the threshold is the LLM's share), `slm`, `llm`. Threshold: a "
        "routing score below it goes to the LLM, 0 to 2. Acceptance: 0 keeps all that the SLM drafted, 1 only what the "
        "LLM would have written. Draft limit: drafted tokens, at most, before the LLM reads them; without one, it "
        "follows from what a verification costs. What is left out is the router's own.",
    )
    max_new_tokens: int = Field(256, ge=1, le=1_000_000, description="Longest text to generate, in tokens.")
    context: int = Field(
        2048, ge=16, le=1_000_000, description="Tokens (prompt and text) that the KV cache holds per row."
    )
    rows: int = Field(
        DEFAULT_ROWS,
        ge=1,
        le=1024,
        description="Texts that are written at once, of all visitors together, while others wait in line; fewer where "
        "`CITER_MEMORY` allows no more.",
    )
    memory: float | None = Field(
        None,
        gt=0,
        le=1e6,
        description="Gigabytes that a server may take; unset is what the container or the machine has.",
    )
    cache_dir: _HomePath = Field(
        default_factory=default_cache_dir,
        description="Folder for downloaded and converted weights (about 3.5 GB for `cpu`, 4.4 in int8).",
    )
    cpu_weights: Literal["auto", "nf4", "int8", "bf16"] = Field(
        "auto",
        description="How weights are stored for a processor: `nf4` is 4 bits, which AVX512-BF16 multiplies fast, and "
        "`int8` takes 0.9 GB more for preset `cpu`. `auto` is NF4 with AVX512-BF16 but no matrix units (AMX), else "
        "`int8`. `bf16` has the numbers of NF4 in 16 bits, in 3 GB more: for training with matrix units.",
    )
    api_key: SecretStr | None = Field(
        None,
        min_length=1,
        max_length=1024,
        description="Key that other programs must send to `/v1/…`; unset asks for none. The page needs none.",
    )
    server__host: str | None = Field(
        None,
        pattern=r"^[\w.:%-]+$",
        max_length=253,
        description="Address to listen on; unset is this machine alone.",
    )
    server__port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="Port; unset is 7860 or the next free one, and 8000 for `python -m engine serve`.",
    )
    server__queue_size: int = Field(
        32,
        ge=1,
        le=10_000,
        description="Texts and other jobs of the page that may wait or be worked on, and as many of `/v1/…`. A "
        "further one is refused, and of one client address more than a quarter of what others leave.",
    )
    server__proxies: int | None = Field(
        None,
        ge=0,
        le=10,
        description="Proxies in front of the server that append to `X-Forwarded-For`, from which client addresses are "
        "read then. 0 trusts the connection alone. Unset is 0; but on a Space it is the last public address there.",
    )
    server__hosts: str = Field(
        "",
        max_length=4096,
        pattern=r"^[\w.*:, \[\]-]*$",
        description="Host names that the page answers to, and sites whose pages may send it requests, separated by "
        "commas, e.g. `demo.example.org, *.lan`; `*` allows all. IP addresses, `localhost` and this machine's name "
        "always work, and on a Space its own names.",
    )
    llm_url: Annotated[str, AfterValidator(_server_url)] = Field(
        "",
        max_length=2048,
        description="Address of the vLLM server that has the LLM, as `http://host:8000`; the LLM is then not loaded "
        "here. See docs/deploy.md.",
    )
    llm_name: str = Field("", max_length=300, description="What the server calls the model; unset is its first.")
    llm_key: Annotated[SecretStr, AfterValidator(_sendable)] | None = Field(
        None, description="Key that the server wants, sent as a bearer token."
    )
    llm_timeout: float = Field(30.0, gt=0, le=3600, description="Seconds that one reply of the server may take.")
    llm_patience: float = Field(
        60.0,
        ge=0,
        le=86_400,
        description="Seconds that a text waits for a server that fails or is busy; then it stops and can be continued.",
    )
    llm_config: _HomePath | None = Field(
        None,
        description="Path of the served model's `config.json`, or its folder, for the bytes and FLOPs that its passes "
        "cost; unset, they are not known.",
    )

    @property
    def stated(self) -> dict[str, Any]:
        """The parts of `setting` that it names, by their fields in `engine.setting.Setting`."""
        return stated(self.setting) if self.setting else {}


def load_settings(**overrides: Any) -> Settings:
    """Reads the settings from overrides, the environment, `.env` and defaults, in this order of precedence.

    `overrides` are values by field name. A SettingsError has a line for each unknown name and value out of range, with
    the variable.
    """
    _refuse_unknown_names(list(overrides))
    try:
        settings = Settings(**overrides)  # NaN and infinities are refused in every number
        if settings.llm_config and not settings.llm_url:
            path = shown(str(settings.llm_config))
            raise SettingsError(f"CITER_LLM_CONFIG = {path} is for a served LLM: set CITER_LLM_URL, or leave it out")
        return settings
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(fault) for fault in error.errors())) from error


MODEL_OPTIONS = ("preset", "slm", "llm")
"""Settings that name the two models; every command that runs models has them as options."""


def add_model_options(add: Callable[..., Any]) -> None:
    """Adds `MODEL_OPTIONS` to a command line by `add`, which is `argparse.ArgumentParser.add_argument` or like it."""
    add("--preset", metavar="NAME", help="pair of models: auto, gpu, cpu or tiny")
    model = "a repo of the Hub, a folder of safetensors, or a GGUF file, instead of the preset's"
    add("--slm", metavar="MODEL", help=f"small model: {model}")
    add("--llm", metavar="MODEL", help=f"large model: {model}; of the same tokenizer")


def with_models(settings: Settings, options: Any) -> Settings:
    """The settings, with the `MODEL_OPTIONS` that were given on a command line in them."""
    named = {name: value for name in MODEL_OPTIONS if (value := getattr(options, name)) is not None}
    return load_settings(**{**settings.model_dump(), **named}) if named else settings


def markdown_table() -> str:
    """`variables()` as the Markdown table of docs/settings.md, one line per variable."""
    rows = [("variable", "default", "meaning"), ("---", "---", "---")]
    rows += [(f"`{name}`", f"`{default}`" if default else "", meaning) for name, default, meaning in variables()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def variables() -> list[tuple[str, str, str]]:
    """(variable, default, meaning) of every setting, in the order of the fields."""
    rows: list[tuple[str, str, str]] = []
    for name, field in Settings.model_fields.items():
        default = "~/.cache/citer-playground" if name == "cache_dir" else field.default
        rows.append((PREFIX + name.upper(), "" if default is None else str(default), field.description or ""))
    return rows


def _refuse_unknown_names(overrides: list[str]) -> None:
    for name in overrides:
        if name not in Settings.model_fields:
            raise SettingsError(_not_a_setting(name, list(Settings.model_fields)))
    if Path(ENV_FILE).is_dir():
        raise SettingsError(f"{ENV_FILE} is a folder here: it must be a file of NAME=value lines, or absent")
    try:
        in_file = [name.upper() for name in dotenv_values(ENV_FILE, encoding="utf-8")]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{ENV_FILE} cannot be read: {error}. It must be UTF-8 text of NAME=value lines") from error
    known = {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted({name.upper() for name in os.environ} | set(in_file)):
        if name.startswith(PREFIX) and name not in known:
            raise SettingsError(_not_a_setting(name, sorted(known)))


def _not_a_setting(name: str, known: list[str]) -> str:
    name = shown(name)
    near = difflib.get_close_matches(name, known, n=1)
    hint = f": did you mean {near[0]}?" if near else "; `python -m engine.settings` lists all of them"
    return f"{name} is not a setting{hint}"


def _fault(fault: Any) -> str:
    name = str(fault["loc"][0])
    return fault_words(fault, PREFIX + name.upper(), hidden=name in SECRET)


if __name__ == "__main__":
    sys.exit(exit_status(lambda: print(markdown_table())))
