"""Whether two computations choose the same tokens: the engine and `generate`, weights in bf16 and in fewer bits."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel

from engine.benchmark.measure import seconds_of
from engine.events import Role
from engine.model import int8
from engine.model.language_model import LanguageModel
from engine.model.linear import copy_dtype, four_bit_parameters
from engine.model.logits import argmax
from engine.pair import Pair, load
from engine.pairs.gguf_dense import quick_and_quiet_reading
from engine.pairs.origin import Origin, origin_of, read_tokenizer
from engine.pairs.presets import Model, Preset
from engine.request import Request, build_request
from engine.settings import Settings, load_settings
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


def lm_head(preset: str, prompts: Sequence[str], tokens: int, repeats: int = 30) -> dict[str, Any]:
    """What 4 bits on `lm_head` gain and cost, for both models of a pair that is quantised here ("cpu").

    On greedy texts (one per prompt, of at most `tokens` tokens) written with `lm_head` in bf16: how often does the
    4-bit one choose the same token in the same state, and how long does each take for one token?

    Returns:
        Per model: positions, agreement in [0, 1], texts without a difference, and milliseconds of a one-token trunk
        pass and of either `lm_head`, as medians of alternating timings.
    """
    settings = {name: load_settings(preset=preset, lm_head_4bit=name == "nf4") for name in ("bf16", "nf4")}
    pairs = {name: load(None, setting, print_progress) for name, setting in settings.items()}
    return {role.value: _compare_heads(pairs, role, prompts, tokens, repeats) for role in (Role.SLM, Role.LLM)}


def _compare_heads(
    pairs: dict[str, Pair], role: Role, prompts: Sequence[str], tokens: int, repeats: int
) -> dict[str, Any]:
    models = {name: pair.models[role is Role.LLM] for name, pair in pairs.items()}
    dense = models["bf16"]
    choices = []
    for prompt in prompts:
        request = build_request(prompt, policy=role.value, max_new_tokens=tokens)
        written = [event.id for event in pairs["bf16"].generate(request).events]
        ids = render(pairs["bf16"].tokenizer, request)
        fed = ids + written[:-1]
        hidden = dense.feed(dense.new_cache(1, len(fed)), [0], [fed])[0][len(ids) - 1 :]
        choices.append([model.logits(hidden).argmax(-1).tolist() for model in models.values()])
    same = [[a == b for a, b in zip(*text, strict=True)] for text in choices]
    positions = sum(map(len, same))
    return {
        "model": dense.name,
        "positions": positions,
        "agreement": sum(map(sum, same)) / positions,
        "texts_without_a_difference": sum(map(all, same)),
        "texts": len(prompts),
        "milliseconds": _time_heads(models, repeats),
        "head_bytes": {name: model.cost.head_bytes for name, model in models.items()},
    }


def _time_heads(models: dict[str, LanguageModel], repeats: int) -> dict[str, float]:
    """Milliseconds for one token: of the trunk, and of each model's `lm_head`."""
    dense = models["bf16"]
    cache = dense.new_cache(1, 100 + repeats)
    hidden = dense.feed(cache, [0], [[1] * 99])[0][-1:]
    calls: dict[str, Callable[[], object]] = {"trunk": lambda: dense.feed(cache, [0], [[1]])}
    calls |= {name: lambda model=model: model.logits(hidden).argmax() for name, model in models.items()}
    seconds = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            seconds[name].append(seconds_of(call, dense.device))
    return {name: round(1e3 * median(values[3:]), 2) for name, values in seconds.items()}


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
    layouts = [store.cpu_layout("nf4"), *["int8"] * int8.supported()]
    folders = [converted(origin, settings, layout, print_progress) for layout in layouts]
    tokenizer = read_tokenizer(origin.title, folders[0])
    original = LanguageModel(_original(origin), origin.title, len(tokenizer))
    ends = end_ids(tokenizer, original.weights)

    def ids_of(prompt: str) -> list[int]:
        return render(tokenizer, Request(prompt, raw=not tokenizer.chat_template))

    texts = [(ids, _greedy(original, ids, tokens, ends)) for ids in map(ids_of, prompts)]
    encode = backend(tokenizer).encode
    told = [(ids_of(question), encode(text, add_special_tokens=False).ids) for question, text in references]
    forms = {"bf16": _nearness(original, texts, told)}
    del original  # its gigabytes
    for layout, folder in zip(layouts, folders, strict=True):
        loaded = load_folder(folder, lm_head_4bit=True, plain=False)
        dtype = copy_dtype(four_bit_parameters(loaded), settings.weights_copy)
        held = LanguageModel(loaded, origin.title, len(tokenizer), dtype)
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
