"""Ending with one's parent: every process here dies when the one that started it does, also by kill -9."""

from __future__ import annotations

import ctypes
import os
import signal

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None, use_errno=True)


def die_with(parent: int) -> None:
    """Let the kernel kill this process when `parent` ends; exit at once if it has already.

    The kernel watches the *thread* that forked: start processes from a thread that lives as long as its process.
    """
    # Either half alone leaves orphans: a parent that died before the prctl sends no signal any more.
    if _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:
        os._exit(1)
