"""llama.cpp, for a process of its own without torch. Needs llama-cpp-python, the optional extra `llama`."""

from __future__ import annotations

from functools import cache
from typing import Any


@cache
def _model(path: str, context: int, threads: int) -> Any:
    from llama_cpp import Llama  # pyright: ignore[reportMissingImports]

    return Llama(path, n_ctx=context, n_batch=512, n_threads=threads, n_threads_batch=threads, verbose=False)


def write(path: str, context: int, threads: int, prompt: list[int], tokens: int) -> list[int]:
    """Writes a text greedily, by the model of a GGUF file; returns the new token ids."""
    model = _model(path, context, threads)
    model.reset()  # else the last run's keys would be found and the prompt not read
    drawn = model.generate(prompt, temp=0.0, top_k=1)
    return [int(token) for _, token in zip(range(tokens), drawn, strict=False)]  # in this order: not a token too many
