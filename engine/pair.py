"""A loaded pair: the public way to write a text with two models.

Ties together what the other modules do (weights, router, prompt, decoding, trace) and holds no logic of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from engine.cost import ModelCost, Prices
from engine.decoding import Decoding, decode
from engine.dial import Dial
from engine.errors import InvalidRequest, WeightsError
from engine.events import TokenEvent
from engine.linear import four_bit_parameters
from engine.machine import copy_dtype
from engine.models import LanguageModel
from engine.operating_points import OperatingPoints
from engine.policy import Policy, build_policy
from engine.presets import choose_preset
from engine.progress import Progress
from engine.prompt import check_length, render
from engine.request import DEFAULT_THRESHOLD, POLICIES, Request, Sampling
from engine.router import Router
from engine.router_source import find_router
from engine.settings import Settings, load_settings
from engine.trace import Trace, build_trace
from engine.vocabulary import tokenizer_fingerprint
from engine.weights import load_models

ROUTERS = Path(__file__).resolve().parent.parent / "assets" / "routers"


class Pair:
    """Two models with one tokenizer, and a router if there is one for them.

    Attributes:
        preset: Name of the preset, or "custom".
        slm, llm: The models.
        tokenizer: Theirs.
        fingerprint: Of the tokenizer.
        router: May be None; then the policy "router" is refused.
        quantisation: "NF4" or "fp32", for people.
        context: Tokens a text may have, prompt included.
        prices: For the unit "price".
        end_ids: Token ids that end a text, whoever writes them.
        end_id: The one that ends an assistant's turn.
    """

    def __init__(
        self,
        slm: PreTrainedModel,
        llm: PreTrainedModel,
        tokenizer: PreTrainedTokenizerBase,
        *,
        slm_name: str = "SLM",
        llm_name: str = "LLM",
        preset: str = "custom",
        quantisation: str = "fp32",
        context: int = 2048,
        prices: Prices | None = None,
        copy: bool | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        dtype = copy_dtype(four_bit_parameters(slm) + four_bit_parameters(llm), copy)
        self.slm = LanguageModel(slm, slm_name, len(tokenizer), dtype)
        self.llm = LanguageModel(llm, llm_name, len(tokenizer), dtype)
        self.fingerprint = tokenizer_fingerprint(tokenizer)
        self.preset, self.quantisation = preset, quantisation
        self.context = min(context, self.slm.config.max_position_embeddings, self.llm.config.max_position_embeddings)
        self.prices = prices or Prices()
        self.router: Router | None = None
        self.end_ids = _end_ids(tokenizer, slm, llm)
        self.end_id = tokenizer.get_vocab()[str(tokenizer.eos_token)]

    @property
    def slm_name(self) -> str:
        """The small model's name."""
        return self.slm.name

    @property
    def llm_name(self) -> str:
        """The large model's name."""
        return self.llm.name

    @property
    def slm_cost(self) -> ModelCost:
        """What a pass of the small model costs."""
        return self.slm.cost

    @property
    def llm_cost(self) -> ModelCost:
        """What a pass of the large model costs."""
        return self.llm.cost

    @property
    def threshold(self) -> float:
        """Where to start turning the dial: the router's own threshold, if there is a router."""
        return self.router.card.threshold if self.router else DEFAULT_THRESHOLD

    @property
    def operating_points(self) -> OperatingPoints | None:
        """What the router's thresholds gave, if they were measured; with another LLM they would say nothing."""
        return self.router.operating_points if self.router and self.router.card.llm == self.llm_name else None

    @property
    def device(self) -> str:
        """Where the models run, for people."""
        device = self.slm.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()

    @property
    def policies(self) -> tuple[str, ...]:
        """Names of the policies a request may give here."""
        return tuple(name for name in POLICIES if name != "router" or self.router is not None)

    def use_router(self, router: Router | None) -> None:
        """Takes a router into use, or none.

        Raises:
            RouterError: It does not fit the SLM.
        """
        if router is not None:
            router.fit_to(self.slm_name, self.llm_name, self.slm.hidden_size, self.fingerprint)
            router.network.to(self.slm.device)
        self.router = router
        size, flops = (router.bytes, router.flops) if router else (0, 0)
        self.slm.cost = replace(self.slm.cost, router_bytes=size, router_flops=flops)

    def check(self, request: Request) -> int:
        """Refuses what cannot be served, before any model runs.

        Returns:
            Tokens of the rendered prompt.

        Raises:
            InvalidRequest: The prompt does not fit the context, or the policy needs a router that is not there.
        """
        self._policy(request)
        self._check_forced(request)
        tokens = len(render(self.tokenizer, request))
        check_length(tokens, self.context)
        return tokens

    def start(
        self,
        requests: Sequence[Request],
        policies: Sequence[Policy] | None = None,
        prompts: Sequence[Sequence[int]] | None = None,
    ) -> Decoding:
        """Prepares a batch of texts; `Decoding.step` writes them.

        Args:
            requests: One per text.
            policies: One per text, instead of those the requests name.
            prompts: Token ids to go on from, one list per text, instead of the rendered prompts.

        Raises:
            InvalidRequest: As `check`; or there is no request.
        """
        if not requests:
            raise InvalidRequest("A batch needs at least one request.")
        if policies is None:
            named = {request.policy: self._policy(request) for request in requests}
            policies = [named[request.policy] for request in requests]
        if prompts is None:
            prompts = [render(self.tokenizer, request) for request in requests]
        for request in requests:
            self._check_forced(request)
        for prompt in prompts:
            check_length(len(prompt), self.context)
        return Decoding(
            self.slm,
            self.llm,
            backend(self.tokenizer),
            self.end_ids,
            policies,
            requests,
            prompts,
            self.context,
        )

    def stream(
        self,
        prompt: str | Request,
        dial: Dial | None = None,
        cancel: threading.Event | None = None,
        decoding: Decoding | None = None,
        **options: Any,
    ) -> Iterator[TokenEvent]:
        """Writes one text, yielding an event per token. Closing the iterator stops the models.

        Args:
            prompt: A prompt with `options` as in `Request` (and `Sampling`), or a whole request.
            dial: Turn its threshold at any time; it applies to the next token.
            cancel: When set, no further step is taken.
            decoding: Goes on with this one, of one row that was made with `start` and has that prompt, instead.
            **options: Fields of `Request` and `Sampling`.

        Raises:
            InvalidRequest: Before any model runs.
        """
        decoding = decoding or self.start([build_request(prompt, **options)])
        if dial is not None:
            decoding.rows[0].dial = dial
        return decode(decoding, cancel)

    def generate(self, prompt: str | Request, **options: Any) -> Trace:
        """Writes one text and returns its trace. Arguments and errors as for `stream`."""
        return self.generate_batch([build_request(prompt, **options)])[0]

    def generate_batch(self, requests: Sequence[Request]) -> list[Trace]:
        """Writes several texts at once; each is what it would be alone. Errors as for `start`."""
        decoding = self.start(requests)
        for _ in decode(decoding):
            pass
        return [self.trace(row.request, row.events) for row in decoding.rows]

    def trace(self, request: Request, events: Sequence[TokenEvent]) -> Trace:
        """The trace of what `stream` yielded for a request, complete or cut short."""
        return build_trace(
            request,
            [replace(event, row=0) for event in events],
            preset=self.preset,
            slm=self.slm_name,
            llm=self.llm_name,
            router=self.router.name if self.router and request.policy == "router" else None,
            prompt_tokens=len(render(self.tokenizer, request)),
            slm_cost=self.slm_cost,
            llm_cost=self.llm_cost,
            prices=self.prices,
        )

    def _check_forced(self, request: Request) -> None:
        for forced in request.forced:
            if forced.id is not None and forced.id >= len(self.tokenizer):
                raise InvalidRequest(
                    f"forced id = {forced.id} at position {forced.index}: "
                    f"the tokenizer has {len(self.tokenizer):,} tokens"
                )

    def _policy(self, request: Request) -> Policy:
        if request.policy not in self.policies:
            raise InvalidRequest(
                f"policy = {request.policy!r} needs a router, and none is loaded: choose {', '.join(self.policies)}"
            )
        return build_policy(request.policy, self.router)


def load(
    preset: str | None = None,
    settings: Settings | None = None,
    progress: Callable[[Progress], None] | None = None,
) -> Pair:
    """Loads a pair and its router, fetching and quantising the weights the first time.

    Args:
        preset: "auto", "gpu", "cpu" or "tiny"; None takes the settings'.
        settings: Those of the environment if None.
        progress: Told what is being fetched and how far it is.

    Raises:
        SettingsError: An unknown preset or a bad setting.
        WeightsError: The weights cannot be had, or do not fit together.
        RouterError: The router named in the settings is unreadable or does not fit.
    """
    settings = settings or load_settings()
    if preset is not None:
        settings = load_settings(**{**settings.model_dump(), "preset": preset})
    chosen = choose_preset(settings)
    loaded = load_models(chosen, settings, progress)
    pair = Pair(
        loaded.slm,
        loaded.llm,
        loaded.tokenizer,
        slm_name=chosen.slm.title,
        llm_name=chosen.llm.title,
        preset=chosen.name,
        quantisation=loaded.quantisation,
        context=settings.context,
        prices=Prices(settings.price.slm, settings.price.llm, settings.price.reading_ratio),
        copy=settings.bf16_copy,
    )
    pair.use_router(_load_router(settings, chosen.name, progress))
    pair.slm.calibrate()
    pair.llm.calibrate()
    return pair


def build_request(prompt: str | Request, **options: Any) -> Request:
    """A request from a prompt and the fields of `Request` and `Sampling` by name.

    Raises:
        InvalidRequest: An unknown option, or a value out of range.
    """
    if isinstance(prompt, Request):
        return replace(prompt, **options)
    sampling = {field.name: options.pop(field.name) for field in fields(Sampling) if field.name in options}
    unknown = set(options) - {field.name for field in fields(Request)}
    if unknown:
        known = ", ".join(field.name for kind in (Request, Sampling) for field in fields(kind))
        raise InvalidRequest(f"{', '.join(sorted(unknown))} is not an option; known are {known}")
    if "stop" in options:
        options["stop"] = (options["stop"],) if isinstance(options["stop"], str) else tuple(options["stop"])
    if sampling:
        options["sampling"] = Sampling(**sampling)
    return Request(prompt, **options)


def _load_router(settings: Settings, preset: str, progress: Callable[[Progress], None] | None) -> Router | None:
    """The router of the settings: "auto" is the preset's own, if there is one."""
    if settings.router == "auto":
        folder = ROUTERS / preset
        return Router.load(folder) if folder.is_dir() else None
    cache = settings.cache_dir / "routers"
    return Router.load(
        find_router(settings.router, ROUTERS, cache, hub=settings.hub, timeout=settings.hub_timeout, progress=progress)
    )


def backend(tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
    """The Rust tokenizer inside, which decodes token by token.

    Raises:
        WeightsError: It has none.
    """
    found = getattr(tokenizer, "backend_tokenizer", None)
    if not isinstance(found, Tokenizer):
        raise WeightsError(f"{type(tokenizer).__name__} is not a fast tokenizer: save it as a tokenizer.json first")
    return found


def _end_ids(tokenizer: PreTrainedTokenizerBase, *models: PreTrainedModel) -> frozenset[int]:
    """Ids that end a text: the tokenizer's, and those the models' configurations name."""
    named = [tokenizer.eos_token_id]
    for model in models:
        for value in (model.config.eos_token_id, getattr(model.generation_config, "eos_token_id", None)):
            named += value if isinstance(value, list) else [value]
    # Chat models end a turn with one token and a document with another; GGUF files name only one of them.
    for text in ("<|im_end|>", "<|endoftext|>"):
        if text in tokenizer.get_vocab():
            named.append(tokenizer.convert_tokens_to_ids(text))
    return frozenset(i for i in named if isinstance(i, int))
