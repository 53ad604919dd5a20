"""Callers who stand in line for the one connection of a client."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from tests.integration.cachelib.background import Task, results


class Line:
    """Callers who queue, in order, for the one connection of a client, which is held until they are told to go.

    Args:
        client: of a pool of one connection.
        calls: what each of them does.

    Attributes:
        held: the connection.
        tasks: the callers.
    """

    def __init__(self, client: Any, calls: Sequence[Callable[[], object]]) -> None:
        self._client = client
        self.tasks: list[Task] = []
        self.held = client.connection_pool.get_connection()
        for call in calls:
            self.join(call)

    def join(self, call: Callable[[], object]) -> None:
        """Let another caller queue."""
        before, until_s = self._client.pool_stats().waiting, time.monotonic() + 10.0
        self.tasks.append(Task(call))
        while self._client.pool_stats().waiting == before:
            assert time.monotonic() < until_s
            time.sleep(0.0002)

    def release(self) -> None:
        """Give the connection back."""
        self._client.connection_pool.release(self.held)

    def go(self) -> list[Any]:
        """Give the connection back; return what each caller's call returned or raised."""
        self.release()
        return self.outcomes()

    def outcomes(self) -> list[Any]:
        return results(self.tasks)


def kinds(outcomes: Sequence[Any]) -> set[type]:
    return {type(outcome) for outcome in outcomes}
