"""Labels and rollouts that no model made: a signal planted in the hidden states, in the trainer's own file formats."""

from __future__ import annotations

from dataclasses import asdict, replace

import numpy as np
import torch

from engine import Role
from engine.model.logits import LOGIT_FEATURES
from trainer.labels import labels, rollouts
from trainer.labels.labels import write_labels as write_shard
from trainer.labels.rollouts import Rollout
from trainer.preference import Case
from trainer.questions import Question
from trainer.settings import FitSettings
from trainer.shards import Shards
from trainer.stored import write_rows

WIDTH = 16
SETTINGS = {
    "preset": "test",
    "slm": "small",
    "llm": "large",
    "quantisation": "fp32",
    "hidden_size": WIDTH,
    "tokenizer": "0" * 64,
    "reference": "data",
    "texts": {},
}

FITTING = FitSettings(epochs=6, batch=64, learning_rate=2e-3)
"""Enough for the planted signal, in a second or two."""


def quiet(_):
    """A report that nobody reads."""


def planted(questions=200, length=20, seed=0, strength=6.0, base=1.0):
    """Columns of labels where the SLM is right with probability sigmoid(strength × first hidden value + base)."""
    chance = np.random.default_rng(seed)
    count = questions * length
    hidden = chance.normal(size=(count, WIDTH)).astype(np.float16)
    right = chance.random(count) < 1 / (1 + np.exp(-(strength * hidden[:, 0].astype(np.float64) + base)))
    top = np.log(chance.uniform(0.3, 1.0, size=count))
    second = np.log1p(-np.exp(top)) - 1
    logit_features = np.zeros((count, LOGIT_FEATURES), dtype=np.float32)
    logit_features[:, 0], logit_features[:, 1] = top, second
    logit_features[:, 5], logit_features[:, 6] = top - second, -top
    return {
        "question": np.repeat([f"q{n:04d}" for n in range(questions)], length),
        "position": np.tile(np.arange(length, dtype=np.int32), questions),
        "token": np.ones(count, dtype=np.int32),
        "slm_token": np.where(right, 1, 2).astype(np.int32),
        "llm_token": np.ones(count, dtype=np.int32),
        "case": np.where(right, Case.SLM_RIGHT, Case.ONLY_LLM_RIGHT).astype(np.int8),
        "correct": np.ones(count, dtype=bool),
        "slm_logprob": np.full(count, -1.0, dtype=np.float32),
        "llm_logprob": np.full(count, -1.0, dtype=np.float32),
        "stands_for": np.ones(count, dtype=np.float32),
        "hidden": hidden,
        "logit_features": logit_features,
    }


def write_labels(folder, columns, **settings):
    """Writes columns as labels, in shards of 20 questions; returns the folder."""

    def make(some, path):
        mask = np.isin(columns["question"], [question.id for question in some])
        rows = {name: list(columns[name][mask]) for name in labels.COLUMNS.names}
        write_shard(path, rows, torch.from_numpy(columns["hidden"][mask & (columns["stands_for"] > 0)]))

    shards = Shards(folder, "labels", 20, "")
    shards.run({**SETTINGS, **settings}, _questions(columns["question"]), make, quiet)
    return folder


def write_rollouts(folder, tried, **settings):
    """Writes rollouts in shards of the size that the stage reads; returns the folder."""

    def make(some, path):
        names = {question.id for question in some}
        rows = [{**asdict(r), "role": r.role.value} for r in tried if r.question in names]
        write_rows(path, rows, rollouts.COLUMNS)

    questions = _questions([each.question for each in tried])
    settings = {"policy": "slm", "threshold": 0.5, "budget": 2, "seed": 0, "llm_bytes": 100.0, **settings}
    Shards(folder, "rollouts", rollouts.SHARD).run(settings, questions, make, quiet)
    return folder


def rollout(question, position, correct, candidates=1, role=Role.SLM, bytes_=50.0):
    """One finished answer of some tokens; `candidates` of its question were there to be rolled out."""
    return Rollout(question, position, role, correct, bytes_, 5, candidates)


def biased(tmp_path):
    """Questions with many candidates, two in ten harmless, and with few, nine in ten; two of each are rolled out.

    Returns labels, rollouts, and the rate at which the SLM is preferred if every candidate were rolled out.
    """
    chance = np.random.default_rng(0)
    columns, drawn, wanted = planted(questions=300, length=20), [], []
    for number in range(300):
        name, candidates = f"q{number:04d}", 16 if number % 2 else 4
        columns["case"][columns["question"] == name] = [Case.NEITHER] * candidates + [Case.SLM_RIGHT] * (
            20 - candidates
        )
        harmless = chance.random(candidates) < (0.2 if number % 2 else 0.9)
        wanted += [*harmless, *[True] * (20 - candidates)]
        drawn += [rollout(name, n, bool(harmless[n]), candidates) for n in chance.choice(candidates, 2, replace=False)]
    drawn = [replace(each, position=int(each.position)) for each in drawn]
    columns["hidden"][:] = chance.normal(size=columns["hidden"].shape)
    rollouts = write_rollouts(tmp_path / "rollouts", drawn)
    return write_labels(tmp_path / "labels", columns), rollouts, float(np.mean(wanted))


def _questions(names):
    return [Question(name, "Why?", "So.", "x") for name in sorted(set(names))]
