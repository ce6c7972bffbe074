"""A stand-in for the Hub's server on the loopback: what its client asks for, and no more.

Repositories are commits (files by name) and branches; files above `LARGE` bytes go through git LFS,
as there. Faults are asked for by method and path.
"""

import base64
import hashlib
import json
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

LARGE = 3000  # bytes
TOKEN = "hf_tokenOfTheTests0123456789"
API = r"/api/(?P<kind>models|datasets)/(?P<name>[^/]+/[^/]+)"


@dataclass
class File:
    data: bytes
    large: bool

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()

    @property
    def blob(self) -> str:
        data = f"pointer {self.sha256}".encode() if self.large else self.data
        return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()

    def entry(self, path: str) -> dict:
        large = {"lfs": {"oid": self.sha256, "size": len(self.data), "pointerSize": 130}}
        entry = {"type": "file", "path": path, "size": len(self.data), "oid": self.blob}
        return entry | (large if self.large else {})


@dataclass
class Repo:
    private: bool
    commits: dict[str, dict[str, File]] = field(default_factory=dict)
    branches: dict[str, str] = field(default_factory=dict)
    titles: list[str] = field(default_factory=list)

    def add(self, branch: str, files: dict[str, File], title: str) -> str:
        sha = hashlib.sha1(f"{len(self.titles)} {title} {branch}".encode()).hexdigest()
        self.commits[sha], self.branches[branch] = files, sha
        self.titles.append(title)
        return sha

    def sha(self, revision: str) -> str | None:
        if revision in self.commits:
            return revision
        return self.branches.get(revision)


@dataclass
class Fault:
    """`status` for requests of this method whose path matches, after `after` others, `times` over;
    or another answer to it: `spoil` the body."""

    method: str
    path: str
    status: int = 0
    after: int = 0
    times: int = 10**6
    spoil: Callable[[bytes], bytes] | None = None


class Hub:
    """The server; `url` is for HF_ENDPOINT. `asked` are its requests: method and path."""

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.large: dict[str, bytes] = {}
        self.faults: list[Fault] = []
        self.asked: list[tuple[str, str]] = []
        self.lock = threading.Lock()
        hub = self

        class Handler(_Handler):
            server_hub = hub

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self) -> "Hub":
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()

    def files(self, repo: str, revision: str = "main") -> dict[str, bytes]:
        """The files of `models/OWNER/NAME`, without git's own."""
        held = self.repos[repo]
        files = held.commits[held.sha(revision) or ""]
        return {path: file.data for path, file in files.items() if path != ".gitattributes"}

    def fault(self, method: str, path: str) -> Fault | None:
        with self.lock:
            for fault in self.faults:
                if fault.method == method and re.search(fault.path, path):
                    if fault.after > 0:
                        fault.after -= 1
                    elif fault.times > 0:
                        fault.times -= 1
                        return fault
        return None


class Refusal(Exception):
    """The status, and the code, of an answer."""


class _Handler(BaseHTTPRequestHandler):
    server_hub: Hub
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def answer(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", headers.get("Content_Length", str(len(body))))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def json(self, content: object, status: int = 200) -> None:
        self.answer(status, json.dumps(content).encode(), Content_Type="application/json")

    def refuse(self, status: int, code: str = "") -> None:
        self.answer(status, b'{"error": "no"}', **({"X_Error_Code": code} if code else {}))

    def handle_any(self) -> None:
        path = unquote(urlsplit(self.path).path)
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        hub = self.server_hub
        with hub.lock:
            hub.asked.append((self.command, path))
        fault = hub.fault(self.command, path)
        if fault and fault.status:
            self.refuse(fault.status)
        else:
            self.spoil = fault.spoil if fault else None
            try:
                self.respond(path, body)
            except Refusal as refusal:
                self.refuse(*refusal.args)

    def respond(self, path: str, body: bytes) -> None:
        for pattern, method, respond in ROUTES:
            if method == self.command and (match := re.fullmatch(pattern, path)):
                values = {name: value for name, value in match.groupdict().items() if value}
                return respond(self, body, **values)
        raise Refusal(404)

    do_GET = do_POST = do_PUT = do_HEAD = handle_any

    @property
    def known(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {TOKEN}"

    def repo(self, kind: str, name: str) -> Repo:
        """The repository. Raises `Refusal` where there is none for whoever asks."""
        repo = self.server_hub.repos.get(f"{kind}/{name}")
        if repo is None or (repo.private and not self.known):
            raise Refusal(404 if self.known else 401, "RepoNotFound")
        return repo

    # what is asked

    def create(self, body: bytes) -> None:
        if not self.known:
            raise Refusal(401)
        asked = json.loads(body)
        name = f"{asked['organization']}/{asked['name']}"
        key = f"{asked.get('type', 'model')}s/{name}"
        prefix = "" if key.startswith("models/") else "datasets/"
        url = f"{self.server_hub.url}/{prefix}{name}"
        if is_new := key not in self.server_hub.repos:
            private = asked.get("private") or asked.get("visibility") == "private"
            repo = self.server_hub.repos[key] = Repo(bool(private))
            repo.add("main", {".gitattributes": File(b"*.zip lfs\n", False)}, "initial commit")
        self.json({"url": url}, 200 if is_new else 409)

    def info(self, body: bytes, kind: str, name: str, revision: str = "main") -> None:
        repo = self.repo(kind, name)
        if (sha := repo.sha(revision)) is None:
            raise Refusal(404, "RevisionNotFound")
        siblings = [{"rfilename": path} for path in repo.commits[sha]]
        content = {"id": name, "sha": sha, "private": repo.private, "siblings": siblings}
        self.json({**content, "_id": "0", "tags": [], "downloads": 0, "likes": 0})

    def branch(self, body: bytes, kind: str, name: str, revision: str) -> None:
        repo = self.repo(kind, name)
        if revision in repo.branches:
            raise Refusal(409)
        repo.branches[revision] = repo.branches["main"]
        self.json({})

    def tree(self, body: bytes, kind: str, name: str, revision: str, folder: str = "") -> None:
        repo = self.repo(kind, name)
        if (sha := repo.sha(revision)) is None:
            raise Refusal(404, "RevisionNotFound")
        prefix = f"{folder}/" if folder else ""
        files = repo.commits[sha]
        inside = {path: file for path, file in files.items() if path.startswith(prefix)}
        every = "recursive=true" in self.path.lower()
        direct = [f.entry(p) for p, f in inside.items() if every or "/" not in p[len(prefix) :]]
        deep = {p[len(prefix) :].split("/")[0] for p in inside if "/" in p[len(prefix) :]}
        folders = [{"type": "directory", "path": prefix + d, "oid": "0" * 40} for d in deep]
        if folder and not inside:
            raise Refusal(404, "EntryNotFound")
        self.json([*([] if every else folders), *direct])

    def paths(self, body: bytes, kind: str, name: str, revision: str) -> None:
        repo = self.repo(kind, name)
        files = repo.commits[repo.sha(revision) or ""]
        asked = self.asked_paths(body)
        self.json([files[path].entry(path) for path in asked if path in files])

    def asked_paths(self, body: bytes) -> list[str]:
        if "json" in (self.headers.get("Content-Type") or ""):
            return json.loads(body)["paths"]
        pairs = [pair.split("=", 1) for pair in body.decode().split("&")]
        return [unquote(value.replace("+", " ")) for key, value in pairs if key == "paths"]

    def preupload(self, body: bytes, kind: str, name: str, revision: str) -> None:
        if not self.known:
            raise Refusal(403)
        self.repo(kind, name)
        files = json.loads(body)["files"]
        mode = {True: "lfs", False: "regular"}
        rows = [
            {"path": f["path"], "uploadMode": mode[f["size"] > LARGE], "shouldIgnore": False}
            for f in files
        ]
        self.json({"files": rows})

    def batch(self, body: bytes, name: str, kind: str | None = None) -> None:
        objects = []
        for entry in json.loads(body)["objects"]:
            href = f"{self.server_hub.url}/lfs/{entry['oid']}"
            there = entry["oid"] in self.server_hub.large
            objects.append(entry | ({} if there else {"actions": {"upload": {"href": href}}}))
        self.json({"transfer": "basic", "objects": objects})

    def put(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            raise Refusal(422)
        self.server_hub.large[oid] = body
        self.answer(200)

    def commit(self, body: bytes, kind: str, name: str, revision: str) -> None:
        repo, large = self.repo(kind, name), self.server_hub.large
        head = repo.branches[revision]
        files = dict(repo.commits[head])
        lines = [json.loads(line) for line in body.splitlines()]
        header = lines[0]["value"]
        if header.get("parentCommit", head) != head:
            raise Refusal(412)
        for line in lines[1:]:
            value = line["value"]
            if line["key"] == "file":
                files[value["path"]] = File(base64.b64decode(value["content"]), False)
            elif line["key"] == "lfsFile":
                files[value["path"]] = File(large[value["oid"]], True)
            else:
                del files[value["path"]]
        sha = repo.add(revision, files, header["summary"])
        self.json({"commitUrl": f"{self.server_hub.url}/{name}/commit/{sha}", "commitOid": sha})

    def resolve(
        self, body: bytes, name: str, revision: str, path: str, kind: str | None = None
    ) -> None:
        repo = self.repo("datasets" if kind else "models", name)
        sha = repo.sha(revision)
        file = repo.commits.get(sha or "", {}).get(path)
        if file is None:
            raise Refusal(404, "EntryNotFound" if sha else "RevisionNotFound")
        tag = file.sha256 if file.large else file.blob
        data = self.spoil(file.data) if self.spoil else file.data
        heads = {"ETag": f'"{tag}"', "X_Repo_Commit": sha or "", "Accept_Ranges": "bytes"}
        if self.command == "HEAD":
            self.answer(200, Content_Length=str(len(file.data)), **heads)
        elif asked := self.headers.get("Range"):
            start, _, stop = asked.removeprefix("bytes=").partition("-")
            end = int(stop) if stop else len(data) - 1
            piece = data[int(start) : end + 1]
            span = f"bytes {start}-{int(start) + len(piece) - 1}/{len(data)}"
            self.answer(206, piece, Content_Range=span, **heads)
        else:
            self.answer(200, data, **heads)

    def fine(self, body: bytes) -> None:
        self.json({"errors": [], "warnings": []})


REVISION = r"(?P<revision>[^/]+)"
NAME = r"(?:(?P<kind>datasets)/)?(?P<name>[^/]+/[^/]+?)"
ROUTES = [
    (r"/api/repos/create", "POST", _Handler.create),
    (r"/api/validate-yaml", "POST", _Handler.fine),
    (API, "GET", _Handler.info),
    (rf"{API}/revision/{REVISION}", "GET", _Handler.info),
    (rf"{API}/branch/{REVISION}", "POST", _Handler.branch),
    (rf"{API}/tree/{REVISION}(?:/(?P<folder>.*))?", "GET", _Handler.tree),
    (rf"{API}/paths-info/{REVISION}", "POST", _Handler.paths),
    (rf"{API}/preupload/{REVISION}", "POST", _Handler.preupload),
    (rf"{API}/commit/{REVISION}", "POST", _Handler.commit),
    (rf"/{NAME}\.git/info/lfs/objects/batch", "POST", _Handler.batch),
    (r"/lfs/(?P<oid>[0-9a-f]{64})", "PUT", _Handler.put),
    (rf"/{NAME}/resolve/{REVISION}/(?P<path>.+)", "GET", _Handler.resolve),
    (rf"/{NAME}/resolve/{REVISION}/(?P<path>.+)", "HEAD", _Handler.resolve),
]
