"""Which core the server and which the load runs on; that decides more than most clients do."""

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Placement:
    """Cores of server and load.

    Attributes:
        server: core of the server's main thread; None where it is not pinned.
        load: core of the load; None where it is not pinned.
    """

    server: int | None = None
    load: int | None = None

    @property
    def apart(self) -> bool:
        """Whether each has a core of its own, so that the load may spin."""
        return self.server is not None and self.load is not None and self.server != self.load

    @property
    def words(self) -> str:
        """Say it."""
        if self.load is None:
            return "nothing is pinned to a core"
        if self.server is None:
            return f"the load is pinned to core {self.load}, the server is not ours to pin"
        if self.apart:
            return f"the server is pinned to core {self.server}, the load to core {self.load}"
        return f"server and load share core {self.load}, the only one"


def cores() -> list[int]:
    """Return the cores that this process may use; empty where the system does not tell."""
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


@contextlib.contextmanager
def placed(server_pid: int | None) -> Iterator[Placement]:
    """Pin the server to the first core for the length of the block, and name the last one for the load.

    Args:
        server_pid: of a server of ours; None for another's, which is left where it is.
    """
    usable = cores()
    if not usable:
        yield Placement()
        return
    if server_pid is None:
        # Without knowing where the server runs, a load that keeps to one core could be in its way.
        yield Placement()
        return
    before = os.sched_getaffinity(server_pid)
    os.sched_setaffinity(server_pid, {usable[0]})
    try:
        yield Placement(usable[0], usable[-1])
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.sched_setaffinity(server_pid, before)
