"""Isolation of the process that reads what users upload. It runs there, before the first byte is read."""

from __future__ import annotations

import ctypes
import os
import resource
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_NO_NEW_PRIVS = 38
_LEAST_ADDRESS_SPACE = 4 * 2**30  # TensorFlow does not start to work in less
_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Report:
    """What was reached: `level` is `none` or `limits`; `detail` names each measure and whether it holds."""

    level: str
    detail: dict[str, Any]


def lock_down(*, scratch: Path, readable: Sequence[Path], memory_bytes: int) -> Report:
    """Give up what a job does not need, for good; it may write in `scratch`, read `readable` and the system.

    Level `limits` confines memory, core dumps, privileges gained by exec and where temporary files go. It does not yet
    keep the process from reading or writing what its user may: `readable` is what it is meant to read.
    """
    _point_home_at(scratch)
    measures = {
        "no_core_dumps": _holds(lambda: resource.setrlimit(resource.RLIMIT_CORE, (0, 0))),
        "no_new_privileges": _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0,
        "address_space": _limit_address_space(memory_bytes),
        "killed_first_when_memory_is_short": _holds(lambda: Path("/proc/self/oom_score_adj").write_text("1000")),
    }
    required = measures["no_core_dumps"] and measures["no_new_privileges"]
    return Report("limits" if required else "none", {**measures, "files_granted": len(readable)})


def why_not_hardened() -> str:
    """Why a service set to `hardened` may not start."""
    return (
        "SECATEUR_HARDENED is set, and this version confines a job's memory, time and privileges but not the files and "
        "addresses that it reaches (level limits): run it for people you trust, or without that setting"
    )


def _point_home_at(scratch: Path) -> None:
    os.chdir(scratch)
    os.environ.update(HOME=str(scratch), TMPDIR=str(scratch), KERAS_HOME=str(scratch))
    tempfile.tempdir = str(scratch)  # cached since some import asked for it: the variable alone comes too late


def _limit_address_space(memory_bytes: int) -> bool:
    """A backstop behind the supervisor's count of real memory; address space is always more than memory."""
    if os.path.exists("/dev/nvidiactl"):  # CUDA reserves address space by the hundred gigabytes
        return False
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    most = taken + max(2 * memory_bytes, _LEAST_ADDRESS_SPACE)
    return _holds(lambda: resource.setrlimit(resource.RLIMIT_AS, (most, most)))


def _holds(measure: Any) -> bool:
    try:
        measure()
    except (OSError, ValueError):
        return False
    return True
