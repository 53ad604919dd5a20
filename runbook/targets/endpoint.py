"""The health endpoint of a project: the service `health`, asked from outside."""

import http.client
import time
from dataclasses import dataclass

from runbook.targets.base import NotServing
from runbook.targets.container import Container

# Of the first answer, and of each.
START_TIMEOUT_S, ASK_TIMEOUT_S = 15.0, 3.0
LOOK_S = 0.05


@dataclass(frozen=True, slots=True)
class Answer:
    """What the endpoint answered.

    Attributes:
        status: of HTTP; 0 if there was no answer.
        text: the body, or the error.
    """

    status: int
    text: str


class HealthEndpoint:
    """The health endpoint in its container.

    Args:
        container: in which it runs.
        port: of this host, on the loopback.
    """

    def __init__(self, container: Container, port: int) -> None:
        self.container, self._port = container, port

    def ask(self, path: str) -> Answer:
        """Ask it with GET."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=ASK_TIMEOUT_S)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return Answer(response.status, response.read().decode(errors="replace"))
        except (OSError, http.client.HTTPException) as error:
            return Answer(0, repr(error))
        finally:
            connection.close()

    def await_answer(self) -> None:
        """Wait until it answers that it lives.

        Raises:
            NotServing: it did not within 15 s, or has ended; with the last lines of its log.
        """
        until_s = time.monotonic() + START_TIMEOUT_S
        while self.ask("/livez").status != http.HTTPStatus.OK:
            if not self.container.runs or time.monotonic() > until_s:
                raise NotServing(f"{self.container.name} does not answer; {self.container.tail()}")
            time.sleep(LOOK_S)
