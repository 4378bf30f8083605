"""What programs may ask of the page's server: `/generate`, one call, one trace, and no session; and its models.

The page itself does not use it. What OpenAI's clients know is in `engine.endpoint`.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr
from gradio.context import LocalContext

from app.entrance.callers import Callers, calling_address
from app.running.host import Host
from app.running.run import Run
from engine import EngineError, Prices, Request, Sampling, Settings, build_request
from engine.guard.limits import Entrance, Places
from engine.guard.names import check_key
from engine.guard.refusals import Refusal
from engine.setting import DraftLimit, Setting

FIRST_HEARD_SECONDS = 15.0
"""How long after its call a client may begin to wait for the result, which is another request."""

UNHEARD_SECONDS = 3.0
"""How long a text is written on after its client has stopped waiting for it."""

LOADING_SECONDS = 10.0
"""After which a program that came while the models load may ask again."""

_POLL_SECONDS = 0.02


class ApiRun(Run):
    """A text that a call waits for; `policy_chosen` says whether the call named its policy."""

    entrance: Entrance = "api"

    def __init__(self, request: Request, policy_chosen: bool = True) -> None:
        super().__init__(request)
        if policy_chosen:  # it is written with or refused
            self.settle = lambda setting, pair: setting


def add_api(host: Host, places: Places, callers: Callers, settings: Settings) -> None:
    """Adds the endpoint to the page that is being built; a client's runs stop when it goes away."""
    start = Setting(**settings.stated)

    async def generate(
        request: gr.Request,
        prompt: str,
        threshold: float = start.threshold,
        policy: str | None = None,
        max_new_tokens: int = settings.max_new_tokens,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int = 0,
        system: str | None = None,
        raw: bool = False,
        stop: list[str] | None = None,
        alternatives: int = 0,
        slm_price: float = Prices().slm,
        llm_price: float = Prices().llm,
        acceptance: float = start.acceptance,
        max_draft: DraftLimit = start.max_draft,
    ) -> dict:
        """Writes one text with both models and returns its trace: every token with its author, score and cost.

        Args:
            prompt: The user's message, or the text to continue if `raw`.
            threshold: A score below it goes to the LLM; 0 is SLM-only, above 1 is LLM-only.
            policy: "router", "confidence", "random", "slm" or "llm"; null takes the host's, or the SLM's confidence
                where that needs a router and the pair has none.
            max_new_tokens: Generated tokens at most.
            temperature: 0 always takes the likeliest token.
            top_p: Keep the likeliest tokens that have at least this probability together.
            top_k: Keep this many tokens; 0 keeps all.
            repetition_penalty: 1 is none.
            seed: What sampling depends on, with the position.
            system: System message; null leaves the model's own.
            raw: Continue the prompt as it is, without the chat template.
            stop: Strings that end the text.
            alternatives: Candidates to record per model and token.
            slm_price: Currency per million tokens of the SLM, for the cost in the unit "price".
            llm_price: The same of the LLM.
            acceptance: How likely, against the LLM's likeliest token, a token of the SLM must be for the LLM to keep
                it; 0 keeps all, 1 gives the LLM's own text.
            max_draft: Tokens that the SLM may write before the LLM reads them; "auto" goes by what a look costs.
        """
        try:
            check_key(request.headers, settings.api_key)
            sampling = Sampling(temperature, top_p, top_k, repetition_penalty)
            asked = build_request(
                prompt,
                threshold=threshold,
                policy=start.policy if policy is None else policy,
                system=system,
                raw=raw,
                sampling=sampling,
                max_new_tokens=max_new_tokens,
                stop=tuple(stop) if isinstance(stop, list) else stop or (),  # pyright: ignore[reportArgumentType]
                seed=seed,
                alternatives=alternatives,
                acceptance=acceptance,
                max_draft=max_draft,
            )
            prices = Prices(slm_price, llm_price)
            run, address = ApiRun(asked, policy is not None), calling_address()
            places.take(run, address)
            run.owner = address or ApiRun.entrance  # whose address is not known: all of them are one owner
        except EngineError as error:
            raise gr.Error(str(error), print_exception=False) from error
        names = request.session_hash, LocalContext.event_id.get(None)
        return await _trace(run.start(host), prices, lambda: callers.hear(*names))

    # No limit of gradio's: what is too much is refused at once, by `places`, instead of filling the queue of the page.
    gr.api(generate, api_name="generate", concurrency_limit=None)


def ready(host: Host) -> tuple[Any, Any]:
    """The pair and the scheduler for other programs' requests; raises Refusal while there are none."""
    host.start()
    models = host.models
    if models is None:
        raise Refusal(503, host.status.error or "The models are being loaded.", after=LOADING_SECONDS)
    return models


async def _trace(run: Run, prices: Prices, heard: Callable[[], bool]) -> dict[str, Any]:
    gives_up = time.monotonic() + FIRST_HEARD_SECONDS
    try:
        while not run.finished.is_set():
            await asyncio.sleep(_POLL_SECONDS)
            if heard():
                gives_up = time.monotonic() + UNHEARD_SECONDS
            elif time.monotonic() > gives_up:
                break
    finally:
        run.cancel.set()
    if run.error:
        raise gr.Error(run.error, print_exception=False)
    if run.pair is None or run.active:
        raise gr.Error("Cancelled before it was done.", print_exception=False)
    return json.loads(replace(run.pair.trace(run.request, run.events), prices=prices).to_json())
