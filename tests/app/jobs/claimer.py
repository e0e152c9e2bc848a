"""Claims every waiting job it can get, finishes it, and prints its id: `python -m tests.app.jobs.claimer NAME`."""

from __future__ import annotations

import sys

from sqlalchemy import select

from app import db
from app.jobs import states
from app.tables import Job


def main(worker: str) -> None:
    with db.read() as session:
        ids = session.scalars(select(Job.id).where(Job.state == "queued").order_by(Job.id)).all()
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for id in ids:
        with db.write() as session:
            claim = states.claim(session, states.JOBS, id, worker, 30)
        if claim is None:
            continue
        with db.write() as session:
            assert states.finish(session, states.JOBS, id, claim.token, "succeeded", result={"by": worker})
        sys.stdout.write(id + "\n")
    db.dispose()


if __name__ == "__main__":
    main(sys.argv[1])
