"""A second start: a converted model read without transformers is the same, and little else is loaded or computed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from engine.errors import WeightsError
from engine.model import nf4
from engine.model.language_model import LanguageModel
from engine.models import store
from engine.models.load import folder_of, layout_for, load_models
from engine.models.model_files import files_of
from tests.support.converted_pair import LOADED, Files
from tests.support.paths import ROOT
from tests.support.random_gguf import logits

LAYOUTS = [
    pytest.param("nf4", marks=pytest.mark.skipif(store.cpu_layout("nf4") != "packed", reason="needs AVX512-BF16")),
    "int8",
]


@pytest.mark.parametrize("cpu_weights", LAYOUTS)
def test_it_says_what_transformers_says_with_the_same_products(files, cpu_weights):
    settings = files.settings.model_copy(update={"cpu_weights": cpu_weights})
    loaded = load_models(files.preset, settings).llm
    layout = store.cpu_layout(cpu_weights)
    plain: Any = store.as_transformers(folder_of(files_of(files.preset.llm, settings), settings, layout), layout)
    ours, theirs = logits(loaded).float(), logits(plain).float()
    torch.testing.assert_close(ours, theirs, rtol=0.05, atol=0.02)
    model, again = (LanguageModel(each, "model", 288) for each in (loaded, plain))
    assert (model.cost, model.dtype, model.context) == (again.cost, again.dtype, again.context)


@pytest.mark.parametrize(("kernel", "units"), [(True, False), (True, True), (False, False)])
def test_auto_is_nf4_where_its_kernel_is_the_fastest_and_nf4_is_refused_without_it(files, monkeypatch, kernel, units):
    monkeypatch.setattr(nf4, "has_kernel", lambda: kernel)
    monkeypatch.setattr(nf4, "has_matrix_units", lambda: units)
    auto = "packed" if kernel and not units else "int8"
    for wanted, layout in (("auto", auto), ("int8", "int8"), ("nf4", "packed"), ("bf16", "packed")):
        settings = files.settings.model_copy(update={"cpu_weights": wanted})
        if kernel or layout == "int8":
            assert layout_for(files.preset, settings) == layout
        else:
            with pytest.raises(WeightsError, match=f"CITER_CPU_WEIGHTS = {wanted} needs .* auto or int8"):
                layout_for(files.preset, settings)


SECOND_START = """
import sys
pair = engine.pair.Pair(loaded.slm, loaded.llm, loaded.tokenizer, fingerprint=loaded.fingerprint)
pair.generate("the thing", raw=True, policy="confidence", max_new_tokens=3)
heavy = ("bitsandbytes", "torch._dynamo", "transformers.modeling_utils", "gguf", "gradio")
print([name for name in heavy if name in sys.modules])
"""


def test_a_start_prints_nothing_and_a_second_imports_neither_bitsandbytes_nor_models_of_transformers(tmp_path):
    program = LOADED.format(files=Files(tmp_path))
    for code, printed in ((program, ""), (program + SECOND_START, "[]\n")):
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout, run.stderr) == (0, printed, "")
