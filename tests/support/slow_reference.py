"""What verified routing is defined to write: at every position both models read the whole text from its beginning.

It knows neither the loop's caches nor its schedule. Each token follows from the text before it alone:

- score < threshold: the token that the LLM draws there;
- else the one that the SLM draws, if it is the LLM's own, or with acceptance < 1 at least `acceptance` times as likely
  to the LLM as its likeliest;
- else the LLM's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from engine import Request, Role, TokenEvent
from engine.model.logits import logit_features
from engine.model.sampling import sample, uniform
from engine.pair import Pair
from engine.policy import State, build_policy
from engine.tokenizer import TextStream, backend, render


@dataclass(frozen=True)
class Written:
    """One token by the definition.

    Attributes:
        ratio: What the LLM makes of the SLM's token; None where the LLM was chosen, or nothing is judged.
        margin: How near the nearest of the comparisons that led here was to going the other way.
    """

    id: int
    role: Role
    score: float | None
    ratio: float | None
    margin: float


@dataclass(frozen=True)
class Text:
    """A whole text by the definition."""

    tokens: list[Written]
    text: str
    finish_reason: str

    @property
    def ids(self) -> list[int]:
        """Its token ids."""
        return [token.id for token in self.tokens]


class SlowReference:
    """Writes texts of a pair of fp32 models; what was read once for a beginning of a text is remembered."""

    def __init__(self, pair: Pair) -> None:
        self.pair = pair
        self._read: dict[tuple[int, ...], tuple[torch.Tensor, torch.Tensor, torch.Tensor]] = {}

    @torch.inference_mode()
    def read(self, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """At the end of a text: the SLM's hidden state, its logits, and the LLM's."""
        key = tuple(tokens)
        if key not in self._read:
            ids = torch.tensor([key])
            small = self.pair.slm.model(ids, output_hidden_states=True, use_cache=False)  # pyright: ignore[reportCallIssue]
            large = self.pair.models[1].model(ids, use_cache=False)  # pyright: ignore[reportCallIssue]
            vocabulary = len(self.pair.tokenizer)
            logits = [output.logits[0, -1, :vocabulary].float() for output in (small, large)]
            self._read[key] = small.hidden_states[-1][0, -1], *logits
        return self._read[key]

    def token(
        self, request: Request, prompt: Sequence[int], before: Sequence[int], threshold: float, acceptance: float
    ) -> Written:
        """The token that follows `before` at these dials."""
        position, text = len(before), [*prompt, *before]
        hidden, slm, llm = self.read(text)
        forced = next((each for each in request.forced if each.index == position), None)
        score, chosen, margin = self._choose(request, prompt, position, hidden, slm, threshold)
        chosen = forced.role if forced else chosen
        draw = uniform(request.seed, position)
        drafted, wanted = (sample(logits, request.sampling, text, draw) for logits in (slm, llm))
        if forced:
            own = drafted if chosen is Role.SLM else wanted
            return Written(own if forced.id is None else forced.id, chosen, score, None, margin)
        margins = [margin, _lead(slm), _lead(llm)] if request.sampling.temperature == 0 else [margin]
        if chosen is Role.LLM:
            return Written(wanted, Role.LLM, score, None, min(margins))
        if drafted == wanted:
            return Written(drafted, Role.SLM, score, 1.0, min(margins))
        ratio = float((llm[drafted] - llm.max()).exp())
        kept = acceptance < 1 and ratio >= acceptance
        margins.append(abs(ratio - acceptance) if 0 < acceptance < 1 else 1.0)
        return Written(drafted if kept else wanted, Role.SLM if kept else Role.LLM, score, ratio, min(margins))

    def write(self, request: Request) -> Text:
        """The text of a request."""
        prompt = render(self.pair.tokenizer, request)
        stream = TextStream(backend(self.pair.tokenizer), request.stop)
        tokens: list[Written] = []
        text, reason = "", None
        limit = min(request.max_new_tokens, self.pair.context - len(prompt))
        while reason is None:
            before = [token.id for token in tokens]
            tokens.append(self.token(request, prompt, before, request.threshold, request.acceptance))
            text += stream.push(tokens[-1].id)
            if tokens[-1].id in self.pair.end_ids:
                reason = "eos"
            elif stream.stopped:
                reason = "stop"
            elif len(tokens) == limit:
                reason = "length"
        return Text(tokens, text + stream.finish(), reason)

    def check(self, request: Request, events: Sequence[TokenEvent]) -> None:
        """Asserts that each token of a text is what the definition gives at the dials that its event names."""
        prompt = render(self.pair.tokenizer, request)
        for position, event in enumerate(events):
            before = [each.id for each in events[:position]]
            expected = self.token(request, prompt, before, event.threshold, event.acceptance)
            assert (event.index, event.id, event.role) == (position, expected.id, expected.role), position

    def _choose(
        self,
        request: Request,
        prompt: Sequence[int],
        position: int,
        hidden: torch.Tensor,
        slm: torch.Tensor,
        threshold: float,
    ) -> tuple[float | None, Role, float]:
        policy = build_policy(request.policy, self.pair.router)
        if policy.fixed is not None:
            return None, policy.fixed, 1.0
        features = logit_features(slm[None])
        state = State([request.seed], [position], hidden[None], features, None, self.read(prompt)[0][None])
        score = float(policy.score(state))
        return score, Role.LLM if score < threshold else Role.SLM, abs(score - threshold)


def _lead(logits: torch.Tensor) -> float:
    """By how much the likeliest token leads."""
    first, second = logits.topk(2).values.tolist()
    return first - second
