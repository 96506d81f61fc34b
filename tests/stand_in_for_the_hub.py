"""A server that answers as the Hugging Face hub does, over HTTP, as far as its client asks: repositories in memory."""

import base64
import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

TOKEN = "hf_a_token_that_the_stand_in_knows"
Files = dict[str, bytes]


@dataclass
class Repository:
    """One repository.

    Attributes:
        commits: commit → its files, in order.
        branches: name → commit.
        gated, private: who may read it: with the token alone.
        card: what the hub knows of its card.
    """

    commits: dict[str, Files] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    gated: bool = False
    private: bool = False
    card: dict[str, Any] = field(default_factory=dict)

    def commit(self, changed: Files, branch: str = "main") -> str:
        files = {**self.commits.get(self.branches.get(branch, ""), {}), **changed}
        total = hashlib.sha1(f"{branch} {len(self.commits)}".encode())
        for name, content in sorted(files.items()):
            total.update(name.encode() + content)
        self.commits[total.hexdigest()] = files
        self.branches[branch] = total.hexdigest()
        return total.hexdigest()


@dataclass
class Hub:
    """The state of the server, for tests to set and to look at.

    Attributes:
        endpoint: its address.
        repositories: by name.
        asked: the requests, `METHOD path`, in order.
        broken: part of a path → the status with which all requests for it are answered.
    """

    endpoint: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    broken: dict[str, int] = field(default_factory=dict)
    objects: Files = field(default_factory=dict)

    def put(self, name: str, files: Files, **settings: Any) -> str:
        """A repository with files; its commit."""
        repository = self.repositories.setdefault(name, Repository())
        for key, value in settings.items():
            setattr(repository, key, value)
        return repository.commit(files)

    def files(self, name: str, branch: str = "main") -> Files:
        repository = self.repositories[name]
        return repository.commits[repository.branches[branch]]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *args: Any) -> None:
        pass

    def _answer(self, status: int, content: Any = b"", **headers: str) -> None:
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if not isinstance(content, bytes):
            self.send_header("Content-Type", "application/json")
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _refuse(self, status: int, code: str = "", message: str = "") -> None:
        headers = {"X_Error_Code": code} if code else {}
        headers |= {"X_Error_Message": message} if message else {}
        self._answer(status, {"error": message or code or "refused"}, **headers)

    @property
    def _known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def _handle(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        self.body = self.rfile.read(length)
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append(f"{self.command} {path}")
        for part, status in self.hub.broken.items():
            if part in path:
                return self._refuse(status, message="as the test wants it")
        if "Authorization" in self.headers and not self._known and "/objects/" not in path:
            return self._refuse(401, message="Invalid credentials in Authorization header")
        if path.startswith("/api/"):
            return self._api(path.removeprefix("/api/"))
        if path.endswith(".git/info/lfs/objects/batch"):
            return self._batch()
        if path.startswith("/objects/"):
            self.hub.objects[path.rpartition("/")[2]] = self.body
            return self._answer(200)
        name, _, rest = path.strip("/").partition("/resolve/")
        return self._resolve(name, rest)

    do_GET = do_HEAD = do_POST = do_PUT = _handle  # noqa: N815

    def _repository(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(name)
        if repository is None or (repository.private and not self._known):
            self._refuse(401 if not self._known else 404, "RepoNotFound", "Repository not found")
            return None
        return repository

    def _commit(self, repository: Repository, revision: str) -> str | None:
        commit = repository.branches.get(revision, revision)
        if commit not in repository.commits:
            self._refuse(404, "RevisionNotFound", f"Invalid rev id: {revision}")
            return None
        return commit

    def _resolve(self, name: str, rest: str) -> None:
        if (repository := self._repository(name)) is None:
            return None
        revision, _, file = rest.partition("/")
        if (commit := self._commit(repository, revision)) is None:
            return None
        if repository.gated and not self._known:
            return self._refuse(403, "GatedRepo", "Access is restricted")
        content = repository.commits[commit].get(file)
        if content is None:
            return self._answer(404, b"", X_Error_Code="EntryNotFound", X_Repo_Commit=commit)
        more = {"Content_Length": str(len(content))} if self.command == "HEAD" else {}
        return self._answer(200, content, ETag=f'"{hashlib.sha256(content).hexdigest()}"', X_Repo_Commit=commit, **more)

    def _api(self, path: str) -> None:
        if path == "repos/create":
            return self._create()
        if path == "validate-yaml":
            return self._answer(200, {"errors": [], "warnings": []})
        kind, user, repository_name, *rest = [*path.split("/"), "", ""]
        rest = [part for part in rest if part]
        name = f"{user}/{repository_name}"
        if kind != "models":
            return self._refuse(404, message=f"{path} is nothing that the stand-in knows")
        if (repository := self._repository(name)) is None:
            return None
        if rest[:1] in (["preupload"], ["commit"], ["branch"]) and not self._known:
            return self._refuse(401, message="Invalid username or password.")
        if rest[:1] == ["preupload"]:
            return self._preupload(repository, "/".join(rest[1:]))
        if rest[:1] == ["commit"]:
            return self._receive(repository, name, "/".join(rest[1:]))
        if rest[:1] == ["branch"]:
            return self._branch(repository, "/".join(rest[1:]))
        return self._info(repository, name, rest)

    def _info(self, repository: Repository, name: str, rest: list[str]) -> None:
        revision = "/".join(rest[1:]) if rest else "main"
        if rest[:1] == ["tree"]:
            revision = rest[1]
        if not repository.commits and revision == "main":
            return self._answer(200, {"id": name, "sha": None, "siblings": [], "private": repository.private})
        if (commit := self._commit(repository, revision)) is None:
            return None
        files = repository.commits[commit]
        if rest[:1] == ["tree"]:
            entries = [
                {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
                for path, content in files.items()
            ]
            return self._answer(200, entries)
        about = {"id": name, "sha": commit, "private": repository.private, "cardData": repository.card}
        return self._answer(200, about | {"siblings": [{"rfilename": path} for path in files]})

    def _create(self) -> None:
        if not self._known:
            return self._refuse(401, message="Invalid username or password.")
        given = json.loads(self.body)
        name = f"{given['organization']}/{given['name']}"
        if name in self.hub.repositories:
            return self._answer(
                409, {"error": "You already created this model repo", "url": f"{self.hub.endpoint}/{name}"}
            )
        if given["organization"] != "me":
            return self._refuse(
                403, message=f"You don't have the rights to create a model under {given['organization']}"
            )
        is_private = bool(given.get("private")) or given.get("visibility") == "private"
        self.hub.repositories[name] = Repository(private=is_private)
        self.hub.repositories[name].commit({".gitattributes": b""})
        return self._answer(200, {"url": f"{self.hub.endpoint}/{name}", "id": name})

    def _branch(self, repository: Repository, branch: str) -> None:
        if branch in repository.branches:
            return self._answer(409, {"error": "Reference already exists"})
        repository.branches[branch] = repository.branches["main"]
        return self._answer(200, {})

    def _preupload(self, repository: Repository, revision: str) -> None:
        if self._commit(repository, revision) is None:
            return None
        files = json.loads(self.body)["files"]
        return self._answer(
            200,
            {
                "files": [
                    {
                        "path": file["path"],
                        "uploadMode": "lfs" if file["path"].endswith(".safetensors") else "regular",
                        "shouldIgnore": False,
                    }
                    for file in files
                ]
            },
        )

    def _batch(self) -> None:
        objects = json.loads(self.body)["objects"]
        answer = [
            one | {"actions": {"upload": {"href": f"{self.hub.endpoint}/objects/{one['oid']}"}}} for one in objects
        ]
        return self._answer(200, {"transfer": "basic", "objects": answer})

    def _receive(self, repository: Repository, name: str, revision: str) -> None:
        if self._commit(repository, revision) is None:
            return None
        files: Files = {}
        for line in map(json.loads, self.body.decode().splitlines()):
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                content = self.hub.objects[value["oid"]]
                assert hashlib.sha256(content).hexdigest() == value["oid"]
                files[value["path"]] = content
        commit = repository.commit(files, revision)
        return self._answer(200, {"commitOid": commit, "commitUrl": f"{self.hub.endpoint}/{name}/commit/{commit}"})


@contextmanager
def running() -> Iterator[Hub]:
    """The server in a thread, for as long as this context lasts."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    hub.endpoint = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
