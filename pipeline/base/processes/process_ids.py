"""Which process a number means: the machine that counts it, and when the process began."""

import os
import socket
from pathlib import Path


def machine() -> str:
    """Within what process ids mean the same: a boot of a kernel and a namespace of it.

    Host names do not tell: containers share one, and clusters give one twice.
    """
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("utf-8").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def started(pid: int) -> str | None:
    """When a process began, in ticks since boot: a number used again is another process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8")
    except (FileNotFoundError, ProcessLookupError):
        return None if Path("/proc/self/stat").exists() else _exists(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] in "ZX" else fields[19]


def _exists(pid: int) -> str | None:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        return "there"
    return "there"
