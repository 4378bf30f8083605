"""`python -m engine.benchmark`: what it measures is what it says. Nothing here judges a time."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from engine.benchmark import measure
from engine.benchmark.__main__ import main
from engine.benchmark.agreement import compare, weights
from engine.benchmark.report import PAGE, README, SUMMARIES, render, render_short, rewrite
from engine.benchmark.rows import ROWS, bytes_to_move
from engine.benchmark.subject import SHAPES, Subject, _config, from_shapes, prompt_of
from engine.benchmark.writers import ForcedShare, alone, begin, generate, naive, routed, router_of, speculative
from engine.errors import EngineError, SettingsError
from engine.events import Role
from engine.events.cost import costs
from engine.provenance import hardware
from engine.tokenizer import backend

TOKENS, ROUNDS = 10, 2
FEW = ["--tokens", str(TOKENS), "--rounds", str(ROUNDS), "--prompt", "40", "--first", "20", "30", "--context", "80"]


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """What the command writes for the tiny pair, by its arguments."""
    path = tmp_path_factory.mktemp("benchmark") / "tiny.json"

    def run(*arguments):
        assert main(["--preset", "tiny", *FEW, *arguments, "--json", str(path)]) == 0
        return json.loads(path.read_text(encoding="utf-8"))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(measure, "BUFFER", 1 << 22)
        yield run


@pytest.fixture(scope="module")
def summary(measured):
    return measured()


@pytest.fixture
def prompt(tiny_pair):
    return prompt_of(tiny_pair.tokenizer, 40)


def test_every_row_is_measured_at_the_share_it_names_or_said_not_to_be(summary):
    rows = {row["name"]: row for row in summary["rows"]}
    assert {row["title"] for row in summary["rows"]} | set(summary["skipped"]) == {row.title for row in ROWS}
    assert all("llama.cpp" in title for title in summary["skipped"])
    shares = {"engine-slm": 0, "routed-10": 0.1, "routed-30": 0.3, "routed-50": 0.5, "engine-llm": 1}
    assert {name: rows[name]["llm_share"] for name in shares} == pytest.approx(shares)
    assert [rows[name]["batch"] for name in ("routed-30", "routed-30x4", "routed-30x16")] == [1, 4, 16]
    for row in summary["rows"]:
        for found in filter(None, [row["tokens_per_second"], row["ratio"], row["share_of_bound"]]):
            assert len(found["rounds"]) == ROUNDS and 0 < found["min"] <= found["median"] <= found["max"]
    assert rows["generate-llm"]["ratio"]["rounds"] == [1.0] * ROUNDS
    assert summary["machine"]["threads"] == torch.get_num_threads() and summary["revision"]
    same = {"tokens": TOKENS, "same": True}
    assert summary["agreement"] == {"SLM only": same, "LLM only": same}, "the texts are those of `generate`"


def test_only_the_rows_asked_for_are_measured_a_profile_adds_up_and_unknown_rows_are_refused(measured, capsys):
    found = measured("--only", "routed-30", "sweep")
    assert [(row["name"], row["ratio"]) for row in found["rows"]] == [("routed-30", None)]
    assert (list(found["extras"]), found["agreement"]) == (["sweep"], {})
    for step in measured("--profile")["steps"].values():
        assert sum(step["parts"].values()) == pytest.approx(step["whole"])
    for arguments, told in ((["--only", "routed-31"], "routed-31"), ([*FEW, "--context", "3000"], "2,048")):
        assert main(["--preset", "tiny", *arguments]) == 2
        assert told in capsys.readouterr().err


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
    for row in (row for row in ROWS if row.name.startswith("verified-")):
        subject = Subject("tiny", tiny_pair, {}, lambda: pytest.fail("plain"))
        assert row.writer(subject)([prompt], 40) == [llm[0][:40]], row.name


def test_what_must_move_is_what_the_events_of_a_run_cost_and_weights_are_read_once_a_step(tiny_pair, prompt):
    router = router_of(tiny_pair)
    decoding = begin(tiny_pair, [prompt], ForcedShare(router, 12), [0.3], 12)
    decoding.finish()
    events = decoding.rows[0].events
    slm, llm = tiny_pair.slm_cost, tiny_pair.llm_cost
    found = costs(events, len(prompt), slm, llm)
    assert bytes_to_move(slm, llm, len(prompt), [[event.role for event in events]], router) == found.run.bytes
    assert bytes_to_move(slm, llm, len(prompt), [[Role.LLM] * 12], None) == found.llm_only.bytes
    one, two = (bytes_to_move(slm, llm, 10, [[Role.LLM]] * rows, None) for rows in (1, 2))
    assert two - one == 10 * llm.embedding_bytes + 20 * llm.kv_bytes


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
        with torch.inference_mode():
            logits = dense(torch.tensor([question + text]), use_cache=False).logits[0, len(question) - 1 : -1]
        logits = logits[:, : 256 + 5].float()  # the vocabulary ends where the tokenizer's does
        expected = float(torch.nn.functional.cross_entropy(logits, torch.tensor(text)))
        assert {"bf16", "NF4"} <= told["forms"].keys()
        assert all(form["nll"] == pytest.approx(expected, abs=0.1) for form in told["forms"].values())


def test_only_what_stands_between_the_markers_is_rewritten_and_without_them_nothing(summary, tmp_path):
    page, readme, folder = tmp_path / "speed.md", tmp_path / "README.md", tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "tiny.json").write_text(json.dumps(summary), encoding="utf-8")
    page.write_text("before\n<!-- benchmark -->\nold\n<!-- /benchmark -->\nafter\n", encoding="utf-8")
    readme.write_text("above\n<!-- speed -->\nold\n", encoding="utf-8")
    with pytest.raises(EngineError, match="speed -->"):
        rewrite(folder, page, readme)
    assert "old" in page.read_text(encoding="utf-8"), "both are left alone"
    readme.write_text("above\n<!-- speed -->\nold\n<!-- /speed -->\nbelow\n", encoding="utf-8")
    assert rewrite(folder, page, readme) and not rewrite(folder, page, readme)
    long, short = render(summary), render_short(summary)
    assert page.read_text(encoding="utf-8") == f"before\n<!-- benchmark -->\n{long}\n<!-- /benchmark -->\nafter\n"
    assert readme.read_text(encoding="utf-8") == f"above\n<!-- speed -->\n{short}\n<!-- /speed -->\nbelow\n"
    assert all(f"| {row['title']} |" in long for row in summary["rows"]) and hardware(summary["machine"]) in short


def test_the_projects_speed_page_and_readme_are_what_its_summaries_say(tmp_path):
    copies = [tmp_path / path.name for path in (PAGE, README)]
    for copy, path in zip(copies, (PAGE, README), strict=True):
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    assert not rewrite(SUMMARIES, *copies)


def test_known_shapes_have_the_published_number_of_parameters_and_others_are_refused():
    published = {"0.5b": 494_032_768, "1.5b": 1_543_714_304, "7b": 7_615_616_512}
    assert set(SHAPES) == {f"qwen2.5-coder-{size}" for size in published}
    for size, parameters in published.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(_config(f"qwen2.5-coder-{size}"))
        assert model.num_parameters() == parameters
    with pytest.raises(SettingsError, match=r"qwen2\.5-coder-7b"):
        from_shapes(["huge", "qwen2.5-coder-7b"], 100)
