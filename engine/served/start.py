"""Taking a server into use: which one it is, which model it has, and whether its tokens are ours.

Tokens are compared before any text: one that the server spells otherwise would make nonsense of every text, unnoticed.
"""

from __future__ import annotations

import logging
import unicodedata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.errors import SettingsError, WeightsError, shown
from engine.events.cost import ModelCost
from engine.models.files import read_object
from engine.served.connection import MODELS, Connection, ServerRefusal
from engine.served.dialects import DIALECTS, TOKENIZE, Dialect, WrongAnswer, shaped
from engine.served.model import UNKNOWN, ServedModel
from engine.settings import Settings
from engine.tokenizer import spelled

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
_DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
_PROBES = (
    *("1234567", " 3.14159", "x = 1e-9;", "don't we'll JOHN'S", "a\r\nb\n\n\tc", " \n  \n", " " * 17),
    *("São Straße naïve", "def f(x):\n    return x[0]\n", "\\frac{a}{b}", "東京 서울 กรุงเทพ"),
    *("👩\u200d👩\u200d👧 🇧🇷", "ﬁ ＡＢ１２ ４２", "e\u0301 \u0301e"),
)

logger = logging.getLogger(__name__)


def connect(settings: Settings, tokenizer: PreTrainedTokenizerBase, device: torch.device) -> ServedModel:
    """The LLM of `CITER_LLM_URL`, for a pair with this tokenizer whose SLM is on `device`.

    Raises:
        ServerError: It cannot be reached, or names no models.
        SettingsError: A setting does not fit the server, or its tokens are others than the SLM's.
    """
    key = settings.llm_key.get_secret_value() if settings.llm_key else None
    connection = Connection(settings.llm_url, key, settings.llm_timeout, settings.llm_patience, settings.rows + 1)
    try:
        models = connection.ask(MODELS, None, _models).result()
        model = _chosen(models, settings.llm_name)
        dialect = _dialect(model)
        name = str(model["id"])
        check_tokens(connection, dialect, name, tokenizer)
        about = len(tokenizer), device, _context(model), _cost(settings.llm_config)
        return ServedModel(connection, dialect, shown(Path(name).name or name), name, *about)
    except BaseException:
        connection.close()
        raise


def _models(reply: Any) -> list[dict[str, Any]]:
    models = reply.get("data") if isinstance(reply, dict) else None
    if not isinstance(models, list) or not all(isinstance(m, dict) and isinstance(m.get("id"), str) for m in models):
        raise WrongAnswer(f"{MODELS} is no list of models: is this the address of vLLM or of llama.cpp's server?")
    return models


def _chosen(models: list[dict[str, Any]], name: str) -> dict[str, Any]:
    """The model of this name, or the only one: several names may stand for one `root`."""
    named = [model for model in models if model["id"] == name] if name else models
    if len(named) == 1 or (named and not name and len({model.get("root") for model in models}) == 1):
        return named[0]
    there = ", ".join(shown(model["id"]) for model in models[:10]) or "none"
    if name:
        raise SettingsError(f"CITER_LLM_NAME = {shown(name)}: the server has no such model: it has {there}")
    raise SettingsError(f"CITER_LLM_NAME is not set, and the server has not one model: name one of {there}")


def _dialect(model: dict[str, Any]) -> Dialect:
    """How the model's server is asked; a proxy may hide that it is vLLM."""
    return DIALECTS["llama.cpp" if model.get("owned_by") == "llamacpp" else "vllm"]


def _context(model: dict[str, Any]) -> int | None:
    """Tokens that the server takes, as vLLM says it; llama.cpp tells what the model was trained with."""
    meta = model.get("meta")
    named = (model.get("max_model_len"), meta.get("n_ctx") if isinstance(meta, dict) else None)
    return next((length for length in named if isinstance(length, int) and length > 0), None)


def _cost(path: Path | None) -> ModelCost:
    """The cost of a pass by the model's configuration, with weights in its number format."""
    if path is None:
        return UNKNOWN
    from engine.model.config import config_of, skeleton
    from engine.model.language_model import cost_of
    from engine.model.linear import size_of

    title = f"CITER_LLM_CONFIG = {shown(str(path))}"
    path = path.expanduser()
    try:
        values = read_object(path / "config.json" if path.is_dir() else path)
        if any((values.get(name) or 0) > 1 for name in _EXPERTS):
            raise ValueError("the model has experts, and a pass does not read all")
        model: Any = skeleton(config_of("the model", values))
    except (ValueError, TypeError, WeightsError) as error:
        way_out = "leave the setting out, and bytes and FLOPs stay unknown"
        raise SettingsError(f"{title}: {shown(str(error), limit=200)}; {way_out}") from None
    dtype = _DTYPES.get(str(values.get("dtype") or values.get("torch_dtype")), torch.bfloat16)
    model = model.to(dtype)
    embedding, (size, weights) = model.get_input_embeddings().weight, size_of(model.get_decoder())
    trunk = size - embedding.nbytes, weights
    return cost_of(model.config, dtype, trunk, size_of(model.get_output_embeddings()), embedding)


def check_tokens(connection: Connection, dialect: Dialect, model: str, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises SettingsError, with the first of them, if the server spells one of some 200 strings in other tokens.

    A server that cannot tell is believed, with a warning. Raises ServerError if it does not answer.
    """
    strings = probe_strings(tokenizer)
    asked = [(text, connection.ask(TOKENIZE, dialect.tokens_body(model, text), _ids)) for text in strings]
    for text, answer in asked:
        ours = spelled(tokenizer, text)
        try:
            theirs = answer.result()
        except ServerRefusal as refusal:
            if refusal.status not in (404, 405):
                raise
            logger.warning("%s cannot be compared with the SLM's tokens: the server has no %s", model, TOKENIZE)
            return
        if ours != theirs:
            raise SettingsError(
                f"CITER_LLM_URL: {shown(model)} on the server cannot be the LLM here, its tokenizer differs: "
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


def _ids(reply: Any) -> list[int]:
    found = shaped(lambda: reply["tokens"])
    if not isinstance(found, list) or not all(isinstance(id, int) for id in found):
        raise WrongAnswer("its tokens are no list of ids")
    return found
