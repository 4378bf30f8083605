"""The loop in which an SLM learns its LLM's texts: LoRA by `peft`, AdamW, a cosine schedule, early stopping.

A run that was killed goes on from its last checkpoint and makes the same steps: the seed says what is learned in which
step. Weights, optimiser and position are one file of safetensors.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn.functional import kl_div, linear, nll_loss
from torch.nn.utils.rnn import pad_sequence

from engine.errors import first_fault
from engine.models.files import replacing
from trainer import Report, TrainerError
from trainer.align.texts import LlmText
from trainer.settings import AlignSettings
from trainer.stored import AGAIN

CHECKPOINT = "checkpoint.safetensors"
PASS = 1024  # tokens, padding included, that the model reads at once; a longer text alone
PASSES = 4  # of a step of the optimiser
EVALUATIONS = 3  # in each epoch
PATIENCE = 3  # evaluations without a better agreement before it ends
SORTED = 64  # texts that are sorted by length together
WARMUP = 20  # steps
SAVED_EVERY = 60.0  # seconds

Agreement = Mapping[str, tuple[int, int]]
"""By kind the number of the LLM's tokens that the SLM would have written, too, and the number of all."""


@dataclass
class Position:
    made_of: str  # a digest of texts, settings and model
    step: int = 0  # steps of the optimiser that are done
    agreement: list[Agreement] = field(default_factory=list)  # at each evaluation, the first before any step
    best: int = 0  # number of the evaluation with the best agreement
    seconds: float = 0.0  # spent so far, in all runs


class Alignment:
    """A model with LoRA, and how far it has learned (`position`) of all `steps`."""

    def __init__(
        self,
        model: Any,
        vocabulary: int,
        texts: Sequence[LlmText],
        settings: AlignSettings,
        folder: Path,
        made_of: str,
        report: Report = print,
        llm: Any = None,
    ) -> None:
        """Adds LoRA to a dense model of transformers without gradients, and goes on from the folder's checkpoint.

        Args:
            vocabulary: Tokens of the tokenizer; the model's further logits are left out.
            texts: Learned, or held out to say when to stop.
            made_of: A digest; a checkpoint with another one is refused by a TrainerError.
            llm: The dense LLM, whose probabilities are learned as well if the settings have a `kl` above 0.
        """
        self._llm = llm
        self.model, self._vocabulary, self._settings, self._report = model, vocabulary, settings, report
        self._path = folder / CHECKPOINT
        learned = [text for text in texts if not text.held_out]
        self._held_out = [text for text in texts if text.held_out]
        if not learned or not self._held_out:
            raise TrainerError(f"{len(texts)} texts are too few to learn from some and to hold out others: give more")
        self._plan = [step for epoch in range(settings.epochs) for step in plan(learned, settings.seed, epoch)]
        self.steps = len(self._plan)
        self._mean = sum(len(text.tokens) for text in learned) / len(learned)
        torch.manual_seed(settings.seed)
        add_lora(model, settings.rank)
        self._weights = {name: each for name, each in model.named_parameters() if each.requires_grad}
        self._optimiser = torch.optim.AdamW(self._weights.values(), lr=0.0, betas=(0.9, 0.99), weight_decay=0.0)
        self.position = Position(made_of)
        if self._path.exists():
            self._resume()

    @property
    def finished(self) -> bool:
        """Whether all steps are done, or the agreement has stopped rising."""
        stale = len(self.position.agreement) - 1 - self.position.best
        return self.position.step >= self.steps or stale >= PATIENCE

    def run(self, keep: Callable[[], None]) -> None:
        """Learns to the end; calls `keep` at every evaluation after the first that is the best so far."""
        evaluations = EVALUATIONS * self._settings.epochs
        evaluate_at = {round(self.steps * n / evaluations) for n in range(1, evaluations + 1)}
        position = self.position
        if not position.agreement:
            self._evaluate(keep)
        saved = time.monotonic()
        while not self.finished:
            begun, step = time.monotonic(), self._plan[position.step]
            loss = self._learn(step)
            seconds = time.monotonic() - begun
            position.seconds += seconds
            position.step += 1
            if position.step in evaluate_at:
                self._evaluate(keep)
            if time.monotonic() - saved > SAVED_EVERY:
                rate = sum(text.length for batch in step for text in batch) / seconds
                left = position.seconds / position.step * (self.steps - position.step) / 60
                self._report(
                    f"step {position.step}/{self.steps}: loss {loss:.3f}, {rate:.0f} tokens/s, held-out agreement "
                    f"{share(position.agreement[-1]):.1%}, about {left:.0f} min left"
                )
                self._save()
                saved = time.monotonic()

    def _learn(self, passes: Sequence[Sequence[LlmText]]) -> float:
        """One step of the optimiser; returns the mean loss of a token."""
        self.model.train()
        rate = self._settings.learning_rate * pace(self.position.step, self.steps, WARMUP)
        for group in self._optimiser.param_groups:
            group["lr"] = rate
        total = sum(self._weight(text) * len(text.tokens) for batch in passes for text in batch)
        loss = 0.0
        for batch in passes:
            part = self._loss(batch) / total
            part.backward()
            loss += part.item()
        if not math.isfinite(loss):
            raise TrainerError(
                f"the loss is not finite at step {self.position.step + 1} (learning rate "
                f"{self._settings.learning_rate:g}): take a lower one, in another folder"
            )
        nn.utils.clip_grad_norm_(self._weights.values(), 1.0)
        self._optimiser.step()
        self._optimiser.zero_grad(set_to_none=True)
        return loss

    def _loss(self, texts: Sequence[LlmText]) -> Tensor:
        logits = predictions(self.model, texts, self._vocabulary)
        targets = torch.tensor([id for text in texts for id in text.tokens], device=logits.device)
        weights = torch.cat([torch.full((len(text.tokens),), self._weight(text)) for text in texts])
        own, kl = logits.log_softmax(-1), self._settings.kl
        loss = nll_loss(own, targets, reduction="none")
        if kl:
            with torch.no_grad():
                likely = predictions(self._llm, texts, self._vocabulary).log_softmax(-1)
            loss = kl * kl_div(own, likely, log_target=True, reduction="none").sum(-1) + (1 - kl) * loss
        return (loss * weights.to(logits.device)).sum()

    def _weight(self, text: LlmText) -> float:
        """The weight of a token of this text: between equal weights for all tokens and equal ones for all texts."""
        return (self._mean / len(text.tokens)) ** 0.5

    def _evaluate(self, keep: Callable[[], None]) -> None:
        found = agreement(self.model, self._held_out, self._vocabulary)
        position = self.position
        position.agreement.append(found)
        if share(found) > share(position.agreement[position.best]):
            position.best = len(position.agreement) - 1
            keep()
        told = ", ".join(f"{kind} {hits / tokens:.1%}" for kind, (hits, tokens) in sorted(found.items()))
        self._report(f"step {position.step}/{self.steps}: held-out agreement {share(found):.2%} ({told})")
        self._save()

    def _save(self) -> None:
        tensors = {f"weight/{name}": each.detach() for name, each in self._weights.items()}
        for name, each in self._weights.items():
            for part, value in self._optimiser.state.get(each, {}).items():
                tensors[f"{part}/{name}"] = value
        with replacing(self._path) as temporary:
            save_file(tensors, temporary, {"position": json.dumps(asdict(self.position), allow_nan=False)})

    def _resume(self) -> None:
        try:
            with safe_open(self._path, framework="pt") as file:
                metadata = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            position = TypeAdapter(Position).validate_json(metadata.get("position", ""))
            if position.made_of != self.position.made_of:
                raise TrainerError(
                    f"{self._path} was made with other texts, settings or weights: choose another folder, or delete it"
                )
            for name, weight in self._weights.items():
                weight.data.copy_(tensors.pop(f"weight/{name}"))
        except (SafetensorError, ValidationError, KeyError, OSError, RuntimeError) as error:
            reason = first_fault(error) if isinstance(error, ValidationError) else error
            raise TrainerError(f"{self._path} is damaged ({reason}); {AGAIN}") from None
        for key, value in tensors.items():
            part, _, name = key.partition("/")
            on = "cpu" if part == "step" else self._weights[name].device
            self._optimiser.state[self._weights[name]][part] = value.to(on)
        self.position = position
        self._report(f"going on from step {position.step} of {self.steps}")


def plan(texts: Sequence[LlmText], seed: int, epoch: int) -> list[list[list[LlmText]]]:
    """The steps of one epoch, each `PASSES` passes of texts of like length; every text is in one of them."""
    rng = random.Random(f"{seed}/{epoch}")
    shuffled = rng.sample(texts, len(texts))
    passes = [batch for n in range(0, len(shuffled), SORTED) for batch in batches(shuffled[n : n + SORTED], PASS)]
    rng.shuffle(passes)
    return [passes[n : n + PASSES] for n in range(0, len(passes), PASSES)]


def batches(texts: Sequence[LlmText], most: int) -> list[list[LlmText]]:
    """Texts in the order of their lengths, cut where a batch would have more than `most` tokens with its padding."""
    cut: list[list[LlmText]] = []
    for text in sorted(texts, key=lambda each: (each.length, each.name)):
        if cut and text.length * (len(cut[-1]) + 1) <= most:
            cut[-1].append(text)
        else:
            cut.append([text])
    return cut


def pace(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate: a linear rise over `warmup` steps, then a cosine down to zero."""
    return min(1.0, (step + 1) / min(warmup, steps)) * 0.5 * (1 + math.cos(math.pi * step / steps))


def add_lora(model: Any, rank: int) -> None:
    """Adds LoRA to all matrices of the layers, in float32; without `lm_head`."""
    from peft import LoraConfig, inject_adapter_in_model  # late: it takes a second

    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=0.0, target_modules="all-linear")
    inject_adapter_in_model(config, model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_" in name)
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            module.cast_input_dtype_enabled = False  # else its inputs would be float32; see `_in_bf16`


def factors_of(model: Any) -> dict[str, tuple[Tensor, Tensor]]:
    """What LoRA has learned, by layer: `down` [rank, in] and `up` [out, rank], float32; the change is `up @ down`."""
    found = {}
    for name, module in model.named_modules():
        if hasattr(module, "lora_A"):
            down, up = (part["default"].weight.detach().float().cpu() for part in (module.lora_A, module.lora_B))
            found[name] = down, up * module.scaling["default"]
    return found


def predictions(model: Any, texts: Sequence[LlmText], vocabulary: int) -> Tensor:
    """Logits [tokens, vocabulary], float32, from which each token of some texts is to be predicted.

    Padding stands after each text; attention is causal, so no mask is needed.
    """
    rows = [torch.tensor([*text.prompt, *text.tokens[:-1]]) for text in texts]
    with _in_bf16(model):
        hidden = model.get_decoder()(
            input_ids=pad_sequence(rows, batch_first=True).to(model.device), use_cache=False
        ).last_hidden_state
        wanted = [states[len(text.prompt) - 1 : text.length] for states, text in zip(hidden, texts, strict=True)]
        # Padding is dropped before the product: dropping it after would copy all logits, and their gradients.
        return linear(torch.cat(wanted), model.get_output_embeddings().weight[:vocabulary]).float()


@torch.no_grad()
def agreement(model: Any, texts: Sequence[LlmText], vocabulary: int) -> Agreement:
    """How often a model would have written the LLM's own token, by kind."""
    model.eval()
    hits, tokens = Counter[str](), Counter[str]()
    for batch in batches(texts, PASS):
        same = predictions(model, batch, vocabulary).argmax(-1).cpu()
        for text, own in zip(batch, same.split([len(text.tokens) for text in batch]), strict=True):
            hits[text.kind] += int((own == torch.tensor(text.tokens)).sum())
            tokens[text.kind] += len(text.tokens)
    return {kind: (hits[kind], tokens[kind]) for kind in tokens}


def share(found: Agreement) -> float:
    """The share of agreeing tokens over all kinds."""
    return sum(hits for hits, _ in found.values()) / sum(tokens for _, tokens in found.values())


@contextmanager
def _in_bf16(model: Any) -> Iterator[None]:
    """LoRA's weights are float32; its products are bf16 where the model's are."""
    with torch.autocast(model.device.type, torch.bfloat16, enabled=model.dtype == torch.bfloat16):
        yield
