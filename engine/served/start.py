"""Taking a server into use: whether it answers as vLLM, which model it has, and whether its tokens are ours.

Tokenizers are compared before any text is written: a different one would make nonsense of every text, unnoticed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch

from engine.errors import ServerError, SettingsError, WeightsError, shown
from engine.events.cost import ModelCost
from engine.model.language_model import cost_by_config
from engine.models.files import read_object
from engine.served import vllm
from engine.served.connection import Connection
from engine.served.model import UNKNOWN, ServedModel
from engine.settings import Settings
from engine.tokenizer import probe_strings, spelled

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
    if path is None:
        return UNKNOWN
    try:
        return cost_by_config(read_object(path / "config.json" if path.is_dir() else path))
    except (ValueError, TypeError, WeightsError) as error:
        said = f"CITER_LLM_CONFIG = {shown(str(path))}: {shown(str(error), limit=200)}"
        raise SettingsError(f"{said}; leave the setting out, and bytes and FLOPs stay unknown") from None


def check_tokens(llm: ServedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raises SettingsError if the server encodes one of some 200 strings otherwise; the message names the first."""
    asked = [(text, llm.spelled(text)) for text in probe_strings(tokenizer)]
    for text, answer in asked:
        ours, theirs = spelled(tokenizer, text), answer.result()
        if ours != theirs:
            raise SettingsError(
                f"CITER_LLM_URL: {shown(llm.model)} on the server cannot be the LLM here, its tokenizer differs: "
                f"{shown(text, True)} is {shown(ours)} to the SLM and {shown(theirs)} to the server. "
                "Choose two models of one family."
            )
