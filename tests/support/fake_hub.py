"""A Hugging Face Hub on this machine: repos with commits and branches, as much of the API as huggingface_hub asks of it
to publish a folder and to fetch files. As a plugin whose fixture several test modules share.

PYTEST_DONT_REWRITE: it has no asserts, and the test modules import it before pytest registers it.
"""

from __future__ import annotations

import base64
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

    def resolve(self, revision: str) -> str | None:
        commit = self.branches.get(revision, revision)
        return commit if commit in self.commits else None

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
        self.large: dict[str, bytes] = {}  # large-file storage, by sha256
        self.requests: list[tuple[str, str]] = []  # method and path of each
        self.token = TOKEN  # the one that may write
        self.lfs = False  # take weights through the large-file storage, as the real one does
        self.fail: dict[str, tuple[int, str]] = {}  # part of a path: status and words
        self.hang_up: str | None = None  # part of a path at which the connection is closed without an answer
        self.announced: dict[str, int | None] = {}  # a file's size, where it is not the true one
        self.announced_sha256: dict[str, str] = {}  # likewise

    def asked(self, part: str) -> list[tuple[str, str]]:
        return [request for request in self.requests if part in request[1]]


class _Handler(BaseHTTPRequestHandler):
    server: FakeHub

    def _serve(self) -> None:
        hub, path = self.server, unquote(urlsplit(self.path).path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        hub.requests.append((self.command, path))
        if hub.hang_up and hub.hang_up in path:
            return None
        for part, (status, words) in hub.fail.items():
            if part in path:
                return self._answer(status, {"error": words})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if path == "/api/validate-yaml":
            return self._answer(200, {"warnings": [], "errors": []})
        if path.startswith("/large/"):
            hub.large[path.removeprefix("/large/")] = body
            return self._answer(200, {})
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch(json.loads(body))
        repo_id = "/".join(path.removeprefix("/api/models").split("/")[1:3])
        repo = hub.repos.get(repo_id)
        if repo is None or (repo.private and not self._may_write()):
            return self._answer(404 if repo is None else 401, {"error": "Repository not found"}, code="RepoNotFound")
        rest = path.partition(repo_id)[2].strip("/")
        what, _, revision = rest.partition("/")
        if what == "resolve":
            return self._file(repo, *revision.rsplit("/", 1))
        commit = repo.resolve(revision or "main")
        if commit is None:
            return self._answer(404, {"error": "Invalid rev id"}, code="RevisionNotFound")
        if what in ("", "revision"):
            return self._info(repo_id, repo, commit)
        if not self._may_write():
            return self._answer(401, {"error": "Invalid credentials"})
        if what == "preupload":
            return self._answer(200, {"files": [self._mode(repo, file) for file in json.loads(body)["files"]]})
        return self._commit(repo_id, repo, revision, [json.loads(line) for line in body.splitlines()])

    do_GET = do_HEAD = do_POST = do_PUT = _serve

    def _may_write(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.server.token}"

    def _create(self, wanted: dict) -> None:
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        url = f"{self.server.url}/{repo_id}"
        if not self._may_write():
            return self._answer(401, {"error": "Invalid credentials"})
        if repo_id in self.server.repos:
            return self._answer(409, {"error": "You already created this model repo", "url": url})
        # huggingface_hub 1 says "private", 2 says "visibility".
        self.server.repos[repo_id] = Repo(private=wanted.get("visibility") == "private" or bool(wanted.get("private")))
        return self._answer(200, {"url": url})

    def _info(self, repo_id: str, repo: Repo, commit: str) -> None:
        sizes = {name: len(content) for name, content in repo.commits[commit].items()} | self.server.announced
        siblings = [
            {"rfilename": name, "size": size, **self._large(repo, commit, name)} for name, size in sizes.items()
        ]
        self._answer(200, {"id": repo_id, "sha": commit, "private": repo.private, "siblings": siblings, "tags": []})

    def _large(self, repo: Repo, commit: str, name: str) -> dict:
        """What the Hub says of a file in its large-file storage."""
        content = repo.commits[commit].get(name)
        if content is None or not name.endswith(".safetensors"):
            return {}
        sha256 = self.server.announced_sha256.get(name) or hashlib.sha256(content).hexdigest()
        return {"lfs": {"sha256": sha256, "size": len(content), "pointerSize": 130}}

    def _mode(self, repo: Repo, file: dict) -> dict:
        large = self.server.lfs and file["path"].endswith(".safetensors")
        content = repo.files.get(file["path"])
        oid = None if content is None else hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
        return {
            "path": file["path"],
            "uploadMode": "lfs" if large else "regular",
            "shouldIgnore": False,
            "oid": oid,
        }

    def _batch(self, wanted: dict) -> None:
        objects = [
            {**one, "actions": {"upload": {"href": f"{self.server.url}/large/{one['oid']}"}}}
            for one in wanted["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": objects})

    def _commit(self, repo_id: str, repo: Repo, branch: str, lines: list[dict]) -> None:
        header, *changes = lines
        head = repo.branches[branch]
        if header["value"].get("parentCommit", head) != head:
            return self._answer(412, {"error": "A commit has happened since. Please refresh and try again."})
        files = dict(repo.commits[head])
        for change in changes:
            value = change["value"]
            if change["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif change["key"] == "lfsFile":
                files[value["path"]] = self.server.large[value["oid"]]
            else:
                del files[value["path"]]
        commit = repo.commit(files, header["value"]["summary"], branch)
        return self._answer(200, {"commitUrl": f"{self.server.url}/{repo_id}/commit/{commit}", "commitOid": commit})

    def _file(self, repo: Repo, revision: str, name: str) -> None:
        commit = repo.resolve(revision)
        content = None if commit is None else repo.commits[commit].get(name)
        if commit is None or content is None:
            return self._answer(404, {"error": "Entry not found"}, code="EntryNotFound")
        self.send_response(200)
        self.send_header("X-Repo-Commit", commit)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        return self._body(content)

    def _answer(self, status: int, value: dict, code: str = "") -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        if code:
            self.send_header("X-Error-Code", code)
        if "error" in value:
            self.send_header("X-Error-Message", value["error"])
        self._body(json.dumps(value).encode())

    def _body(self, content: bytes) -> None:
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
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "HF_OIDC_RESOURCE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    # huggingface_hub reads its environment when it is imported, which conftest made an offline one.
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    template = server.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "no-login"))
    # Not asked for: the storage protocol of its own (Xet), and a list of programs that it would look up and keep.
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_TELEMETRY", True)
    huggingface_hub.close_session()  # one that another test has made knows of a proxy
    yield server
    huggingface_hub.close_session()
    server.shutdown()
    server.server_close()
