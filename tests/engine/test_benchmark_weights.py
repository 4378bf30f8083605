"""How near each form of the weights is to the original: on a random pair, beside what transformers computes."""

from __future__ import annotations

import json

import pytest
import torch

from engine.benchmark.__main__ import main
from engine.benchmark.agreement import weights
from engine.model import int8
from engine.tokenizer import backend

PROMPTS, REFERENCE = ["the thing", "in"], ("the", "in the end")


def loss(files, dense) -> float:
    """Of the reference's tokens, by transformers, in nats; the vocabulary ends where the tokenizer's does."""
    tokenizer = files.load()[0].tokenizer
    encode = backend(tokenizer).encode
    question, text = (encode(each, add_special_tokens=False).ids for each in REFERENCE)
    with torch.inference_mode():
        logits = dense(torch.tensor([question + text]), use_cache=False).logits[0, len(question) - 1 : -1]
    logits = logits[:, : len(tokenizer)]
    return float(torch.nn.functional.cross_entropy(logits.float(), torch.tensor(text)))


def test_each_form_is_held_against_what_the_original_writes(files):
    found = weights(files.preset, files.settings, PROMPTS, 8, [REFERENCE])
    for role, dense in (("slm", files.slm_dense), ("llm", files.llm_dense)):
        told = found[role]
        assert told["forms"].keys() == {"bf16", "NF4"} | ({"int8"} if int8.supported() else set())
        assert 1 <= told["positions"] <= 16
        assert all(0 <= form["agreement"] <= 1 for form in told["forms"].values())
        assert told["forms"]["bf16"]["agreement"] > 0.7  # what is not the same is a tie
        expected = loss(files, dense)
        assert told["forms"]["bf16"]["nll"] == pytest.approx(expected, abs=0.02)
        assert all(form["nll"] == pytest.approx(expected, abs=0.1) for form in told["forms"].values())


def test_without_references_no_loss_is_told(files):
    forms = weights(files.preset, files.settings, PROMPTS[:1], 2)["slm"]["forms"]
    assert {form["nll"] for form in forms.values()} == {None}


@pytest.mark.parametrize("content", ["", "x", '{"question": "1?"}', "[]", None])
def test_data_without_references_are_refused_before_anything_is_loaded(tmp_path, capsys, monkeypatch, content):
    path = tmp_path / "data.jsonl"
    if content is not None:
        path.write_text(content)
    monkeypatch.setattr("engine.benchmark.agreement.weights", None)
    assert main(["weights", "--data", str(path)]) == 2
    assert "a question and a reference" in capsys.readouterr().err


def test_the_command_reads_so_many_references_and_says_where_it_was_run(tmp_path, capsys, monkeypatch):
    path = tmp_path / "data.jsonl"
    path.write_text('{"question": "1?", "reference": "1"}\n' * 3)
    monkeypatch.setattr("engine.benchmark.agreement.weights", lambda *given: {"slm": given[-1]})
    assert main(["weights", "--data", str(path), "--questions", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["slm"] == [["1?", "1"]] * 2 and told["hardware"] and told["revision"]
