"""A machine without weights; ways to put some there; a server that hands out one file."""

import hashlib
import http.server
import os
import threading
import urllib.request
from pathlib import Path

import pytest
import torch
from huggingface_hub import constants

from neurorecon import hub
from neurorecon.hub import catalog

CONTENT = bytes(range(256)) * 4000


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    """A machine without any weights."""
    monkeypatch.delenv("NEURORECON_WEIGHTS", raising=False)
    monkeypatch.setattr(constants, "HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "home" / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(catalog, "BUNDLED", tmp_path / "bundled")
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    # urllib keeps the proxies of its first request for the life of the process.
    monkeypatch.setattr(urllib.request, "_opener", None)


@pytest.fixture
def tensors():
    return {"a": torch.arange(6, dtype=torch.float32).reshape(2, 3), "b": torch.ones(4)}


@pytest.fixture
def add(monkeypatch):
    """Add weights, or a data set, to the catalog for one test."""

    def adding(kind="weights", **facts):
        defaults = {"name": "tiny", "title": "tiny", "role": "tiny", "license": "MIT", "citation": "a test"}
        item = hub.Item(kind=kind, **(defaults | facts))
        monkeypatch.setitem(catalog.read_table(kind), item.name, item)
        return item

    return adding


@pytest.fixture
def put():
    return _put


@pytest.fixture
def cache():
    return _cache


def _put(folder: Path, weights: hub.Item, content: bytes = b"something") -> Path:
    """Write all files of a set of weights."""
    for file in weights.files:
        (folder / file.path).parent.mkdir(parents=True, exist_ok=True)
        (folder / file.path).write_bytes(b"{}" if file.path.endswith(".json") else content)
    return folder


def _cache(root: Path, repository: str, commit: str, files: dict[str, bytes], main: bool = True) -> Path:
    """Lay files out as huggingface_hub keeps them; return the snapshot."""
    top = root / f"models--{repository.replace('/', '--')}"
    snapshot = top / "snapshots" / commit
    (top / "blobs").mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        blob = top / "blobs" / hashlib.sha256(content).hexdigest()
        blob.write_bytes(content)
        (snapshot / name).parent.mkdir(parents=True, exist_ok=True)
        (snapshot / name).symlink_to(os.path.relpath(blob, (snapshot / name).parent))
    if main:
        (top / "refs").mkdir(exist_ok=True)
        (top / "refs" / "main").write_text(commit)
    return snapshot


class Server(http.server.ThreadingHTTPServer):
    """Serves one file; can be told to break off, to ignore ranges, or to change the file."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.tag, self.ranges = CONTENT, '"first"', True
        self.break_after: int | None = None
        self.breaks = 0
        self.when_broken = lambda: None
        self.stall = threading.Event()
        self.asked: list[tuple[str, str | None]] = []

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass

    def do_HEAD(self):
        self._answer(body=False)

    def do_GET(self):
        self._answer(body=True)

    def _answer(self, body):
        server, wanted = self.server, self.headers.get("Range")
        server.asked.append((self.command, wanted))
        if not self.path.endswith("weights.th"):
            self.send_error(404, "Not Found")
            return
        start = 0
        if wanted and server.ranges and self.headers.get("If-Range") == server.tag:
            start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        rest = server.content[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", server.tag)
        self.end_headers()
        if not body:
            return
        if server.breaks > 0:
            server.breaks -= 1
            self.wfile.write(rest[: server.break_after])
            self.wfile.flush()
            server.stall.wait(20)
            server.when_broken()
            self.close_connection = True
            return
        self.wfile.write(rest)


@pytest.fixture
def server():
    with Server() as running:
        running.stall.set()
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield running
        running.stall.set()
        running.shutdown()
        thread.join()
