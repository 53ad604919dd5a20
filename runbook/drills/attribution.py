"""Where the time of a call goes: host and wire, the server's command, the client library, and what none of them explains.

Each level holds the one before: an echo without a database; the server over bare connections; the same through the client library; and
the same again counted from the moment at which the call should have been made. The difference of two levels, at the same
percentile, is the part of the later one. Percentiles of different runs need not grow from level to level, as their sums do: one that does
not is taken for as high as the level before, and none for higher than the whole.
"""

from dataclasses import dataclass

from runbook.load.histogram import Histogram
from runbook.load.offered import Offered
from runbook.load.quantile import estimate
from runbook.load.recording import LATE, QUEUE, SERVICE

PARTS = (
    "host and wire: an echo",
    "server: the command, at most",
    "client library",
    "waiting for a free connection",
    "our sender late",
)
# Above all what the server does around the command: reading, parsing, and writing the reply, for which it keeps no clock.
REST = "not attributed"


@dataclass(frozen=True, slots=True)
class Layers:
    """One percentile of one operation through the client library, taken apart.

    Attributes:
        operation: which.
        p: the percentile, such as 0.99.
        whole_ms: latency from the intended start.
        parts_ms: what each of `PARTS` accounts for, in the same order; None where it could not be measured.
    """

    operation: str
    p: float
    whole_ms: float
    parts_ms: tuple[float | None, ...]

    @property
    def rest_ms(self) -> float:
        """What is not attributed."""
        return max(0.0, self.whole_ms - sum(part or 0.0 for part in self.parts_ms))


def take_apart(operation: str, p: float, *, bare: Offered, client: Offered, command_us: float | None) -> Layers | None:
    """Take one percentile of one operation apart; None where too few calls reach it, or the load had no control.

    Args:
        operation: which.
        p: the percentile.
        bare: the load on the server over bare connections, with its control.
        client: the same load through the client library.
        command_us: that percentile of the server's own time for the command, in µs; None where the server does not tell.
    """
    control = bare.recording.control
    echoed = _at(control.histogram(SERVICE, operation), p) if control else None
    answered, through = _at(bare.histogram(operation, SERVICE), p), _at(client.histogram(operation, SERVICE), p)
    whole = _at(client.histogram(operation), p)
    if whole is None or echoed is None or answered is None or through is None:
        return None
    wire = min(echoed, whole)
    server = min(max(answered, wire), whole)
    library = min(max(through, server), whole)
    late = min(_above_resolution(_at(client.histogram(operation, LATE), p)), whole - library)
    queue = min(_above_resolution(_at(client.histogram(operation, QUEUE), p)), whole - library - late)
    parts = (
        wire,
        None if command_us is None else min(command_us / 1e3, server - wire),
        library - server,
        queue,
        late,
    )
    return Layers(operation, p, whole, parts)


def _at(samples: Histogram, p: float) -> float | None:
    found = estimate(samples, p)
    return found.value if found else None


def _above_resolution(value_ms: float | None) -> float:
    """Take 1 µs, the least that a histogram holds, for nothing."""
    return 0.0 if value_ms is None or value_ms <= 0.001 else value_ms
