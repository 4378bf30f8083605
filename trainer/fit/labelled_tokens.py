"""From labels and rollouts to arrays: what each token looks like, who is preferred there, and how much it counts.

Also the split of the questions: which of them train a router, stop its training early, and measure it.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from engine import Role
from trainer import TrainerError
from trainer.labels.labels import labels_about, read_labels, read_states
from trainer.labels.rollouts import Rollout, load_rollouts
from trainer.preference import PREFERENCES, Case, rollout_preference

CHUNK = 8192  # tokens scored at once: 30 MB of float32 for a hidden state of 896
SAME = ("slm", "llm", "quantisation", "hidden_size", "tokenizer", "reference")
"""What labels must agree on to be learned from together."""

COLUMNS = ("question", "position", "case", "correct", "slm_logprob", "llm_logprob", "stands_for", "logit_features")
"""Columns of labels that a router is fitted to."""


@dataclass(frozen=True)
class LabelledTokens:
    """n tokens of references, with all that is known of them; arrays are [n]."""

    question: np.ndarray  # ids, str
    position: np.ndarray  # int32; at 0 the hidden state is that after the prompt
    case: np.ndarray  # int8, values of `Case`
    correct: np.ndarray  # bool: whether the reference ends in the right answer
    slm_logprob: np.ndarray  # float32, of the reference token
    llm_logprob: np.ndarray  # NaN where the LLM was not run
    logit_features: np.ndarray  # float32 [n, LOGIT_FEATURES], see `engine.model.logits.logit_features`
    preference: np.ndarray  # float32: 1 prefers the SLM, 0 the LLM, NaN is undecided
    weight: np.ndarray  # float32: how many tokens it stands for in training and in metrics; 0 where undecided
    stands_for: np.ndarray  # float32: the same if all tokens were decided, see `trainer.labels.labels.label`
    row: np.ndarray  # int64: where each token's hidden state is in `states`
    states: Sequence[torch.Tensor] = field(repr=False)  # float16 [rows, d], in parts that are mapped from the disk
    about: dict[str, Any] = field(repr=False)  # the labels' settings
    rollouts: tuple[dict[str, Any], ...] = ()  # what was rolled out, for the card: an entry for each folder

    def __len__(self) -> int:
        return len(self.question)

    @property
    def hidden_size(self) -> int:
        return self.about["hidden_size"]

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The fields that have a value per token."""
        return {name: value for name, value in vars(self).items() if isinstance(value, np.ndarray)}

    def where(self, mask: np.ndarray) -> LabelledTokens:
        return replace(self, **{name: value[mask] for name, value in self.arrays.items()})

    def split(self, *names: str) -> LabelledTokens:
        own = [question for question in set(self.question) if split_of(question) in names]
        return self.where(np.isin(self.question, own))

    def decided(self) -> LabelledTokens:
        return self.where(self.weight > 0)

    def hidden(self, rows: Any = slice(None)) -> torch.Tensor:
        """Hidden states, float16 [rows, d], of some tokens (indices or a slice)."""
        wanted = self.row[rows]
        ends = np.cumsum([len(part) for part in self.states])
        parts = np.searchsorted(ends, wanted, side="right")
        found = torch.empty(len(wanted), self.hidden_size, dtype=torch.float16)
        for part in np.unique(parts):
            own = parts == part
            inside = wanted[own] - (ends[part] - len(self.states[part]))
            found[torch.from_numpy(own)] = self.states[part][torch.from_numpy(inside)]
        return found

    def features(self, rows: Any, with_logits: bool) -> torch.Tensor:
        """The router's input for some tokens (indices or a slice): float32 [rows, inputs]."""
        hidden = self.hidden(rows).float()
        return torch.cat([hidden, torch.from_numpy(self.logit_features[rows])], dim=1) if with_logits else hidden

    def chunks(self, with_logits: bool) -> Iterator[torch.Tensor]:
        """The router's input for all tokens, in pieces, since all at once may not fit into memory."""
        for n in range(0, len(self), CHUNK):
            yield self.features(slice(n, n + CHUNK), with_logits)


def load_tokens(labels: Path, rollouts: Path | None = None, cost_weight: float = 0.0) -> LabelledTokens:
    """The tokens of some labels whose hidden states are stored, with and without a preference.

    The shortcut decides (CITER, section 3.2), except where rollouts are given for the tokens that it does not settle:
    those that neither model wrote, and on the LLM's own answers also those that only the LLM wrote, which may be
    harmless paraphrase. A rolled-out token stands for candidates / rolled-out tokens of its question, so that a small
    budget does not shift the balance of the preferences; candidates that were not drawn count nothing. Tokens of
    references that end in a wrong answer have no preference.

    Raises:
        TrainerError: Labels or rollouts are missing or do not belong together; λ (`cost_weight`) needs rollouts of both
            actions.
    """
    about, tables, states = labels_about(labels), [], []
    for path, table in read_labels(labels):
        tables.append(table.filter(pa.array(table.column("stands_for").to_numpy() > 0)))
        states.append(read_states(path, about["hidden_size"]))
        if len(states[-1]) != len(tables[-1]):
            raise TrainerError(f"{path} has {len(states[-1])} hidden states for {len(tables[-1])} tokens; label again")
    table = pa.concat_tables(tables)
    columns: dict[str, Any] = {name: _array(table, name) for name in COLUMNS}
    preference = np.full(len(table), np.nan, dtype=np.float32)
    for case, value in PREFERENCES.items():
        preference[columns["case"] == case] = value
    weight, row = columns["stands_for"].copy(), np.arange(len(table))
    tokens = LabelledTokens(**columns, preference=preference, weight=weight, row=row, states=states, about=about)
    if rollouts is not None:
        tokens = _with_rollouts(tokens, labels, rollouts, cost_weight)
    preference[~columns["correct"]] = np.nan
    weight[np.isnan(preference)] = 0.0
    return tokens


def evened(parts: Sequence[LabelledTokens]) -> list[LabelledTokens]:
    """The same tokens with weights that have the same sum in each part; their sum over all parts stays."""
    totals = [each.weight.sum() for each in parts]
    factors = [np.float32(np.mean(totals) / total if total else 0.0) for total in totals]
    return [replace(each, weight=each.weight * factor) for each, factor in zip(parts, factors, strict=True)]


def join(parts: Sequence[LabelledTokens]) -> LabelledTokens:
    """The tokens of several labels together; a TrainerError if they differ in models or references, or share one."""
    first, *others = parts
    for other in others:
        if name := next((name for name in SAME if other.about[name] != first.about[name]), None):
            raise TrainerError(
                f"labels of {name} {first.about[name]!r} and {other.about[name]!r} do not go together: label all of "
                "them with the same pair and kind of references"
            )
    owners = Counter(name for each in parts for name in set(each.question.tolist()))
    if twice := [name for name, count in owners.items() if count > 1]:
        raise TrainerError(f"question {twice[0]!r} is in two folders of labels: name each folder once")
    if not others:
        return first
    data = hashlib.sha256("".join(each.about["data"] for each in parts).encode()).hexdigest()
    texts = {name: text for each in parts for name, text in each.about["texts"].items()}
    arrays = {name: np.concatenate([getattr(each, name) for each in parts]) for name in first.arrays}
    before = np.cumsum([0, *(sum(map(len, each.states)) for each in parts)])
    arrays["row"] = np.concatenate([each.row + start for each, start in zip(parts, before, strict=False)])
    return replace(
        first,
        **arrays,
        states=[part for each in parts for part in each.states],
        about={**first.about, "data": data, "texts": texts},
        rollouts=tuple(done for each in parts for done in each.rollouts),
    )


def held_out_tokens(*labels: Path) -> LabelledTokens:
    """The tokens of the questions that no router's weights were trained on: early stopping and test."""
    return join([load_tokens(folder) for folder in labels]).split("stop", "test")


SPLITS = ("train", "stop", "test")


def split_of(question: str) -> str:
    """The split of a question id, by a hash: "train", "stop" (early stopping) or "test"; 80, 10 and 10 of a hundred."""
    bucket = int(hashlib.sha256(question.encode()).hexdigest(), 16) % 100
    return "train" if bucket < 80 else "stop" if bucket < 90 else "test"


def check_splits(questions: Iterable[str], way_out: str) -> None:
    """A TrainerError if a split gets fewer than two of the questions: one may lack a preference."""
    counts = Counter(map(split_of, questions))
    if min(counts[name] for name in SPLITS) < 2:
        raise TrainerError(
            f"{counts.total()} questions are too few: by their ids {counts['stop']} would be for early stopping "
            f"and {counts['test']} for the test, and each needs two; {way_out}"
        )


def _same_labels(labels: Mapping[str, Any], rollouts: Mapping[str, Any]) -> bool:
    """Whether rollouts were made from these labels, or from others on the same answers."""
    made_from = rollouts.get("labels", labels)
    same_answers = rollouts.get("answers") in (None, labels.get("answers"))
    return same_answers and all(labels.get(name) == made_from.get(name) for name in (*SAME, "data"))


def _array(table: pa.Table, name: str) -> np.ndarray:
    """A column as an array [tokens] or [tokens, width]; equal question ids are one string in memory."""
    column = table.column(name).combine_chunks()
    if isinstance(column, pa.FixedSizeListArray):
        return np.array(column.flatten().to_numpy()).reshape(len(table), -1)
    if name == "question":
        coded = column.dictionary_encode()
        return np.array(coded.dictionary.to_pylist(), dtype=object)[coded.indices.to_numpy()]
    return column.to_numpy(zero_copy_only=False)


def _with_rollouts(tokens: LabelledTokens, labels: Path, folder: Path, cost_weight: float) -> LabelledTokens:
    """Lets rollouts decide where the shortcut does not settle it; sets preferences and weights in place."""
    rollouts, settings = load_rollouts(folder)
    if not _same_labels(tokens.about, settings):
        raise TrainerError(f"{folder} was rolled out from other labels than {labels}: roll out from these first")
    tried: dict[tuple[str, int], dict[Role, Rollout]] = defaultdict(dict)
    for rollout in rollouts:
        tried[rollout.question, rollout.position][rollout.role] = rollout
    for role in (Role.SLM, Role.LLM) if cost_weight else (Role.SLM,):
        if missing := sum(role not in actions for actions in tried.values()):
            raise TrainerError(
                f"{folder}: {missing} of {len(tried)} tokens were not rolled out with the {role.name}'s token, "
                f"which a cost weight of {cost_weight:g} needs: roll out both actions into another folder"
            )
    names = zip(tokens.question.tolist(), tokens.position.tolist(), strict=True)
    row_of = {name: row for row, name in enumerate(names)}
    if strange := [name for name in tried if name not in row_of]:
        question, position = strange[0]
        raise TrainerError(f"{folder} has position {position} of question {question}, which is not in {labels}")
    cases = [Case.NEITHER] + [Case.ONLY_LLM_RIGHT] * (tokens.about["reference"] == "llm")
    tokens.preference[np.isin(tokens.case, cases)] = np.nan
    drawn = Counter(question for question, _ in tried)
    for name, each in tried.items():
        slm, row = each[Role.SLM], row_of[name]
        tokens.preference[row] = rollout_preference(slm, each.get(Role.LLM), cost_weight, settings["llm_bytes"])
        tokens.weight[row] = slm.candidates / drawn[slm.question]
    told = {name: settings.get(name) for name in ("policy", "threshold", "budget", "seed", "llm_bytes")}
    right = [each[Role.SLM].correct for each in tried.values()]
    done = {**told, "tokens": len(right), "slm_right": round(float(np.mean(right)), 4) if right else None}
    return replace(tokens, rollouts=(done,))
