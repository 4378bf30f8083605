"""A Hugging Face Hub on this machine: as much of it as huggingface_hub asks to fetch files.

PYTEST_DONT_REWRITE: a plugin without asserts, which test modules import before pytest registers it.
"""

from __future__ import annotations

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

import huggingface_hub
import pytest
from huggingface_hub import constants

TOKEN = "hf_a_secret_that_nobody_may_see"


class Repo:
    """Branches point at commits, commits hold files."""

    def __init__(self, private: bool = False) -> None:
        self.private = private
        self.commits: dict[str, dict[str, bytes]] = {}
        self.branches: dict[str, str] = {}
        self.messages: list[str] = []
        self.commit({".gitattributes": b""}, "initial commit")

    def commit(self, files: dict[str, bytes], message: str = "", branch: str = "main") -> str:
        digest = hashlib.sha1(f"{len(self.messages)}{sorted(files)}".encode()).hexdigest()
        self.commits[digest], self.branches[branch] = dict(files), digest
        self.messages.append(message)
        return digest

    @property
    def files(self) -> dict[str, bytes]:
        return self.commits[self.branches["main"]]


class FakeHub(ThreadingHTTPServer):
    """What a test wants of the Hub, and how it misbehaves."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos: dict[str, Repo] = {}
        self.requests: list[tuple[str, str]] = []  # method and path of each
        self.fail: dict[str, tuple[int, str]] = {}  # part of a path: status and words
        self.hang_up: str | None = None  # part of a path at which the connection is closed without an answer

    def asked(self, part: str) -> list[tuple[str, str]]:
        return [request for request in self.requests if part in request[1]]


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def _serve(self) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        hub.requests.append((self.command, path))
        if hub.hang_up and hub.hang_up in path:
            return None
        for part, (status, words) in hub.fail.items():
            if part in path:
                return self._answer(status, {"error": words})
        repo_id = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        repo, rest = hub.repos.get(repo_id), path.partition(repo_id)[2].strip("/")
        if repo is None or (repo.private and not self._may_write):
            return self._answer(404 if repo is None else 401, {"error": "Repository not found"}, code="RepoNotFound")
        verb, _, rest = rest.partition("/")
        return self._of_repo(repo_id, repo, verb, rest)

    do_GET = do_HEAD = _serve

    def _of_repo(self, repo_id: str, repo: Repo, what: str, revision: str) -> None:
        revision, _, name = revision.rpartition("/") if what == "resolve" else (revision or "main", "", "")
        commit = repo.branches.get(revision, revision)
        files = repo.commits.get(commit)
        if what == "resolve":
            return self._file(commit, (files or {}).get(name))
        if files is None:
            return self._answer(404, {"error": "Invalid rev id"}, code="RevisionNotFound")
        if what == "tree":
            tree = [{"type": "file", "path": name, "size": len(each), "oid": "0"} for name, each in files.items()]
            return self._answer(200, tree)
        return self._answer(200, {"id": repo_id, "sha": commit, "private": repo.private, "siblings": [], "tags": []})

    @property
    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _file(self, commit: str, content: bytes | None) -> None:
        if content is None:
            return self._answer(404, {"error": "Entry not found"}, code="EntryNotFound")
        sha256 = hashlib.sha256(content).hexdigest()
        return self._send(200, content, {"X-Repo-Commit": commit, "ETag": f'"{sha256}"'})

    def _answer(self, status: int, value: dict | list, code: str = "") -> None:
        said = value.get("error", "") if isinstance(value, dict) else ""
        headers = {"Content-Type": "application/json", "X-Error-Code": code, "X-Error-Message": said}
        self._send(status, json.dumps(value).encode(), headers)

    def _send(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def log_message(self, format, *args):
        pass


@pytest.fixture
def fake_hub(monkeypatch, tmp_path):
    """A Hub that huggingface_hub believes in; no login of the developer's is visible."""
    server = FakeHub()
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # huggingface_hub reads its environment when it is imported, which conftest made an offline one. What is disabled is
    # not served here: a storage protocol of its own, and a list of programs that it would look up and keep.
    for name, value in {
        "HF_HUB_OFFLINE": False,
        "ENDPOINT": server.url,
        "HUGGINGFACE_CO_URL_TEMPLATE": server.url + "/{repo_id}/resolve/{revision}/{filename}",
        "HF_TOKEN_PATH": str(tmp_path / "no-login"),
        "HF_HUB_DISABLE_XET": True,
        "HF_HUB_DISABLE_TELEMETRY": True,
    }.items():
        monkeypatch.setattr(constants, name, value)
    huggingface_hub.close_session()  # one that another test has made knows of a proxy
    yield server
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
