"""Labels: both models teacher-forced on references, a case per token, in resumable shards (CITER, section 3.2).

References come from the data set, or are the LLM's own answers; there the shortcut decides every token.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, NotRequired

import datasets
import torch
from pydantic import Field

from engine import Request
from engine.grading import grade
from engine.model.language_model import LanguageModel, prefill_shared
from engine.model.logits import LOGIT_FEATURES, logit_features
from engine.pair import Pair
from engine.tokenizer import render
from trainer import TrainerError
from trainer.json_files import AGAIN
from trainer.labels.answers import Answer
from trainer.preference import CASE_NAMES, Case, shortcut
from trainer.questions.apart import texts_of
from trainer.questions.question import Question, prompt
from trainer.shards import MadeOf, Shards, identity_of

SHARD = 20  # questions; small enough that an interruption costs a minute or two on two cores
BATCH = 5  # questions per forward pass


class _MadeOf(MadeOf):
    slm: str
    llm: str
    quantisation: str
    hidden_size: Annotated[int, Field(ge=1)]
    tokenizer: str
    reference: Literal["data", "llm"]
    texts: NotRequired[dict[str, str]]


class Reference(NamedTuple):
    """The text that a question's labels are teacher-forced on, and whether it ends in the right answer."""

    tokens: list[int]
    correct: bool


def label(
    pair: Pair,
    questions: Sequence[Question],
    folder: Path,
    answers: Mapping[str, Answer] | None = None,
    run_llm: bool = True,
    report: Callable[[str], None] = print,
) -> None:
    """Labels questions into `folder`; resumes where it stopped.

    Args:
        questions: With references, unless answers are given.
        answers: The LLM's own answers by question id, to be the references; None takes those of the data set.
        run_llm: With answers, the LLM need not be run: it would write what it wrote. Only the log-probabilities under
            the LLM are then missing (NaN).

    Raises:
        TrainerError: The folder holds labels of other questions, references or models; or an answer is missing.
    """
    datasets.disable_progress_bars()  # one bar per shard would drown the report
    missing = [q.id for q in questions if answers is not None and q.id not in answers]
    if missing:
        raise TrainerError(f"{len(missing)} of {len(questions)} questions have no answer, e.g. {missing[0]}")
    settings = {
        "preset": pair.preset,
        "slm": pair.slm_name,
        "llm": pair.llm_name,
        "quantisation": pair.quantisation,
        "hidden_size": pair.slm.hidden_size,
        "tokenizer": pair.fingerprint,
        "reference": "data" if answers is None else "llm",
        "run_llm": run_llm or answers is None,
        "answers": None if answers is None else digest_of(answers, questions),
        **identity_of(pair),
    }

    def make(some: Sequence[Question], path: Path) -> None:
        references = [_reference(pair, q, answers) for q in some]
        columns = _columns(pair, some, references, by_llm=answers is not None, run_llm=settings["run_llm"])
        datasets.Dataset.from_dict(columns, features=_features(pair.slm.hidden_size)).save_to_disk(path)

    if shards(folder).run(settings, questions, make, report, {"texts": texts_of(questions)}):
        cases = Counter(load_labels(folder)[0]["case"])
        shares = ", ".join(f"{CASE_NAMES[case]} {cases[case] / cases.total():.1%}" for case in Case)
        report(f"{cases.total():,} tokens: {shares}")


def load_labels(folder: Path) -> tuple[datasets.Dataset, dict[str, Any]]:
    """All shards as one data set, and the settings they were made with; a TrainerError if some are missing.

    Columns per token: `question` (id), `position`, `token`, `slm_token`, `llm_token`, `case`, `correct` (of the whole
    reference), `slm_logprob` and `llm_logprob` (of the token; NaN where the LLM was not run), `hidden` float16 [d] and
    `logit_features` float32 [LOGIT_FEATURES] of the SLM before the token.
    """
    paths, settings = shards(folder).load()
    return datasets.concatenate_datasets([_read_shard(path, settings["hidden_size"]) for path in paths]), settings


def _read_shard(path: Path, hidden_size: int) -> datasets.Dataset:
    try:
        data = datasets.Dataset.load_from_disk(path)
        if data.features != _features(hidden_size):
            raise ValueError(f"its columns are {data.features}")
        return data
    except Exception as error:  # whatever Arrow or its reader stumbles over
        reason = str(error).split("\n")[0] or type(error).__name__
        raise TrainerError(f"{path} is damaged ({reason[:200]}); {AGAIN}") from None


def shards(folder: Path) -> Shards:
    """The folder's shards."""
    return Shards(folder, "labels", SHARD, made_of=_MadeOf)


def digest_of(answers: Mapping[str, Answer], questions: Sequence[Question]) -> str:
    """SHA-256 of the answers' token ids, so that what was made with other answers is never mixed with it."""
    return hashlib.sha256(json.dumps([answers[each.id].tokens for each in questions]).encode()).hexdigest()


def _reference(pair: Pair, question: Question, answers: Mapping[str, Answer] | None) -> Reference:
    if answers is not None:
        own = answers[question.id]
        return Reference(own.tokens, own.finish == "eos" and grade(question, own.text))
    ids = pair.tokenizer.encode(question.reference, add_special_tokens=False, split_special_tokens=True)
    return Reference([*ids, pair.end_id], True)


@torch.inference_mode()
def _columns(
    pair: Pair, questions: Sequence[Question], references: Sequence[Reference], by_llm: bool, run_llm: bool
) -> dict[str, list[Any]]:
    """The columns of one shard."""
    slm, llm = pair.models
    columns: dict[str, list[Any]] = {name: [] for name in _features(pair.slm.hidden_size)}
    prompts = [render(pair.tokenizer, Request(prompt(q))) for q in questions]
    # Alike lengths together: the cache of a batch has room for its longest text in every row.
    order = sorted(range(len(questions)), key=lambda n: len(prompts[n]) + len(references[n].tokens))
    for batch in (order[n : n + BATCH] for n in range(0, len(order), BATCH)):
        texts = [(prompts[n], references[n].tokens) for n in batch]
        states = list(teacher_force(slm, texts))
        llm_states = list(teacher_force(llm, texts)) if run_llm else [None] * len(batch)
        for n, hidden, llm_hidden in zip(batch, states, llm_states, strict=True):
            tokens = references[n].tokens
            logits = slm.logits(hidden)
            llm_logits = llm.logits(llm_hidden) if llm_hidden is not None else None
            slm_tokens = logits.argmax(-1).tolist()
            llm_tokens = tokens if by_llm or llm_logits is None else llm_logits.argmax(-1).tolist()
            columns["question"] += [questions[n].id] * len(tokens)
            columns["position"] += range(len(tokens))
            columns["token"] += tokens
            columns["slm_token"] += slm_tokens
            columns["llm_token"] += llm_tokens
            columns["case"] += map(int, shortcut(slm_tokens, llm_tokens, tokens))
            columns["correct"] += [references[n].correct] * len(tokens)
            columns["slm_logprob"] += _log_probabilities(logits, tokens)
            columns["llm_logprob"] += _log_probabilities(llm_logits, tokens)
            columns["hidden"] += list(hidden.to(torch.float16).cpu().numpy())
            columns["logit_features"] += list(logit_features(logits).cpu().numpy())
    return columns


def _log_probabilities(logits: torch.Tensor | None, tokens: Sequence[int]) -> list[float]:
    """Of the tokens, from logits [tokens, vocabulary]; NaN where there are none."""
    if logits is None:
        return [float("nan")] * len(tokens)
    return (logits[range(len(tokens)), list(tokens)] - logits.logsumexp(-1)).tolist()


def teacher_force(model: LanguageModel, texts: Sequence[tuple[list[int], list[int]]]) -> Iterator[torch.Tensor]:
    """Hidden states [reference tokens, d] from which each reference token is to be predicted, text by text.

    A text is the ids of its rendered prompt and those of its reference.
    """
    cache = model.new_cache(len(texts), max(len(ids) + len(reference) for ids, reference in texts))
    prefill_shared(model, cache, {row: ids for row, (ids, _) in enumerate(texts)})
    starts = list(cache.lengths)
    chunks = [[*ids, *reference[:-1]][start:] for (ids, reference), start in zip(texts, starts, strict=True)]
    hidden = model.feed(cache, range(len(texts)), chunks)
    for (ids, _), start, states in zip(texts, starts, hidden, strict=True):
        yield states[len(ids) - 1 - start :]


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
            "correct": value("bool"),
            "slm_logprob": value("float32"),
            "llm_logprob": value("float32"),
            "hidden": datasets.List(value("float16"), length=hidden_size),
            "logit_features": datasets.List(value("float32"), length=LOGIT_FEATURES),
        }
    )
