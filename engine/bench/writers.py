"""The ways to write that are compared: this engine, `generate`, assisted generation, llama.cpp.

All are greedy, and no writer stops at an end token, so that all texts are equally long.
"""

from __future__ import annotations

import importlib.util
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import torch
from transformers import PreTrainedTokenizerBase

from engine.bench import llama
from engine.decoding import Decoding
from engine.events import Role
from engine.models import store
from engine.models.fetch import PinnedFile
from engine.models.load import folder_of, layout_for, slm_files
from engine.models.model_files import files_of
from engine.models.sources import choose_preset
from engine.pair import Pair
from engine.policy import ConfidencePolicy, FixedPolicy, Policy, RouterPolicy, State
from engine.request import build_request
from engine.router import Router, RouterCard, RouterNetwork, input_size
from engine.settings import Settings
from engine.tokenizer import backend

Writer = Callable[[Sequence[int], int], list[int]]
"""A prompt as token ids, and how many tokens to write → the new ids."""

NEVER = 2**31 - 1
"""An end token that no model can write, since no vocabulary is that large."""

DRAFT = 5
"""Tokens drafted per check. transformers' own default of 20 costs more SLM passes than it saves LLM passes here."""


def plain_models(pair: Pair, settings: Settings) -> dict[Role, Any]:
    """The models as transformers runs them, with the engine's weights and products: only the loops differ.

    Quantised ones are loaded a second time, since the engine has joined layers of its own.
    """
    preset = choose_preset(settings)
    layout = layout_for(preset, settings)
    if layout == store.FP32:
        return {role: model.model for role, model in zip(Role, pair.models, strict=True)}
    files = slm_files(preset, settings), files_of(preset.llm, settings)
    models: list[Any] = [store.as_transformers(folder_of(each, settings, layout), layout) for each in files]
    return {role: model.to(pair.slm.device) for role, model in zip(Role, models, strict=True)}


def generate(
    model: Any,
    prompt: Sequence[int],
    tokens: int,
    end_ids: Iterable[int] = (NEVER,),
    drafter: Any = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[int]:
    """One greedy text through transformers' `generate`: the new token ids, the end token included.

    With a `drafter` and the pair's `tokenizer` it is assisted generation: the SLM drafts, and the model checks.
    """
    tensor = torch.tensor([list(prompt)], device=model.device)
    options: dict[str, Any] = {}
    if drafter is not None and tokenizer is not None:
        drafter.generation_config.num_assistant_tokens = DRAFT
        drafter.generation_config.num_assistant_tokens_schedule = "constant"
        options = {"assistant_model": drafter}
        options["suppress_tokens"] = list(range(len(tokenizer), model.config.vocab_size)) or None  # padding
        # Models padded to different lengths count as having different vocabularies, unless their tokenizers are given.
        if model.config.vocab_size != drafter.config.vocab_size:
            options |= {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer}
        # transformers warns of arguments that it passes to itself here.
        logging.getLogger("transformers.generation.utils").setLevel(logging.ERROR)
    fixed = {"do_sample": False, "repetition_penalty": 1.0, "eos_token_id": sorted(end_ids), "pad_token_id": 0}
    mask = torch.ones_like(tensor)
    written = model.generate(tensor, attention_mask=mask, max_new_tokens=tokens, **fixed, **options)
    return written[0, len(prompt) :].tolist()


def routed(pair: Pair, policies: Callable[[int], Policy], threshold: float = 0.5, acceptance: float = 0.0) -> Writer:
    """This engine; `policies` makes the policy for a number of tokens."""

    def write(prompt: Sequence[int], tokens: int) -> list[int]:
        decoding = Decoding(pair.slm, pair.llm, backend(pair.tokenizer), frozenset(), pair.context)
        request = build_request("-", threshold=threshold, acceptance=acceptance, max_new_tokens=tokens)
        decoding.add(pair.texts([request], [policies(tokens)], [prompt]))
        decoding.finish()
        return [event.id for event in decoding.texts[0].events]

    return write


def alone(pair: Pair, role: Role) -> Writer:
    return routed(pair, lambda _: FixedPolicy(role))


def by_llama_cpp(path: Path, context: int) -> Writer:
    """llama.cpp on a GGUF file, with as many threads as torch has.

    It has a process of its own, which waits while the others run: on processors with AMX its kernels and torch's expect
    the same registers of a thread to be set up their own way, and llama.cpp dies of an illegal instruction.
    """
    about = str(path), context, torch.get_num_threads()
    worker = ProcessPoolExecutor(1, get_context("spawn"))
    return lambda prompt, tokens: worker.submit(llama.write, *about, list(prompt), tokens).result()


class ForcedShare(RouterPolicy):
    """Scores that are evenly spread over the text, in a shuffled order.

    In a text of `length` tokens, threshold t gives the LLM exactly t · length tokens (rounded), so that speeds are
    compared at the same share. The router's network runs on every hidden state, since that is part of the cost, and its
    score is thrown away. The first token is the LLM's at every share above 0, so that both models read the prompt.
    """

    def __init__(self, router: Router, length: int) -> None:
        super().__init__(router)
        order = list(range(1, length))
        random.Random(0).shuffle(order)
        self.scores = [0.0, *((rank + 0.5) / length for rank in order)]

    def score(self, state: State) -> torch.Tensor:
        super().score(state).tolist()
        return torch.tensor([self.scores[position] for position in state.positions])


def router_of(pair: Pair) -> Router:
    """The pair's router, or one of the same size with random weights where it has none."""
    if pair.router is not None:
        return pair.router
    size = pair.slm.hidden_size
    card = RouterCard("random", pair.slm_name, pair.llm_name, size, pair.fingerprint)
    network = RouterNetwork(input_size(size, with_logits=False), size).to(pair.slm.device)
    return Router(network.requires_grad_(False), card)


class Way(NamedTuple):
    """One way to write, with `name` and `title` for the JSON and the table."""

    name: str
    title: str
    write: Writer


BASELINE = "generate-llm"
_OURS = "this engine’s weights"


def ways(pair: Pair, settings: Settings) -> list[Way]:
    """All ways to write. Those of llama.cpp need its package, and the GGUF files of the same models."""
    plain, router, preset = plain_models(pair, settings), router_of(pair), choose_preset(settings)

    def by_generate(role: Role, *drafts: Any) -> Writer:
        return lambda prompt, tokens: generate(plain[role], prompt, tokens, (NEVER,), *drafts)

    def share(percent: int) -> Writer:
        return routed(pair, lambda tokens: ForcedShare(router, tokens), percent / 100)

    only = [(role, role.value, f"{role.value.upper()} only, ") for role in Role]
    found = [Way(f"generate-{name}", f"{said}`generate`, {_OURS}", by_generate(role)) for role, name, said in only]
    found += [Way(f"engine-{name}", f"{said}this engine", alone(pair, role)) for role, name, said in only]
    found += [
        Way("routed-20", "routed, 20 % LLM", share(20)),
        Way("routed-30", "routed, 30 % LLM", share(30)),
        Way(
            "verified-router",
            "acceptance 1, the router at its threshold",
            routed(pair, lambda _: RouterPolicy(router), pair.threshold, acceptance=1.0),
        ),
        Way(
            "verified-0",
            "acceptance 1, threshold 0 (speculative decoding)",
            routed(pair, lambda _: ConfidencePolicy(), 0.0, acceptance=1.0),
        ),
        Way(
            "assisted",
            f"assisted generation, {_OURS}",
            by_generate(Role.LLM, plain[Role.SLM], pair.tokenizer),
        ),
    ]
    if importlib.util.find_spec("llama_cpp"):
        found += [
            Way(f"llama-{name}", f"{said}llama.cpp, Q4_K_M", by_llama_cpp(path, pair.context))
            for (_, name, said), model in zip(only, (preset.slm, preset.llm), strict=True)
            if isinstance(model.where, PinnedFile) and (path := model.where.at(settings.cache_dir)).exists()
        ]
    return found
