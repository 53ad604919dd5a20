"""Which core the server and which the load runs on; that decides more than most clients do."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Placement:
    """Cores of server and load.

    Attributes:
        server: core of the server's main thread, and of the children that it forks; None where it is not pinned.
        loads: cores of the load, the best one first; empty where it is not pinned.
    """

    server: int | None = None
    loads: tuple[int, ...] = ()

    @property
    def load(self) -> int | None:
        """The core of a load of one process; None where it is not pinned."""
        return self.loads[0] if self.loads else None

    @property
    def apart(self) -> bool:
        """Whether each has a core of its own, so that the load may spin."""
        return self.server is not None and self.load is not None and self.server != self.load

    @property
    def words(self) -> str:
        """Say it."""
        if self.load is None:
            return "nothing is pinned to a core"
        if self.apart:
            return f"the server is pinned to core {self.server}, the load to core {self.load}"
        return f"server and load share core {self.load}, the only one"


def cores() -> list[int]:
    """Return the cores that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def current_core(pid: int) -> int | None:
    """Return the core on which a process ran last (proc(5), /proc/PID/stat, field 39); None where the system does not tell."""
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[36])
    except (OSError, ValueError, IndexError):
        return None


@contextlib.contextmanager
def placed(server_pid: int | None) -> Iterator[Placement]:
    """Pin the server to the first core for the length of the block, and name the last one for the load.

    Args:
        server_pid: of a server of ours; None for another's. That, and one that this user may not pin, is left where it is.
    """
    usable = cores()
    # Without knowing where the server runs, a load that keeps to one core could be in its way.
    if not usable or server_pid is None:
        yield Placement()
        return
    before = os.sched_getaffinity(server_pid)
    try:
        os.sched_setaffinity(server_pid, {usable[0]})
    except PermissionError:  # it runs in a container, as another user
        yield Placement()
        return
    try:
        yield Placement(usable[0], tuple(reversed(usable[1:])) or (usable[0],))
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(server_pid, before)
