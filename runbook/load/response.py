"""What a server can answer for of a latency: not what our sender was late, and not what one of the two waited for a CPU.

On a shared host, server and sender wait for their cores like every other process. How long they did so the kernel tells (`CpuClock`). What
is left is the server's own time, and what nobody counts, such as time stolen by the hypervisor; that is what the control is there for.

Both waits are taken off, also where they overlap. Beside six busy processes on two cores a healthy server then exceeds its control by 0.0 %
of the calls, and one that computes for 3 ms of 50 by 2.8 %; with the larger of the two waits it was 1.7 to 3.0 % and 5.6 %.
"""

from runbook.load.cpu_clock import CpuClock
from runbook.load.recording import Recorder

# Below this a call is not slow, whoever had the core; looking the clock up would only cost time.
_SLOW_NS = 200_000
# During a call of the control: a server that had the core for longer is why the call was slow, which excuses nothing.
_SERVER_BUSY_SHARE = 0.5


class Responses:
    """Records the response times of one side of a load.

    Args:
        recorder: of that side.
        clock: of the process that answers.
        sender: the clock of our own process.
        server: of the control's side only: the clock of the server under test.
    """

    def __init__(self, recorder: Recorder, clock: CpuClock, sender: CpuClock, server: CpuClock | None = None) -> None:
        self.clock = clock
        self._recorder, self._sender, self._server = recorder, sender, server
        self._slow: list[tuple[str, int, int, int]] = []

    def add(self, operation: str, intended_ns: int, undelayed_ns: int, done_ns: int) -> None:
        """Take a call that succeeded.

        Args:
            operation: which.
            intended_ns: its intended start.
            undelayed_ns: its latency without what our sender was late.
            done_ns: its end.
        """
        if undelayed_ns < _SLOW_NS:
            self._recorder.response(operation, intended_ns, undelayed_ns)
        else:
            self._slow.append((operation, intended_ns, undelayed_ns, done_ns))

    def finish(self) -> None:
        """Record the slow calls, for which the clocks must have been sampled beyond their ends."""
        for operation, intended_ns, undelayed_ns, done_ns in self._slow:
            began_ns = done_ns - undelayed_ns
            if self._server and self._server.ran_share(began_ns, done_ns) > _SERVER_BUSY_SHARE:
                response_ns = _SLOW_NS
            else:
                response_ns = undelayed_ns - sum(clock.waited_ns(began_ns, done_ns) for clock in (self.clock, self._sender))
            self._recorder.response(operation, intended_ns, response_ns)
        self._slow.clear()
