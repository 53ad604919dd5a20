"""Finds a port for a server of our own."""

import random
import socket

from runbook.targets.base import TargetError


def free_port(host: str = "127.0.0.1") -> int:
    """Find a free port of an address of this host below the range from which the kernel takes ports for outgoing connections.

    A client that keeps trying to connect to a port *of* that range while the server is down can be given the very same port as its own
    and connect to itself.

    Raises:
        TargetError: a hundred ports in a row were taken.
    """
    for port in random.sample(range(20_000, 30_000), 100):
        with socket.socket() as probe:
            try:
                probe.bind((host, port))
            except OSError:
                continue
            return port
    raise TargetError("found no free port among 100 tried between 20000 and 30000: end what holds them")


def is_local(host: str) -> bool:
    """Tell whether this is an address of this host."""
    with socket.socket() as probe:
        try:
            probe.bind((host, 0))
        except OSError:
            return False
        return True
