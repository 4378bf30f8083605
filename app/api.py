"""The public endpoint `/generate`: one call, one trace. The page itself does not use it."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any

import gradio as gr

from app.running.host import Host
from app.running.run import Run
from app.running.sessions import Sessions
from engine import DEFAULT_THRESHOLD, EngineError, Prices, Request, Sampling, Settings
from engine.request import DraftLimit

_POLL_SECONDS = 0.02


def add_api(host: Host, sessions: Sessions, settings: Settings) -> None:
    """Adds the endpoint to the page that is being built; a client's runs stop when it goes away."""

    async def generate(
        request: gr.Request,
        prompt: str,
        threshold: float = DEFAULT_THRESHOLD if settings.threshold is None else settings.threshold,
        policy: str = settings.policy,
        max_new_tokens: int = settings.max_new_tokens,
        temperature: float = 0.0,
        top_p: float = 1.0,
        top_k: int = 0,
        repetition_penalty: float = 1.0,
        seed: int = settings.seed,
        system: str | None = None,
        raw: bool = False,
        stop: list[str] | None = None,
        alternatives: int = 0,
        slm_price: float = settings.price.slm,
        llm_price: float = settings.price.llm,
        acceptance: float = settings.acceptance,
        max_draft: DraftLimit = settings.max_draft,
    ) -> dict:
        """Writes one text with both models and returns its trace: every token with its author, score and cost.

        Args:
            prompt: The user's message, or the text to continue if `raw`.
            threshold: A score below it goes to the LLM; 0 is SLM-only, above 1 is LLM-only.
            policy: "router", "confidence", "random", "slm" or "llm".
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
            sampling = Sampling(temperature, top_p, top_k, repetition_penalty)
            asked = Request(
                prompt,
                threshold,
                policy,
                system,
                raw,
                sampling,
                max_new_tokens,
                tuple(stop or ()),
                seed,
                alternatives,
                acceptance=acceptance,
                max_draft=max_draft,
            )
            prices = Prices(slm_price, llm_price, settings.price.reading_ratio)
            run = sessions.get(request.session_hash).adopt(Run(asked))
            return await _trace(run.start(host), prices)
        except EngineError as error:
            raise gr.Error(str(error), print_exception=False) from error

    gr.api(generate, api_name="generate", concurrency_id="model", concurrency_limit=settings.server.queue_size)


async def _trace(run: Run, prices: Prices) -> dict[str, Any]:
    try:
        while not run.finished.is_set():
            await asyncio.sleep(_POLL_SECONDS)
    finally:
        run.cancel.set()
    if run.error:
        raise gr.Error(run.error, print_exception=False)
    if run.pair is None:
        raise gr.Error("Cancelled before it started.", print_exception=False)
    return json.loads(replace(run.pair.trace(run.request, run.events), prices=prices).to_json())
