"""A GGUF file's tensors as transformers turns them back into numbers, all at once."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import gguf
import torch
from transformers import AutoModelForCausalLM, GgufConfig, PreTrainedModel
from transformers import modeling_gguf_pytorch_utils as gguf_loading
from transformers.utils import logging

# The two official Q4_K_M files hold the tied embedding twice, as `token_embd` and, in a better format, as `output`.
# They differ by 4 % (0.5B: Q5_0, Q8_0) and 7 % (1.5B: Q4_K, Q6_K); two matrices that are not tied differ by over 100 %.
_TIED_BELOW = 0.25


@contextlib.contextmanager
def quick_and_quiet_reading() -> Iterator[None]:
    """Lets transformers parse a GGUF file's metadata once, and draw no bar of its own.

    It makes a new reader for the tokenizer, for the configuration and for the weights, and each goes through 150,000
    tokens and as many merges in Python: 12 s a time. Its switch for progress bars does not reach the one for GGUF.
    """
    logging.disable_progress_bar()
    readers, bars = cast(Any, gguf), cast(Any, gguf_loading)
    reader, bar = readers.GGUFReader, bars.tqdm
    readers.GGUFReader, bars.tqdm = functools.cache(reader), functools.partial(bar, disable=True)
    try:
        yield
    finally:
        readers.GGUFReader, bars.tqdm = reader, bar


def dense_of_gguf(path: Path) -> PreTrainedModel:
    """Dequantises a GGUF file to bf16, ties the embedding where the file holds it twice, and cleans the config."""
    dense = AutoModelForCausalLM.from_pretrained(
        path.parent,
        gguf_file=path.name,
        quantization_config=GgufConfig(dequantize=True),
        dtype=torch.bfloat16,
    )
    config: Any = dense.config
    embedding: Any = dense.get_input_embeddings()
    head: Any = dense.get_output_embeddings()
    if head.weight is not embedding.weight and _relative_difference(embedding.weight, head.weight) < _TIED_BELOW:
        embedding.weight = head.weight  # the head's copy is the more exact one, and serves both
        config.tie_word_embeddings = True
    config._name_or_path = ""
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # it says GGUF, which the folder no longer is
    return dense


def _relative_difference(first: torch.Tensor, second: torch.Tensor) -> float:
    if first.shape != second.shape:
        return float("inf")
    one, two = first[:4096].float(), second[:4096].float()
    return ((one - two).norm() / two.norm()).item()
