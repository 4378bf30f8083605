"""The ways to write that are compared: this engine, `generate`, assisted generation, llama.cpp.

All are greedy, and no writer stops at an end token, so that all texts are equally long.
"""

from __future__ import annotations

import atexit
import importlib.util
import json
import logging
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.bench.subject import Subject
from engine.decoding import Decoding
from engine.errors import EngineError
from engine.events import Role
from engine.pair import Pair
from engine.policy import ConfidencePolicy, FixedPolicy, Policy, RouterPolicy, State
from engine.request import build_request
from engine.router import Router, RouterCard, RouterNetwork, features, input_size
from engine.tokenizer import backend

Writer = Callable[[Sequence[Sequence[int]], int], list[list[int]]]
"""Prompts as token ids and tokens to write → the new ids of each text."""

NEVER = 2**31 - 1
"""An end token that no model can write, since no vocabulary is that large."""


def generate(model: PreTrainedModel) -> Writer:
    """One model through transformers' `generate`."""

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        ids = torch.tensor(prompts, device=model.device)
        written: Any = model.generate(  # pyright: ignore[reportCallIssue]
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            do_sample=False,
            repetition_penalty=1.0,
            eos_token_id=NEVER,
            pad_token_id=0,
        )
        return written[:, ids.shape[1] :].tolist()

    return write


def routed(pair: Pair, policies: Callable[[int], Policy], threshold: float = 0.5, acceptance: float = 0.0) -> Writer:
    """This engine, with one policy (made for the number of tokens), threshold and acceptance for all rows."""

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        decoding = begin(pair, prompts, policies(tokens), [threshold] * len(prompts), tokens, acceptance)
        decoding.finish()
        return [[event.id for event in text.events] for text in decoding.texts]

    return write


def alone(pair: Pair, role: Role) -> Writer:
    """One model through this engine."""
    return routed(pair, lambda _: FixedPolicy(role))


def begin(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    policy: Policy,
    thresholds: Sequence[float],
    tokens: int,
    acceptance: float = 0.0,
) -> Decoding:
    """A batch of this engine that no end token ends; text n has seed n and threshold n."""
    requests = [
        build_request("-", threshold=t, max_new_tokens=tokens, seed=n, acceptance=acceptance)
        for n, t in enumerate(thresholds)
    ]
    decoding = Decoding(pair.slm, pair.llm, backend(pair.tokenizer), frozenset(), pair.context)
    decoding.add(pair.texts(requests, [policy] * len(requests), prompts))
    return decoding


def speculative(slm: PreTrainedModel, llm: PreTrainedModel, tokenizer: Any) -> Writer:
    """Assisted generation."""

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        return [assisted(slm, llm, tokenizer, prompt, tokens, [NEVER], 0) for prompt in prompts]

    return write


def llama(path: Path, context: int) -> Writer:
    """llama.cpp on a GGUF file, with as many threads as torch has.

    It has a process of its own, which waits while the others run: on processors with AMX its kernels and torch's expect
    the same registers of a thread to be set up their own way, and llama.cpp dies of an illegal instruction.

    Raises:
        EngineError: The process ended; its messages are on stderr.
    """
    arguments = [str(path), str(context), str(torch.get_num_threads())]
    command = [sys.executable, "-m", "engine.bench.llama", *arguments]
    worker = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    atexit.register(worker.kill)
    assert worker.stdin is not None
    assert worker.stdout is not None
    into, out = worker.stdin, worker.stdout

    def write_one(prompt: Sequence[int], tokens: int) -> list[int]:
        try:
            into.write(json.dumps([list(prompt), tokens]) + "\n")
            into.flush()
            return json.loads(out.readline())
        except (OSError, ValueError) as error:
            raise EngineError(f"llama.cpp on {path.name} ended with status {worker.wait(10)}") from error

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        return [write_one(prompt, tokens) for prompt in prompts]

    return write


DRAFT = 5
"""Tokens drafted per check. transformers' own default of 20 costs more SLM passes than it saves LLM passes here."""


def assisted(
    slm: PreTrainedModel,
    llm: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    ids: Sequence[int],
    max_new_tokens: int,
    end_ids: Iterable[int],
    pad_id: int,
) -> list[int]:
    """Writes one text greedily by transformers' assisted generation: the SLM drafts, the LLM checks every token.

    Args:
        ids: The prompt's token ids.
        end_ids: Token ids that end a text; an id that no model has never ends it.
        pad_id: Any id; transformers wants one.

    Returns:
        The new token ids, at most `max_new_tokens`, the end token included.
    """
    drafter: Any = slm
    checker: Any = llm
    tensor = torch.tensor([list(ids)], device=llm.device)
    outside = list(range(len(tokenizer), checker.config.vocab_size))  # the padded end of the vocabulary
    # Models padded to different lengths count as having different vocabularies, unless their tokenizers are given.
    differ = checker.config.vocab_size != drafter.config.vocab_size
    tokenizers = {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer} if differ else {}
    drafter.generation_config.num_assistant_tokens = DRAFT
    drafter.generation_config.num_assistant_tokens_schedule = "constant"
    # transformers warns of arguments that it passes to itself here.
    logging.getLogger("transformers.generation.utils").setLevel(logging.ERROR)
    output = checker.generate(
        tensor,
        attention_mask=torch.ones_like(tensor),
        assistant_model=drafter,
        do_sample=False,
        max_new_tokens=max_new_tokens,
        eos_token_id=sorted(end_ids),
        pad_token_id=pad_id,
        suppress_tokens=outside or None,
        **tokenizers,
    )
    return output[0, len(ids) :].tolist()


class ForcedShare(Policy):
    """Scores that are evenly spread over the text, in an order that the seed shuffles.

    Of a text of `length` tokens, threshold t gives the LLM exactly t · length tokens (rounded), so that speeds are
    compared at the same share. The router's network is run on every hidden state and its score thrown away: this is
    what routing costs, without what this pair's router happens to think. The first token is the LLM's at every share
    above 0, so that the time to the first token is the longest there is: both models have read the prompt.
    """

    runs_router = True

    def __init__(self, router: Router, length: int) -> None:
        """Prepares texts of `length` tokens."""
        self.router, self.length = router, length
        self.needs_logits = router.card.logit_features

    def score(self, state: State) -> torch.Tensor:
        """See `Policy.score`."""
        assert state.hidden is not None
        self.router.score(features(state.hidden, state.logit_features if self.needs_logits else None)).tolist()
        places = zip(state.seeds, state.positions, strict=True)
        return torch.tensor([shuffled_scores(self.length, seed)[position] for seed, position in places])


@cache
def shuffled_scores(length: int, seed: int) -> list[float]:
    """A text's scores by position: 0, then evenly spread in (0, 1) in an order that depends on the seed."""
    order = list(range(1, length))
    random.Random(seed).shuffle(order)
    return [0.0, *((rank + 0.5) / length for rank in order)]


def router_of(pair: Pair) -> Router:
    """The pair's router, or one of the same size with random weights where it has none."""
    if pair.router is not None:
        return pair.router
    size = pair.slm.hidden_size
    card = RouterCard("random", pair.slm_name, pair.llm_name, size, pair.fingerprint)
    network = RouterNetwork(input_size(size, with_logits=False), size).to(pair.slm.device)
    return Router(network.requires_grad_(False), card)


@dataclass(frozen=True)
class Way:
    """One way to write.

    Attributes:
        name: For `--only` and the JSON.
        title: For the table.
        writer: Makes it ready; loads what is not loaded yet.
        batch: Texts written at once.
        first_token: Whether the time to the first token is measured. It is the same for every share above 0.
    """

    name: str
    title: str
    writer: Callable[[Subject], Writer]
    batch: int = 1
    first_token: bool = False


BASELINE = "generate-llm"
OURS = "this engine’s weights"
_LLAMA = "llama-"  # what the names of its two rows begin with


def _alone(name: str, how: str, make: Callable[[Subject, Role], Writer]) -> list[Way]:
    """The rows of one way with either model alone."""

    def way(role: Role) -> Way:
        title = f"{role.value.upper()} only, {how}"
        return Way(f"{name}-{role.value}", title, lambda subject: make(subject, role), first_token=True)

    return [way(Role.SLM), way(Role.LLM)]


def _routed(percent: int, batch: int = 1) -> Way:
    def make(subject: Subject) -> Writer:
        router = router_of(subject.pair)
        return routed(subject.pair, lambda tokens: ForcedShare(router, tokens), percent / 100)

    name, title = f"routed-{percent}", f"routed, {percent} % LLM"
    if batch > 1:
        name, title = f"{name}x{batch}", f"{title}, {batch} texts at once"
    return Way(name, title, make, batch, first_token=(percent, batch) == (30, 1))


def _by_router(subject: Subject) -> Writer:
    policy = RouterPolicy(router_of(subject.pair))
    return routed(subject.pair, lambda _: policy, subject.pair.threshold, acceptance=1.0)


def _speculative(subject: Subject) -> Writer:
    return routed(subject.pair, lambda _: ConfidencePolicy(), 0.0, acceptance=1.0)


def _assisted(subject: Subject) -> Writer:
    return speculative(subject.plain(Role.SLM), subject.plain(Role.LLM), subject.pair.tokenizer)


WAYS: tuple[Way, ...] = (
    *_alone("generate", f"`generate`, {OURS}", lambda subject, role: generate(subject.plain(role))),
    *_alone("engine", "this engine", lambda subject, role: alone(subject.pair, role)),
    *(_routed(percent) for percent in (10, 20, 30, 50)),
    *(_routed(30, batch) for batch in (4, 16)),
    Way("verified-router", "acceptance 1, the router at its threshold", _by_router),
    Way("verified-0", "acceptance 1, threshold 0 (speculative decoding)", _speculative),
    Way("assisted", f"assisted generation, {OURS}", _assisted, first_token=True),
    *_alone("llama", "llama.cpp, Q4_K_M", lambda subject, role: llama(subject.gguf[role], subject.pair.context)),
)


def reason_to_skip(way: Way, subject: Subject) -> str | None:
    """Why a way cannot be measured here; None if it can."""
    if not way.name.startswith(_LLAMA):
        return None
    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed: pip install -e '.[llama]'"
    role = Role(way.name.removeprefix(_LLAMA))
    return None if role in subject.gguf else f"this pair has no GGUF file of its {role.value.upper()}"
