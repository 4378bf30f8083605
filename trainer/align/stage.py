"""Alignment from texts to an adapter: the LLM's texts, learning, and what came of it by kind of text.

In the stage's folder: `texts/` and `likeliest/` in shards, `checkpoint.safetensors`, the adapter with the best held-out
agreement so far, and in the end `align.json`. What is there is not made again.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from engine import load
from engine.model.adapter import FILE, Adapter, AdapterCard, save_adapter
from engine.models import store
from engine.models.files import sha256_of
from engine.models.model_files import ModelFiles, files_of
from engine.models.sources import Preset, choose_preset
from engine.provenance import command, hardware, processor, revision
from engine.settings import Settings
from trainer import TrainerError
from trainer.align.texts import AnsweredTask, LlmText, gather, likeliest
from trainer.align.training import Alignment, Position, agreement, factors_of, share
from trainer.json_files import write_json
from trainer.settings import AlignSettings

RESULT = "align.json"

Report = Callable[[str], None]


def align(
    settings: Settings,
    tasks: Sequence[AnsweredTask],
    general: Mapping[str, Sequence[str]],
    folder: Path,
    how: AlignSettings,
    report: Report = print,
) -> Path:
    """Lets the settings' SLM learn its LLM's texts; returns the adapter's path.

    Args:
        settings: The pair. Its adapter counts for nothing: the SLM is learned from its files.
        tasks: Questions that the LLM has answered already.
        general: Prompts by kind, which the LLM answers now.
        folder: Of the stage's files.
        how: Of the training.
        report: Told how far it is.

    Raises:
        TrainerError: There is too little to learn, the folder is of another run, or nothing was gained.
        WeightsError: The SLM is not to be had.
    """
    adapter = folder / FILE
    settings = settings.model_copy(update={"adapter": "none"})
    if (folder / RESULT).exists() and adapter.exists():
        report(f"{adapter} is there already")
        return adapter
    pair = load(None, settings)
    texts = gather(pair, tasks, general, folder / "texts", how.max_new_tokens, report)
    top = likeliest(pair, texts, folder / "likeliest", report) if how.kl > 0 else None
    vocabulary = len(pair.tokenizer)
    del pair
    gc.collect()  # its gigabytes, before the SLM is read as it is
    report(f"{len(texts):,} texts, {sum(text.length for text in texts):,} tokens with their prompts")
    preset = choose_preset(settings)
    model = files_of(preset.slm, settings)
    made_of = _digest(texts, how, model.base)
    run = Alignment(dense_slm(preset, model), vocabulary, texts, how, folder, made_of, top, report)
    position = _learn(run, adapter, AdapterCard(model.title, model.base, how.rank, _about(preset, texts, how)))
    del run
    gc.collect()  # the SLM's gigabytes, before it is read again
    if position.best == 0:
        raise TrainerError(
            f"no evaluation agreed more with the LLM than the SLM does as it is, {share(position.agreement[0]):.1%}: "
            "give more texts, or another --learning-rate, in another folder"
        )
    held_out = [text for text in texts if text.held_out]
    model.aligned(Adapter.load(adapter))
    after = agreement(dense_slm(preset, model), held_out, vocabulary)
    _write_result(folder / RESULT, adapter, position.agreement, after, texts, how, position.seconds)
    report(table(position.agreement[0], after))
    return adapter


def dense_slm(preset: Preset, model: ModelFiles) -> Any:
    """The SLM as it is before it is quantised, in bf16, or in fp32 where that is kept or faster; without gradients."""
    cuda = preset.device != "cpu" and torch.cuda.is_available()
    wide = preset.weights == store.FP32 or not (cuda or torch.cpu._is_avx512_bf16_supported()) or fp32_is_faster()
    dtype = torch.float32 if wide else torch.bfloat16
    return store.dense(*model.open(), dtype).to("cuda" if cuda else "cpu")


def fp32_is_faster() -> bool:
    """Whether wide products take less time in fp32 than by this processor's bf16 instructions.

    True of Intel's server cores without matrix units (AMX), which some virtual machines hide: they start half as many
    bf16 instructions as fp32 ones, and on 2 of them 100 × 1536 × 17920 take 33 ms in bf16 and 21 in fp32.
    """
    has_bf16, has_matrix_units = torch.cpu._is_avx512_bf16_supported(), torch.cpu._is_amx_tile_supported()
    return has_bf16 and not has_matrix_units and "intel" in processor().lower()


def table(before: Mapping[str, tuple[int, int]], after: Mapping[str, tuple[int, int]]) -> str:
    """Held-out agreement before and after, one line for each kind of text, as Markdown."""
    rows = ["| kind | tokens | before | after |", "| --- | --- | --- | --- |"]
    for kind, (hits, tokens) in sorted(before.items()):
        rows.append(f"| {kind} | {tokens:,} | {hits / tokens:.1%} | {after[kind][0] / tokens:.1%} |")
    tokens = sum(each for _, each in before.values())
    return "\n".join([*rows, f"| all | {tokens:,} | {share(before):.1%} | {share(after):.1%} |"])


def _learn(run: Alignment, adapter: Path, card: AdapterCard) -> Position:
    """Writes the best adapter so far at each evaluation that has one, with its agreement in its card."""

    def keep() -> None:
        position = run.position
        first, last = (round(share(position.agreement[n]), 4) for n in (0, -1))
        learned = {**card.learned, "steps": position.step, "agreement_before": first, "agreement": last}
        save_adapter(adapter, factors_of(run.model), replace(card, learned=learned))

    run.run(keep)
    return run.position


def _about(preset: Preset, texts: Sequence[LlmText], how: AlignSettings) -> dict[str, Any]:
    learned = [text for text in texts if not text.held_out]
    return {
        "llm": preset.llm.title,
        "texts": dict(sorted(Counter(text.kind for text in learned).items())),
        "tokens": sum(len(text.tokens) for text in learned),
        "settings": asdict(how),
        "revision": revision(),
    }


def _digest(texts: Sequence[LlmText], how: AlignSettings, identity: str) -> str:
    made_of = [[[each.kind, each.prompt, each.tokens] for each in texts], asdict(how), identity]
    return hashlib.sha256(json.dumps(made_of).encode()).hexdigest()


def _write_result(
    path: Path,
    adapter: Path,
    evaluations: Sequence[Mapping[str, tuple[int, int]]],
    after: Mapping[str, tuple[int, int]],
    texts: Sequence[LlmText],
    how: AlignSettings,
    seconds: float,
) -> None:
    before = evaluations[0]
    kinds = {
        kind: {
            "texts": sum(text.kind == kind for text in texts),
            "held_out_tokens": tokens,
            "before": hits / tokens,
            "after": after[kind][0] / tokens,
        }
        for kind, (hits, tokens) in sorted(before.items())
    }
    write_json(
        path,
        {
            "adapter_sha256": sha256_of(adapter),
            "kinds": kinds,
            "evaluations": [share(each) for each in evaluations],
            "after": share(after),
            "settings": asdict(how),
            "seconds": round(seconds),
            "command": command("trainer"),
            "revision": revision(),
            "hardware": hardware(),
        },
        indent=1,
    )
