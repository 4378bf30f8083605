"""Trains and measures the tiny pair: two Qwen2 models with one tokenizer, made on a CPU in minutes.

They know only worked arithmetic. The SLM writes the words and misses many digits; the LLM gets nearly all digits right.

    python -m tools.tiny_pair --out assets/tiny --steps 1600 --seed 0
"""

from __future__ import annotations

import argparse
import random
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.nn.functional import cross_entropy
from torch.nn.utils.rnn import pad_sequence
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from engine import Role, build_request, fold_revealed
from engine.grading import grade
from engine.pair import Pair
from tools.arithmetic import questions
from trainer.align.training import pace
from trainer.continuous_batch import write_each
from trainer.questions import Question

END, PAD, START = "<|im_end|>", "<|endoftext|>", "<|im_start|>"
LEARNED_FROM = 10_000  # training questions, for the tokenizer
VOCABULARY = 540  # ids of the tokenizer: 256 bytes, three special tokens, merges for the words of the stories
CHAT_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# Qwen2's pattern: words take the space before them, every digit stands alone.
WORD_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SYSTEM_MESSAGES = (
    "You are a helpful assistant.",
    "Work it out step by step.",
    "You solve small number problems and write down every step. Be brief and careful.",
)


@dataclass(frozen=True)
class TinyModel:
    """Shape and training of one model of the pair."""

    hidden: int  # width of the hidden state
    layers: int
    vocabulary: int  # rows of the embedding, padded beyond the tokenizer's length
    rate: float  # peak learning rate of embeddings, norms and biases
    share: float = 1.0  # training steps as a share of `--steps`


MODELS = {
    # Stopped while it still miscalculates: after 800 steps it answered 8 % of the questions, after 1,500 80 %.
    "slm": TinyModel(hidden=64, layers=2, vocabulary=576, rate=3e-3, share=0.53),
    "llm": TinyModel(hidden=128, layers=4, vocabulary=640, rate=2e-3),
}
MATRIX_RATE = 0.02  # Muon's usual rate; its updates have the same size in every matrix
BATCH = 32  # questions per optimiser step
CHUNK = 64  # batches that are sorted by length together
WARMUP = 60  # optimiser steps
MAX_NEW_TOKENS = 120  # the longest reference has about 100 tokens
ROWS = 100  # texts written at once


def load(folder: Path) -> Pair:
    """Reads a pair in fp32 from a folder, without a router."""
    slm, llm = (
        Qwen2ForCausalLM.from_pretrained(folder / name, dtype=torch.float32, local_files_only=True) for name in MODELS
    )
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer", local_files_only=True)
    return Pair(slm, llm, tokenizer, slm_name="tiny SLM", llm_name="tiny LLM", preset="tiny")


def build(folder: Path, steps: int, seed: int) -> None:
    """Trains the tokenizer and both models, and writes them to `tokenizer/`, `slm/` and `llm/` of a folder.

    Each model takes its share of the optimiser steps.
    """
    tokenizer = train_tokenizer(seed)
    tokenizer.save_pretrained(folder / "tokenizer")
    for name, shape in MODELS.items():
        train_model(shape, tokenizer, max(1, round(steps * shape.share)), seed, name).save_pretrained(folder / name)
    # Half precision makes the LLM's file smaller; 450 texts stayed the same. The router has learned the SLM as it is.
    weights = folder / "llm" / "model.safetensors"
    save_file({each: tensor.half() for each, tensor in load_file(weights).items()}, weights, {"format": "pt"})


def evaluate(folder: Path, count: int = 500) -> dict[str, float]:
    """Measures a stored pair on the first questions of the dev split (seed 0), which no training question equals.

    Returns:
        "slm" and "llm": shares of right answers, decoding greedily. "differ": the share of the tokens of the LLM's
        answers (end token included) where the SLM would write another.
    """
    pair, asked = load(folder), list(questions("dev", count, 0))
    right = dict.fromkeys(Role, 0)
    tokens = differ = 0
    for role in Role:
        dials = {"policy": role.value, "max_new_tokens": MAX_NEW_TOKENS, "alternatives": int(role is Role.LLM)}
        texts = pair.texts([build_request(question.question, **dials) for question in asked])
        for question, row in zip(asked, write_each(pair, texts, ROWS), strict=True):
            right[role] += grade(question, "".join(event.text for event in row.events))
            if role is Role.LLM:
                tokens += len(row.events)
                differ += sum(event.slm_alternatives[0].id != event.id for event in fold_revealed(row.events))
    return {"slm": right[Role.SLM] / count, "llm": right[Role.LLM] / count, "differ": differ / tokens}


def main(arguments: Sequence[str] | None = None) -> None:
    """Trains and measures a pair, which takes the place of the folder's own when all of it is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("assets/tiny"), help="the pair's folder")
    parser.add_argument("--seed", type=int, default=0, help="seed of weights and questions")
    parser.add_argument("--steps", type=int, default=1600, help="optimiser steps of the LLM; the SLM takes fewer")
    given = parser.parse_args(arguments)
    if given.steps < 1:
        parser.error(f"--steps must be at least 1, not {given.steps}")
    torch.set_num_threads(1)  # so small models are slower on more
    with TemporaryDirectory(dir=given.out.parent) as name:
        new = Path(name)
        build(new, given.steps, given.seed)
        found = evaluate(new)
        given.out.mkdir(exist_ok=True)
        for each in new.iterdir():
            shutil.rmtree(given.out / each.name, ignore_errors=True)
            each.replace(given.out / each.name)
    slm, llm, differ = (found[name] for name in ("slm", "llm", "differ"))
    print(f"500 unseen questions: SLM {slm:.1%} and LLM {llm:.1%} right, tokens differ {differ:.1%}")


def train_tokenizer(seed: int) -> PreTrainedTokenizerFast:
    """Learns a byte-level BPE tokenizer from training questions; any UTF-8 text can be encoded."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(WORD_PATTERN), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"user\n{q.question}\nassistant\n{q.reference}\nsystem\n" for q in questions("train", LEARNED_FROM, seed)]
    core.train_from_iterator(texts + list(SYSTEM_MESSAGES), trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core,
        eos_token=END,
        pad_token=PAD,
        additional_special_tokens=[START],
        model_max_length=2048,
        clean_up_tokenization_spaces=False,
    )
    tokenizer.chat_template = CHAT_TEMPLATE
    return tokenizer


def train_model(
    shape: TinyModel, tokenizer: PreTrainedTokenizerFast, steps: int, seed: int, name: str
) -> Qwen2ForCausalLM:
    """Trains one model from nothing in fp32, on `steps` batches of fresh questions of the train split.

    The seed is that of the initial weights and of the questions; `name` stands in the lines of progress.
    """
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(_config(shape, tokenizer))
    optimisers = _optimisers(model, shape.rate)
    schedules = [LambdaLR(optimiser, lambda step: pace(min(step, steps), steps, WARMUP)) for optimiser in optimisers]
    begun = time.perf_counter()
    for step, (ids, targets) in enumerate(_batches(tokenizer, steps, seed), start=1):
        loss = _loss(model, ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimiser, schedule in zip(optimisers, schedules, strict=True):
            optimiser.step()
            schedule.step()
            optimiser.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == steps:
            seconds = time.perf_counter() - begun
            print(f"{name} step {step}/{steps} loss {loss.item():.4f} {seconds:.0f} s", flush=True)
    return model.eval()


def _config(shape: TinyModel, tokenizer: PreTrainedTokenizerFast) -> Qwen2Config:
    return Qwen2Config(
        vocab_size=shape.vocabulary,
        hidden_size=shape.hidden,
        intermediate_size=3 * shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.backend_tokenizer.token_to_id(END),
        pad_token_id=tokenizer.backend_tokenizer.token_to_id(PAD),
    )


def _optimisers(model: Qwen2ForCausalLM, rate: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of the layers, AdamW for the rest.

    After 100 steps the LLM's loss was 0.93 (32 questions a step); with AdamW alone 1.10 (64 questions a step).
    """
    matrices = [weight for weight in model.model.layers.parameters() if weight.ndim == 2]
    inside = {id(weight) for weight in matrices}
    rest = [weight for weight in model.parameters() if id(weight) not in inside]
    return [
        torch.optim.Muon(matrices, lr=MATRIX_RATE, weight_decay=0.01, momentum=0.95),
        torch.optim.AdamW(rest, lr=rate, weight_decay=0.0, betas=(0.9, 0.98), fused=True),
    ]


def _loss(model: Qwen2ForCausalLM, ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Cross-entropy on the assistant's tokens; the head is applied nowhere else. Both inputs are [rows, length]."""
    hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state
    counted = targets != -100
    return cross_entropy(model.lm_head(hidden[counted]), targets[counted])


def _batches(tokenizer: PreTrainedTokenizerFast, steps: int, seed: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """`steps` batches of fresh questions; rows of similar length share a batch, so that little of it is padding."""
    rng = random.Random(f"batches-{seed}")
    stream = questions("train", 2 * steps * BATCH, seed)
    while steps > 0:
        size = min(CHUNK, steps)
        rows = sorted((_conversation(tokenizer, stream, rng) for _ in range(size * BATCH)), key=lambda row: len(row[0]))
        order = list(range(size))
        rng.shuffle(order)
        for index in order:
            yield _pad(rows[index * BATCH : (index + 1) * BATCH])
        steps -= size


def _conversation(
    tokenizer: PreTrainedTokenizerFast, stream: Iterator[Question], rng: random.Random
) -> tuple[list[int], int]:
    """Token ids of one question and its reference, and where the reference begins.

    Now and then a system message or an earlier turn stands before the question.
    """
    messages, dice = [], rng.random()
    if dice < 0.1:
        messages.append({"role": "system", "content": rng.choice(SYSTEM_MESSAGES)})
    elif dice < 0.14:
        earlier = next(stream)
        messages.append({"role": "user", "content": earlier.question})
        messages.append({"role": "assistant", "content": earlier.reference})
    question = next(stream)
    messages.append({"role": "user", "content": question.question})
    asked = str(tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True))
    before, after = (tokenizer.backend_tokenizer.encode(text).ids for text in (asked, f"{question.reference}{END}"))
    return before + after, len(before)


def _pad(rows: Sequence[tuple[list[int], int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and next-token targets, both [rows, length]; -100 marks what is no token of a reference."""
    inputs = [torch.tensor(ids[:-1]) for ids, _ in rows]
    targets = [torch.tensor([-100] * (begin - 1) + ids[begin:]) for ids, begin in rows]
    return pad_sequence(inputs, batch_first=True), pad_sequence(targets, batch_first=True, padding_value=-100)


if __name__ == "__main__":
    main()
