"""Alignment from texts to an adapter: the LLM's texts, learning, and what came of it by kind of text.

The stage's folder gets `texts/` in shards, `checkpoint.safetensors`, the adapter with the best held-out agreement so
far, and in the end `align.json`. What is there is not made again.
"""

from __future__ import annotations

import gc
import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from engine import load
from engine.bench.markdown import table
from engine.model.adapter import AdapterCard, save_adapter
from engine.models import store
from engine.models.files import sha256_of, write_json
from engine.models.model_files import ModelFiles, files_of
from engine.models.sources import ADAPTER, Preset, choose_preset
from engine.provenance import processor, provenance, revision
from engine.settings import Settings
from trainer import Report, TrainerError
from trainer.align.texts import AnsweredTask, LlmText, gather
from trainer.align.training import Alignment, factors_of, share
from trainer.settings import AlignSettings
from trainer.workers import alone_at

RESULT = "align.json"


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
        settings: The pair. Its adapter is left out: the SLM learns from its files as they are.
        tasks: Questions that the LLM has answered already.
        general: Prompts by kind, which the LLM answers now.

    Raises:
        TrainerError: There is too little to learn, the folder is of another run, or nothing was gained.
        WeightsError: The SLM's files cannot be had.
    """
    if how.kl and settings.llm_url:
        raise TrainerError("--kl needs the LLM's own weights: unset CITER_LLM_URL, or leave it out")
    adapter = folder / ADAPTER
    settings = settings.model_copy(update={"adapter": "none"})
    if not (folder / RESULT).exists():
        pair = load(None, settings)
        texts = gather(pair, tasks, general, folder / "texts", how.max_new_tokens, report)
        vocabulary = len(pair.tokenizer)
        pair.close()
        del pair
        gc.collect()  # frees gigabytes before the SLM is read again
        report(f"{len(texts):,} texts, {sum(text.length for text in texts):,} tokens with their prompts")
        with alone_at(adapter):  # other processes wait for the one that trains
            if not (folder / RESULT).exists():
                _learn(choose_preset(settings), settings, texts, vocabulary, folder, how, report)
                return adapter
    report(f"{adapter} is there already")
    return adapter


def _learn(
    preset: Preset,
    settings: Settings,
    texts: Sequence[LlmText],
    vocabulary: int,
    folder: Path,
    how: AlignSettings,
    report: Report,
) -> None:
    """Trains; writes the best adapter into the folder, and in the end `align.json`."""
    model, learned = files_of(preset.slm, settings), [text for text in texts if not text.held_out]
    about = {
        "llm": preset.llm.title,
        "texts": dict(sorted(Counter(text.kind for text in learned).items())),
        "tokens": sum(len(text.tokens) for text in learned),
        "settings": dict(how),
        "revision": revision(),
    }
    card = AdapterCard(model.title, model.base, how.rank)
    content = [[[each.kind, each.prompt, each.tokens] for each in texts], dict(how), model.base]
    made_of = hashlib.sha256(json.dumps(content).encode()).hexdigest()
    llm = unquantised(preset, files_of(preset.llm, settings)) if how.kl else None
    run = Alignment(unquantised(preset, model), vocabulary, texts, how, folder, made_of, report, llm)
    position = run.position

    def keep() -> None:
        before, after = (round(share(position.agreement[n]), 4) for n in (0, -1))
        told = {**about, "steps": position.step, "agreement_before": before, "agreement": after}
        save_adapter(folder / ADAPTER, factors_of(run.model), replace(card, learned=told))

    run.run(keep)
    before, after = position.agreement[0], position.agreement[position.best]
    if position.best == 0:
        raise TrainerError(
            f"no evaluation agreed more with the LLM than the SLM does as it is, {share(before):.1%}: give more texts, "
            "or another --learning-rate, in another folder"
        )
    kinds = {
        kind: {
            "texts": sum(text.kind == kind for text in texts),
            "held_out_tokens": tokens,
            "before": hits / tokens,
            "after": after[kind][0] / tokens,
        }
        for kind, (hits, tokens) in sorted(before.items())
    }
    result = {
        "adapter_sha256": sha256_of(folder / ADAPTER),
        "kinds": kinds,
        "evaluations": [share(each) for each in position.agreement],
        "after": share(after),
        "settings": dict(how),
        "seconds": round(position.seconds),
        **provenance("trainer"),
    }
    write_json(folder / RESULT, result, indent=1)
    rows = [
        [kind, f"{each['held_out_tokens']:,}", f"{each['before']:.1%}", f"{each['after']:.1%}"]
        for kind, each in kinds.items()
    ]
    whole = ["all", f"{sum(tokens for _, tokens in before.values()):,}", f"{share(before):.1%}", f"{share(after):.1%}"]
    report(table(["kind", "tokens", "before", "after"], [*rows, whole]))


def unquantised(preset: Preset, model: ModelFiles) -> Any:
    """A model from its files, without gradients: in bf16 where that is fast, else in fp32.

    Intel's server cores without matrix units (AMX), which some virtual machines hide, start half as many bf16
    instructions as fp32 ones: on 2 of them 100 × 1536 × 17920 takes 33 ms in bf16 and 21 in fp32.
    """
    cuda = preset.device != "cpu" and torch.cuda.is_available()
    slow = not torch.cpu._is_amx_tile_supported() and "intel" in processor().lower()
    fast = cuda or (torch.cpu._is_avx512_bf16_supported() and not slow)
    dtype = torch.bfloat16 if fast and preset.weights != store.FP32 else torch.float32
    return store.dense(*model.open(), dtype).to("cuda" if cuda else "cpu")
