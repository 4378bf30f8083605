"""`python -m engine.benchmark`: what it measures is what it says.

Nothing here judges a time: the smoke test runs every row on the tiny pair with a handful of tokens.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from engine.benchmark import measure
from engine.benchmark.__main__ import main
from engine.benchmark.agreement import compare, rounding
from engine.benchmark.forced import AGREEMENT, ForcedCertainty, agrees, certainty, forced, forced_token
from engine.benchmark.measure import ratios
from engine.benchmark.profile import PARTS, PYTHON, part_of, render_profile, split
from engine.benchmark.report import SHORT, load, render, render_short, rewrite
from engine.benchmark.rows import CONFIDENCES, ROWS, available, bytes_to_move
from engine.benchmark.subject import (
    DEFAULT,
    OWN,
    SHAPES,
    Subject,
    _config,
    _quantised_by_bitsandbytes,
    from_settings,
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
    shuffled_scores,
    speculative,
    verified,
)
from engine.errors import EngineError, SettingsError
from engine.events import Role
from engine.events.cost import costs
from engine.pair import Pair
from engine.policy import ConfidencePolicy
from engine.provenance import hardware
from engine.settings import load_settings

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


def test_every_row_is_measured_or_said_not_to_be(summary):
    assert {row["title"] for row in summary["rows"]} | set(summary["skipped"]) == {row.title for row in ROWS}
    assert all("llama.cpp" in title for title in summary["skipped"])


def test_figures_of_a_row_agree_with_each_other(summary):
    for row in summary["rows"]:
        for found in filter(None, [row["tokens_per_second"], row["ratio"], row["share_of_bound"]]):
            assert len(found["rounds"]) == ROUNDS
            assert 0 < found["min"] <= found["median"] <= found["max"]
        if row["share_of_bound"] and summary["machine"]["bandwidth"]["min"]:
            bandwidth = summary["machine"]["bandwidth"]["rounds"]
            moved = [b / r * s for b, r, s in zip(
                bandwidth, row["tokens_per_second"]["rounds"], row["share_of_bound"]["rounds"], strict=True
            )]  # fmt: skip
            assert moved[0] == pytest.approx(moved[1]), "bytes per token do not depend on the round"
    assert by_name(summary)["generate-llm"]["ratio"]["rounds"] == [1.0] * ROUNDS


def test_routed_rows_give_the_llm_the_share_they_name(summary):
    rows = by_name(summary)
    for name, share in (
        ("engine-slm", 0),
        ("routed-10", 0.1),
        ("routed-30", 0.3),
        ("routed-50", 0.5),
        ("engine-llm", 1),
    ):
        assert rows[name]["llm_share"] == pytest.approx(share)
    assert [rows[name]["batch"] for name in ("routed-30", "routed-30x4", "routed-30x16")] == [1, 4, 16]


def test_time_to_the_first_token_is_measured_at_every_length_where_a_row_has_one(summary):
    for row in ROWS:
        if row.name in by_name(summary):
            expected = {"20", "30"} if row.first_token else set()
            assert set(by_name(summary)[row.name]["first_token_seconds"]) == expected


def test_the_header_names_machine_versions_revision_and_command(summary):
    found = summary["machine"]
    assert found["threads"] == torch.get_num_threads()
    assert {"torch", "transformers", "bitsandbytes", "llama-cpp-python"} == set(found["versions"])
    assert found["bandwidth"]["median"] > 0
    assert summary["command"].startswith("python -m engine.benchmark")
    assert summary["revision"]


def test_greedy_tokens_are_those_of_generate_on_the_tiny_pair(summary):
    assert summary["agreement"] == {
        "SLM only": {"tokens": TOKENS, "same": True},
        "LLM only": {"tokens": TOKENS, "same": True},
    }


def test_the_sweep_and_the_long_context_are_ratios_of_their_own_seconds(summary):
    extras = summary["extras"]
    sweep, context = extras["sweep"], extras["context"]
    for found, over, under in ((sweep, "sweep_seconds", "middle_seconds"), (context, "long_seconds", "short_seconds")):
        expected = [a / b for a, b in zip(found[over]["rounds"], found[under]["rounds"], strict=True)]
        assert found["ratio"]["rounds"] == expected
    assert context["lengths"] == [40, 80]
    assert 0 < extras["overhead"]["share_of_slm_step"]["median"] < 1


def test_the_markdown_has_every_row(summary):
    text = render(summary)
    for row in summary["rows"]:
        assert f"| {row['title']} |" in text
    assert "all 10 the same" in text
    assert "Not measured: " in text


def test_only_the_rows_asked_for_are_measured_and_ratios_need_the_baseline(small_buffer, tmp_path):
    path = tmp_path / "some.json"
    assert main(["--preset", "tiny", *FEW, "--only", "routed-30", "sweep", "--json", str(path)]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    assert [(row["name"], row["ratio"]) for row in found["rows"]] == [("routed-30", None)]
    assert (list(found["extras"]), found["agreement"]) == (["sweep"], {})


def test_passes_are_timed_anew_and_not_as_they_were_kept_in_the_cache(monkeypatch):
    monkeypatch.setattr(Pair, "calibrate", lambda pair, kept: None)
    subject = from_settings(load_settings(preset="tiny"))
    assert all(model.cost.pass_table for model in subject.pair.models)


def test_an_unknown_row_is_refused_with_the_known_ones(capsys):
    assert main(["--preset", "tiny", "--only", "routed-31"]) == 2
    error = capsys.readouterr().err
    assert "routed-31" in error
    assert all(name in error for name in NAMES)


def test_a_text_longer_than_the_models_take_is_refused(small_buffer, capsys):
    assert main(["--preset", "tiny", *FEW, "--context", "3000"]) == 2
    assert "3,011 tokens, and the pair takes 2,048" in capsys.readouterr().err


def test_a_profile_adds_up_to_the_step(tmp_path):
    path = tmp_path / "profile.json"
    assert main(["--preset", "tiny", *FEW, "--profile", "--json", str(path)]) == 0
    found = json.loads(path.read_text(encoding="utf-8"))
    for step in found["steps"].values():
        assert sum(step["parts"].values()) == pytest.approx(step["whole"])
        assert set(step["parts"]) == set(PARTS)
        for part in ("linear layers", "attention", "lm_head", "cache writes", "sampling", PYTHON):
            assert step["parts"][part] > 0, part
    assert found["steps"]["LLM"]["parts"]["router"] == 0 < found["steps"]["SLM"]["parts"]["router"]
    assert all(f"| {part} |" in render_profile(found) for part in PARTS)


# The ways of writing


@pytest.mark.parametrize("role", list(Role))
def test_both_models_alone_write_what_generate_writes(random_pair, role):
    prompts = [prompt_of(random_pair.tokenizer, 30)]
    model = random_pair.slm if role is Role.SLM else random_pair.llm
    ours, theirs = (write(prompts, 60) for write in (alone(random_pair, role), generate(model.model)))
    if all(token < model.vocabulary for token in theirs[0]):  # `generate` may write padding of the vocabulary
        assert ours == theirs
    else:
        cut = next(n for n, token in enumerate(theirs[0]) if token >= model.vocabulary)
        assert ours[0][:cut] == theirs[0][:cut]


def test_the_naive_loop_and_the_engine_write_the_same_routed_text(tiny_pair, prompt):
    router = router_of(tiny_pair)
    ours = routed(tiny_pair, lambda n: ForcedShare(router, n), 0.3)([prompt], 30)
    theirs = naive(tiny_pair.slm.model, tiny_pair.llm.model, lambda n: ForcedShare(router, n), 0.3)([prompt], 30)
    assert ours == theirs


def test_assisted_generation_writes_the_llms_text(tiny_pair, prompt):
    write = speculative(tiny_pair.slm.model, tiny_pair.llm.model, tiny_pair.tokenizer)
    assert write([prompt], 20) == alone(tiny_pair, Role.LLM)([prompt], 20)


def test_every_row_at_acceptance_1_writes_the_llms_text(tiny_pair, prompt):
    expected = alone(tiny_pair, Role.LLM)([prompt], 40)
    subject = Subject("tiny", tiny_pair, {}, lambda form: pytest.fail(form))
    rows = [row for row in ROWS if row.name.startswith("verified-")]
    assert len(rows) == 1 + len(CONFIDENCES)
    for row in rows:
        assert row.writer(subject)([prompt], 40) == expected, row.name


def test_models_that_are_forced_to_agree_do_so_on_93_percent(random_pair):
    found = [agrees(position) for position in range(10_000)]
    assert sum(found) / len(found) == pytest.approx(AGREEMENT, abs=0.01)
    for sure in {certainty(position) for position in range(100)}:
        asked = [agrees(position) for position in range(10_000) if certainty(position) == sure]
        assert sum(asked) / len(asked) == pytest.approx(sure, abs=0.02)


def test_a_forced_pair_writes_by_position_and_is_as_sure_as_it_is_right(random_pair):
    pair, prompts = forced(random_pair), [prompt_of(random_pair.tokenizer, 30)]
    size = len(random_pair.tokenizer)
    expected = {role: [forced_token(role, 30 + n, size) for n in range(300)] for role in Role}
    assert {role: alone(pair, role)(prompts, 300)[0] for role in Role} == expected
    assert [a == b for a, b in zip(*expected.values(), strict=True)] == [agrees(30 + n) for n in range(300)]
    decoding = begin(pair, prompts, ConfidencePolicy(), [0.0], 50)
    decoding.finish()
    scores = [event.score for event in decoding.rows[0].events]
    assert scores == pytest.approx([certainty(30 + n) for n in range(50)], abs=1e-4)
    by_router = verified(pair, lambda prompt: ForcedCertainty(router_of(pair), prompt), AGREEMENT)
    assert by_router(prompts, 300) == [expected[Role.LLM]]


def test_no_end_token_ends_a_text(tiny_pair, prompt):
    """The tiny pair answers in fewer tokens than these."""
    for write in (alone(tiny_pair, Role.LLM), generate(tiny_pair.llm.model)):
        (text,) = write([prompt], 100)
        assert len(text) == 100
        assert tiny_pair.end_id in text


@pytest.mark.parametrize("share", [0.1, 0.2, 0.3, 0.5])
@pytest.mark.parametrize("seed", [0, 7])
def test_a_forced_share_is_exact_and_begins_with_the_llm(share, seed):
    scores = shuffled_scores(200, seed)
    assert sum(score < share for score in scores) == share * 200
    assert scores[0] < share
    assert not any(score < 0 or score >= 1 for score in scores)


def test_what_must_move_is_what_the_events_of_a_run_cost(tiny_pair, prompt):
    router = router_of(tiny_pair)
    decoding = begin(tiny_pair, [prompt], ForcedShare(router, 12), [0.3], 12)
    while decoding.active:
        decoding.step()
    events = decoding.rows[0].events
    slm, llm = tiny_pair.slm_cost, tiny_pair.llm_cost
    found = costs(events, len(prompt), slm, llm)
    roles = [event.role for event in events]
    assert bytes_to_move(slm, llm, len(prompt), [roles], router) == found.run.bytes
    assert bytes_to_move(slm, llm, len(prompt), [[Role.LLM] * 12], None) == found.llm_only.bytes
    assert bytes_to_move(slm, llm, len(prompt), [[Role.SLM] * 12], None) == found.slm_only.bytes


def test_texts_side_by_side_read_the_weights_once(tiny_pair):
    slm, llm = tiny_pair.slm_cost, tiny_pair.llm_cost
    one = bytes_to_move(slm, llm, 10, [[Role.LLM]], None)
    two = bytes_to_move(slm, llm, 10, [[Role.LLM], [Role.LLM]], None)
    assert two - one == 10 * llm.embedding_bytes + 20 * llm.kv_bytes


@pytest.mark.parametrize("length", [5, 40, 500])
def test_prompts_have_the_length_asked_for_and_begin_differently(tiny_pair, length):
    prompts = [prompt_of(tiny_pair.tokenizer, length, number) for number in range(3)]
    assert [len(prompt) for prompt in prompts] == [length] * 3
    if length > 20:
        assert len({tuple(prompt) for prompt in prompts}) == 3


def test_llama_cpp_is_left_out_with_the_reason(monkeypatch):
    row = next(row for row in ROWS if row.name == "llama-slm")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pip install" in (available(row, SimpleNamespace(gguf={})) or "")  # pyright: ignore[reportArgumentType]
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    assert "GGUF" in (available(row, SimpleNamespace(gguf={})) or "")  # pyright: ignore[reportArgumentType]


def test_llama_cpp_is_measured_with_the_model_alone_that_is_a_gguf_file(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    rows = {row.name: row for row in ROWS}
    subject: Any = SimpleNamespace(gguf={Role.LLM: Path("large.gguf")})
    assert available(rows["llama-llm"], subject) is None
    assert available(rows["llama-slm"], subject) == "this pair has no GGUF file of its SLM"


# Figures


def test_a_ratio_is_taken_within_a_round():
    assert ratios([10, 30, 10], [5, 10, 10]) == {"median": 2.0, "min": 1.0, "max": 3.0, "rounds": [2.0, 3.0, 1.0]}


@pytest.mark.parametrize(("value", "unit"), [(17.0, 1 / 8), (-31.9, 1 / 8), (32.0, 1 / 4), (1.0, 1 / 128)])
def test_a_unit_of_rounding_is_the_distance_to_the_next_number(value, unit):
    assert rounding(value, torch.bfloat16) == unit
    one = torch.tensor(abs(value), dtype=torch.bfloat16)
    assert float(torch.nextafter(one, torch.tensor(math.inf, dtype=torch.bfloat16)) - one) == unit


@pytest.mark.parametrize(("other", "units", "tie"), [(16.875, 1.0, True), (16.5, 4.0, False)])
def test_where_texts_part_the_logits_say_whether_it_is_a_tie(other, units, tie):
    def model(ids, logits_to_keep):
        assert ids.tolist() == [[9, 8, 1]]
        return SimpleNamespace(logits=torch.tensor([[[0.0, 0.0, 17.0, other]]], dtype=torch.bfloat16))

    model.device = torch.device("cpu")
    found = compare(model, [9, 8], [1, 2, 5], [1, 3, 5])  # pyright: ignore[reportArgumentType]
    assert (found["same"], found["position"], found["ids"]) == (False, 1, [2, 3])
    assert (found["units"], found["tie"]) == (units, tie)


def event(name, parent=None, microseconds=1000):
    return SimpleNamespace(name=name, cpu_parent=parent, self_cpu_time_total=microseconds)


def test_an_operator_belongs_to_the_innermost_range_else_to_its_kind():
    step = event("step")
    head = event("lm_head", step)
    attention = event("aten::scaled_dot_product_attention", step)
    cases = {
        "lm_head": event("aten::mm", event("aten::linear", head)),
        "attention": event("aten::bmm", attention),
        "linear layers": event("bitsandbytes::gemv_4bit", step),
        "small operators": event("aten::mul", step),
        None: event("aten::mul"),
    }
    assert {part_of(each): part for part, each in cases.items()} == {part: part for part in cases}
    assert part_of(step) is None
    assert split([step, *cases.values()])["lm_head"] == 1.0


# The generated sections


def _read(path):
    return path.read_text(encoding="utf-8")


def write_summary(folder, summary):
    folder.mkdir(exist_ok=True)
    (folder / "tiny.json").write_text(json.dumps(summary), encoding="utf-8")


@pytest.fixture
def documents(tmp_path):
    """A page and a README with their markers and nothing between them."""
    page, readme = tmp_path / "speed.md", tmp_path / "README.md"
    page.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n", encoding="utf-8")
    readme.write_text("above\n<!-- speed -->\nold\n<!-- /speed -->\nbelow\n", encoding="utf-8")
    return page, readme


def test_only_what_stands_between_the_markers_is_rewritten(summary, tmp_path, documents):
    page, readme = documents
    write_summary(tmp_path / "benchmarks", summary)
    assert rewrite(tmp_path / "benchmarks", page, readme)
    text = page.read_text(encoding="utf-8")
    assert text == f"before\n<!-- benchmark -->\n{render(summary)}\n<!-- /benchmark -->\nafter\n"
    text = readme.read_text(encoding="utf-8")
    assert text == f"above\n<!-- speed -->\n{render_short(summary)}\n<!-- /speed -->\nbelow\n"
    assert not rewrite(tmp_path / "benchmarks", page, readme)


@pytest.mark.parametrize("name", ["benchmark", "speed"])
@pytest.mark.parametrize("text", ["no markers", "<!-- {0} -->", "<!-- /{0} --> <!-- {0} -->"])
def test_a_file_without_its_markers_is_refused_and_both_are_left_alone(summary, tmp_path, documents, name, text):
    damaged = documents[0 if name == "benchmark" else 1]
    damaged.write_text(text.format(name), encoding="utf-8")
    before = [path.read_text(encoding="utf-8") for path in documents]
    write_summary(tmp_path / "benchmarks", summary)
    with pytest.raises(EngineError, match=f"{name} -->"):
        rewrite(tmp_path / "benchmarks", *documents)
    assert [path.read_text(encoding="utf-8") for path in documents] == before


def test_a_folder_without_summaries_and_a_damaged_one_are_refused(tmp_path, documents):
    with pytest.raises(EngineError, match="no summaries"):
        rewrite(tmp_path, *documents)
    (tmp_path / "bad.json").write_text("[]", encoding="utf-8")
    with pytest.raises(EngineError, match=r"bad\.json is no summary"):
        load(tmp_path / "bad.json")


def test_the_readme_has_a_few_rows_of_the_table_with_the_hardware_below(summary):
    rows, below = render_short(summary).split("\n\n")
    measured = by_name(summary)
    titles = [line.split(" | ")[0].removeprefix("| ") for line in rows.splitlines()[2:]]
    assert titles == [measured[name]["title"] for name in SHORT if name in measured]
    assert len(SHORT) <= 8
    assert "first token at 30" in rows.splitlines()[0], "500 was not measured: the longest of those that were"
    assert f" on {hardware(summary['machine'])}; prompts of 40 tokens" in below


def test_the_readmes_row_comes_from_the_cpu_pair_where_it_was_measured(summary, tmp_path, documents):
    write_summary(tmp_path / "benchmarks", summary)
    other = {**summary, "preset": "cpu", "pair": "small and large"}
    (tmp_path / "benchmarks" / "z.json").write_text(json.dumps(other), encoding="utf-8")
    rewrite(tmp_path / "benchmarks", *documents)
    assert [text.count("small and large") for text in map(_read, documents)] == [1, 1]
    assert [text.count(summary["pair"]) for text in map(_read, documents)] == [1, 0]


def test_a_profile_among_the_summaries_is_none_of_them(summary, tmp_path, documents):
    write_summary(tmp_path / "benchmarks", summary)
    (tmp_path / "benchmarks" / "tiny-profile.json").write_text('{"steps": {}}', encoding="utf-8")
    assert rewrite(tmp_path / "benchmarks", *documents)
    assert documents[0].read_text(encoding="utf-8").count(render(summary)) == 1


def test_the_projects_speed_page_and_readme_are_what_its_summaries_say(tmp_path):
    from engine.benchmark.report import PAGE, README, SUMMARIES

    if not list(SUMMARIES.glob("*.json")):
        pytest.skip("no summaries yet")
    copies = [tmp_path / path.name for path in (PAGE, README)]
    for copy, path in zip(copies, (PAGE, README), strict=True):
        copy.write_text(_read(path), encoding="utf-8")
    assert not rewrite(SUMMARIES, *copies)


# Random weights


@pytest.mark.parametrize(("weights", "title", "kind"), [("nf4", "NF4", "Linear4bit"), ("int8", "int8", "Int8Linear")])
def test_a_pair_from_configurations_alone_writes_in_few_bits(small_buffer, tmp_path, monkeypatch, weights, title, kind):
    monkeypatch.setenv("CITER_CPU_WEIGHTS", weights)
    shape = {
        "model_type": "qwen2", "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "vocab_size": 320, "tie_word_embeddings": True,
    }  # fmt: skip
    paths = []
    for name, width in (("small", 128), ("large", 192)):
        paths.append(tmp_path / f"{name}.json")
        changed = {**shape, "hidden_size": width, "tie_word_embeddings": name == "small"}
        paths[-1].write_text(json.dumps(changed), encoding="utf-8")
    subject = from_shapes([str(path) for path in paths], 100, "cpu")
    assert (subject.name, subject.pair.quantisation) == ("random-small-large", title)
    scales = 4 * 320 if weights == "int8" else 0  # one per output, beside at most a byte a weight
    assert subject.pair.slm.cost.head_bytes <= 128 * 320 + scales
    prompts = [prompt_of(subject.pair.tokenizer, 20)]
    for role in Role:
        kinds = {form: type(subject.plain(form, role).get_output_embeddings()).__name__ for form in (DEFAULT, OWN)}
        assert kinds == {DEFAULT: "Linear", OWN: kind}
        (text,) = alone(subject.pair, role)(prompts, 12)
        assert len(text) == 12
    for row in (row for row in ROWS if row.name.startswith("verified-")):
        (text,) = row.writer(subject)(prompts, 12)
        assert text == alone(forced(subject.pair), Role.LLM)(prompts, 12)[0]


@pytest.mark.parametrize("lm_head_4bit", [True, False])
@pytest.mark.parametrize("tied", [True, False])
def test_the_way_to_a_gpu_gives_a_whole_quantised_model(tied, lm_head_4bit):
    """On the CPU, since there may be no GPU: bitsandbytes quantises where it is told to."""
    sizes = {"hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 2, "vocab_size": 320}
    config = AutoConfig.for_model(**{**SHAPES["qwen2.5-coder-0.5b"], **sizes, "num_attention_heads": 2})
    config.tie_word_embeddings = tied
    model = _quantised_by_bitsandbytes(config, lm_head_4bit, torch.device("cpu"))
    assert not any(value.is_meta for value in (*model.parameters(), *model.buffers()))
    kinds = {name: type(m).__name__ for name, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert kinds.pop("lm_head") == ("Linear4bit" if lm_head_4bit else "Linear")
    assert set(kinds.values()) == {"Linear4bit"}
    (text,) = generate(model)([[1, 2, 3]], 4)
    assert len(text) == 4


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("qwen2.5-coder-0.5b", 494_032_768),
        ("qwen2.5-coder-1.5b", 1_543_714_304),
        ("qwen2.5-coder-7b", 7_615_616_512),
    ],
)
def test_known_shapes_have_the_published_number_of_parameters(name, parameters):
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(_config(name))
    assert model.num_parameters() == parameters


def test_an_unknown_shape_is_refused_with_the_known_ones():
    with pytest.raises(SettingsError, match=r"qwen2\.5-coder-7b"):
        from_shapes(["huge", "qwen2.5-coder-7b"], 100)
    assert set(SHAPES) == {f"qwen2.5-coder-{size}" for size in ("0.5b", "1.5b", "7b")}


def test_the_stand_in_tokenizer_has_a_name_for_every_token():
    tokenizer = stand_in_tokenizer(500)
    assert len(tokenizer) == 500
    assert tokenizer.decode(tokenizer.encode("héllo")) == "héllo"
