"""The ways of writing the same texts that are compared. A writer takes prompts and a number of tokens, and writes them.

All are greedy and none stops at an end token, so that all texts are equally long.
"""

from __future__ import annotations

import atexit
import json
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from engine.assisted import assisted
from engine.benchmark.forced import ForcedShare
from engine.decoding import Decoding, decode
from engine.errors import EngineError
from engine.events import Role
from engine.logits import logit_features
from engine.pair import Pair, backend
from engine.policy import FixedPolicy, Policy, State
from engine.request import Request

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


def routed(pair: Pair, policies: Callable[[int], Policy], threshold: float = 0.5) -> Writer:
    """This engine.

    Args:
        pair: Writes.
        policies: From the number of tokens to the policy of all rows.
        threshold: Of all rows.
    """

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        decoding = begin(pair, prompts, policies(tokens), [threshold] * len(prompts), tokens)
        for _ in decode(decoding):
            pass
        return [[event.id for event in row.events] for row in decoding.rows]

    return write


def alone(pair: Pair, role: Role) -> Writer:
    """One model through this engine."""
    return routed(pair, lambda _: FixedPolicy(role))


def begin(
    pair: Pair, prompts: Sequence[Sequence[int]], policy: Policy, thresholds: Sequence[float], tokens: int
) -> Decoding:
    """A batch of this engine that no end token ends; row n has seed n and threshold n."""
    requests = [Request("-", t, max_new_tokens=tokens, seed=n) for n, t in enumerate(thresholds)]
    return Decoding(
        pair.slm,
        pair.llm,
        backend(pair.tokenizer),
        frozenset(),
        [policy] * len(requests),
        requests,
        prompts,
        pair.context,
    )


def naive(
    slm: PreTrainedModel, llm: PreTrainedModel, policies: Callable[[int], ForcedShare], threshold: float
) -> Writer:
    """Routing without the LLM's cache: at each of its tokens it reads the whole text again, as public code does.

    What else can be done simply is done here as well: the SLM keeps its cache, and `lm_head` is applied to the last
    position only, so that the difference to the engine is not made larger than it is.
    """
    small: Any = slm
    large: Any = llm

    @torch.inference_mode()
    def write_one(prompt: Sequence[int], policy: ForcedShare, seed: int) -> list[int]:
        text, new, cache = list(prompt), list(prompt), None
        for position in range(policy.length):
            ids = torch.tensor([new], device=slm.device)
            output = small(input_ids=ids, cache=cache, use_cache=True, output_hidden_states=True, logits_to_keep=1)
            cache = output.cache
            certainty = logit_features(output.logits[:, -1].float()) if policy.needs_logits else None
            state = State([seed], [position], output.hidden_states[-1][:, -1], certainty)
            if float(policy.score(state)) < threshold:
                whole = torch.tensor([text], device=llm.device)
                output = large(input_ids=whole, use_cache=False, logits_to_keep=1)
            new = [int(output.logits[0, -1].argmax())]
            text += new
        return text[len(prompt) :]

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        policy = policies(tokens)
        return [write_one(prompt, policy, seed) for seed, prompt in enumerate(prompts)]

    return write


def speculative(slm: PreTrainedModel, llm: PreTrainedModel, tokenizer: Any) -> Writer:
    """Transformers' assisted generation."""

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        return [assisted(slm, llm, tokenizer, prompt, tokens, [NEVER], 0) for prompt in prompts]

    return write


def llama(path: Path, context: int) -> Writer:
    """llama.cpp on a GGUF file, with as many threads as torch has.

    It has a process of its own, which waits while the others run: on processors with AMX its kernels and torch's expect
    the same registers of a thread to be set up their own way, and llama.cpp dies of an illegal instruction.

    Args:
        path: The file.
        context: Tokens that a text may have.

    Raises:
        EngineError: The process ended; what it said is on stderr.
    """
    arguments = [str(path), str(context), str(torch.get_num_threads())]
    worker = subprocess.Popen(
        [sys.executable, "-m", "engine.benchmark.llama", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
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
