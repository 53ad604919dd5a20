"""Waits until a server serves."""

import dataclasses
import time
from collections.abc import Callable

from cachelib import Config, Refused, Unavailable, connect, deadline

LOOK_S = 0.2


def await_serving(config: Config, *, timeout_s: float, goes_on: Callable[[], bool]) -> int | None:
    """Wait until a server answers PING, and return the process id that it tells of itself.

    Args:
        config: how to reach it.
        timeout_s: how long to wait, in seconds.
        goes_on: asked after each look that failed; False gives up, since what should serve has ended.

    Returns:
        The process id; 0 if it serves and refuses us, None if it did not serve.

    Raises:
        redis.ResponseError: what answers PING is no Redis.
    """
    patient = dataclasses.replace(config, pool_size=1, backoff_base_s=0.001, backoff_cap_s=0.005)
    until_s = time.monotonic() + timeout_s
    with connect(patient) as client:
        while time.monotonic() < until_s:
            try:
                with deadline(LOOK_S):
                    client.ping()
                    return int(client.info("server")["process_id"])
            except Unavailable:
                if not goes_on():
                    return None
            except Refused:
                return 0  # it serves, though not us: its flags set a password
    return None
