"""Labels and routers: the shortcut rule, shards that resume, weights that repeat."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
import torch

from engine import Request
from engine.prompt import render
from engine.router import Router
from trainer.data import Question, load_questions, prompt, read_jsonl
from trainer.errors import TrainerError
from trainer.fit import FitSettings, Tokens, auc, fit, split_of, train
from trainer.label import label, load_labels
from trainer.preference import Case, shortcut

QUESTIONS = load_questions(["arithmetic"], 60)
SETTINGS = FitSettings(epochs=3, batch=64)


def quiet(_):
    pass


@pytest.fixture(scope="module")
def labels(tiny_pair, tmp_path_factory):
    folder = tmp_path_factory.mktemp("labels")
    label(tiny_pair, QUESTIONS, folder, quiet)
    return folder


def test_the_shortcut_prefers_the_slm_where_it_is_right_and_the_llm_where_only_it_is():
    assert shortcut([1, 2, 3, 4], [1, 9, 3, 4], [1, 9, 8, 4]) == [
        Case.SLM_RIGHT,
        Case.ONLY_LLM_RIGHT,
        Case.NEITHER,
        Case.SLM_RIGHT,
    ]


def test_labels_are_what_both_models_would_write_after_each_reference_prefix(tiny_pair, labels):
    data, _ = load_labels(labels)
    ids = tiny_pair.tokenizer.encode(QUESTIONS[0].reference, add_special_tokens=False)
    first = data.filter(lambda name: name == QUESTIONS[0].id, input_columns="question")
    assert list(first["token"]) == [*ids, tiny_pair.tokenizer.eos_token_id]
    start = render(tiny_pair.tokenizer, Request(prompt(QUESTIONS[0])))
    for position in (0, 1, 17, len(ids) - 1):
        tokens = torch.tensor([start + ids[:position]])
        for column, model in (("slm_token", tiny_pair.slm), ("llm_token", tiny_pair.llm)):
            with torch.inference_mode():
                expected = model.model(tokens).logits[0, -1, : len(tiny_pair.tokenizer)].argmax()
            assert first[column][position] == expected


def test_a_deleted_shard_is_made_again_and_the_router_is_the_same_bit_for_bit(tiny_pair, labels, tmp_path):
    fit(labels, tmp_path / "router", SETTINGS, report=quiet)
    before = (tmp_path / "router" / "router.safetensors").read_bytes()
    shutil.rmtree(labels / "shard-00001")
    with pytest.raises(TrainerError, match=r"1 of 3 shards are missing"):
        load_labels(labels)
    label(tiny_pair, QUESTIONS, labels, quiet)
    fit(labels, tmp_path / "router", SETTINGS, report=quiet)
    assert (tmp_path / "router" / "router.safetensors").read_bytes() == before


def test_a_folder_of_other_labels_is_not_mixed_with(tiny_pair, labels):
    with pytest.raises(TrainerError, match="other questions"):
        label(tiny_pair, QUESTIONS[:20], labels, quiet)


def test_the_card_states_what_was_measured_and_fits_the_pair(tiny_pair, labels, tmp_path):
    router = fit(labels, tmp_path / "router", SETTINGS, "A test.", report=quiet)
    again = Router.load(tmp_path / "router")
    tiny_pair.use_router(again)
    tiny_pair.use_router(None)
    card = (tmp_path / "router" / "README.md").read_text()
    for value in (router.card.metrics["auc"], router.card.metrics["auc_top_probability"]):
        assert f"{value:.3f}" in card
    assert sum(router.card.metrics["cases"].values()) == pytest.approx(1, abs=0.001)
    assert set(router.card.metrics["cases"]) == {"SLM right", "only LLM right", "neither"}


def test_a_question_is_in_one_split_only_and_all_splits_are_used():
    splits = [split_of(f"q{n}") for n in range(2000)]
    assert splits == [split_of(f"q{n}") for n in range(2000)]
    assert 0.77 < splits.count("train") / 2000 < 0.83
    assert min(splits.count("stop"), splits.count("test")) > 150


def separable(count, noise, seed):
    chance = torch.Generator().manual_seed(seed)
    features = torch.randn(count, 24, generator=chance)
    wanted = (features[:, 0] + noise * torch.randn(count, generator=chance) > 0).float()
    return Tokens(features, wanted, torch.rand(count, generator=chance))


def test_the_best_weights_are_kept_not_the_last():
    """Overfitting on noise makes later epochs worse; what is returned is as good as the best loss that was reported."""
    losses = []
    small, stop = separable(60, 2.0, 0), separable(500, 2.0, 1)
    settings = FitSettings(logit_features=False, epochs=60, patience=60, learning_rate=3e-3, batch=16, dropout=0.0)
    network, _ = train(small, stop, 24, settings, lambda line: losses.append(float(line.split()[3])))
    with torch.inference_mode():
        found = torch.nn.functional.binary_cross_entropy_with_logits(network(stop.features), stop.preferences)
    assert losses[-1] > min(losses) + 0.05
    assert float(found) == pytest.approx(min(losses), abs=1e-3)


def test_training_stops_early_when_nothing_improves():
    settings = FitSettings(logit_features=False, epochs=60, patience=2, learning_rate=3e-3, batch=16)
    _, epochs = train(separable(60, 2.0, 0), separable(500, 2.0, 1), 24, settings, quiet)
    assert epochs < 60


@pytest.mark.parametrize(
    ("scores", "wanted", "expected"),
    [
        ([0.1, 0.9], [0, 1], 1.0),
        ([0.9, 0.1], [0, 1], 0.0),
        ([0.5, 0.5], [0, 1], 0.5),
        ([1, 2, 3, 4], [0, 1, 0, 1], 0.75),
    ],
)
def test_auc_of_small_examples(scores, wanted, expected):
    assert auc(np.array(scores), np.array(wanted)) == expected


def test_a_bad_row_is_reported_with_file_and_line_and_the_rest_is_read(tmp_path):
    good = {"id": 1, "question": "Why?", "reference": "So.", "answer": "x"}
    rows = [good, {"id": 2}, "not an object", good | {"question": " "}, good | {"reference": "y" * 100_000}, good]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps(row) for row in rows) + "\n{broken")
    said = []
    assert len(read_jsonl(path, said.append)) == 2
    assert [line.split(": skipped")[0] for line in said] == [f"{path}:{n}" for n in (2, 3, 4, 5, 7)]


def test_sources_are_mixed_evenly(tmp_path):
    for name in "ab":
        row = {"question": "Why?", "reference": "So.", "answer": "x"}
        (tmp_path / name).write_text("\n".join(json.dumps({"id": f"{name}{n}", **row}) for n in range(5)))
    found = load_questions([str(tmp_path / "a"), str(tmp_path / "b")], 6)
    assert [question.id for question in found] == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_a_missing_file_is_refused_by_name(tmp_path):
    with pytest.raises(TrainerError, match=r"nowhere\.jsonl"):
        load_questions([str(tmp_path / "nowhere.jsonl")], 5)


def test_choices_are_part_of_the_prompt():
    asked = prompt(Question("c", "Which?", "", "B", (("A", "one"), ("B", "two"))))
    assert "A. one\nB. two" in asked
    assert "letter" in asked
