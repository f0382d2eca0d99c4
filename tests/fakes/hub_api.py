"""A hub on loopback as huggingface_hub asks it: what a repository has, and its files with their ranges and tags.

In threads, since a transfer blocks. It can break connections off in the middle of a file, and forget what ranges are.
"""

import hashlib
import json
import re
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Event, Thread
from typing import Any

COMMIT = "c0ffee" * 6 + "c0de"


@dataclass
class FakeHub:
    """What it has, what it was asked, and how the next transfers go."""

    #: By repository, then by the file's path.
    repositories: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    #: Each is the number of bytes after which one transfer breaks off.
    cuts: deque[int] = field(default_factory=deque)
    #: Each is the number of bytes after which one transfer waits until its client leaves, or the hub does.
    stalls: deque[int] = field(default_factory=deque)
    knows_ranges: bool = True
    #: Statuses that the next requests get instead of an answer; 0: this one is answered.
    refusals: deque[int] = field(default_factory=deque)
    #: What is sent in place of a file's bytes.
    damage: bytes | None = None
    #: What is sent behind a file's bytes, and was not announced.
    surplus: bytes = b""
    #: Method, path, and the Range header of each request.
    requests: list[tuple[str, str, str | None]] = field(default_factory=list)
    tokens: set[str | None] = field(default_factory=set)
    url: str = ""
    #: Set when the hub closes.
    closing: Event = field(default_factory=Event)

    @property
    def transfers(self) -> list[str | None]:
        """The Range header of each request for a file's bytes."""
        return [wanted for method, path, wanted in self.requests if method == "GET" and "/resolve/" in path]


@contextmanager
def fake_hub(**repositories: dict[str, bytes]) -> Iterator[FakeHub]:
    """A running hub with these repositories of `owner`."""
    hub = FakeHub({f"owner/{name.replace('_', '-')}": files for name, files in repositories.items()})
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": hub}))
    server.daemon_threads = True
    hub.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield hub
    finally:
        hub.closing.set()
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    hub: FakeHub
    protocol_version = "HTTP/1.1"

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        self.hub.requests.append((self.command, self.path, self.headers["range"]))
        self.hub.tokens.add(self.headers["authorization"])
        path = self.path.partition("?")[0]
        if self.hub.refusals and (status := self.hub.refusals.popleft()):
            self._fail(status, "")
        elif found := re.fullmatch(r"/api/models/([^/]+/[^/]+)(/tree/.+)?", path):
            self._describe(found[1], is_tree=found[2] is not None)
        elif found := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
            self._send_file(found[1], found[2])
        else:
            self._fail(404, "")

    def _describe(self, repository: str, *, is_tree: bool) -> None:
        files = self.hub.repositories.get(repository)
        if files is None:
            self._fail(401, "RepoNotFound")
            return
        entries = [
            {"type": "file", "oid": hashlib.sha1(content).hexdigest(), "size": len(content), "path": path}
            for path, content in files.items()
        ]
        siblings = [{"rfilename": path} for path in files]
        self._json(entries if is_tree else {"id": repository, "sha": COMMIT, "siblings": siblings})

    def _send_file(self, repository: str, path: str) -> None:
        content = self.hub.repositories.get(repository, {}).get(path)
        if repository in self.hub.gated or content is None:
            self._fail(*((404, "EntryNotFound") if content is None else (403, "GatedRepo")))
            return
        tag = hashlib.sha256(content).hexdigest()
        if self.hub.damage is not None:
            content = self.hub.damage
        if self.command == "GET":
            content += self.hub.surplus
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers["range"] or "")
        start = int(wanted[1]) if wanted and self.hub.knows_ranges else 0
        self.send_response(206 if wanted and self.hub.knows_ranges else 200)
        if wanted and self.hub.knows_ranges:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", f'"{tag}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.hub.stalls:
            self.wfile.write(content[start : start + self.hub.stalls.popleft()])
            self.hub.closing.wait(60)
            return
        cut = self.hub.cuts.popleft() if self.hub.cuts else None
        self.wfile.write(content[start:] if cut is None else content[start : start + cut])
        if cut is not None:
            self.close_connection = True

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _fail(self, status: int, code: str) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def end_headers(self) -> None:
        # Else a client's pool could go on asking a hub that is no longer there.
        self.send_header("Connection", "close")
        super().end_headers()

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name is http.server's
        """Keep the test's output clean."""
