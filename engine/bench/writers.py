"""The ways to write that are compared: this engine, `generate`, assisted generation, llama.cpp.

All are greedy, and no writer stops at an end token, so that all texts are equally long.
"""

from __future__ import annotations

import importlib.util
import logging
import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.bench import llama
from engine.decoding import Decoding
from engine.events import Role
from engine.events.progress import ProgressCallback
from engine.models import store
from engine.models.fetch import PinnedFile
from engine.models.load import folder_of, layout_for, slm_files
from engine.models.model_files import files_of
from engine.models.sources import choose_preset
from engine.pair import Pair, load
from engine.policy import ConfidencePolicy, FixedPolicy, Policy, RouterPolicy, State
from engine.request import build_request
from engine.router import Router, RouterCard, RouterNetwork, input_size
from engine.settings import Settings
from engine.tokenizer import backend

Writer = Callable[[Sequence[Sequence[int]], int], list[list[int]]]
"""Prompts as token ids, and how many tokens to write → the new ids of each text."""

NEVER = 2**31 - 1
"""An end token that no model can write, since no vocabulary is that large."""

DRAFT = 5
"""Tokens drafted per check. transformers' own default of 20 costs more SLM passes than it saves LLM passes here."""


class Subject:
    """The pair that is measured; `gguf` has files of the same models for llama.cpp, where there are any."""

    def __init__(self, settings: Settings, progress: ProgressCallback | None = None) -> None:
        """Loads the pair, and measures its passes anew: stored times may be of another day."""
        self._settings, self._preset = settings, choose_preset(settings, progress)
        self.pair = load(None, settings, progress)
        for model in self.pair.models:
            model.calibrate()
        files = {Role.SLM: self._preset.slm.where, Role.LLM: self._preset.llm.where}
        paths = {role: each.at(settings.cache_dir) for role, each in files.items() if isinstance(each, PinnedFile)}
        self.gguf = {role: path for role, path in paths.items() if path.exists()}

    @property
    def device(self) -> torch.device:
        return self.pair.slm.device

    @cached_property
    def plain(self) -> dict[Role, Any]:
        """The models as transformers runs them, with the engine's weights and products: only the loops differ.

        They are loaded a second time, since the engine may change the modules of its pair.
        """
        layout = layout_for(self._preset, self._settings)
        if layout == store.FP32:
            return dict(zip(Role, (model.model for model in load(None, self._settings).models), strict=True))
        files = slm_files(self._preset, self._settings), files_of(self._preset.llm, self._settings)
        models: list[Any] = [store.as_transformers(folder_of(each, self._settings, layout), layout) for each in files]
        return {role: model.to(self.device) for role, model in zip(Role, models, strict=True)}


def generate(
    model: PreTrainedModel,
    prompt: Sequence[int],
    tokens: int,
    end_ids: Iterable[int] = (NEVER,),
    drafter: PreTrainedModel | None = None,
    tokenizer: PreTrainedTokenizerBase | None = None,
) -> list[int]:
    """One greedy text through transformers' `generate`: the new token ids, the end token included.

    With a `drafter` and the pair's `tokenizer` it is assisted generation: the SLM drafts, and the model checks.
    """
    checker: Any = model
    tensor = torch.tensor([list(prompt)], device=model.device)
    options: dict[str, Any] = {}
    if drafter is not None and tokenizer is not None:
        assistant: Any = drafter
        assistant.generation_config.num_assistant_tokens = DRAFT
        assistant.generation_config.num_assistant_tokens_schedule = "constant"
        options = {"assistant_model": drafter}
        options["suppress_tokens"] = list(range(len(tokenizer), checker.config.vocab_size)) or None  # padding
        # Models padded to different lengths count as having different vocabularies, unless their tokenizers are given.
        if checker.config.vocab_size != assistant.config.vocab_size:
            options |= {"tokenizer": tokenizer, "assistant_tokenizer": tokenizer}
        # transformers warns of arguments that it passes to itself here.
        logging.getLogger("transformers.generation.utils").setLevel(logging.ERROR)
    fixed = {"do_sample": False, "repetition_penalty": 1.0, "eos_token_id": sorted(end_ids), "pad_token_id": 0}
    mask = torch.ones_like(tensor)
    written = checker.generate(tensor, attention_mask=mask, max_new_tokens=tokens, **fixed, **options)
    return written[0, len(prompt) :].tolist()


def plain(subject: Subject, role: Role, drafted: bool = False) -> Writer:
    """One model through `generate`, on its own or with the SLM's drafts."""
    model, drafter = subject.plain[role], subject.plain[Role.SLM] if drafted else None
    about = (NEVER,), drafter, subject.pair.tokenizer
    return lambda prompts, tokens: [generate(model, prompt, tokens, *about) for prompt in prompts]


def routed(pair: Pair, policies: Callable[[int], Policy], threshold: float = 0.5, acceptance: float = 0.0) -> Writer:
    """This engine; `policies` makes the policy for a number of tokens."""

    def write(prompts: Sequence[Sequence[int]], tokens: int) -> list[list[int]]:
        decoding = Decoding(pair.slm, pair.llm, backend(pair.tokenizer), frozenset(), pair.context)
        about = {"threshold": threshold, "acceptance": acceptance, "max_new_tokens": tokens}
        requests = [build_request("-", seed=number, **about) for number in range(len(prompts))]
        decoding.add(pair.texts(requests, [policies(tokens)] * len(prompts), prompts))
        decoding.finish()
        return [[event.id for event in text.events] for text in decoding.texts]

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
    return lambda prompts, tokens: [worker.submit(llama.write, *about, list(p), tokens).result() for p in prompts]


class ForcedShare(RouterPolicy):
    """Scores that are evenly spread over the text, in an order that the seed shuffles.

    In a text of `length` tokens, threshold t gives the LLM exactly t · length tokens (rounded), so that speeds are
    compared at the same share. The router's network runs on every hidden state, since that is part of the cost, and its
    score is thrown away. The first token is the LLM's at every share above 0, so that both models read the prompt.
    """

    def __init__(self, router: Router, length: int) -> None:
        super().__init__(router)
        self.length = length

    def score(self, state: State) -> torch.Tensor:
        super().score(state).tolist()
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
    """One way to write, with `name` and `title` for the JSON and the table.

    Attributes:
        writer: Makes it ready; loads its models if need be.
        batch: Texts written at once.
        first_token: Whether the time to the first token is measured. It is the same for every share above 0.
    """

    name: str
    title: str
    writer: Callable[[Subject], Writer]
    batch: int = 1
    first_token: bool = False


BASELINE = "generate-llm"
_OURS = "this engine’s weights"
_LLAMA = "llama-"  # beginning of the names of its two rows


def _alone(name: str, how: str, make: Callable[[Subject, Role], Writer]) -> list[Way]:
    titles = {role: f"{role.value.upper()} only, {how}" for role in Role}
    return [Way(f"{name}-{r.value}", titles[r], lambda subject, r=r: make(subject, r), first_token=True) for r in Role]


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


WAYS: tuple[Way, ...] = (
    *_alone("generate", f"`generate`, {_OURS}", plain),
    *_alone("engine", "this engine", lambda subject, role: alone(subject.pair, role)),
    *(_routed(*each) for each in ((20,), (30,), (30, 16))),
    Way("verified-router", "acceptance 1, the router at its threshold", _by_router),
    Way("verified-0", "acceptance 1, threshold 0 (speculative decoding)", _speculative),
    Way("assisted", f"assisted generation, {_OURS}", lambda each: plain(each, Role.LLM, True), first_token=True),
    *_alone("llama", "llama.cpp, Q4_K_M", lambda subject, role: by_llama_cpp(subject.gguf[role], subject.pair.context)),
)


def reason_to_skip(way: Way, subject: Subject) -> str | None:
    """Why a way cannot be measured here; None if it can."""
    if not way.name.startswith(_LLAMA):
        return None
    if importlib.util.find_spec("llama_cpp") is None:
        return "llama-cpp-python is not installed: pip install -e '.[llama]'"
    role = Role(way.name.removeprefix(_LLAMA))
    return None if role in subject.gguf else f"this pair has no GGUF file of its {role.value.upper()}"
