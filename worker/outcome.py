"""From how a child ended to what becomes of its row."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any, Literal

from pruning.contract.errors import BY_CODE, MemoryLimit, SecateurError, TimeLimit, WorkerLost
from pruning.contract.progress import Failed
from worker.watch import Ending, Final


@dataclass(frozen=True)
class Outcome:
    """`finish` the row in a state, `lose` the attempt, `give_back` the row uncounted, or `drop` it: it is another's."""

    act: Literal["finish", "lose", "give_back", "drop"]
    state: Literal["succeeded", "failed", "cancelled"] = "failed"
    error: dict[str, Any] | None = None


def judge(ending: Ending, wanted: type[Final]) -> Outcome:
    """What becomes of a row whose child should have ended with a line of type `wanted`."""
    if ending.stop is not None:
        return _stopped(ending.stop.reason, ending.stop.detail)
    if not ending.complete:
        return Outcome("lose", error=WorkerLost(_how(ending.status)).body())
    if isinstance(ending.final, Failed):
        return Outcome("finish", "failed", _known(ending.final.error))
    if not isinstance(ending.final, wanted):
        return _stopped("bad_line", f"the last line is of type {type(ending.final).__name__}")
    return Outcome("finish", "succeeded")


def failed(error: SecateurError) -> Outcome:
    """The end of a row by an error met on this side."""
    return Outcome("finish", "failed", error.body())


def _stopped(reason: str, detail: str) -> Outcome:
    match reason:
        case "cancelled":
            return Outcome("finish", "cancelled")
        case "shutdown":
            return Outcome("give_back")
        case "lease_lost":
            return Outcome("drop")
        case "time_limit":
            return failed(TimeLimit(detail))
        case "memory_limit":
            return failed(MemoryLimit(detail))
    return failed(SecateurError(f"the engine's process broke the contract and was ended: {detail}"))


def _known(error: dict[str, Any]) -> dict[str, Any]:
    """An error's body with a code of the contract and a sentence, whatever the child put there."""
    code, detail = error.get("code"), error.get("detail")
    if code not in BY_CODE or not isinstance(detail, str):
        return SecateurError("the engine's process failed without a proper reason").body()
    return error


def _how(status: int | None) -> str:
    if status is None:
        return "the worker's zygote died"
    if status < 0:
        return f"the process was killed by {signal.Signals(-status).name}"
    return f"the process ended with exit code {status} and no result"
