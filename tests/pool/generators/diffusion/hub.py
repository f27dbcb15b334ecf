"""A model hub on this machine: it answers huggingface_hub's requests as the real one does, errors
included.
"""

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
def hub_of(
    repositories: dict[str, Path], gated: tuple[str, ...] = ()
) -> Iterator[tuple[str, list[str]]]:
    """Serves folders as ``owner/name`` at the one revision; yields the address and the paths of the
    files that were sent.
    """
    sent: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(repositories, gated, sent))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", sent
    server.shutdown()
    server.server_close()


def _handler(
    repositories: dict[str, Path], gated: tuple[str, ...], sent: list[str]
) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            """Says nothing."""

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            parts = self.path.split("?")[0].strip("/").split("/")
            api = parts[:2] == ["api", "models"]
            owner, name, kind, revision, *rest = (parts[2:] if api else parts) + [""] * 4
            repository, path = f"{owner}/{name}", "/".join(filter(None, rest))
            if repository not in repositories:
                return self._refuse(401, "RepoNotFound")
            if revision != REVISION:
                return self._refuse(404, "RevisionNotFound")
            if api:
                return self._api(repositories[repository], repository, kind)
            if repository in gated:
                return self._refuse(403, "GatedRepo")
            if not (repositories[repository] / path).is_file():
                return self._refuse(404, "EntryNotFound")
            if self.command == "GET":
                sent.append(f"{repository}/{path}")
            return self._send((repositories[repository] / path).read_bytes())

        def _api(self, folder: Path, repository: str, kind: str) -> None:
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

        def _refuse(self, status: int, code: str) -> None:
            self.send_response(status)
            self.send_header("X-Error-Code", code)
            self.send_header("Content-Length", "0")
            self.end_headers()

    return Handler
