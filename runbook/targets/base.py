"""What a target is, and the abilities that some have beyond being looked at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import redis

from cachelib import Config
from runbook.targets.settings import settings_of


class TargetError(Exception):
    """A target could not be used; the message says what to do."""


class NotServing(TargetError):
    """It was started and does not serve, or is not well: which may be what a check wants to know."""


@dataclass(frozen=True, slots=True)
class Engine:
    """Which server answers.

    Attributes:
        product: `redis` or `valkey`.
        version: as the server says it.
        found_by: how its binary was chosen, or `running` for a server that was there before.
        settings: those of its settings that verdicts depend on, as it tells them.
        image: `reference` and `digest` of its container's image; None without a container.
    """

    product: str
    version: str
    found_by: str
    settings: Mapping[str, str] = field(default_factory=dict, compare=False)
    image: Mapping[str, str] | None = field(default=None, compare=False)


class Target(Protocol):
    """A running Redis; `config` says how to reach it."""

    name: str
    config: Config

    @property
    def engine(self) -> Engine:
        """Ask the server what it is."""
        ...

    def log(self) -> str:
        """Return what the server logged; empty where it is not ours to see."""
        ...

    def close(self) -> None:
        """Take back all that was opened; calling it again does nothing."""
        ...


@runtime_checkable
class Restartable(Protocol):
    """The ability to end the server's process and start it anew on the same data."""

    def stop(self) -> int:
        """End it with SIGTERM and return its exit status, negative for a signal."""
        ...

    def kill(self) -> int:
        """End it with SIGKILL and return its exit status."""
        ...

    def start(self) -> None:
        """Start it on the data that it left, and wait until it serves."""
        ...


@runtime_checkable
class Pausable(Protocol):
    """The ability to stop the server's process without ending it."""

    def pause(self) -> None:
        """Stop it with SIGSTOP; connections stay open and nothing is answered."""
        ...

    def resume(self) -> None:
        """Let it go on."""
        ...


@runtime_checkable
class Local(Protocol):
    """The server's process is ours and on this host, where its CPU time can be read and its core be chosen."""

    @property
    def pid(self) -> int | None:
        """The process id; None while there is none that this host can see."""
        ...


@runtime_checkable
class Published(Protocol):
    """The server is reached through a program that hands its port on, whose own delays are not the server's."""

    @property
    def direct(self) -> Config | None:
        """How to reach the server past that program; None where that can't be done from this host."""
        ...


@runtime_checkable
class Contained(Protocol):
    """The abilities of a server in a container that an engine looks after."""

    @property
    def instance(self) -> str:
        """What tells this container from another one of the same name."""
        ...

    def stop(self) -> int:
        """End the server with SIGTERM and return its exit status."""
        ...

    def crash(self) -> None:
        """Kill the server's process in such a way that the engine takes it for a crash; return when it has ended."""
        ...

    def await_restart(self) -> None:
        """Wait until the engine has started a crashed server again, and it serves."""
        ...

    def recreate(self) -> None:
        """Replace the container by a new one on the same data, and wait until the server serves."""
        ...

    def down(self) -> None:
        """Remove the container and its network; the data stay."""
        ...

    def up(self) -> None:
        """Make a container on the data that there are, and wait until the server serves."""
        ...


def ask_engine(client: redis.Redis, found_by: str) -> Engine:
    """Ask a server for its product and version with INFO, and for its settings."""
    info = client.info("server")
    product = str(info.get("server_name", "redis"))
    return Engine(product, str(info.get(f"{product}_version", "unknown")), found_by, settings_of(client))
