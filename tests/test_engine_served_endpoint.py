"""This project's own endpoint as the LLM's server: the same texts once more, over HTTP and its scheduler."""

from __future__ import annotations

import pytest
from served_endpoint import serve_endpoint
from test_engine_served import THRESHOLDS, asked, loaded, written
from test_engine_verified import PROMPTS

from engine import InvalidRequest, SettingsError, load
from engine.served.model import ServedModel


class Address:
    """Stands in for a fake server."""

    def __init__(self, url: str) -> None:
        self.url = url


def test_the_endpoint_serves_the_llm_of_another_pair_token_for_token(tiny_pair):
    requests = [asked(prompt, threshold) for prompt in PROMPTS[:2] for threshold in THRESHOLDS]
    ours = written(tiny_pair.generate_batch(requests))
    with serve_endpoint(load("tiny"), api_key="a-key-for-it") as server:
        wrong = {"llm_key": "a-key-for-it", "llm_name": "no"}
        with pytest.raises(SettingsError, match="it has tiny"), loaded(Address(server.url), **wrong):
            pass
        with loaded(Address(server.url), llm_key="a-key-for-it", llm_name="tiny:llm") as pair:
            assert written(pair.generate_batch(requests)) == ours
            assert isinstance(pair.llm, ServedModel) and pair.llm.dialect.owner == "citer"
            with pytest.raises(InvalidRequest, match="acceptance"):
                pair.check(asked(PROMPTS[0], 0.5, 0.5))
        with loaded(Address(server.url), llm_key="a-key-for-it") as pair:
            assert pair.llm_name == "tiny:llm", "of all its names the one that is the LLM"
