"""Callers who stand in line for the one connection of a client."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any


class Line:
    """Callers who queue, in order, for the one connection of a client, which is held until they are told to go.

    Args:
        client: of a pool of one connection.
        calls: what each of them does.
    """

    def __init__(self, client: Any, calls: Sequence[Callable[[], object]]) -> None:
        self.order: list[int] = []
        self._outcomes: list[Any] = [None] * len(calls)
        self._threads = []
        self.pool = client.connection_pool
        self.held = self.pool.get_connection()
        for number, call in enumerate(calls):
            before = client.pool_stats().waiting
            thread = threading.Thread(target=self._work, args=(number, call))
            thread.start()
            self._threads.append(thread)
            until_s = time.monotonic() + 10.0
            while client.pool_stats().waiting == before:
                assert time.monotonic() < until_s
                time.sleep(0.0002)

    def _work(self, number: int, call: Callable[[], object]) -> None:
        try:
            self._outcomes[number] = call()
        except BaseException as error:
            self._outcomes[number] = error
        self.order.append(number)

    def go(self) -> list[Any]:
        """Give the connection back; return what each caller's call returned or raised."""
        self.pool.release(self.held)
        return self.outcomes()

    def outcomes(self) -> list[Any]:
        for thread in self._threads:
            thread.join()
        return self._outcomes


def kinds(outcomes: Sequence[Any]) -> set[type]:
    return {type(outcome) for outcome in outcomes}
