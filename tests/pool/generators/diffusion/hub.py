"""A local model hub: a server that responds to the requests of the package huggingface_hub."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

REVISION = "a" * 40


@contextmanager
def serve_repositories(
    repositories: dict[str, Path], gated: tuple[str, ...] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Run a server of repositories within the context.

    Args:
        repositories: the folder of each repository ``owner/name``. The only revision is
            :data:`REVISION`.
        gated: repositories whose files are refused.

    Yields:
        The address of the server, and the list of the files that it has sent.
    """
    server = _Hub(repositories, gated)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", server.sent
    server.shutdown()
    server.server_close()


class _Hub(ThreadingHTTPServer):
    def __init__(self, repositories: dict[str, Path], gated: tuple[str, ...]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories, self.gated = repositories, gated
        self.sent: list[str] = []


class _Handler(BaseHTTPRequestHandler):
    server: _Hub

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        parts = self.path.split("?")[0].strip("/").split("/")
        is_api = parts[:2] == ["api", "models"]
        owner, name, kind, revision, *path_parts = (parts[2:] if is_api else parts) + [""] * 4
        repository, path = f"{owner}/{name}", "/".join(filter(None, path_parts))
        folder = self.server.repositories.get(repository)
        if folder is None:
            return self._send_error_code(401, "RepoNotFound")
        if revision != REVISION:
            return self._send_error_code(404, "RevisionNotFound")
        if is_api:
            return self._send_listing(folder, repository, kind)
        if repository in self.server.gated:
            return self._send_error_code(403, "GatedRepo")
        if not (folder / path).is_file():
            return self._send_error_code(404, "EntryNotFound")
        if self.command == "GET":
            self.server.sent.append(f"{repository}/{path}")
        return self._send((folder / path).read_bytes())

    def _send_listing(self, folder: Path, repository: str, kind: str) -> None:
        files = [p for p in sorted(folder.rglob("*")) if p.is_file()]
        names = [p.relative_to(folder).as_posix() for p in files]
        tree = [
            {"type": "file", "path": n, "size": f.stat().st_size, "oid": f.name}
            for n, f in zip(names, files, strict=True)
        ]
        info = {
            "id": repository,
            "modelId": repository,
            "sha": REVISION,
            "siblings": [{"rfilename": n} for n in names],
            "tags": [],
        }
        self._send(json.dumps(tree if kind == "tree" else info).encode())

    def _send(self, data: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(data)))
        self.send_header("ETag", f'"{hashlib.sha256(data).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISION)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def _send_error_code(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()
