"""A loaded pair, the public way to write a text with two models: weights, router, prompt, decoding and trace in one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from engine.batch.text import Text
from engine.decoding import Decoding
from engine.errors import EngineError, InvalidRequest
from engine.events import TokenEvent
from engine.events.cost import ModelCost, Prices
from engine.events.progress import ProgressCallback, say
from engine.events.trace import Trace, build_trace
from engine.model.language_model import LanguageModel
from engine.models.load import load_models
from engine.models.sources import choose_preset, router_folder
from engine.models.store import FP32
from engine.operating_points import OperatingPoints
from engine.policy import POLICIES, ROUTED, Policy, build_policy
from engine.request import Request, Sampling, build_request, same_prompt
from engine.router import Router
from engine.served.model import ServedModel
from engine.served.start import connect
from engine.setting import DEFAULT_THRESHOLD, Setting
from engine.settings import Settings, load_settings
from engine.tokenizer import backend, check_ids, check_length, end_ids, id_of, render, tokenizer_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

PASS_TIMES = "passes.json"
"""The file of the cache that has the times of passes, by model and machine."""


class Pair:
    """Two models with one tokenizer, and a router if there is one for them.

    `generate`, `generate_batch` and `stream` write in the caller's thread. Where several want text at once,
    `engine.scheduler.Scheduler` writes the same texts in a thread of its own. A pair is for one thread at a time.

    Attributes:
        fingerprint: Of the tokenizer (`engine.tokenizer.tokenizer_fingerprint`).
        llm: In this process, or behind a server.
        identity: Changes when the weights do. Empty for the presets, whose weights are pinned.
        quantisation: "NF4", "int8" or "fp32"; the SLM's where the LLM is on a server.
        context: Tokens that a text may have, prompt included.
        memory: Gigabytes that a server of this pair may take; None is what the machine allows.
        end_ids: Token ids that end a text, by either model.
        end_id: The one that ends an assistant's message.
        timed: Whether the times of passes are to be believed (`calibrate`).
    """

    def __init__(
        self,
        slm: Any,
        llm: Any,
        tokenizer: PreTrainedTokenizerBase,
        *,
        fingerprint: str | None = None,
        slm_name: str = "SLM",
        llm_name: str = "LLM",
        preset: str = "custom",
        identity: str = "",
        quantisation: str = "fp32",
        context: int = 2048,
        memory: float | None = None,
    ) -> None:
        self.tokenizer = tokenizer
        here = [slm] if isinstance(llm, ServedModel) else [slm, llm]
        wrap = partial(LanguageModel, vocabulary=len(tokenizer))
        self.slm = wrap(slm, slm_name)
        self.llm = llm if isinstance(llm, ServedModel) else wrap(llm, llm_name)
        self.fingerprint = fingerprint or tokenizer_fingerprint(tokenizer)
        self.slm_name, self.llm_name, self.preset, self.quantisation = slm_name, llm_name, preset, quantisation
        self.identity = identity
        self.context = min(context, *(model.context for model in (self.slm, self.llm) if model.context))
        self.memory, self.prices = memory, Prices()
        self.timed = True
        self.router: Router | None = None
        self._policies: dict[str, Policy] = {}  # one object each: rows with the same are scored together
        self.end_ids = end_ids(tokenizer, *here)
        self.end_id = id_of(tokenizer, str(tokenizer.eos_token))

    @property
    def models(self) -> tuple[LanguageModel, LanguageModel]:
        """SLM and LLM, where hidden states of both are wanted; an EngineError if the LLM is on a server."""
        if isinstance(self.llm, ServedModel):
            raise EngineError(f"{self.llm_name} is on a server, and this needs it here: unset CITER_LLM_URL")
        return self.slm, self.llm

    @property
    def slm_cost(self) -> ModelCost:
        return self.slm.cost

    @property
    def llm_cost(self) -> ModelCost:
        return self.llm.cost

    @property
    def threshold(self) -> float:
        """The threshold at which texts start: the router's own, else the default."""
        return self.router.card.threshold if self.router else DEFAULT_THRESHOLD

    @property
    def acceptance(self) -> float:
        """The acceptance at which texts start: the router's own, else 0."""
        return self.router.card.acceptance if self.router else 0.0

    @property
    def operating_points(self) -> OperatingPoints | None:
        """What the router's thresholds gave, where that was measured with this LLM."""
        return self.router.operating_points if self.router and self.router.card.llm == self.llm_name else None

    @property
    def device(self) -> str:
        """The GPU's name, or CPU."""
        device = self.slm.device
        return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.upper()

    @property
    def trouble(self) -> str:
        """What keeps the LLM from writing now; empty where nothing does."""
        return self.llm.connection.trouble if isinstance(self.llm, ServedModel) else ""

    @property
    def policies(self) -> tuple[str, ...]:
        """Names that a request may give here."""
        return tuple(name for name in POLICIES if self.router is not None or name not in ROUTED)

    def default_policy(self, named: str) -> str:
        """The policy of this name, or the SLM's confidence where it needs a router and there is none."""
        return named if named in self.policies else "confidence"

    def setting(self, given: Mapping[str, Any], start: Mapping[str, Any]) -> Setting:
        """Builds a setting from the parts that are `given`, by their fields in `Setting`.

        If `given` has no policy, missing parts are taken from `start`, the parts that the user's settings state. Parts
        that are still missing are the router's own if the router decides, else the defaults. Raises InvalidRequest for
        a value out of range.
        """
        start = {} if "policy" in given else start
        policy = given.get("policy") or self.default_policy(start.get("policy", "router"))
        own = {"threshold": self.threshold, "acceptance": self.acceptance} if policy == "router" else {}
        return Setting(**{**own, **start, **given, "policy": policy})

    def use_router(self, router: Router | None) -> None:
        """Takes a router into use, or none; raises RouterError if it does not fit the SLM."""
        if router is not None:
            router.check_fits(self.slm_name, self.llm_name, self.slm.hidden_size, self.fingerprint)
            router.network.to(self.slm.device)
        self.router, self._policies = router, {}
        size, flops = (router.network.bytes, router.network.flops) if router else (0, 0)
        self.slm.cost = replace(self.slm.cost, router_bytes=size, router_flops=flops)

    def close(self) -> None:
        if isinstance(self.llm, ServedModel):
            self.llm.connection.close()

    def calibrate(self, kept: Path | None = None) -> None:
        """Measures what passes of both models take; `timed` says whether these times are to be believed.

        Times are stored in the file `kept` for the next start, which uses them unless passes have become faster.
        """
        if not self.llm.local:
            self.slm.calibrate()
            self.llm.calibrate()
            return
        self.timed = kept is not None and all(model.recall(kept) for model in self.models)
        if not self.timed:
            calm = [model.calibrate() for model in self.models]
            self.timed = all(calm)
            if kept is not None and self.timed:
                for model in self.models:
                    model.keep(kept)

    def check(self, request: Request) -> int:
        """Raises InvalidRequest for what cannot be served, before any model runs; returns the prompt's tokens."""
        return self.texts([request])[0].prompt_tokens

    def texts(
        self,
        requests: Sequence[Request],
        policies: Sequence[Policy | None] | None = None,
        prompts: Sequence[Sequence[int] | None] | None = None,
    ) -> list[Text]:
        """New texts, for `Decoding.add`. Raises as `check` does.

        Args:
            requests: One per text.
            policies: One per text, instead of the one that its request names, or None for that one.
            prompts: Token ids to go on from, one list per text, or None for its rendered prompt.
        """
        texts: list[Text] = []
        rendered: tuple[Request, list[int]] | None = None  # the last: texts of one prompt follow each other
        for request, policy, prompt in zip_longest(requests, policies or (), prompts or ()):
            policy = policy or self._policy(request)
            self._check(request)
            if prompt is None:
                if rendered is None or not same_prompt(rendered[0], request):
                    rendered = request, render(self.tokenizer, request, self.context)
                prompt = rendered[1]
            check_ids(prompt, len(self.tokenizer))
            check_length(len(prompt), self.context, bool(request.turns))
            limit = min(request.max_new_tokens, self.context - len(prompt))
            texts.append(Text(request, policy, list(prompt), limit, row=len(texts)))
        return texts

    def open(self, most: int | None = None, remember: bool = False) -> Decoding:
        """A batch without texts, of `most` at most; to `remember` is for evaluations whose texts begin alike."""
        return Decoding(self.slm, self.llm, backend(self.tokenizer), self.end_ids, self.context, most, remember)

    def start(
        self,
        requests: Sequence[Request],
        policies: Sequence[Policy | None] | None = None,
        prompts: Sequence[Sequence[int] | None] | None = None,
    ) -> Decoding:
        """A batch of some texts; arguments as for `texts`."""
        decoding = self.open()
        decoding.add(self.texts(requests, policies, prompts))
        return decoding

    def stream(self, prompt: str | Request, **options: Any) -> Iterator[TokenEvent]:
        """Writes one text, yielding an event per token; an InvalidRequest is raised before any model runs.

        `prompt` is a prompt or a request, with the `options` of `build_request`. Closing the iterator stops the models.
        """
        return self.start([build_request(prompt, **options)]).run()

    def generate(self, prompt: str | Request, **options: Any) -> Trace:
        """Writes one text and returns its trace; `prompt` and `options` as for `stream`."""
        return self.generate_batch([build_request(prompt, **options)])[0]

    def generate_batch(self, requests: Sequence[Request]) -> list[Trace]:
        """Writes several texts at once; each is what it would be alone."""
        decoding = self.start(requests)
        decoding.finish()
        return [self.trace(text.request, text.events, text.prompt_tokens) for text in decoding.texts]

    def trace(self, request: Request, events: Sequence[TokenEvent], prompt_tokens: int | None = None) -> Trace:
        """The trace of what `stream` yielded for a request; without `prompt_tokens` the rendered prompt is counted."""
        if prompt_tokens is None:
            prompt_tokens = len(render(self.tokenizer, request))
        return build_trace(
            request,
            events,
            preset=self.preset,
            slm=self.slm_name,
            llm=self.llm_name,
            router=self.router.name if self.router and request.setting.policy == "router" else None,
            prompt_tokens=prompt_tokens,
            slm_cost=self.slm_cost,
            llm_cost=self.llm_cost,
            prices=self.prices,
        )

    def check_sampling(self, sampling: Sampling) -> None:
        """Raises InvalidRequest for sampling that this LLM cannot serve."""
        if sampling.repetition_penalty != 1 and not self.llm.local:
            raise InvalidRequest(
                f"repetition_penalty = {sampling.repetition_penalty:g}: {self.llm_name} is on a server that "
                "returns probabilities, and the penalty needs logits: set it to 1"
            )

    def _check(self, request: Request) -> None:
        self.check_sampling(request.sampling)
        tokens = len(self.tokenizer)
        for index, id in ((forced.index, forced.id) for forced in request.forced):
            if id is not None and id >= tokens:
                raise InvalidRequest(f"forced id = {id} at position {index}: the tokenizer has {tokens:,} tokens")

    def _policy(self, request: Request) -> Policy:
        name = request.setting.policy
        if name not in self.policies:
            raise InvalidRequest(
                f"policy = {name!r} needs a router, and none is loaded: choose {', '.join(self.policies)}"
            )
        if name not in self._policies:
            self._policies[name] = build_policy(name, self.router)
        return self._policies[name]


def load(preset: str | None = None, settings: Settings | None = None, progress: ProgressCallback | None = None) -> Pair:
    """Loads a pair and its router, fetching and quantising the weights the first time.

    Without `settings` those of the environment hold; a `preset` that differs from theirs replaces it, and their SLM and
    LLM. A bad setting, weights that cannot be had or do not fit together, or a router that does not fit, is an
    EngineError. `progress` hears of every download.
    """
    settings = settings or load_settings()
    if preset is not None and preset != settings.preset:
        settings = load_settings(**{**settings.model_dump(), "preset": preset, "slm": None, "llm": None})
    chosen = choose_preset(settings, progress)
    loaded = load_models(chosen, settings, progress, with_llm=not settings.llm_url)
    llm_name = chosen.llm.title
    if settings.llm_url:
        say(progress, f"asking the LLM's server at {settings.llm_url}")
        loaded = loaded._replace(llm=connect(settings, loaded.tokenizer, loaded.slm.device))
        llm_name = loaded.llm.name
    about = {"preset": chosen.name, "context": settings.context, "memory": settings.memory}
    pair = Pair(**loaded._asdict(), llm_name=llm_name, **about)
    folder = router_folder(settings, chosen, progress)
    router = Router.load(folder) if folder is not None else None
    # The preset's own router knows the SLM with its own adapter.
    other_adapter = settings.router == "auto" and settings.adapter != "auto"
    pair.use_router(None if router and other_adapter and router.card.slm != pair.slm_name else router)
    pair.calibrate(settings.cache_dir / PASS_TIMES if pair.quantisation != FP32 else None)
    return pair
