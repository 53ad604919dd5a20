"""Finds the process of a server that somebody else started on this very host."""

import contextlib
import os
import socket
from pathlib import Path

import redis

from cachelib import Config

_LISTEN = "0A"  # state in /proc/net/tcp


def pid_on_this_host(client: redis.Redis, config: Config) -> int | None:
    """Return the process id of a server that runs on this host; None if it does not, or this user can't see it.

    The server's own word (INFO, process_id) is not enough: inside a container it counts differently. The process must hold the socket
    that listens on the port.

    Args:
        client: of the server.
        config: its host and port.
    """
    if not _is_own_address(config.host):
        return None
    # AttributeError and TypeError: redis-py takes what anybody answers to INFO for that of a Redis.
    with contextlib.suppress(redis.RedisError, OSError, ValueError, KeyError, AttributeError, TypeError):
        pid = int(client.info("server")["process_id"])
        sockets = {f"socket:[{inode}]" for inode in _listening_inodes(config.port)}
        if any(os.readlink(file) in sockets for file in Path(f"/proc/{pid}/fd").iterdir()):
            return pid
    return None


def _is_own_address(host: str) -> bool:
    """Tell whether a name means an address of this host: only on one of those can a socket be bound."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def _listening_inodes(port: int) -> set[str]:
    """Return the inodes of the sockets that listen on a port (proc(5), /proc/net/tcp)."""
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
                words = line.split()
                if words[3] == _LISTEN and int(words[1].rpartition(":")[2], 16) == port:
                    found.add(words[9])
    return found
