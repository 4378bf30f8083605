"""Whether two computations choose the same tokens: the engine and `generate`, weights in bf16 and in fewer bits."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from engine.events import Role
from engine.model.language_model import LanguageModel
from engine.model.logits import argmax
from engine.pairs.gguf_dense import quick_and_quiet_reading
from engine.pairs.origin import Origin, origin_of, read_tokenizer
from engine.pairs.presets import Model, Preset
from engine.request import Request
from engine.settings import Settings
from engine.tokenizer import backend, end_ids, render
from engine.weights import store
from engine.weights.convert import converted, load_folder
from engine.weights.progress import print_progress

Text = tuple[list[int], list[int]]
"""Token ids of a prompt, and those of what follows it."""

TIE = 2.0
"""Units of rounding within which two logits count as equal: each of them may be rounded by up to one."""


def compare(
    model: PreTrainedModel, prompt: Sequence[int], ours: Sequence[int], theirs: Sequence[int]
) -> dict[str, Any]:
    """Compares two greedy texts of one model after the same prompt, the engine's and that of `generate`.

    Returns:
        `tokens` compared, `same`; and where they part: `position`, both `ids`, the difference of their `logits`, that
        difference in `units` of the model's rounding at that size, and whether it is a `tie`.
    """
    result: dict[str, Any] = {"tokens": len(ours), "same": list(ours) == list(theirs)}
    if result["same"]:
        return result
    position = next(n for n, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b)
    text = torch.tensor([[*prompt, *ours[:position]]], device=model.device)
    with torch.inference_mode():
        logits = model(text, logits_to_keep=1).logits[0, -1]  # pyright: ignore[reportCallIssue]
    ids = [ours[position], theirs[position]]
    values = [float(logits[i]) for i in ids]
    unit = rounding(max(map(abs, values)), logits.dtype)
    gap = abs(values[0] - values[1])
    return {**result, "position": position, "ids": ids, "logits": values, "units": gap / unit, "tie": gap <= TIE * unit}


def rounding(value: float, dtype: torch.dtype) -> float:
    """The distance between two neighbouring numbers of a floating-point type at the size of `value`."""
    if value == 0:
        return float(torch.finfo(dtype).smallest_normal)
    return torch.finfo(dtype).eps * 2.0 ** math.floor(math.log2(abs(value)))


def weights(
    preset: Preset, settings: Settings, prompts: Sequence[str], tokens: int, references: Sequence[tuple[str, str]] = ()
) -> dict[str, Any]:
    """How near each form of the weights for a processor is to the original, for both models of a pair.

    The original, in bf16, writes greedy texts, and each form reads them, each in one pass: how often is its likeliest
    token the one that was written? The original is among the forms: what it would write otherwise in such a pass is a
    tie, and says how much of the others' difference is rounding.

    Args:
        tokens: Of each text, at most.
        references: Questions, and texts that answer them. Each form's loss on them is told, too.

    Returns:
        Per model its name (`model`), the `positions` that were compared, and `forms`: by name `agreement` in [0, 1],
        and `nll`, the mean negative log-likelihood of a reference's token in nats, or None without references.

    Raises:
        WeightsError: The weights cannot be had or converted.
    """
    models = {Role.SLM: preset.slm, Role.LLM: preset.llm}
    return {role.value: _compare_forms(each, settings, prompts, tokens, references) for role, each in models.items()}


def _compare_forms(
    model: Model, settings: Settings, prompts: Sequence[str], tokens: int, references: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    origin = origin_of(model, settings, print_progress)
    layouts = sorted({store.cpu_layout(), "int8"})
    folders = [converted(origin, settings, layout, print_progress) for layout in layouts]
    tokenizer = read_tokenizer(origin.title, folders[0])
    original = LanguageModel(_original(origin), origin.title, len(tokenizer))
    ends = end_ids(tokenizer, original.model)

    def ids_of(prompt: str) -> list[int]:
        return render(tokenizer, Request(prompt, raw=not tokenizer.chat_template))

    texts = [(ids, _greedy(original, ids, tokens, ends)) for ids in map(ids_of, prompts)]
    encode = backend(tokenizer).encode
    told = [(ids_of(question), encode(text, add_special_tokens=False).ids) for question, text in references]
    forms = {"bf16": _nearness(original, texts, told)}
    del original  # its gigabytes
    for layout, folder in zip(layouts, folders, strict=True):
        held = LanguageModel(load_folder(folder), origin.title, len(tokenizer))
        forms[store.form(layout)] = _nearness(held, texts, told)
    return {"model": origin.title, "positions": sum(len(text) for _, text in texts), "forms": forms}


def _original(origin: Origin) -> PreTrainedModel:
    """A model in bf16, as its files give it."""
    with quick_and_quiet_reading(), origin.open() as (model, read):
        return model.eval() if read is None else store.dense(model, read)


def _greedy(model: LanguageModel, prompt: Sequence[int], tokens: int, ends: frozenset[int]) -> list[int]:
    """What a model writes alone, at most so many tokens."""
    cache, text, unread = model.new_cache(1, len(prompt) + tokens), [], list(prompt)
    while len(text) < tokens and not (text and text[-1] in ends):
        (hidden,) = model.feed(cache, [0], [unread], [1])
        unread = [argmax(model.logits(hidden)[0])]
        text += unread
    return text


def _nearness(model: LanguageModel, texts: Sequence[Text], references: Sequence[Text]) -> dict[str, float | None]:
    same = sum(int((_read(model, *text).argmax(-1).cpu() == torch.tensor(text[1])).sum()) for text in texts)
    losses = [cross_entropy(_read(model, *each).cpu(), torch.tensor(each[1]), reduction="sum") for each in references]
    return {
        "agreement": same / sum(len(text) for _, text in texts),
        "nll": float(sum(losses)) / sum(len(text) for _, text in references) if references else None,
    }


def _read(model: LanguageModel, prompt: Sequence[int], text: Sequence[int]) -> torch.Tensor:
    """Logits at each position of a text, read in one pass: [tokens, vocabulary]."""
    cache = model.new_cache(1, len(prompt) + len(text))
    (hidden,) = model.feed(cache, [0], [[*prompt, *text[:-1]]], [len(text)])
    return model.logits(hidden)
