"""On real servers the tiny LLM writes what it writes in this process, token for token."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from engine.events import llm_passes
from engine.served.model import ServedModel
from tests.support.served_pair import KEY, PROMPTS, THRESHOLDS, asked, loaded, written
from tools.real_servers import PACKAGES, python_of, running

pytestmark = pytest.mark.servers


@pytest.fixture(scope="module", params=PACKAGES)
def real(request, tmp_path_factory):
    """The address of a server."""
    if not python_of(request.param).exists():
        pytest.skip(f"{request.param} is not installed: python -m tools.real_servers {request.param}")
    with running(request.param, tmp_path_factory.mktemp("server")) as url:
        yield request.param, url


def test_a_real_server_writes_what_the_model_writes_here(real, tiny_pair):
    kind, url = real
    with loaded(SimpleNamespace(url=url), llm_key=KEY) as pair:  # one that it does not want
        llm = pair.llm
        assert isinstance(llm, ServedModel)
        assert llm.dialect.name.lower().startswith(kind), "it says itself which server it is"
        kept = (0.0, 0.5, 1.0) if llm.judges else (0.0,)
        requests = [asked(prompt, t, a) for prompt in PROMPTS for t in THRESHOLDS for a in kept]
        before = llm.requests
        ours, theirs = tiny_pair.generate_batch(requests), pair.generate_batch(requests)
        assert written(theirs) == written(ours)
        assert 0 < llm.requests - before <= sum(llm_passes(trace.events) for trace in ours)
