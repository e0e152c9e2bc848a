"""Whether this container does its work: `api` asks the API, `worker` looks for its heartbeat in the database."""

from __future__ import annotations

import os
import socket
import sys
import urllib.request

# A script finds its own folder on the path, not the one that it is started in.
sys.path.insert(0, os.getcwd())


def api() -> bool:
    """The API answers."""
    port = os.environ.get("SECATEUR_PORT", "8000")
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/health/live", timeout=5) as answer:
        return bool(answer.status == 200)


def worker() -> bool:
    """A worker of this host beat lately."""
    from app import db, workers
    from app.settings import get_settings

    with db.read() as session:
        return any(one.host == socket.gethostname() for one in workers.alive(session, get_settings().worker_seconds))


if __name__ == "__main__":
    sys.exit(not {"api": api, "worker": worker}[sys.argv[1]]())
