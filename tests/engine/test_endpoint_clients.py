"""Programs that know OpenAI's endpoint know this one: the official client and curl."""

from __future__ import annotations

import json
import re
import shutil
import signal
import subprocess
import sys
from functools import partial
from typing import Any

import pytest

from tests.support.paths import ROOT
from tests.support.served_endpoint import serve_endpoint

QUESTION = "Start with 12. Add 30. What is the result?"
MESSAGES: Any = [{"role": "user", "content": QUESTION}]
TOO_LONG: Any = [{"role": "user", "content": "word " * 4000}]


@pytest.fixture(scope="module")
def expected(tiny_pair):
    return tiny_pair.generate(QUESTION, threshold=0.5, acceptance=0.3)


def test_the_official_client_chats_streams_completes_and_lists(served, expected):
    from openai import OpenAI

    client = OpenAI(base_url=served.url, api_key="none")
    assert [model.id for model in client.models.list()] == ["tiny", "tiny:slm", "tiny:llm"]
    one: Any = client.models.retrieve("tiny:0.25@0.5")
    assert (one.citer["threshold"], one.citer["acceptance"]) == (0.25, 0.5)
    asked: Any = {"model": "tiny:0.5@0.3", "messages": MESSAGES, "logprobs": True, "top_logprobs": 2}
    reply = client.chat.completions.create(**asked)
    (choice,) = reply.choices
    assert choice.message.content == expected.text and choice.finish_reason == "stop"
    assert reply.usage.completion_tokens == len(expected.events) == len(choice.logprobs.content)
    assert reply.model_extra["citer"]["threshold"] == 0.5
    assert [token["by"] for token in choice.model_extra["citer"]["tokens"]] == [e.role.value for e in expected.events]
    parts = [*client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})]
    assert "".join(part.choices[0].delta.content or "" for part in parts[:-1]) == expected.text
    assert parts[-1].usage == reply.usage
    prompts = ["12 + 30 =", "7 - 5 ="]
    done: Any = client.completions.create(model="tiny:slm", prompt=prompts, n=2, max_tokens=4)
    assert len(done.choices) == 4 and done.citer["llm_share"] == 0


def test_the_official_client_reads_what_is_refused(served, tiny_pair):
    import openai

    client = openai.OpenAI(base_url=served.url, api_key="none", max_retries=0)
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(model="gpt-4", messages=MESSAGES)
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model"
    with pytest.raises(openai.BadRequestError) as long:
        client.chat.completions.create(model="tiny", messages=TOO_LONG)
    assert long.value.code == "context_length_exceeded"
    with serve_endpoint(tiny_pair, api_key="k") as locked, pytest.raises(openai.AuthenticationError):
        openai.OpenAI(base_url=locked.url, api_key="none").models.list()


@pytest.fixture
def server():
    """`python -m engine serve` in a process of its own, and the address that it says."""
    command = [sys.executable, "-m", "engine", "serve", "--preset", "tiny", "--port", "0"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # Where the tests run in a shell's background, Ctrl+C is ignored, and a process would inherit that.
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
    process = subprocess.Popen(command, cwd=ROOT, preexec_fn=heard, **pipes)
    try:
        assert process.stdout is not None
        yield process, re.findall(r"http://127\.0\.0\.1:\d+/v1", process.stdout.readline())[0]
    finally:
        process.kill()
        process.wait()


@pytest.mark.skipif(not shutil.which("curl"), reason="curl is not installed")
def test_curl_asks_the_server_of_the_command_line_which_ends_without_a_word(server, expected):
    process, url = server
    body = json.dumps({"model": "tiny:0.5@0.3", "messages": MESSAGES, "stream": True})
    curl = ["curl", "-sS", "-N", f"{url}/chat/completions", "-H", "Content-Type: application/json", "-d", body]
    lines = subprocess.run(curl, capture_output=True, text=True, timeout=300, check=True).stdout.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    parts = [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]
    assert "".join(part["choices"][0]["delta"]["content"] for part in parts) == expected.text
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 130 and errors.splitlines()[-1] == "stopped"
