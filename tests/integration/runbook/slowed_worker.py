"""A client worker whose cachelib is slower than it should be: a known-bad for the comparison of clients.

python slowed_worker.py computing|sleeping WORKER SERVER_PID together|apart
"""

import sys
import time
from typing import Any

from runbook import client_worker


class SlowedClient:
    """Lets each call of a client take half as long again, computing, or 0.1 ms longer, sleeping."""

    def __init__(self, client: Any, how: str) -> None:
        self._client, self._how = client, how

    def get(self, key: str) -> Any:
        """Call GET slowly."""
        return self._slowly(self._client.get, key)

    def set(self, key: str, value: bytes) -> Any:
        """Call SET slowly."""
        return self._slowly(self._client.set, key, value)

    def _slowly(self, call: Any, *arguments: Any) -> Any:
        began_s = time.perf_counter()
        answer = call(*arguments)
        if self._how == "sleeping":
            time.sleep(1e-4)
            return answer
        until_s = began_s + 1.5 * (time.perf_counter() - began_s)
        while time.perf_counter() < until_s:
            pass
        return answer


if __name__ == "__main__":
    how, worker, server_pid, where = sys.argv[1:]
    connect = client_worker.connect
    client_worker.connect = lambda *arguments, **options: SlowedClient(connect(*arguments, **options), how)  # type: ignore[assignment,return-value]
    client_worker.main(worker, int(server_pid), where == "together")
