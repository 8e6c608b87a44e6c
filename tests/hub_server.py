"""A hub on this machine for the tests: it speaks the paths that huggingface_hub uses, and counts.

Small files come from the hub's own address, weights by a redirect to a second port, as from a CDN.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import socket
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

BLOCK = 1 << 20
LARGE = (".safetensors", ".gguf", ".bin", ".pt", ".pth")


class Content(Protocol):
    """The bytes of a file: any object with a length, of which slices can be taken."""

    def __len__(self) -> int: ...

    def __getitem__(self, part: slice, /) -> Any: ...


@dataclass
class Repository:
    """A repository at one commit.

    Attributes:
        files: Contents by name.
        branches: Names that stand for the commit.
        token: What a request must bring; None if it need not.
        gated: Whether its terms have to be accepted before files are sent, token or not.
        sizes: Whether the listing says how large files are.
    """

    files: Mapping[str, Content]
    branches: tuple[str, ...] = ("main",)
    token: str | None = None
    gated: bool = False
    sizes: bool = True
    commit: str = ""

    def __post_init__(self) -> None:
        listing = repr([(name, len(content)) for name, content in self.files.items()])
        self.commit = self.commit or hashlib.sha1(listing.encode()).hexdigest()  # noqa: S324


@dataclass(frozen=True)
class Fault:
    """What goes wrong with one answer.

    Attributes:
        drop_after: The connection closes after so many bytes of the body.
        status: Sent in place of the answer.
        headers: Sent with the status, or in place of the answer's own of these names.
        whole: The whole file is sent with status 200, whatever range was asked for.
        garbage: Sent in place of the body.
    """

    drop_after: int | None = None
    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False
    garbage: bytes | None = None


@dataclass(frozen=True)
class Request:
    """A request that came in."""

    method: str
    path: str
    range: str | None
    authorization: str | None


@dataclass
class Hub:
    """A running hub.

    Attributes:
        url: Its address.
        repositories: By ``owner/name``.
        requests: All that came, in order.
        sent: Bytes of bodies that went out.
        sent_of: The same by the name of the file; ``api`` for what the API says.
        faults: For paths that a pattern is found in, what goes wrong with answers to come.
    """

    url: str = ""
    cdn: str = ""
    repositories: dict[str, Repository] = field(default_factory=dict)
    requests: list[Request] = field(default_factory=list)
    sent: int = 0
    sent_of: dict[str, int] = field(default_factory=dict)
    faults: list[tuple[str, deque[Fault]]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def fail(self, pattern: str, *faults: Fault) -> None:
        """Let the next answers to paths in which a pattern is found go wrong, in that order."""
        self.faults.append((pattern, deque(faults)))

    def forget(self) -> None:
        """Count from zero again."""
        with self.lock:
            self.requests.clear()
            self.sent_of.clear()
            self.sent = 0

    def fault(self, path: str) -> Fault:
        with self.lock:
            for pattern, faults in self.faults:
                if faults and re.search(pattern, path):
                    return faults.popleft()
        return Fault()

    def count(self, name: str, n_bytes: int) -> None:
        with self.lock:
            self.sent += n_bytes
            self.sent_of[name] = self.sent_of.get(name, 0) + n_bytes

    def paths(self) -> list[str]:
        """The paths of all requests."""
        return [request.path for request in self.requests]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    hub: Hub

    def log_message(self, *_: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self.answer()

    def do_GET(self) -> None:
        self.answer()

    def answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        asked = self.headers.get("Range")
        with self.hub.lock:
            self.hub.requests.append(
                Request(self.command, path, asked, self.headers.get("Authorization"))
            )
        fault = self.hub.fault(path)
        if fault.status is not None or fault.garbage is not None:
            self.say(fault.status or 200, fault.garbage or b"", fault.headers, "faults")
        elif path.startswith("/cdn/"):
            self.from_cdn(path, fault)
        elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/(.+))?", path):
            self.info(match[1], match[2])
        elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
            self.resolve(match[1], match[2], match[3], fault)
        else:
            self.refuse(404, "")

    # --- who may see what ---

    def found(self, name: str, revision: str | None, *, listing: bool = False) -> Repository | None:
        """The repository, unless it is to be refused, which is done."""
        repository = self.hub.repositories.get(name)
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        if repository is None or (repository.token is not None and repository.token != token):
            self.refuse(404 if token else 401, "RepoNotFound")
        elif repository.gated and not listing:
            self.refuse(403 if token else 401, "GatedRepo")
        elif revision not in (None, repository.commit, *repository.branches):
            self.refuse(404, "RevisionNotFound")
        else:
            return repository
        return None

    def refuse(self, status: int, code: str) -> None:
        headers = {"X-Error-Code": code} if code else {}
        self.say(status, json.dumps({"error": "no"}).encode(), headers, "refusals")

    # --- the hub ---

    def info(self, name: str, revision: str | None) -> None:
        repository = self.found(name, revision, listing=True)
        if repository is None:
            return
        files = [
            {"rfilename": file, "blobId": "0" * 40}
            | ({"size": len(content)} if repository.sizes else {})
            for file, content in repository.files.items()
        ]
        facts = {"_id": "0", "id": name, "sha": repository.commit, "siblings": files}
        self.say(200, json.dumps(facts).encode(), {"Content-Type": "application/json"}, "api")

    def resolve(self, name: str, revision: str, file: str, fault: Fault) -> None:
        repository = self.found(name, revision)
        if repository is None:
            return
        if file not in repository.files:
            self.refuse(404, "EntryNotFound")
        elif file.endswith(LARGE):
            headers = {
                "Location": f"{self.hub.cdn}/cdn/{name}/{file}?signature=1",
                "X-Repo-Commit": repository.commit,
                "X-Linked-Size": str(len(repository.files[file])),
                "X-Linked-Etag": '"etag"',
            }
            self.say(302, b"", headers, file)
        else:
            self.send_part(file, repository.files[file], fault)

    # --- where the bytes are ---

    def from_cdn(self, path: str, fault: Fault) -> None:
        owner, name, file = path.removeprefix("/cdn/").split("/", 2)
        self.send_part(file, self.hub.repositories[f"{owner}/{name}"].files[file], fault)

    def send_part(self, file: str, content: Content, fault: Fault) -> None:
        size = len(content)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if asked is None or fault.whole:
            self.begin(200, size, {"Accept-Ranges": "none" if fault.whole else "bytes"}, fault)
            return self.send_body(file, content, 0, size, fault)
        first = int(asked[1])
        stop = min(int(asked[2]) + 1 if asked[2] else size, size)
        if first >= size:
            return self.say(416, b"", {"Content-Range": f"bytes */{size}"}, file)
        stated = {"Content-Range": f"bytes {first}-{stop - 1}/{size}", "Accept-Ranges": "bytes"}
        self.begin(206, stop - first, stated, fault)
        return self.send_body(file, content, first, stop, fault)

    def begin(self, status: int, length: int, headers: Mapping[str, str], fault: Fault) -> None:
        self.send_response(status)
        stated = {"Content-Length": str(length), "ETag": '"etag"', **headers, **fault.headers}
        for key, value in stated.items():
            self.send_header(key, value)
        self.end_headers()

    def send_body(self, file: str, content: Content, first: int, stop: int, fault: Fault) -> None:
        if self.command == "HEAD":
            return
        end = stop if fault.drop_after is None else min(stop, first + fault.drop_after)
        try:
            for at in range(first, end, BLOCK):
                block = memoryview(content[at : min(at + BLOCK, end)])
                self.hub.count(file, len(block))  # first: who receives it may ask at once
                self.wfile.write(block)
        except OSError:  # whoever asked has gone
            self.close_connection = True
        if end < stop:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

    def say(self, status: int, body: bytes, headers: Mapping[str, str], name: str) -> None:
        self.send_response(status)
        for key, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(key, value)
        self.end_headers()
        if self.command != "HEAD":
            self.hub.count(name, len(body))
            self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A connection that breaks is part of the tests."""


@contextlib.contextmanager
def running_hub(repositories: Mapping[str, Repository] | None = None) -> Iterator[Hub]:
    """A hub on two free ports of this machine, for as long as the context lasts."""
    hub = Hub(repositories=dict(repositories or {}))
    handler = type("Handler", (_Handler,), {"hub": hub})
    servers = [_Server(("127.0.0.1", 0), handler) for _ in range(2)]
    hub.url, hub.cdn = (f"http://127.0.0.1:{server.server_address[1]}" for server in servers)
    threads = [
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        for server in servers
    ]
    for thread in threads:
        thread.start()
    try:
        yield hub
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()
