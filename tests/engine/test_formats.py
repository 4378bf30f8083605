"""Everything that is read from outside, with damage drawn by chance: refused in a few words, or taken and sound.

One test for each format. How the damage is drawn is in `tests.support.mutations`.
"""

from __future__ import annotations

import json
import math
import os
import struct
from collections.abc import Callable
from contextlib import chdir
from types import SimpleNamespace
from typing import Any, TypeVar
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import InvalidRequest, Role, RouterError, SettingsError, Trace, WeightsError, load_settings
from engine.endpoint.bodies import MAX_TEXTS, read_body
from engine.events import MAX_THRESHOLD
from engine.guard.refusals import Refusal
from engine.model.config import read_config
from engine.models import store
from engine.models.files import sha256_of
from engine.models.gguf_file import GgufFile
from engine.models.load import MANIFEST, load_models
from engine.models.model_files import SafetensorsFiles
from engine.operating_points import FILE
from engine.request import Turn, build_request
from engine.router import CARD, WEIGHTS, Router
from engine.served import vllm
from engine.served.connection import MALFORMED
from engine.settings import variables
from tests.support.fake_llm_server import completion
from tests.support.mutations import damaged_bytes, damaged_json
from tests.support.random_gguf import random_qwen
from tests.support.routers import make_router

Read = TypeVar("Read")


def read(reader: Callable[[], Read], refusal: type[Exception], *about: str) -> Read | None:
    """What is read; None where it is refused, in few words that say what it is about."""
    try:
        return reader()
    except refusal as refused:
        said = str(refused)
        assert 5 < len(said) < 2_000 and (not about or any(each in said for each in about)), said
        return None


# A router's folder

POINT = {"threshold": 0.5, "accuracy": 0.6, "accuracy_low": 0.5, "accuracy_high": 0.7, "llm_share": 0.2}
POINT |= {"bytes": 1.0, "flops": 1.0, "seconds": 1.0, "acceptance": 0.0}
NAMES = dict.fromkeys(("task", "pair", "command", "revision", "hardware"), "x")
CURVE = {**NAMES, "questions": 9, "slm": POINT, "llm": POINT, "points": [POINT]}


@pytest.fixture(scope="module")
def whole(random_pair, tmp_path_factory):
    """The files of a whole router with operating points, by name."""
    folder = tmp_path_factory.mktemp("whole")
    make_router(random_pair).save(folder)
    points = {"format": 1, "router": sha256_of(folder / WEIGHTS), "curves": [CURVE]}
    (folder / FILE).write_text(json.dumps(points))
    assert Router.load(folder).operating_points
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=150)
@given(data=st.data(), name=st.sampled_from([CARD, WEIGHTS, FILE]), vouched=st.booleans())
def test_a_router(whole, tmp_path, data, name, vouched):
    card = json.loads(whole[CARD])
    if not vouched:
        del card["sha256"]  # an older card, which says nothing of its weights
    files = {**whole, CARD: json.dumps(card).encode()}
    damage = damaged_bytes(files[name]) if name == WEIGHTS else damaged_json(json.loads(files[name]))
    for each, content in {**files, name: data.draw(damage)}.items():
        (tmp_path / each).write_bytes(content)
    router = read(lambda: Router.load(tmp_path), RouterError, "router", FILE)
    if router is None:
        return
    assert 0 <= router.card.threshold <= MAX_THRESHOLD and 0 <= router.card.acceptance <= 1 and router.card.name
    json.dumps(router.card.metrics, allow_nan=False)
    for curve in router.operating_points.curves if router.operating_points else ():
        assert all(0 <= point.accuracy <= 1 and point.bytes >= 0 for point in (curve.slm, curve.llm, *curve.points))
    if name == WEIGHTS:
        assert not vouched and router.operating_points is None and router.warning, "they are of other weights"


# Weights


@pytest.fixture(scope="module")
def spoilt(converted, tmp_path_factory):
    """A converted pair, one model of which is spoilt anew by each example."""
    return converted.copied_to(tmp_path_factory.mktemp("spoilt") / "cache")


@settings(max_examples=40)
@given(data=st.data(), name=st.sampled_from([store.WEIGHTS, MANIFEST, "config.json", "tokenizer.json"]))
def test_a_folder_of_converted_weights(spoilt, data, name):
    path = spoilt.folder("small") / name
    content = path.read_bytes()
    damage = damaged_json(json.loads(content)) if name == MANIFEST else damaged_bytes(content)
    path.write_bytes(data.draw(damage))
    with mock.patch("engine.models.load._convert", side_effect=WeightsError("small is made again")):
        read(lambda: load_models(spoilt.preset, spoilt.settings), WeightsError, "small")
    path.write_bytes(content)


@given(data=st.data())
def test_a_gguf_header(converted, tmp_path, data):
    whole = (converted.settings.cache_dir / "gguf" / "small.gguf").read_bytes()
    head = whole[:9_000]  # fields, tokens and tensors; the numbers themselves may be anything
    path = tmp_path / "x.gguf"
    path.write_bytes(data.draw(damaged_bytes(head)) + whole[9_000:])
    file = read(lambda: GgufFile("small", path), WeightsError, "small", "x.gguf")
    if file is not None and (shape := file.shape("model.norm.weight")) is not None:
        tensor = read(lambda: file.read("model.norm.weight"), WeightsError)
        assert tensor is None or tuple(tensor.shape) == shape


def test_a_damaged_length_in_a_gguf_file_does_not_make_items_of_the_whole_file(converted, tmp_path):
    content = bytearray((converted.settings.cache_dir / "gguf" / "small.gguf").read_bytes())
    begin = content.index(b"tokenizer.ggml.token_type") + len("tokenizer.ggml.token_type") + 8  # two types before it
    content[begin : begin + 8] = struct.pack("<Q", 10**12)
    (tmp_path / "x.gguf").write_bytes(content)
    with pytest.raises(WeightsError, match=r"x\.gguf .*1,000,000,000,000 items; at most 2,000,000"):
        GgufFile("small", tmp_path / "x.gguf")


@given(data=st.data())
def test_a_models_configuration(tmp_path, data):
    random_qwen(1).config.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_bytes(data.draw(damaged_json(json.loads(path.read_text()))))
    config = read(lambda: read_config("small", tmp_path), WeightsError, "small", "config.json")
    assert config is None or (config.num_hidden_layers <= 512 and config.vocab_size <= 2_000_000)


@pytest.fixture(scope="module")
def saved_model(tmp_path_factory):
    """A random model, and the content of its safetensors file."""
    folder, model = tmp_path_factory.mktemp("model"), random_qwen(1)
    model.save_pretrained(folder)
    return model, (folder / "model.safetensors").read_bytes()


@given(data=st.data())
def test_a_file_of_safetensors(saved_model, tmp_path, data):
    model, whole = saved_model
    path = tmp_path / "model.safetensors"
    path.write_bytes(data.draw(damaged_bytes(whole[:2_000])) + whole[2_000:])

    tied = bool(model.config.tie_word_embeddings)
    tensors = read(lambda: SafetensorsFiles("small", [path], tied), WeightsError, "small", "safetensors")
    if tensors is not None:
        for name in model.state_dict():
            assert (shape := tensors.shape(name)) is None or tensors.read(name).shape == shape


# Traces, requests and bodies

TALK = (Turn("user", "a?"), Turn("assistant", "b c", ((Role.SLM, 2), (Role.LLM, 1))))


@pytest.fixture(scope="module")
def trace(random_pair):
    options = {"policy": "confidence", "threshold": 0.3, "acceptance": 0.05, "alternatives": 2}
    return random_pair.generate(build_request("echo a b c", max_new_tokens=9, turns=TALK, **options))


@settings(max_examples=100)
@given(data=st.data())
def test_a_trace(trace, data):
    content = data.draw(damaged_json(json.loads(trace.to_json())))
    found = read(lambda: Trace.from_json(content), InvalidRequest)
    assert found is None or Trace.from_json(found.to_json()) == found


SHARED = {
    "model": "custom:confidence < 0.5 @ 0.1/4",
    **{"temperature": 0.5, "top_p": 0.9, "top_k": 5, "max_tokens": 9, "seed": 1, "n": 2, "best_of": 1, "user": "me"},
    **{"stop": ["x", "y"], "stream": True, "stream_options": {"include_usage": True}},
}
SAID = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
CHAT = {**SHARED, "messages": SAID, "logprobs": True, "top_logprobs": 2}
COMPLETION = {
    **SHARED,
    "prompt": ["a", "b"],
}


def texts_of(content: bytes, chat: bool, pair: Any) -> Any:
    """The texts that a body of the endpoint asks for."""
    return read_body(content, chat, pair, load_settings()).requests


@given(data=st.data())
def test_a_body_of_the_endpoint(random_pair, data):
    good = data.draw(st.sampled_from([CHAT, COMPLETION]))
    chat = "messages" in good
    assert len(texts_of(json.dumps(good).encode(), chat, random_pair)) > 1
    content = data.draw(damaged_json(good))
    try:
        texts = texts_of(content, chat, random_pair)
    except Refusal as refusal:
        assert 400 <= refusal.status < 500 and 5 < len(str(refusal)) < 1000
        assert bytes(refusal.response().body).decode("utf-8")
        return
    assert 0 < len(texts) <= MAX_TEXTS
    for request in texts:
        "".join((request.prompt, request.system or "", *request.stop, *(turn.text for turn in request.turns))).encode()


# What an LLM's server answers


def made_up(tokens: list[int], looks: int, top: int) -> list[list[tuple[int, float]]]:
    return [[(100 + 5 * place + rank, -0.5 - rank) for rank in range(top)] for place in range(-looks, 0)]


@given(data=st.data(), looks=st.integers(1, 3))
def test_an_answer_of_the_llms_server(data, looks):
    body = {"prompt": [1, 2, 3, 4], **vllm.look_fields(looks)}
    reply = completion(SimpleNamespace(likeliest=made_up), body)
    expected = [[each for each, _ in place] + [value for _, value in place] for place in made_up([], looks, vllm.TOP)]
    assert vllm.states(reply["choices"][0], looks, 259) == expected
    try:
        states = vllm.states(json.loads(data.draw(damaged_json(reply)))["choices"][0], looks, 259)
    except MALFORMED:
        return
    for state in states:
        ids, logprobs = state[: vllm.TOP], state[vllm.TOP :]
        assert len(ids) == len(logprobs) == vllm.TOP and all(0 <= each < 259 for each in ids)
        assert all(math.isfinite(each) and each <= 0.01 for each in logprobs)


# Settings


TEXTS = ["~nosuchuser", "1e26", "9" * 5000, "-1", "nan", "1e400", "{", "[" * 100_000, '{"slm": NaN}', '{"slm": "x"}']
TEXTS += ["null", "bad host", "x" * 10_000, "\x1b[31m"]


@given(
    name=st.sampled_from([name for name, _, _ in variables()]),
    value=st.sampled_from(TEXTS) | st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=20),
)
def test_a_variable(name, value, tmp_path):
    with mock.patch.dict(os.environ, {name: value}), chdir(tmp_path):  # without a .env
        found = read(load_settings, SettingsError, name)
    if found is not None:
        json.dumps(found.model_dump(mode="json"), allow_nan=False)
        assert 16 <= found.context <= 1_000_000


@settings(max_examples=150)
@given(data=st.data())
def test_a_dotenv_file(tmp_path, data):
    content = (
        b"HF_TOKEN=x\nCITER_PRESET=tiny\nCITER_SETTING=router < 0.3\nCITER_SERVER__PORT=80\nCITER_CACHE_DIR=~/models\n"
    )
    (tmp_path / ".env").write_bytes(data.draw(damaged_bytes(content)))
    with chdir(tmp_path):
        found = read(load_settings, SettingsError)
    assert found is None or found.stated.get("threshold", 0) <= 2
