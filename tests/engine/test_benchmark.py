"""`python -m engine.benchmark`: what it measures is what it says.

Nothing here judges a time: the smoke test runs every row on the tiny pair with a handful of tokens.
"""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.benchmark import measure
from engine.benchmark.__main__ import main
from engine.benchmark.agreement import compare, weights
from engine.benchmark.forced import AGREEMENT, ForcedCertainty, agrees, certainty, forced, forced_token
from engine.benchmark.measure import ratios
from engine.benchmark.profile import PARTS, PYTHON, render_profile
from engine.benchmark.report import PAGE, README, SHORT, SUMMARIES, render, render_short, rewrite
from engine.benchmark.rows import CONFIDENCES, ROWS, available, bytes_to_move
from engine.benchmark.subject import (
    DEFAULT,
    OWN,
    SHAPES,
    Subject,
    _config,
    from_shapes,
    prompt_of,
    stand_in_tokenizer,
)
from engine.benchmark.table import NAMES
from engine.benchmark.writers import (
    ForcedShare,
    alone,
    begin,
    generate,
    naive,
    routed,
    router_of,
    speculative,
    verified,
)
from engine.errors import EngineError, SettingsError
from engine.events import Role
from engine.events.cost import costs
from engine.model import int8
from engine.policy import ConfidencePolicy
from engine.provenance import hardware
from engine.tokenizer import backend

TOKENS, ROUNDS = 10, 2
FEW = ["--tokens", str(TOKENS), "--rounds", str(ROUNDS), "--prompt", "40", "--first", "20", "30", "--context", "80"]


@pytest.fixture(scope="module")
def small_buffer():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "BUFFER", 1 << 22)
        yield


@pytest.fixture(scope="module")
def summary(small_buffer, tmp_path_factory):
    """What the command writes for the tiny pair."""
    path = tmp_path_factory.mktemp("benchmark") / "tiny.json"
    assert main(["--preset", "tiny", *FEW, "--json", str(path)]) == 0
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.fixture
def prompt(tiny_pair):
    return prompt_of(tiny_pair.tokenizer, 40)


def by_name(summary):
    return {row["name"]: row for row in summary["rows"]}


# The table


def test_every_row_is_measured_or_said_not_to_be_at_the_share_and_lengths_it_names(summary):
    rows = by_name(summary)
    assert {row["title"] for row in summary["rows"]} | set(summary["skipped"]) == {row.title for row in ROWS}
    assert all("llama.cpp" in title for title in summary["skipped"])
    shares = {"engine-slm": 0, "routed-10": 0.1, "routed-30": 0.3, "routed-50": 0.5, "engine-llm": 1}
    assert {name: rows[name]["llm_share"] for name in shares} == pytest.approx(shares)
    assert [rows[name]["batch"] for name in ("routed-30", "routed-30x4", "routed-30x16")] == [1, 4, 16]
    for row in (row for row in ROWS if row.name in rows):
        assert set(rows[row.name]["first_token_seconds"]) == ({"20", "30"} if row.first_token else set())


def test_figures_of_a_row_agree_with_each_other(summary):
    bandwidth = summary["machine"]["bandwidth"]["rounds"]
    for row in summary["rows"]:
        for found in filter(None, [row["tokens_per_second"], row["ratio"], row["share_of_bound"]]):
            assert len(found["rounds"]) == ROUNDS and 0 < found["min"] <= found["median"] <= found["max"]
        if row["share_of_bound"]:
            rounds = zip(row["tokens_per_second"]["rounds"], row["share_of_bound"]["rounds"], strict=True)
            moved = [each / rate * share for each, (rate, share) in zip(bandwidth, rounds, strict=True)]
            assert moved[0] == pytest.approx(moved[1]), "bytes per token do not depend on the round"
    assert by_name(summary)["generate-llm"]["ratio"]["rounds"] == [1.0] * ROUNDS
    assert ratios([10, 30, 10], [5, 10, 10]) == {"median": 2.0, "min": 1.0, "max": 3.0, "rounds": [2.0, 3.0, 1.0]}
    sweep, context = summary["extras"]["sweep"], summary["extras"]["context"]
    for found, over, under in ((sweep, "sweep_seconds", "middle_seconds"), (context, "long_seconds", "short_seconds")):
        expected = [a / b for a, b in zip(found[over]["rounds"], found[under]["rounds"], strict=True)]
        assert found["ratio"]["rounds"] == expected
    assert context["lengths"] == [40, 80] and 0 < summary["extras"]["overhead"]["share_of_slm_step"]["median"] < 1


def test_the_summary_says_what_was_run_where_and_whether_the_texts_are_those_of_generate(summary):
    found = summary["machine"]
    assert found["threads"] == torch.get_num_threads() and found["bandwidth"]["median"] > 0
    assert {"torch", "transformers", "bitsandbytes", "llama-cpp-python"} == set(found["versions"])
    assert summary["command"].startswith("python -m engine.benchmark") and summary["revision"]
    same = {"tokens": TOKENS, "same": True}
    assert summary["agreement"] == {"SLM only": same, "LLM only": same}


def test_only_the_rows_asked_for_are_measured_and_ratios_need_the_baseline(small_buffer, tmp_path):
    path = tmp_path / "some.json"
    assert main(["--preset", "tiny", *FEW, "--only", "routed-30", "sweep", "--json", str(path)]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["name"], row["ratio"]) for row in found["rows"]] == [("routed-30", None)]
    assert (list(found["extras"]), found["agreement"]) == (["sweep"], {})


def test_an_unknown_row_and_a_text_longer_than_the_models_take_are_refused(small_buffer, capsys):
    assert main(["--preset", "tiny", "--only", "routed-31"]) == 2
    error = capsys.readouterr().err
    assert "routed-31" in error and all(name in error for name in NAMES)
    assert main(["--preset", "tiny", *FEW, "--context", "3000"]) == 2
    error = capsys.readouterr().err
    assert "3,011" in error and "2,048" in error


def test_a_profile_adds_up_to_the_step(tmp_path):
    path = tmp_path / "profile.json"
    assert main(["--preset", "tiny", *FEW, "--profile", "--json", str(path)]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    for step in found["steps"].values():
        assert sum(step["parts"].values()) == pytest.approx(step["whole"]) and set(step["parts"]) == set(PARTS)
        for part in ("linear layers", "attention", "lm_head", "cache writes", "sampling", PYTHON):
            assert step["parts"][part] > 0, part
    assert found["steps"]["LLM"]["parts"]["router"] == 0 < found["steps"]["SLM"]["parts"]["router"]
    assert all(f"| {part} |" in render_profile(found) for part in PARTS)


# The ways of writing


def test_every_way_writes_what_it_should(tiny_pair, random_pair, prompt):
    for role, model in ((Role.SLM, random_pair.slm), (Role.LLM, random_pair.llm)):
        prompts = [prompt_of(random_pair.tokenizer, 30)]
        ((ours,), (theirs,)) = (write(prompts, 60) for write in (alone(random_pair, role), generate(model.model)))
        end = next((n for n, token in enumerate(theirs) if token >= model.vocabulary), 60)
        assert ours[:end] == theirs[:end], "`generate` may write padding of the vocabulary"
    router, share = router_of(tiny_pair), 0.3
    loop = naive(tiny_pair.slm.model, tiny_pair.llm.model, lambda n: ForcedShare(router, n), share)
    assert routed(tiny_pair, lambda n: ForcedShare(router, n), share)([prompt], 30) == loop([prompt], 30)
    llm = alone(tiny_pair, Role.LLM)([prompt], 100)
    assert len(llm[0]) == 100 and tiny_pair.end_id in llm[0], "no end token ends a text"
    assisted = speculative(tiny_pair.slm.model, tiny_pair.llm.model, tiny_pair.tokenizer)([prompt], 20)
    assert assisted == [llm[0][:20]]
    rows = [row for row in ROWS if row.name.startswith("verified-")]
    assert len(rows) == 1 + len(CONFIDENCES)
    for row in rows:
        subject = Subject("tiny", tiny_pair, {}, lambda form: pytest.fail(form))
        assert row.writer(subject)([prompt], 40) == [llm[0][:40]], row.name


def test_models_that_are_forced_to_agree_do_so_on_93_percent_and_are_as_sure_as_they_are_right(random_pair):
    found = [agrees(position) for position in range(10_000)]
    assert sum(found) / len(found) == pytest.approx(AGREEMENT, abs=0.01)
    for sure in {certainty(position) for position in range(100)}:
        asked = [agrees(position) for position in range(10_000) if certainty(position) == sure]
        assert sum(asked) / len(asked) == pytest.approx(sure, abs=0.02)
    pair, prompts = forced(random_pair), [prompt_of(random_pair.tokenizer, 30)]
    size, many = len(random_pair.tokenizer), 100
    expected = {role: [forced_token(role, 30 + n, size) for n in range(many)] for role in Role}
    assert {role: alone(pair, role)(prompts, many)[0] for role in Role} == expected
    assert [a == b for a, b in zip(*expected.values(), strict=True)] == [agrees(30 + n) for n in range(many)]
    decoding = begin(pair, prompts, ConfidencePolicy(), [0.0], 50)
    decoding.finish()
    scores = [event.score for event in decoding.rows[0].events]
    assert scores == pytest.approx([certainty(30 + n) for n in range(50)], abs=1e-4)
    by_router = verified(pair, lambda prompt: ForcedCertainty(router_of(pair), prompt), AGREEMENT)
    assert by_router(prompts, many) == [expected[Role.LLM]]


def test_what_must_move_is_what_the_events_of_a_run_cost_and_weights_are_read_once_a_step(tiny_pair, prompt):
    router = router_of(tiny_pair)
    decoding = begin(tiny_pair, [prompt], ForcedShare(router, 12), [0.3], 12)
    decoding.finish()
    events = decoding.rows[0].events
    slm, llm = tiny_pair.slm_cost, tiny_pair.llm_cost
    found = costs(events, len(prompt), slm, llm)
    assert bytes_to_move(slm, llm, len(prompt), [[event.role for event in events]], router) == found.run.bytes
    assert bytes_to_move(slm, llm, len(prompt), [[Role.LLM] * 12], None) == found.llm_only.bytes
    assert bytes_to_move(slm, llm, len(prompt), [[Role.SLM] * 12], None) == found.slm_only.bytes
    one, two = (bytes_to_move(slm, llm, 10, [[Role.LLM]] * rows, None) for rows in (1, 2))
    assert two - one == 10 * llm.embedding_bytes + 20 * llm.kv_bytes


def test_llama_cpp_is_measured_with_the_models_that_are_gguf_files_else_left_out_with_the_reason(monkeypatch):
    rows, subject = {row.name: row for row in ROWS}, SimpleNamespace(gguf={Role.LLM: Path("large.gguf")})
    asked: Any = subject
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install" in (available(rows["llama-slm"], asked) or "")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert available(rows["llama-llm"], asked) is None
    assert "GGUF file of its SLM" in (available(rows["llama-slm"], asked) or "")


# Agreement with other computations


@pytest.mark.parametrize(("other", "units", "tie"), [(16.875, 1.0, True), (16.75, 2.0, True), (16.5, 4.0, False)])
def test_where_texts_part_the_logits_say_whether_it_is_a_tie(other, units, tie):
    def model(ids, logits_to_keep):
        assert ids.tolist() == [[9, 8, 1]]
        return SimpleNamespace(logits=torch.tensor([[[0.0, 0.0, 17.0, other]]], dtype=torch.bfloat16))

    model.device = torch.device("cpu")
    found = compare(model, [9, 8], [1, 2, 5], [1, 3, 5])  # pyright: ignore[reportArgumentType]
    assert (found["same"], found["position"], found["ids"]) == (False, 1, [2, 3])
    assert (found["units"], found["tie"]) == (units, tie)


def test_each_form_of_the_weights_is_held_against_what_the_original_writes(files):
    reference = ("the", "in the end")
    found = weights(files.preset, files.settings, ["the thing", "in"], 8, [reference])
    encode = backend(files.load()[0].tokenizer).encode
    question, text = (encode(each, add_special_tokens=False).ids for each in reference)
    for told, dense in ((found["slm"], files.slm_dense), (found["llm"], files.llm_dense)):
        assert told["forms"].keys() == {"bf16", "NF4"} | ({"int8"} if int8.supported() else set())
        assert 1 <= told["positions"] <= 16
        assert all(0 <= form["agreement"] <= 1 for form in told["forms"].values())
        assert told["forms"]["bf16"]["agreement"] > 0.7  # what is not the same is a tie
        with torch.inference_mode():
            logits = dense(torch.tensor([question + text]), use_cache=False).logits[0, len(question) - 1 : -1]
        logits = logits[:, : 256 + 5].float()  # the vocabulary ends where the tokenizer's does
        expected = float(torch.nn.functional.cross_entropy(logits, torch.tensor(text)))
        assert told["forms"]["bf16"]["nll"] == pytest.approx(expected, abs=0.02)
        assert all(form["nll"] == pytest.approx(expected, abs=0.1) for form in told["forms"].values())
    told = weights(files.preset, files.settings, ["the thing"], 2)["slm"]["forms"]
    assert {form["nll"] for form in told.values()} == {None}, "without references there is no loss"


def test_the_command_reads_so_many_references_and_refuses_data_without_any(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("engine.benchmark.agreement.weights", lambda *given: {"slm": given[-1]})
    path = tmp_path / "data.jsonl"
    for content in (None, "", "x", '{"question": "1?"}', "[]"):
        if content is not None:
            path.write_text(content)
        assert main(["weights", "--data", str(path)]) == 2
        assert "reference" in capsys.readouterr().err
    path.write_text('{"question": "1?", "reference": "1"}\n' * 3)
    assert main(["weights", "--data", str(path), "--questions", "2"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["slm"] == [["1?", "1"]] * 2 and told["hardware"] and told["revision"]


# The generated sections


@pytest.fixture
def documents(tmp_path):
    """A page and a README with their markers and nothing between them."""
    page, readme = tmp_path / "speed.md", tmp_path / "README.md"
    page.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n", encoding="utf-8")
    readme.write_text("above\n<!-- speed -->\nold\n<!-- /speed -->\nbelow\n", encoding="utf-8")
    return page, readme


@pytest.fixture
def folder(tmp_path, summary):
    (tmp_path / "benchmarks").mkdir()
    (tmp_path / "benchmarks" / "tiny.json").write_text(json.dumps(summary), encoding="utf-8")
    (tmp_path / "benchmarks" / "tiny-profile.json").write_text('{"steps": {}}', encoding="utf-8")
    return tmp_path / "benchmarks"


def test_only_what_stands_between_the_markers_is_rewritten(summary, folder, documents):
    assert rewrite(folder, *documents)
    page, readme = (path.read_text(encoding="utf-8") for path in documents)
    assert page == f"before\n<!-- benchmark -->\n{render(summary)}\n<!-- /benchmark -->\nafter\n"
    assert readme == f"above\n<!-- speed -->\n{render_short(summary)}\n<!-- /speed -->\nbelow\n"
    assert not rewrite(folder, *documents)
    other = {**summary, "preset": "cpu", "pair": "small and large"}
    (folder / "z.json").write_text(json.dumps(other), encoding="utf-8")
    rewrite(folder, *documents)
    page, readme = (path.read_text(encoding="utf-8") for path in documents)
    assert [page.count(summary["pair"]), readme.count(summary["pair"])] == [1, 0], "the README has the cpu pair's"


def test_the_tables_have_the_rows_with_the_hardware_below(summary):
    text = render(summary)
    assert all(f"| {row['title']} |" in text for row in summary["rows"]) and "Not measured" in text
    rows, below = render_short(summary).split("\n\n")
    measured = by_name(summary)
    titles = [line.split(" | ")[0].removeprefix("| ") for line in rows.splitlines()[2:]]
    assert titles == [measured[name]["title"] for name in SHORT if name in measured]
    assert "first token at 30" in rows.splitlines()[0], "500 was not measured: the longest of those that were"
    assert hardware(summary["machine"]) in below


@pytest.mark.parametrize("name", ["benchmark", "speed"])
@pytest.mark.parametrize("text", ["no markers", "<!-- {0} -->", "<!-- /{0} --> <!-- {0} -->"])
def test_a_file_without_its_markers_is_refused_and_both_are_left_alone(folder, documents, name, text):
    documents[name == "speed"].write_text(text.format(name), encoding="utf-8")
    before = [path.read_text(encoding="utf-8") for path in documents]
    with pytest.raises(EngineError, match=f"{name} -->"):
        rewrite(folder, *documents)
    assert [path.read_text(encoding="utf-8") for path in documents] == before


def test_the_projects_speed_page_and_readme_are_what_its_summaries_say(tmp_path):
    copies = [tmp_path / path.name for path in (PAGE, README)]
    for copy, path in zip(copies, (PAGE, README), strict=True):
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    assert not rewrite(SUMMARIES, *copies)


# Random weights


@pytest.mark.parametrize(("form", "title", "kind"), [("nf4", "NF4", "Linear4bit"), ("int8", "int8", "Int8Linear")])
def test_a_pair_from_configurations_alone_writes_in_few_bits(tmp_path, monkeypatch, form, title, kind):
    monkeypatch.setenv("CITER_CPU_WEIGHTS", form)
    sizes = {"intermediate_size": 256, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1}
    paths = []
    for name, width in (("small", 128), ("large", 192)):
        shape = {"model_type": "qwen2", **sizes, "vocab_size": 320, "hidden_size": width}
        paths.append(tmp_path / f"{name}.json")
        paths[-1].write_text(json.dumps({**shape, "tie_word_embeddings": name == "small"}), encoding="utf-8")
    subject = from_shapes([str(path) for path in paths], 100, "cpu")
    assert (subject.name, subject.pair.quantisation) == ("random-small-large", title)
    scales = 4 * 320 if form == "int8" else 0  # one per output, beside at most a byte a weight
    assert subject.pair.slm.cost.head_bytes <= 128 * 320 + scales
    prompts = [prompt_of(subject.pair.tokenizer, 20)]
    for role in Role:
        kinds = [type(subject.plain(form, role).get_output_embeddings()).__name__ for form in (DEFAULT, OWN)]
        assert kinds == ["Linear", kind] and len(alone(subject.pair, role)(prompts, 12)[0]) == 12
    expected = alone(forced(subject.pair), Role.LLM)(prompts, 12)
    for row in (row for row in ROWS if row.name.startswith("verified-")):
        assert row.writer(subject)(prompts, 12) == expected


def test_known_shapes_have_the_published_number_of_parameters_and_others_are_refused():
    published = {"0.5b": 494_032_768, "1.5b": 1_543_714_304, "7b": 7_615_616_512}
    assert set(SHAPES) == {f"qwen2.5-coder-{size}" for size in published}
    for size, parameters in published.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(_config(f"qwen2.5-coder-{size}"))
        assert model.num_parameters() == parameters
    with pytest.raises(SettingsError, match=r"qwen2\.5-coder-7b"):
        from_shapes(["huge", "qwen2.5-coder-7b"], 100)
    tokenizer = stand_in_tokenizer(500)
    assert len(tokenizer) == 500 and tokenizer.decode(tokenizer.encode("héllo")) == "héllo"
