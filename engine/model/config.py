"""A model's configuration, which may be a stranger's: sizes and types are checked before anything is made of them.

Of a `config.json` only what the trunk knows is read. Code that it names is never run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import WeightsError, shown
from engine.model.kv_cache import head_dim
from engine.model.nf4 import BLOCK, PACK_ROWS
from engine.models.files import read_object

if TYPE_CHECKING:
    from transformers import PretrainedConfig, PreTrainedModel

CONFIG, GENERATION = "config.json", "generation_config.json"
_FAMILIES = ("llama", "mistral", "qwen2", "qwen3")  # `model_type` of the configurations whose layers we have
_ROTARY = ("default", "linear", "llama3", "yarn")  # depend on the position alone, and not on the length of the text

_SIZES = {
    "vocab_size": 2_000_000,
    "hidden_size": 65_536,
    "intermediate_size": 1_000_000,
    "num_hidden_layers": 512,
    "num_attention_heads": 1_024,
    "num_key_value_heads": 1_024,
    "head_dim": 1_024,
    "max_position_embeddings": 2**31,
}
"""Whole numbers from 1, and the largest that each may be."""

_OTHERS = (
    *("rms_norm_eps", "rope_theta", "rope_scaling", "rope_parameters", "hidden_act", "initializer_range"),
    *("tie_word_embeddings", "attention_bias", "mlp_bias", "bos_token_id", "eos_token_id", "pad_token_id"),
    *("use_sliding_window", "sliding_window", "max_window_layers", "layer_types"),
)
"""Names that are read besides; transformers checks their values."""


def read_config(title: str, folder: Path) -> PretrainedConfig:
    """The configuration in a folder; a WeightsError if it is none that this engine decodes."""
    values = _object(title, folder / CONFIG)
    config = config_of(title, values)
    if (folder / GENERATION).is_file():  # chat models name there what ends a message
        config.eos_token_id = list(dict.fromkeys(_ends(values) + _ends(_object(title, folder / GENERATION))))
    return config


def config_of(title: str, values: Mapping[str, Any]) -> PretrainedConfig:
    """The configuration that a `config.json` holds; a WeightsError names what is wrong or unknown."""
    kind = values.get("model_type")
    if kind not in _FAMILIES:
        raise WeightsError(
            f"{title} is a model of type {shown(kind, True)}, and this engine decodes {', '.join(_FAMILIES)}: "
            "choose a model of one of these families, such as Qwen2.5 or Llama 3"
        )
    if quantised := values.get("quantization_config"):
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise WeightsError(
            f"{title} is quantised already ({shown(method or quantised)}): give the original, in safetensors of F32, "
            "F16 or BF16, or a GGUF file"
        )
    from transformers import CONFIG_MAPPING

    for name, most in _SIZES.items():
        if (value := values.get(name)) is not None and (type(value) is not int or not 0 < value <= most):
            raise WeightsError(
                f"{title}: {name} is {shown(value, True)} in its configuration, not a whole number from 1 to {most:,}"
            )
    kept = {name: values[name] for name in (*_SIZES, *_OTHERS) if values.get(name) is not None}
    kept |= {"eos_token_id": _ends(values)}
    # A null is not the same as a missing name, for which the class has its own default.
    if "sliding_window" in values:
        kept["sliding_window"] = values["sliding_window"]
    if values.get("num_key_value_heads", 0) is None:
        kept["num_key_value_heads"] = values.get("num_attention_heads")
    try:
        config = CONFIG_MAPPING[kind](**kept)
    except Exception as error:  # the library raises whatever it stumbles over
        raise WeightsError(f"{title}: its {CONFIG} is not that of a {kind} model ({shown(str(error))})") from None
    if reasons := _unknown(config):
        raise WeightsError(
            f"{title} ({kind}) cannot be decoded by this engine: {'; '.join(reasons)}. "
            "Choose a model with full attention and plain logits, such as Qwen2.5 or Llama 3."
        )
    return config


def _unknown(config: Any) -> list[str]:
    """What an architecture does that the forward pass does not reproduce."""
    sliding = not hasattr(config, "layer_types") and getattr(config, "sliding_window", None)
    kinds = {"sliding_attention"} if sliding else set(getattr(config, "layer_types", None) or ["full_attention"])
    rotary = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    faults = {
        f"it uses {', '.join(sorted(kinds))}": kinds != {"full_attention"},
        f"its activation is {config.hidden_act}": config.hidden_act != "silu",
        f"its rotary embedding ({rotary}) depends on the length of the text": rotary not in _ROTARY,
    }
    return [reason for reason, wrong in faults.items() if wrong]


def skeleton(config: PretrainedConfig) -> PreTrainedModel:
    """The model of a configuration, without memory for its weights."""
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)


def check_widths(title: str, config: Any, layout: str) -> None:
    """Refuses a model whose matrices NF4 cannot hold, by a WeightsError."""
    if layout == "int8":
        return
    width, rows = head_dim(config), 1 if layout == "plain" else PACK_ROWS
    columns = (config.hidden_size, config.intermediate_size, config.num_attention_heads * width)
    sides = [*((each, "columns", BLOCK) for each in columns), (config.num_key_value_heads * width, "rows", rows)]
    for size, side, block in sides:
        if size % block:
            raise WeightsError(
                f"{title} has matrices of {size} {side}, and NF4 holds multiples of {block}: "
                "set CITER_CPU_WEIGHTS=int8, or choose another model"
            )


def _ends(values: Mapping[str, Any]) -> list[int]:
    """Token ids that end a text: the configuration may name one, several, or none."""
    named = values.get("eos_token_id")
    return [each for each in (named if isinstance(named, list) else [named])[:100] if type(each) is int]


def _object(title: str, path: Path) -> dict[str, Any]:
    try:
        return read_object(path)
    except ValueError as error:
        raise WeightsError(f"{title}: {path}: {error}") from None
