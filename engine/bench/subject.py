"""What is measured: a pair in the engine, the same models as transformers runs them, and the prompts.

The models for transformers are loaded a second time: the engine may change the modules of its pair, and what is
compared with must be what anyone gets. On a processor they have the engine's own weights and products.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from engine.errors import SettingsError
from engine.events import Role
from engine.events.progress import ProgressCallback
from engine.models import store
from engine.models.convert import folder_of
from engine.models.load import layout_for, slm_files
from engine.models.model_files import files_of
from engine.models.sources import choose_preset
from engine.pair import Pair, load
from engine.provenance import ROOT
from engine.request import Request
from engine.settings import Settings, load_settings
from engine.tokenizer import render

PROMPTS = ROOT / "assets" / "prompts.json"
SEED = 0  # of random weights

_QWEN = {
    "model_type": "qwen2",
    "max_position_embeddings": 32768,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_theta": 1e6, "rope_type": "default"},
    "num_key_value_heads": 2,
    "vocab_size": 151936,
    "tie_word_embeddings": True,
}


def _qwen(hidden: int, intermediate: int, layers: int, heads: int, **other: Any) -> dict[str, Any]:
    sizes = {"hidden_size": hidden, "intermediate_size": intermediate}
    return {**_QWEN, **sizes, "num_hidden_layers": layers, "num_attention_heads": heads, **other}


SHAPES: dict[str, dict[str, Any]] = {
    "qwen2.5-coder-0.5b": _qwen(896, 4864, 24, 14),
    "qwen2.5-coder-1.5b": _qwen(1536, 8960, 28, 12),
    "qwen2.5-coder-7b": _qwen(3584, 18944, 28, 28, num_key_value_heads=4, vocab_size=152064, tie_word_embeddings=False),
}
"""The sizes in the `config.json` of published models, for pairs with random weights."""


@dataclass
class Subject:
    """What a benchmark measures: a pair, and its models outside of the engine, loaded when a row first asks for them.

    Attributes:
        name: Of the preset, or of the two shapes; a file's name.
        gguf: Files of the same models for llama.cpp, where there are any.
        load_plain: Loads both models as transformers runs them, once.
    """

    name: str
    pair: Pair
    gguf: dict[Role, Path]
    load_plain: Callable[[], tuple[PreTrainedModel, PreTrainedModel]]

    def plain(self, role: Role) -> PreTrainedModel:
        """A model as transformers runs it."""
        return self.load_plain()[0 if role is Role.SLM else 1]

    @property
    def device(self) -> torch.device:
        """Where the models run."""
        return self.pair.slm.device


def from_settings(settings: Settings, progress: ProgressCallback | None = None) -> Subject:
    """The pair of the settings, loaded as `engine.load` does, for texts of their `context` tokens."""
    pair = load(None, settings, progress)
    for model in pair.models:  # both are to be here
        model.calibrate()  # times that were kept may be of another day, or of other instructions
    chosen = choose_preset(settings)

    def load_plain() -> tuple[PreTrainedModel, PreTrainedModel]:
        layout, device = layout_for(chosen, settings), pair.slm.device
        if layout == store.FP32:
            return tuple(model.model for model in load(None, settings, progress).models)
        both = slm_files(chosen, settings, progress), files_of(chosen.llm, settings, progress)
        models: list[Any] = [store.as_transformers(folder_of(each, settings, layout), layout) for each in both]
        slm, llm = (model.to(device) for model in models)
        return slm, llm

    models = {Role.SLM: chosen.slm, Role.LLM: chosen.llm}
    gguf = {role: path for role, model in models.items() if (path := model.gguf_path(settings.cache_dir))}
    gguf = {role: path for role, path in gguf.items() if path.exists()}
    return Subject(pair.preset, pair, gguf, cache(load_plain))


def from_shapes(shapes: Sequence[str], context: int, device: str | None = None) -> Subject:
    """A pair with random NF4 weights: its texts mean nothing, its speed is that of real ones.

    Args:
        shapes: Two names of `SHAPES` or paths of `config.json` files: the SLM's and the LLM's.
        context: Tokens that a text may have, prompt included.
        device: "cpu" or "cuda"; the GPU if there is one by default.

    Raises:
        SettingsError: A shape is unknown, or its file is no model's configuration.
    """
    configs = [_config(shape) for shape in shapes]
    where = device or ("cuda" if torch.cuda.is_available() else "cpu")

    def load_plain() -> tuple[PreTrainedModel, PreTrainedModel]:
        slm, llm = (_random(config, where) for config in configs)
        return slm, llm

    tokenizer = stand_in_tokenizer(min(config.vocab_size for config in configs))

    names = [shape if shape in SHAPES else Path(shape).stem for shape in shapes]
    slm, llm = load_plain()
    pair = Pair(
        slm,
        llm,
        tokenizer,
        slm_name=names[0],
        llm_name=names[1],
        preset="random",
        quantisation=_form(where),
        context=context,
    )
    for model in pair.models:
        model.calibrate()
    return Subject(f"random-{names[0]}-{names[1]}", pair, {}, cache(load_plain))


def _config(shape: str) -> PretrainedConfig:
    try:
        values = SHAPES[shape] if shape in SHAPES else json.loads(Path(shape).read_text(encoding="utf-8"))
        return AutoConfig.for_model(**values)
    except (OSError, ValueError, TypeError) as error:
        raise SettingsError(
            f"--random-weights {shape}: {error}; give a config.json or one of {', '.join(SHAPES)}"
        ) from None


def _dense(config: PretrainedConfig) -> PreTrainedModel:
    torch.manual_seed(SEED)
    return AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).eval().requires_grad_(False)


def _form(where: str) -> str:
    return store.form(_layout()) if where == "cpu" else "NF4"


def _layout() -> str:
    return store.cpu_layout(load_settings().cpu_weights)


def _random(config: PretrainedConfig, where: str) -> PreTrainedModel:
    """Quantised, stored and rebuilt on a processor as the engine does it with real weights."""
    if where != "cpu":
        return _quantised_by_bitsandbytes(config, torch.device(where))
    dense = _dense(config)  # all of it is in memory, once
    tensors = dense.state_dict()
    with tempfile.TemporaryDirectory() as folder:
        store.save(store.quantise(dense, _layout(), tensors.__getitem__), Path(folder) / store.WEIGHTS)
        config.save_pretrained(folder)
        return store.as_transformers(Path(folder), _layout())


def _quantised_by_bitsandbytes(config: PretrainedConfig, device: torch.device) -> PreTrainedModel:
    """As bitsandbytes quantises at load, matrix by matrix, so that a card never holds the dense model.

    Meant for CUDA; no GPU was at hand to run it there.
    """
    import bitsandbytes as bnb

    torch.manual_seed(SEED)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    params4bit: Any = bnb.nn.Params4bit  # pyright does not see Params4bit.__new__ behind nn.Parameter's
    for name, module in list(model.named_modules()):
        if isinstance(module, torch.nn.Linear):
            size, bias = (module.in_features, module.out_features), module.bias is not None
            linear: Any = bnb.nn.Linear4bit(*size, bias, compute_dtype=torch.bfloat16, quant_type="nf4", device="meta")
            weight = 0.02 * torch.randn(module.weight.shape, dtype=torch.bfloat16)
            linear.weight = params4bit(weight, requires_grad=False, quant_type="nf4", module=linear).to(device)
            model.set_submodule(name, linear)
    fill: dict[str, torch.Tensor] = {}
    for name, value in model.named_parameters():
        if value.is_meta:
            # Norms are vectors near 1, biases near 0; what is left is the embedding, and lm_head where it stays dense.
            one = value.ndim == 1 and not name.endswith("bias")
            dense = torch.ones(value.shape) if one else 0.02 * torch.randn(value.shape)
            fill[name] = dense.to(device, torch.bfloat16)
    model.load_state_dict(fill, strict=False, assign=True)
    store.rebuild_rotary(model, device)
    return model.eval().requires_grad_(False)


def stand_in_tokenizer(size: int) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer of `size` tokens without a chat template; the tokens beyond the bytes have names only."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokens = [*sorted(pre_tokenizers.ByteLevel.alphabet()), "<|endoftext|>"]
    tokens += [f"t{number}" for number in range(len(tokens), size)]
    backend = Tokenizer(models.BPE(vocab={token: number for number, token in enumerate(tokens)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def prompt_of(tokenizer: PreTrainedTokenizerBase, length: int, number: int = 0) -> list[int]:
    """A prompt of exactly `length` token ids: several questions in one message, whose last is cut in the middle.

    Real questions, because a speculative decoder's speed depends on how well the SLM guesses the LLM; many, so that the
    answer is longer than what is measured. Prompts of different numbers begin with different questions, as far as there
    are. The tokenizer's chat template is used where it has one and there is room for it.
    """
    questions: list[str] = json.loads(PROMPTS.read_text(encoding="utf-8"))
    first = number % len(questions)
    questions = questions[first:] + questions[:first]
    raw, text, ids = not tokenizer.chat_template, "", []
    while len(ids) < length:
        text += "\n".join(questions) + "\n"
        ids = render(tokenizer, Request(text, raw=raw))
    ending = 0 if raw else _common_ending(ids, render(tokenizer, Request("?")))
    ending = ending if ending < length else 0
    return ids[: length - ending] + ids[len(ids) - ending :]


def _common_ending(first: Sequence[int], second: Sequence[int]) -> int:
    """Tokens that two rendered prompts end with alike: what the template puts after the message."""
    same = 0
    while same < min(len(first), len(second)) and first[-1 - same] == second[-1 - same]:
        same += 1
    return same
