"""The ways of writing that are compared: this engine, `generate`, assisted generation, a naive routed loop, llama.cpp.

All are greedy, and no writer stops at an end token, so that all texts are equally long.
"""

from __future__ import annotations

import atexit
import json
import logging
import random
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.decoding import Decoding
from engine.errors import EngineError
from engine.events import Role, role_at
from engine.model.logits import logit_features
from engine.network import RouterNetwork
from engine.pair import Pair
from engine.policy import FixedPolicy, Policy, State
from engine.request import build_request
from engine.router import Router, RouterCard, features, input_size
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
        return [[event.id for event in row.events] for row in decoding.rows]

    return write


def alone(pair: Pair, role: Role) -> Writer:
    """One model through this engine."""
    return routed(pair, lambda _: FixedPolicy(role))


def verified(pair: Pair, policies: Callable[[int], Policy], threshold: float) -> Writer:
    """This engine at acceptance 1, with a policy made for the length of the prompts: the LLM's text, drafted."""

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        policy = policies(len(prompts[0]))
        return routed(pair, lambda _: policy, threshold, acceptance=1.0)(prompts, tokens)

    return write


def begin(
    pair: Pair,
    prompts: Sequence[Sequence[int]],
    policy: Policy,
    thresholds: Sequence[float],
    tokens: int,
    acceptance: float = 0.0,
) -> Decoding:
    """A batch of this engine that no end token ends; row n has seed n and threshold n."""
    requests = [
        build_request("-", threshold=t, max_new_tokens=tokens, seed=n, acceptance=acceptance)
        for n, t in enumerate(thresholds)
    ]
    policies = [policy] * len(requests)
    decoding = Decoding(pair.slm, pair.llm, backend(pair.tokenizer), frozenset(), pair.context)
    decoding.add(requests, policies, prompts)
    return decoding


def naive(slm: Any, llm: Any, policies: Callable[[int], ForcedShare], threshold: float) -> Writer:
    """Routing without the LLM's cache: at each of its tokens it reads the whole text again, as public code does.

    What else can be done simply is done here as well: the SLM keeps its cache, and `lm_head` is applied to the last
    position only, so that the difference to the engine is not made larger than it is.
    """

    @torch.inference_mode()
    def write_one(prompt: Sequence[int], policy: ForcedShare, seed: int) -> list[int]:
        text, new, cache = list(prompt), list(prompt), None
        for position in range(policy.length):
            ids = torch.tensor([new], device=slm.device)
            output = slm(input_ids=ids, cache=cache, use_cache=True, output_hidden_states=True, logits_to_keep=1)
            cache = output.cache
            certainty = logit_features(output.logits[:, -1].float()) if policy.needs_logits else None
            state = State([seed], [position], output.hidden_states[-1][:, -1], certainty)
            if role_at(float(policy.score(state)), threshold) is Role.LLM:
                whole = torch.tensor([text], device=llm.device)
                output = llm(input_ids=whole, use_cache=False, logits_to_keep=1)
            new = [int(output.logits[0, -1].argmax())]
            text += new
        return text[len(prompt) :]

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        policy = policies(tokens)
        return [write_one(prompt, policy, seed) for seed, prompt in enumerate(prompts)]

    return write


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
    command = [sys.executable, "-m", "engine.benchmark.llama", *arguments]
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
