"""Claims about how the tiny pair is trained, and about the pair that ships."""

from pathlib import Path

import pytest
import torch
from transformers import AutoConfig

from engine import Request
from engine.grading import grade_arithmetic as grade
from trainer import TrainerError
from trainer.__main__ import main
from trainer.tiny.arithmetic import questions
from trainer.tiny.build import build, evaluate, load
from trainer.tiny.training import END

TINY = Path(__file__).parent.parent.parent / "assets" / "tiny"


@pytest.fixture(scope="module")
def shipped():
    return load(TINY)


@pytest.fixture(scope="module")
def barely_trained(tmp_path_factory):
    folders = [tmp_path_factory.mktemp(name) for name in ("first", "again")]
    for folder in folders:
        build(folder, steps=2, seed=3)
    return folders


def test_a_few_steps_give_models_that_load_and_write(barely_trained):
    pair = load(barely_trained[0])
    assert {model.dtype for model in pair.models} == {torch.float32}
    assert len(pair.generate("Hello", policy="random", max_new_tokens=3).events) == 3


def test_the_same_seed_gives_the_same_files_to_the_bit(barely_trained):
    first, again = barely_trained
    names = sorted(path.relative_to(first) for path in first.rglob("*") if path.is_file())
    assert Path("llm/model.safetensors") in names
    for name in names:
        assert (first / name).read_bytes() == (again / name).read_bytes(), name


def test_impossible_options_are_refused_with_the_way_out(tmp_path, capsys):
    with pytest.raises(TrainerError, match="at least 1, not 0"):
        build(tmp_path, steps=0, seed=0)
    assert main(["tiny", "--out", str(tmp_path), "--evaluate-only"]) == 2
    assert "python -m trainer tiny" in capsys.readouterr().err


def test_the_shipped_slm_misses_most_unseen_questions_and_the_llm_few():
    found = evaluate(TINY, count=200)
    assert found["slm"] <= 0.40
    assert found["llm"] >= 0.90
    assert found["differ"] <= 0.15


def test_the_shipped_pair_shares_a_tokenizer_and_pads_its_vocabulary_differently(shipped):
    tokenizer = shipped.tokenizer
    assert len(tokenizer) < shipped.slm.config.vocab_size < shipped.llm.config.vocab_size
    assert shipped.llm.config.num_key_value_heads < shipped.llm.config.num_attention_heads
    for name in ("slm", "llm"):
        config = AutoConfig.from_pretrained(TINY / name, local_files_only=True)
        assert config.model_type == "qwen2"
        assert config.tie_word_embeddings
        assert config.eos_token_id == tokenizer.eos_token_id == tokenizer.convert_tokens_to_ids(END)


def test_the_shipped_llm_still_answers_behind_a_system_message(shipped):
    asked = list(questions("dev", 50, 1))
    options = {"policy": "llm", "system": "You are a helpful assistant.", "max_new_tokens": 120}
    traces = shipped.generate_batch([Request(question.question, **options) for question in asked])
    right = sum(grade(trace.text, question.answer) for question, trace in zip(asked, traces, strict=True))
    assert right >= 35
