"""Alignment: what an SLM learns, that it does, and that a run which was killed goes on as if it had not been."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
import torch

from engine import load
from engine.models.sources import ROUTERS
from engine.settings import load_settings
from tests.support.paths import ROOT
from tests.support.random_pair import random_model
from trainer import TrainerError
from trainer.align import training
from trainer.align.stage import RESULT, align
from trainer.align.texts import LlmText, read_general_prompts
from trainer.align.training import (
    CHECKPOINT,
    Alignment,
    add_lora,
    agreement,
    factors_of,
    plan,
    predictions,
    share,
)
from trainer.settings import AlignSettings
from trainer.ship import ship

VOCABULARY = 259
HOW = AlignSettings(rank=4, epochs=4, learning_rate=2e-2)


def words(text):
    return frozenset(re.findall(r"\w+", text.lower()))


def test_the_general_prompts_are_many_and_apart_from_those_that_are_asked_elsewhere():
    kinds = read_general_prompts()
    prompts = [each for several in kinds.values() for each in several]
    assert len(prompts) >= 400 and len(set(map(words, prompts))) == len(prompts)
    assert all(len(several) >= 20 for several in kinds.values())
    elsewhere = [each for name in ("prompts", "free_prompts") for each in read_json(f"{name}.json")]
    elsewhere += [each["prompt"] for several in read_json("page/examples.json").values() for each in several]
    for other in map(words, elsewhere):
        nearest = max(prompts, key=lambda each: len(words(each) & other) / len(words(each) | other))
        assert len(words(nearest) & other) / len(words(nearest) | other) < 0.65, (nearest, sorted(other))


def read_json(name):
    return json.loads((ROOT / "assets" / name).read_text("utf-8"))


def text(number, kind="counting", prompt=6, tokens=12):
    """Random prompts; what follows can be learned: four tokens in a circle."""
    asked = torch.randint(0, 256, (prompt + number % 5,), generator=torch.Generator().manual_seed(number)).tolist()
    written = [10 * (1 + (number + n) % 4) for n in range(tokens + number % 9)]
    return LlmText(kind, f"{kind}/{number}", [*asked, written[0]], written[1:])


@pytest.fixture
def texts(monkeypatch):
    """Few and short, in many steps."""
    monkeypatch.setattr(training, "PASS", 64)
    monkeypatch.setattr(training, "WARMUP", 4)
    return [text(number, "counting" if number % 3 else "other") for number in range(96)]


def test_an_epoch_has_every_text_once_in_passes_that_are_not_too_wide(texts):
    texts = [*texts, text(200, tokens=128)]
    steps = plan(texts, 0, 0)
    passes = [batch for step in steps for batch in step]
    assert sorted(each.name for batch in passes for each in batch) == sorted(each.name for each in texts)
    assert all(len(batch) == 1 or len(batch) * max(each.length for each in batch) <= 64 for batch in passes)
    assert steps == plan(texts, 0, 0) != plan(texts, 0, 1)


def test_a_text_is_read_in_a_padded_batch_as_if_alone(texts):
    model = random_model(1, layers=2, width=32, padding=5).requires_grad_(False)
    together = predictions(model, texts[:8], VOCABULARY)
    alone = torch.cat([predictions(model, [each], VOCABULARY) for each in texts[:8]])
    assert together.shape == (sum(len(each.tokens) for each in texts[:8]), VOCABULARY)
    assert torch.allclose(together, alone, atol=1e-4)
    first = texts[0]
    whole = model(torch.tensor([[*first.prompt, *first.tokens]])).logits[0, len(first.prompt) - 1 : -1, :VOCABULARY]
    assert torch.allclose(together[: len(whole)], whole, atol=1e-4)


def made(folder, texts, how=HOW, made_of="these", report=lambda line: None, llm=None):
    model = random_model(1, layers=2, width=32, padding=5).requires_grad_(False)
    return Alignment(model, VOCABULARY, texts, how, folder, made_of, report, llm)


def test_with_kl_it_learns_how_likely_each_token_is_to_the_llm(tmp_path, texts):
    llm = random_model(2, layers=2, width=48, padding=5).requires_grad_(False)
    run = made(tmp_path, texts, HOW.model_copy(update={"kl": 1.0}), llm=llm)
    goal = predictions(llm, texts, VOCABULARY).log_softmax(-1)

    def divergence():
        with torch.no_grad():
            own = predictions(run.model, texts, VOCABULARY).log_softmax(-1)
        return float((goal.exp() * (goal - own)).sum(-1).mean())

    before = divergence()
    run.run(lambda: None)
    assert divergence() < 0.8 * before


def test_it_learns_what_is_held_out_and_a_killed_run_ends_with_the_same_weights(tmp_path, texts):
    kept = []
    whole = made(tmp_path, texts)
    assert all(not factor.any() for _, factor in factors_of(whole.model).values()), "at first nothing is changed"
    whole.run(lambda: kept.append(whole.position.step))
    position = whole.position
    before, after = share(position.agreement[0]), share(position.agreement[position.best])
    assert after > before + 0.2 and kept, (before, after)
    assert set(position.agreement[0]) == {"counting", "other"}

    (tmp_path / "killed").mkdir()
    told: list[str] = []

    def killed(line):
        told.append(line)
        if len(told) == 4:  # at the third evaluation after steps, before it is saved
            raise KeyboardInterrupt

    first = made(tmp_path / "killed", texts, report=killed)
    with pytest.raises(KeyboardInterrupt):
        first.run(lambda: None)
    lines = []
    second = made(tmp_path / "killed", texts, report=lines.append)
    assert lines == [f"going on from step {second.position.step} of {whole.steps}"] and second.position.step > 0
    second.run(lambda: None)
    assert second.position.agreement == position.agreement
    for name, (down, up) in factors_of(whole.model).items():
        assert all(map(torch.equal, (down, up), factors_of(second.model)[name])), name


def test_a_checkpoint_of_another_run_or_a_damaged_one_is_refused(tmp_path, texts):
    made(tmp_path, texts, HOW.but(epochs=1)).run(lambda: None)
    with pytest.raises(TrainerError, match="made with other texts, settings or weights: choose another folder"):
        made(tmp_path, texts, made_of="others")
    path = tmp_path / CHECKPOINT
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(TrainerError, match=r"checkpoint\.safetensors is damaged .* run the same command again"):
        made(tmp_path, texts)
    with pytest.raises(TrainerError, match="1 texts are too few"):
        made(tmp_path, texts[:1])


def test_lora_is_on_every_matrix_of_the_layers_and_nowhere_else():
    model: Any = random_model(1, layers=2, width=32, padding=5)
    model.to(torch.bfloat16).requires_grad_(False)
    add_lora(model, 4)
    learned = {name for name, each in model.named_parameters() if each.requires_grad}
    assert len(factors_of(model)) == 14 and len(learned) == 28
    assert {each.dtype for each in model.parameters() if each.requires_grad} == {torch.float32}
    assert share(agreement(model, [text(1)], VOCABULARY)) <= 1.0


def test_the_whole_stage_on_the_tiny_pair_gives_an_adapter_that_the_pair_takes(tmp_path):
    prompts = [f"Say it again: {word} and {word} and {other}." for word in ABOUT for other in ABOUT if word != other]
    how = AlignSettings(rank=4, epochs=3, learning_rate=1e-2, max_new_tokens=24)
    settings, lines = load_settings(preset="tiny"), []
    path = align(settings, [], {"echo": prompts}, tmp_path, how, lines.append)
    result = json.loads((tmp_path / RESULT).read_text("utf-8"))
    assert result["kinds"]["echo"]["after"] > result["kinds"]["echo"]["before"]
    assert result["after"] == max(result["evaluations"])
    assert any(line.startswith("| echo | ") for line in lines[-1].splitlines())
    pair = load(None, load_settings(preset="tiny", adapter=str(path)))
    assert pair.slm_name.startswith("tiny SLM (aligned ")
    with pytest.raises(TrainerError, match=r"tiny is for tiny SLM, and here it is tiny SLM \(aligned"):
        ship(ROUTERS / "tiny", [], tmp_path / "shipped", adapter=path)
    assert align(settings, [], {"echo": prompts}, tmp_path, how, lines.append) == path, "it is not made again"


ABOUT = ("one apple", "two pears", "a plum", "six figs", "nine dates", "ten nuts", "a kiwi")
