"""Labels: both models teacher-forced on references, a case per token, in resumable shards (CITER, section 3.2).

A shard is a fixed run of questions, so a deleted or interrupted one is made again exactly as it was. Knows the engine's
models and `datasets`; does not know what is learned from the labels.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import datasets
import torch

from engine import Request
from engine.models import LanguageModel
from engine.pair import Pair
from engine.prompt import render
from engine.router import LOGIT_FEATURES, logit_features
from trainer.data import Question, prompt
from trainer.errors import TrainerError
from trainer.preference import shortcut

SETTINGS = "labels.json"
SHARD = 20  # questions; small enough that an interruption costs a minute or two on two cores
BATCH = 4  # questions per forward pass


def label(
    pair: Pair,
    questions: Sequence[Question],
    folder: Path,
    report: Callable[[str], None] = print,
) -> None:
    """Labels questions into `folder`, one shard after the other; those that are there already are kept.

    Args:
        pair: The models.
        questions: With references.
        folder: Created; gets `labels.json` and one folder per shard.
        report: Told of progress, with an estimate of the time left.

    Raises:
        TrainerError: The folder holds labels of other questions or another pair.
    """
    datasets.disable_progress_bars()  # one bar per shard would drown the report
    _claim(folder, pair, questions)
    shards = [questions[n : n + SHARD] for n in range(0, len(questions), SHARD)]
    missing = [n for n in range(len(shards)) if not _shard(folder, n).is_dir()]
    if len(missing) < len(shards):
        report(f"{len(shards) - len(missing)} of {len(shards)} shards are there already")
    started = time.monotonic()
    for done, number in enumerate(missing, 1):
        _write_shard(folder, number, _columns(pair, shards[number]), pair.slm.hidden_size)
        left = (time.monotonic() - started) / done * (len(missing) - done)
        report(f"shard {number + 1}/{len(shards)} done, about {left / 60:.0f} min left")


def load_labels(folder: Path) -> tuple[datasets.Dataset, dict[str, Any]]:
    """All shards as one data set, and the settings they were made with.

    Columns per token: `question` (id), `position`, `token`, `slm_token`, `llm_token`, `case`, `top_probability`,
    `hidden` float16 [d], `logit_features` float32 [LOGIT_FEATURES].

    Raises:
        TrainerError: No labels, or some shard is missing.
    """
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TrainerError(f"{folder} holds no labels ({error}): make them with `python -m trainer label`") from error
    count = -(-len(settings["questions"]) // SHARD)
    missing = [n for n in range(count) if not _shard(folder, n).is_dir()]
    if missing:
        raise TrainerError(
            f"{folder}: {len(missing)} of {count} shards are missing; run the same `label` command to go on"
        )
    return datasets.concatenate_datasets(
        [datasets.Dataset.load_from_disk(_shard(folder, n)) for n in range(count)]
    ), settings


@torch.inference_mode()
def _columns(pair: Pair, questions: Sequence[Question]) -> dict[str, list[Any]]:
    """The columns of one shard."""
    columns: dict[str, list[Any]] = {name: [] for name in _features(pair.slm.hidden_size)}
    # Alike lengths together: what a batch is padded with is computed as well.
    forced = sorted(((q, _forced(pair, q)) for q in questions), key=lambda each: sum(map(len, each[1])))
    for batch in (forced[n : n + BATCH] for n in range(0, len(forced), BATCH)):
        texts = [text for _, text in batch]
        slm_states = _teacher_force(pair.slm, texts)
        llm_states = _teacher_force(pair.llm, texts)
        for (question, (_, reference)), slm_hidden, llm_hidden in zip(batch, slm_states, llm_states, strict=True):
            logits = pair.slm.logits(slm_hidden)
            slm_tokens, llm_tokens = logits.argmax(-1).tolist(), pair.llm.logits(llm_hidden).argmax(-1).tolist()
            columns["question"] += [question.id] * len(reference)
            columns["position"] += range(len(reference))
            columns["token"] += reference
            columns["slm_token"] += slm_tokens
            columns["llm_token"] += llm_tokens
            columns["case"] += map(int, shortcut(slm_tokens, llm_tokens, reference))
            columns["top_probability"] += (logits.amax(-1) - logits.logsumexp(-1)).exp().tolist()
            columns["hidden"] += list(slm_hidden.to(torch.float16).cpu().numpy())
            columns["logit_features"] += list(logit_features(logits).cpu().numpy())
    return columns


def _forced(pair: Pair, question: Question) -> tuple[list[int], list[int]]:
    """Token ids of the rendered prompt, and of the reference with its end token."""
    reference = pair.tokenizer.encode(question.reference, add_special_tokens=False, split_special_tokens=True)
    return render(pair.tokenizer, Request(prompt(question))), [*reference, pair.end_id]


def _teacher_force(model: LanguageModel, texts: Sequence[tuple[list[int], list[int]]]) -> Iterator[torch.Tensor]:
    """Hidden states [reference tokens, d] from which each reference token is to be predicted, per text."""
    fed = [ids + reference[:-1] for ids, reference in texts]
    cache = model.new_cache(len(fed), max(map(len, fed)))
    hidden = model.feed(cache, range(len(fed)), fed)
    for (ids, _), chunk, states in zip(texts, fed, hidden, strict=True):
        yield states[len(ids) - 1 : len(chunk)]


def _features(hidden_size: int) -> datasets.Features:
    value = datasets.Value
    return datasets.Features(
        {
            "question": value("string"),
            "position": value("int32"),
            "token": value("int32"),
            "slm_token": value("int32"),
            "llm_token": value("int32"),
            "case": value("int8"),
            "top_probability": value("float32"),
            "hidden": datasets.List(value("float16"), length=hidden_size),
            "logit_features": datasets.List(value("float32"), length=LOGIT_FEATURES),
        }
    )


def _shard(folder: Path, number: int) -> Path:
    return folder / f"shard-{number:05d}"


def _write_shard(folder: Path, number: int, columns: dict[str, list[Any]], hidden_size: int) -> None:
    """Writes beside, then renames: a shard that exists is complete."""
    partial = folder / f"partial-{number:05d}"
    shutil.rmtree(partial, ignore_errors=True)
    data = datasets.Dataset.from_dict(columns, features=_features(hidden_size))
    data.save_to_disk(partial)
    partial.rename(_shard(folder, number))


def _claim(folder: Path, pair: Pair, questions: Sequence[Question]) -> None:
    """Writes what the labels are of, or checks that it is the same."""
    digest = hashlib.sha256(json.dumps([asdict(q) for q in questions], ensure_ascii=False).encode()).hexdigest()
    settings = {
        "preset": pair.preset,
        "slm": pair.slm_name,
        "llm": pair.llm_name,
        "quantisation": pair.quantisation,
        "hidden_size": pair.slm.hidden_size,
        "tokenizer": pair.fingerprint,
        "reference": "data",
        "data": digest,
        "questions": [question.id for question in questions],
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != settings:
            raise TrainerError(f"{folder} holds labels of other questions or another pair: choose another folder")
        return
    path.write_text(json.dumps(settings, ensure_ascii=False) + "\n", encoding="utf-8")
