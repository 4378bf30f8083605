"""A second start: a converted model read without transformers is the same, and little else is loaded or computed."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
import torch

from engine.model import int8, packed
from engine.model.language_model import LanguageModel
from engine.model.stored import StoredModel
from engine.weights import store
from engine.weights.load import load_models
from tests.support.converted_pair import LOADED, Files
from tests.support.paths import ROOT

TEXT = [5, 80, 3, 200, 41, 9, 77, 120, 6, 31, 250, 8, 14, 99, 180, 2, 63, 70, 11, 4, 150, 21, 33]
LAYOUTS = [
    pytest.param("nf4", marks=pytest.mark.skipif(not packed.has_kernel(), reason="needs AVX512-BF16")),
    pytest.param("int8", marks=pytest.mark.skipif(not int8.supported(), reason="needs fbgemm")),
]


@pytest.fixture
def both(files, request) -> tuple[Any, Any]:
    """The LLM of a pair, as the store has it and as transformers builds it."""
    settings = files.settings.model_copy(update={"cpu_weights": request.param})
    stored = load_models(files.preset, settings, plain=False).llm
    return stored, load_models(files.preset, settings).llm


def states(model: Any, copy: torch.dtype | None) -> list[torch.Tensor]:
    """Hidden states and logits of a text that is read in one wide pass, two short ones and one of a token."""
    wrapped = LanguageModel(model, "model", 200, copy)
    wrapped.make_copies()
    cache, seen = wrapped.new_cache(1, 64), []
    for chunk in (TEXT, TEXT[:3], TEXT[:5], TEXT[:1]):
        seen.append(wrapped.feed(cache, [0], [chunk])[0])
    return [*seen, wrapped.logits(torch.cat(seen))]


@pytest.mark.parametrize("both", LAYOUTS, indirect=True)
@pytest.mark.parametrize("copy", [None, torch.bfloat16])
def test_it_computes_to_the_bit_and_costs_what_the_same_weights_do_in_transformers_modules(both, copy):
    stored, plain = both
    assert isinstance(stored, StoredModel) and not isinstance(plain, StoredModel)
    for ours, theirs in zip(states(stored, copy), states(plain, copy), strict=True):
        assert torch.equal(ours, theirs)
    stored, plain = (LanguageModel(model, "model", 200, None) for model in both)
    assert (stored.cost, stored.dtype, stored.context) == (plain.cost, plain.dtype, plain.context)


SECOND_START = """
import sys
pair = engine.pair.Pair(loaded.slm, loaded.llm, loaded.tokenizer, fingerprint=loaded.fingerprint)
pair.generate("the thing", raw=True, policy="confidence", max_new_tokens=3)
heavy = ("bitsandbytes", "torch._dynamo", "transformers.modeling_utils", "gguf", "gradio")
print([name for name in heavy if name in sys.modules])
"""


def test_a_start_prints_nothing_and_a_second_imports_neither_bitsandbytes_nor_models_of_transformers(tmp_path):
    if store.cpu_layout("nf4") != "packed":
        pytest.skip("only packed weights are read without them")
    program = LOADED.format(files=Files(tmp_path))
    for code, printed in ((program, ""), (program + SECOND_START, "[]\n")):
        run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
        assert (run.returncode, run.stdout, run.stderr) == (0, printed, "")
