"""Taking a server into use: whether it answers as vLLM, which model it has, and whether its tokens are ours.

Tokens are compared before any text: one that the server spells otherwise would make nonsense of every text, unnoticed.
"""

from __future__ import annotations

import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import ServerError, SettingsError, WeightsError, shown
from engine.events.cost import ModelCost
from engine.models.files import read_object
from engine.served import vllm
from engine.served.connection import Connection
from engine.served.model import UNKNOWN, ServedModel
from engine.settings import Settings
from engine.tokenizer import spelled

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_PROBES = (
    *("1234567", " 3.14159", "x = 1e-9;", "don't we'll JOHN'S", "a\r\nb\n\n\tc", " \n  \n", " " * 17),
    *("São Straße naïve", "def f(x):\n    return x[0]\n", "\\frac{a}{b}", "東京 서울 กรุงเทพ"),
    *("👩\u200d👩\u200d👧 🇧🇷", "ﬁ ＡＢ１２ ４２", "e\u0301 \u0301e"),
)


def connect(settings: Settings, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> ServedModel:
    """The LLM of `CITER_LLM_URL`, for a pair with this tokenizer whose SLM is on `device`.

    Raises:
        ServerError: It cannot be reached, or does not answer as vLLM does.
        SettingsError: A setting does not fit the server, or its tokens are others than the SLM's.
    """
    key = settings.llm_key.get_secret_value() if settings.llm_key else None
    connection = Connection(settings.llm_url, key, settings.llm_timeout, settings.llm_patience, settings.rows + 1)
    try:
        models = connection.ask(vllm.MODELS, None, lambda reply: {str(m["id"]): m for m in reply["data"]}).result()
        name = settings.llm_name or next(iter(models), "")  # the others of a vLLM are adapters of the first
        if name not in models:
            there = ", ".join(map(shown, [*models][:10])) or "none"
            raise SettingsError(f"CITER_LLM_NAME = {shown(name)}: the server has no such model: it has {there}")
        context = models[name].get("max_model_len")
        about = device, context if isinstance(context, int) and context > 0 else None, _cost(settings.llm_config)
        llm = ServedModel(connection, shown(Path(name).name or name), name, len(tokenizer), *about)
        llm.look([1, 1], 2).result()
        check_tokens(llm, tokenizer)
        return llm
    except BaseException as error:
        connection.close()
        if isinstance(error, ServerError):
            raise ServerError(f"CITER_LLM_URL needs vLLM, as `vllm serve` starts it: {error}") from None
        raise


def _cost(path: Path | None) -> ModelCost:
    """The cost of a pass by the model's configuration, with weights in its number format."""
    if path is None:
        return UNKNOWN
    from engine.model.config import config_of, skeleton
    from engine.model.forward import size_of
    from engine.model.language_model import cost_of

    try:
        values = read_object(path / "config.json" if path.is_dir() else path)
        model: Any = skeleton(config_of("the model", values))
    except (ValueError, TypeError, WeightsError) as error:
        said = f"CITER_LLM_CONFIG = {shown(str(path))}: {shown(str(error), limit=200)}"
        raise SettingsError(f"{said}; leave the setting out, and bytes and FLOPs stay unknown") from None
    dtype = _DTYPES.get(str(values.get("dtype") or values.get("torch_dtype")), torch.bfloat16)
    model = model.to(dtype)
    embedding, (size, weights) = model.get_input_embeddings().weight, size_of(model.get_decoder())
    trunk = size - embedding.nbytes, weights
    return cost_of(model.config, dtype, trunk, size_of(model.get_output_embeddings()), embedding)


def check_tokens(llm: ServedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises SettingsError, with the first of them, if the server spells one of some 200 strings in other tokens."""
    asked = [(text, llm.spelled(text)) for text in probe_strings(tokenizer)]
    for text, answer in asked:
        ours, theirs = spelled(tokenizer, text), answer.result()
        if ours != theirs:
            raise SettingsError(
                f"CITER_LLM_URL: {shown(llm.model)} on the server cannot be the LLM here, its tokenizer differs: "
                f"{shown(text, True)} is {shown(ours)} to the SLM and {shown(theirs)} to the server. "
                "Choose two models of one family."
            )


def probe_strings(tokenizer: PreTrainedTokenizerBase) -> list[str]:
    """Strings that tell tokenizers apart: special tokens, what versions split differently, and 180 of the vocabulary.

    In normal form C (Unicode, annex 15): a server may bring text into it first (vLLM does for every Qwen2), but it is
    asked with ids, so what matters is that the same text has the same ids.
    """
    ids = range(0, len(tokenizer), max(1, len(tokenizer) // 180))
    known = (text for id in ids if (text := str(tokenizer.decode([id]))).isprintable() and "\ufffd" not in text)
    strings = [*map(str, tokenizer.all_special_tokens[:20]), *_PROBES, *filter(None, known)]
    return list(dict.fromkeys(unicodedata.normalize("NFC", text) for text in strings))
