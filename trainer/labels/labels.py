"""Labels: both models teacher-forced on references, a case per token, in resumable shards (CITER, section 3.2).

References come from the data set, or are the LLM's own answers, where the shortcut decides every token. A shard is a
folder with a table of its tokens, and with the SLM's hidden states of the tokens that a router may learn from.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import pyarrow as pa
import torch
from pydantic import Field
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from engine import Request, Role
from engine.batch.prefixes import Prefixes, Wanted
from engine.grading import grade
from engine.model.language_model import LanguageModel
from engine.model.logits import LOGIT_FEATURES, logit_features
from engine.models.files import sha256_of
from engine.pair import Pair
from engine.served import vllm
from engine.served.model import ServedModel
from engine.tokenizer import render
from trainer import Report, TrainerError
from trainer.labels.answers import Answer
from trainer.preference import CASE_NAMES, Case, shortcut
from trainer.questions import Question, prompt, texts_of
from trainer.shards import MadeOf, Shards, identity_of
from trainer.stored import AGAIN, read_metadata, read_table, schema, write_table

SHARD = 20  # questions; small enough that an interruption costs a minute or two on two cores
BATCH = 5  # questions per forward pass
TOKENS, STATES = "tokens.parquet", "states.safetensors"

COLUMNS = schema(
    question=pa.string(),
    position=pa.int32(),
    token=pa.int32(),
    slm_token=pa.int32(),
    llm_token=pa.int32(),
    case=pa.int8(),
    correct=pa.bool_(),
    slm_logprob=pa.float32(),
    llm_logprob=pa.float32(),
    stands_for=pa.float32(),
    logit_features=pa.list_(pa.field("element", pa.float32(), nullable=False), LOGIT_FEATURES),
)
"""Of each token of a reference: both models' greedy tokens there, `correct` of the whole reference, log-probabilities
of the token (NaN where the LLM was not run), and for how many tokens its hidden state stands; 0 where none is stored.
"""


class _MadeOf(MadeOf):
    slm: str
    llm: str
    quantisation: str
    hidden_size: Annotated[int, Field(ge=1)]
    tokenizer: str
    reference: Literal["data", "llm"]
    texts: dict[str, str]


class Reference(NamedTuple):
    """The text that a question's labels are teacher-forced on, and whether it ends in the right answer."""

    tokens: list[int]
    correct: bool


def label(
    pair: Pair,
    questions: Sequence[Question],
    folder: Path,
    answers: Mapping[str, Answer] | None = None,
    run_llm: bool = False,
    report: Report = print,
    keep_states: float = 1.0,
) -> None:
    """Labels questions into `folder`; resumes where it stopped.

    Args:
        questions: With references, unless answers are given.
        answers: The LLM's own answers by question id, to be the references; None takes those of the data set.
        run_llm: With answers, take the log-probabilities under the LLM, too. Without, these are NaN, and the LLM is not
            run: its greedy tokens are the answer itself.
        keep_states: Of the tokens that both models agree on, the share whose hidden states are stored; each of these
            then stands for 1 / share. The states of all other tokens, and those after each prompt, are stored.

    Raises:
        TrainerError: The folder holds labels of other questions, references or models; or an answer is missing.
    """
    if missing := [q.id for q in questions if (not q.reference if answers is None else q.id not in answers)]:
        what = "answer" if answers is not None else "reference (let the LLM write it: `answer`, then `label --answers`)"
        raise TrainerError(f"{len(missing)} of {len(questions)} questions, e.g. {missing[0]}, have no {what}")
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
        "keep_states": keep_states,
        "texts": texts_of(questions),
        **identity_of(pair),
    }

    def make(some: Sequence[Question], path: Path) -> None:
        references = [_reference(pair, q, answers) for q in some]
        write_labels(path, *_columns(pair, some, references, answers is not None, settings["run_llm"], keep_states))

    _shards(folder).run(settings, questions, make, report)
    cases = Counter(case for _, table in read_labels(folder) for case in table.column("case").to_pylist())
    shares = ", ".join(f"{CASE_NAMES[case]} {cases[case] / cases.total():.1%}" for case in Case)
    report(f"{cases.total():,} tokens: {shares}")


def write_labels(path: Path, columns: Mapping[str, Any], hidden: torch.Tensor) -> None:
    """Writes one shard: columns as `COLUMNS`, and float16 [n, d] of the n tokens with `stands_for` above 0, in order.

    The table knows the SHA-256 of the states, so that damage is seen in either.
    """
    path.mkdir()
    save_file({"hidden": hidden}, path / STATES)
    table = pa.Table.from_pydict(dict(columns), COLUMNS)
    write_table(path / TOKENS, table, {"states": sha256_of(path / STATES)})


def labels_about(folder: Path) -> dict[str, Any]:
    """The settings that a folder's labels were made with; a TrainerError if some are missing."""
    return _shards(folder).load()[1]


def read_labels(folder: Path) -> Iterator[tuple[Path, pa.Table]]:
    """The table of each shard in order, with the shard; a TrainerError if some are missing or damaged."""
    for path in _shards(folder).load()[0]:
        yield path, read_table(path / TOKENS, COLUMNS)


def labelled_tokens_of(folder: Path) -> Mapping[str, Sequence[Mapping[str, Any]]]:
    wanted = pa.schema([COLUMNS.field(name) for name in COLUMNS.names if name != "logit_features"])
    return _shards(folder).by_question(lambda path: read_table(path / TOKENS, wanted).to_pylist(), list)[0]


def read_states(path: Path, hidden_size: int) -> torch.Tensor:
    """The hidden states of a shard, float16 [n, d], mapped from the disk: only what is looked at takes memory."""
    try:
        if read_metadata(path / TOKENS).get("states") != sha256_of(path / STATES):
            raise ValueError("it has changed since it was written")
        with safe_open(path / STATES, framework="pt") as file:
            hidden = file.get_tensor("hidden")
        if hidden.dtype != torch.float16 or hidden.ndim != 2 or hidden.shape[1] != hidden_size:
            raise ValueError(f"its states are {hidden.dtype} {list(hidden.shape)}")
        return hidden
    except (SafetensorError, OSError, ValueError) as error:
        raise TrainerError(f"{path / STATES} is damaged ({str(error)[:200]}); {AGAIN}") from None


def digest_of(answers: Mapping[str, Answer], questions: Sequence[Question]) -> str:
    """SHA-256 of the answers' token ids, so that what was made with other answers is never mixed with it."""
    found = hashlib.sha256(b"[")
    for number, each in enumerate(questions):
        found.update((", " * (number > 0) + json.dumps(answers[each.id].tokens)).encode())
    found.update(b"]")
    return found.hexdigest()


def _shards(folder: Path) -> Shards:
    return Shards(folder, "labels", SHARD, "", _MadeOf)


def _reference(pair: Pair, question: Question, answers: Mapping[str, Answer] | None) -> Reference:
    if answers is not None:
        own = answers[question.id]
        return Reference(own.tokens, own.finish_reason == "eos" and grade(question, own.text))
    ids = pair.tokenizer.encode(question.reference, add_special_tokens=False, split_special_tokens=True)
    return Reference([*ids, pair.end_id], True)


@torch.inference_mode()
def _columns(
    pair: Pair,
    questions: Sequence[Question],
    references: Sequence[Reference],
    by_llm: bool,
    run_llm: bool,
    keep_states: float,
) -> tuple[dict[str, list[Any]], torch.Tensor]:
    """The columns of one shard, and the hidden states that are stored."""
    slm = pair.slm
    columns: dict[str, list[Any]] = {name: [] for name in COLUMNS.names}
    stored: list[torch.Tensor] = []
    prompts = [render(pair.tokenizer, Request(prompt(q))) for q in questions]
    # Alike lengths together: the cache of a batch has room for its longest text in every row.
    order = sorted(range(len(questions)), key=lambda n: len(prompts[n]) + len(references[n].tokens))
    for batch in (order[n : n + BATCH] for n in range(0, len(order), BATCH)):
        texts = [(prompts[n], references[n].tokens) for n in batch]
        states = teacher_force(slm, texts)
        of_llm = _of_llm(pair, texts) if run_llm else [None] * len(batch)
        for n, hidden, scored in zip(batch, states, of_llm, strict=True):
            tokens, name = references[n].tokens, questions[n].id
            logits = slm.logits(hidden)
            slm_tokens = logits.argmax(-1).tolist()
            llm_logprobs, llm_tokens = scored or ([float("nan")] * len(tokens), tokens)
            llm_tokens = tokens if by_llm else llm_tokens
            cases = shortcut(slm_tokens, llm_tokens, tokens)
            agreed = [small == large for small, large in zip(slm_tokens, llm_tokens, strict=True)]
            stands_for = [_stands_for(name, place, same, keep_states) for place, same in enumerate(agreed)]
            columns["question"] += [name] * len(tokens)
            columns["position"] += range(len(tokens))
            columns["token"] += tokens
            columns["slm_token"] += slm_tokens
            columns["llm_token"] += llm_tokens
            columns["case"] += map(int, cases)
            columns["correct"] += [references[n].correct] * len(tokens)
            columns["slm_logprob"] += _log_probabilities(logits, tokens)
            columns["llm_logprob"] += llm_logprobs
            columns["stands_for"] += stands_for
            columns["logit_features"] += logit_features(logits).tolist()
            stored.append(hidden.to(torch.float16).cpu()[torch.tensor(stands_for) > 0])
    return columns, torch.cat(stored)


def _stands_for(question: str, position: int, agreed: bool, keep_states: float) -> float:
    """How many tokens a token's hidden state stands for, by a draw that depends on the token alone."""
    if not agreed or position == 0 or keep_states >= 1:
        return 1.0
    drawn = zlib.crc32(f"{question} {position}".encode()) / 2**32
    return 1 / keep_states if drawn < keep_states else 0.0


def _of_llm(pair: Pair, texts: Sequence[tuple[list[int], list[int]]]) -> list[tuple[list[float], list[int]]]:
    """For each reference its tokens' log-probabilities under the LLM, here or on a server, and the likeliest tokens."""
    if isinstance(pair.llm, ServedModel):
        scored = [each.result() for each in [served_log_probabilities(pair.llm, *text) for text in texts]]
        return [([logprob for logprob, _ in each], [best for _, best in each]) for each in scored]
    all_logits = (pair.llm.logits(hidden) for hidden in teacher_force(pair.llm, texts))
    return [
        (_log_probabilities(logits, tokens), logits.argmax(-1).tolist())
        for logits, (_, tokens) in zip(all_logits, texts, strict=True)
    ]


def served_log_probabilities(llm: ServedModel, prompt: list[int], tokens: list[int]) -> Future[list[tuple[float, int]]]:
    """Of each token its log-probability, and the likeliest token there; one request."""
    whole, fields = [*prompt, *tokens], {"max_tokens": 1, "prompt_logprobs": 1}
    return llm.ask(whole, fields, lambda choice: vllm.scores(choice, whole, len(prompt), llm.vocabulary))


def _log_probabilities(logits: torch.Tensor, tokens: Sequence[int]) -> list[float]:
    """Of the tokens, from logits [tokens, vocabulary]."""
    return (logits[range(len(tokens)), list(tokens)] - logits.logsumexp(-1)).tolist()


def teacher_force(model: LanguageModel, texts: Sequence[tuple[list[int], list[int]]]) -> list[torch.Tensor]:
    """Hidden states [reference tokens, d] from which each reference token is to be predicted, text by text.

    A text is the ids of its rendered prompt and those of its reference.
    """
    longest = max(len(ids) + len(reference) for ids, reference in texts)
    prefixes = Prefixes({Role.SLM: model}, longest)
    prefixes.reserve(len(texts), longest)
    wanted = [Wanted(slot, [*ids, *reference[:-1]], len(reference)) for slot, (ids, reference) in enumerate(texts)]
    return [states for states in prefixes.read(Role.SLM, wanted) if states is not None]
