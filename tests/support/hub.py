"""A stand-in of the Hugging Face hub's API on the loopback: repositories, commits, LFS, downloads.

What ``huggingface_hub`` asks for when it pushes and pulls a model, and no more. Repositories are
private or not; a wrong or missing token gets what the real hub says (401 and ``RepoNotFound``).
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit


@dataclass
class Repo:
    private: bool
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # sha -> files
    refs: dict[str, str] = field(default_factory=dict)  # branch or tag -> sha

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        seed = f"{branch} {len(self.commits)} {sorted(files)}".encode()
        sha = hashlib.sha1(seed).hexdigest()
        self.commits[sha], self.refs[branch] = files, sha
        return sha

    def find(self, revision: str) -> str | None:
        return self.refs.get(revision, revision if revision in self.commits else None)


class Hub:
    """The server; ``url`` is its HF_ENDPOINT, ``token`` the only one it takes."""

    def __init__(self, token: str) -> None:
        self.token = token
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}  # LFS: sha256 -> content
        self.asked: list[str] = []
        hub = self

        class Handler(_Handler):
            pass

        Handler.hub = hub
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, status: int, body: Any = b"", headers: dict[str, str] | None = None) -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _fault(self, status: int, code: str, text: str) -> None:
        self._answer(status, {"error": text}, {"X-Error-Code": code, "X-Error-Message": text})

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self._chunks() if not length else self.rfile.read(length)
        self.path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {self.path}")
        self.known = self.headers.get("Authorization") == f"Bearer {self.hub.token}"
        parts = self.path.strip("/").split("/")
        if self.path == "/api/repos/create":
            self._create()
        elif self.path == "/api/validate-yaml":
            self._answer(200, {"errors": [], "warnings": []})
        elif parts[0] == "upload":
            self.hub.large[parts[1]] = self.body
            self._answer(200)
        elif parts[:2] == ["api", "models"]:
            self._model("/".join(parts[2:4]), parts[4:])
        elif ".git/info/lfs" in self.path:
            self._batch()
        elif len(parts) > 4 and parts[2] == "resolve":
            self._download("/".join(parts[:2]), parts[3], "/".join(parts[4:]))
        else:
            self._fault(404, "EntryNotFound", f"nothing at {self.path}")

    do_GET = do_POST = do_PUT = do_HEAD = _handle  # noqa: N815

    def _chunks(self) -> bytes:
        if self.headers.get("Transfer-Encoding") != "chunked":
            return b""
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _repo(self, name: str) -> Repo | None:
        repo = self.hub.repos.get(name)
        if repo is None or (repo.private and not self.known):
            self._fault(401, "RepoNotFound", "Repository not found")
            return None
        return repo

    def _create(self) -> None:
        asked = json.loads(self.body)
        name = "/".join(filter(None, [asked.get("organization"), asked["name"]]))
        if not self.known:
            sent = self.headers.get("Authorization", "")  # a rude hub: says the token back
            self._fault(401, "Unauthorized", f"Invalid username or password ({sent})")
        elif name in self.hub.repos:
            self._answer(409, {"error": "exists", "url": f"{self.hub.url}/{name}"})
        else:
            repo = self.hub.repos[name] = Repo(
                asked.get("visibility") == "private" or bool(asked.get("private"))
            )
            repo.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
            self._answer(200, {"url": f"{self.hub.url}/{name}", "name": name})

    def _model(self, name: str, what: list[str]) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        if what and what[0] == "branch":
            repo.refs.setdefault(what[1], repo.refs["main"])
            self._answer(200, {})
            return
        revision = what[1] if len(what) > 1 else "main"
        sha = repo.find(revision)
        if sha is None:
            self._fault(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return
        files = repo.commits[sha]
        kind = what[0] if what else "revision"
        if kind == "revision":
            names = [{"rfilename": path} for path in files]
            self._answer(200, {"id": name, "sha": sha, "siblings": names, "private": repo.private})
        elif kind == "tree":
            self._answer(200, [_entry(path, data) for path, data in files.items()])
        elif kind == "preupload":
            rows = [
                {
                    "path": f["path"],
                    "uploadMode": "lfs" if f["path"].endswith(".safetensors") else "regular",
                    "shouldIgnore": False,
                }
                for f in json.loads(self.body)["files"]
            ]
            self._answer(200, {"files": rows})
        elif kind == "commit":
            self._commit(repo, name, revision, dict(files))

    def _commit(self, repo: Repo, name: str, branch: str, files: dict[str, bytes]) -> None:
        for line in self.body.splitlines():
            row = json.loads(line)
            value = row["value"]
            if row["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif row["key"] == "lfsFile":
                files[value["path"]] = self.hub.large[value["oid"]]
            elif row["key"] == "deletedFile":
                del files[value["path"]]
        sha = repo.commit(branch, files)
        url = f"{self.hub.url}/{name}/commit/{sha}"
        self._answer(200, {"success": True, "commitOid": sha, "commitUrl": url})

    def _batch(self) -> None:
        rows = [
            row | {"actions": {"upload": {"href": f"{self.hub.url}/upload/{row['oid']}"}}}
            for row in json.loads(self.body)["objects"]
        ]
        self._answer(200, {"transfer": "basic", "objects": rows})

    def _download(self, name: str, revision: str, path: str) -> None:
        repo = self._repo(name)
        if repo is None:
            return
        sha = repo.find(revision)
        if sha is None or path not in repo.commits[sha]:
            self._fault(404, "EntryNotFound", f"no {path}")
            return
        data = repo.commits[sha][path]
        marks = {"ETag": f'"{_blob(data)}"', "X-Repo-Commit": sha}
        self._answer(200, data, marks)


def _blob(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def _entry(path: str, data: bytes) -> dict[str, Any]:
    return {"type": "file", "path": path, "size": len(data), "oid": _blob(data)}
