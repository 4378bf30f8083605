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

from engine import Request, Role, TokenEvent, fold_revealed
from engine.events import FinishReason
from engine.model.logits import logit_features
from engine.model.sampling import sample, uniform
from engine.pair import Pair
from engine.policy import State, build_policy
from engine.tokenizer import TextStream, backend, render

ROUNDING = 1e-5
"""Two numbers that are nearer to each other than this may be compared either way."""


@dataclass(frozen=True)
class Written:
    """One token by the definition."""

    id: int
    role: Role
    score: float | None
    ratio: float | None  # what the LLM makes of the SLM's token, where it is judged
    margin: float  # how near the nearest of the comparisons that led here was to going the other way


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

    def read(self, tokens: Sequence[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """At the end of a text: the SLM's hidden state, its logits, and the LLM's."""
        key = tuple(tokens)
        if key not in self._read:
            self._read_at_once(tokens, len(tokens))
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
            tokens.append(self.token(request, prompt, before, request.setting.threshold, request.setting.acceptance))
            text += stream.push(tokens[-1].id)
            reason = self._reason(tokens[-1].id, stream, len(tokens) == limit)
        return Text(tokens, text + stream.finish(), reason)

    def check(self, request: Request, events: Sequence[TokenEvent], rounding: float = ROUNDING) -> None:
        """Asserts that a text, its ratios, candidates and end are what the definition gives at its events' dials.

        Comparisons within rounding may fall either way, since passes of other lengths add in another order.
        """
        prompt, folded = render(self.pair.tokenizer, request), fold_revealed(events)
        tokens = [event.id for event in folded]
        self._read_at_once([*prompt, *tokens], len(prompt))
        stream = TextStream(backend(self.pair.tokenizer), request.stop)
        for position, event in enumerate(folded):
            acceptance = 0.0 if event.provisional else event.acceptance  # what the LLM has not read, it has not refused
            expected = self.token(request, prompt, tokens[:position], event.threshold, acceptance)
            by_hand = any(forced.index == position for forced in request.forced)
            assert (event.index, event.forced) == (position, by_hand)
            if expected.margin > rounding:
                assert (event.id, event.role) == (expected.id, expected.role), position
                _check_ratio(event, expected)
            self._check_candidates([*prompt, *tokens[:position]], event)
            stream.push(event.id)
            limit = min(request.max_new_tokens, self.pair.context - len(prompt))
            assert event.finish_reason == self._reason(event.id, stream, position + 1 == limit), position

    def _reason(self, token: int, stream: TextStream, last: bool) -> FinishReason | None:
        """Why a text ends with a token, if it does."""
        if token in self.pair.end_ids:
            return "eos"
        return "stop" if stream.stopped else "length" if last else None

    def _check_candidates(self, text: Sequence[int], event: TokenEvent) -> None:
        _, *both = self.read(text)
        for logits, found in zip(both, (event.slm_alternatives, event.llm_alternatives), strict=True):
            likeliest = logits.softmax(-1).topk(len(found)).values
            assert torch.allclose(torch.tensor([each.probability for each in found]), likeliest, atol=1e-4)
            assert torch.allclose(logits.softmax(-1)[[each.id for each in found]], likeliest, atol=1e-4)

    @torch.inference_mode()
    def _read_at_once(self, tokens: Sequence[int], first: int) -> None:
        """What `read` gives for a text and its beginnings of `first` tokens and more, in one pass of each model."""
        ids, vocabulary = torch.tensor([tokens]), len(self.pair.tokenizer)
        small = self.pair.slm.model(ids, output_hidden_states=True, use_cache=False)  # pyright: ignore[reportCallIssue]
        large = self.pair.models[1].model(ids, use_cache=False)  # pyright: ignore[reportCallIssue]
        slm, llm = (output.logits[0, :, :vocabulary].float() for output in (small, large))
        for end in range(first, len(tokens) + 1):
            key = tuple(tokens[:end])
            self._read.setdefault(key, (small.hidden_states[-1][0, end - 1], slm[end - 1], llm[end - 1]))

    def _choose(
        self, request: Request, prompt: Sequence[int], at: int, hidden: torch.Tensor, slm: torch.Tensor, dial: float
    ) -> tuple[float | None, Role, float]:
        policy = build_policy(request.setting.policy, self.pair.router)
        if policy.fixed is not None:
            return None, policy.fixed, 1.0
        features = logit_features(slm[None])
        state = State([request.seed], [at], hidden[None], features, self.read(prompt)[0][None])
        score = float(policy.score(state))
        return score, Role.LLM if score < dial else Role.SLM, abs(score - dial)


def _check_ratio(event: TokenEvent, expected: Written) -> None:
    """What an event says of the draft at its place, which is its own token or the first that was taken back."""
    if event.ratio is None or expected.ratio is None:  # where a threshold was raised since, the LLM is chosen now
        return
    assert abs(event.ratio - expected.ratio) < 1e-3
    if event.taken_back:
        assert event.ratio < event.acceptance and event.role is Role.LLM
        assert [lost.index for lost in event.taken_back] == [event.index + n for n in range(len(event.taken_back))]


def _lead(logits: torch.Tensor) -> float:
    """By how much the likeliest token leads."""
    first, second = logits.topk(2).values.tolist()
    return first - second
