"""How long the server itself worked on each command, by its own word: the difference of what it counted before and after.

It counts from the start of a command's execution to its end, in whole µs: what reading, parsing, queueing behind other commands and
writing the reply took is not in it. Nothing is ever reset, since the counters belong to all who look at them.
"""

import itertools
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import redis

from cachelib import Config, connect, deadline

_PATIENCE_S = 2.0
# The server counts what took longer as if it had taken a second (LATENCY_HISTOGRAM_MAX_VALUE in Redis's server.h).
_LONGEST_US = 1_000_000
# Counted right behind the reset that it is, so it tells of one even where the other counters have caught up since.
_RESET = "config|resetstat"


@dataclass(frozen=True, slots=True)
class Spent:
    """What the server spent on one command.

    Attributes:
        calls: how many it executed.
        failed: how many of them ended with an error, and how many it rejected besides.
        mean_us: of its execution, in µs.
        buckets_us: how many calls took at most so many µs and more than the bucket before; None where the server keeps no histogram.
    """

    calls: int
    failed: int
    mean_us: float
    buckets_us: Mapping[int, int] | None = None

    def percentile_us(self, percentile: float) -> float | None:
        """Return an upper bound of a percentile, in µs; the true value is above half of it.

        It is infinite where the percentile took over a second, and None where the server keeps no histogram.

        Args:
            percentile: from 0 to 1.
        """
        if not self.buckets_us:
            return None
        bounds = sorted(self.buckets_us)
        totals = list(itertools.accumulate(self.buckets_us[bound] for bound in bounds))
        rank = max(1, math.ceil(percentile * totals[-1]))
        found = next(bound for bound, total in zip(bounds, totals, strict=True) if total >= rank)
        return math.inf if found > _LONGEST_US else float(found)


@dataclass(frozen=True, slots=True)
class ServerTime:
    """What the server spent between two readings, on calls of all its clients.

    Attributes:
        commands: by the server's name of the command, in lower case, such as `get` or `config|set`. The readings are in it, as are the
            greetings of their connections.
        errors: how many errors it answered with, by their first word, such as `ERR`; None where it does not count them.
    """

    commands: Mapping[str, Spent]
    errors: Mapping[str, int] | None = None

    @property
    def busy_us(self) -> float:
        """How long it executed commands in all."""
        return sum(spent.calls * spent.mean_us for spent in self.commands.values())


@dataclass(frozen=True, slots=True)
class Counters:
    """What a server has counted since its start.

    Attributes:
        run_id: of the server's process.
        commands: INFO commandstats, by the command's name.
        histograms: calls by bucket in µs, by the command's name; None where they can't be read.
        errors: INFO errorstats; None where they can't be read.
    """

    run_id: str
    commands: Mapping[str, Mapping[str, float]]
    histograms: Mapping[str, Mapping[int, int]] | None = None
    errors: Mapping[str, int] | None = None

    def since(self, before: "Counters") -> ServerTime | None:
        """Return what was spent since an earlier reading; None where the server restarted or its counters were reset in between."""
        if self.run_id != before.run_id or before.commands.keys() - self.commands.keys():
            return None
        if self._calls(_RESET) != before._calls(_RESET):
            return None
        spent: dict[str, Spent] = {}
        for name, counted in self.commands.items():
            earlier = before.commands.get(name, {})
            calls, usec, failed, rejected = (
                counted.get(kind, 0) - earlier.get(kind, 0) for kind in ("calls", "usec", "failed_calls", "rejected_calls")
            )
            if min(calls, usec, failed, rejected) < 0:
                return None
            if calls or rejected:
                spent[name] = Spent(int(calls), int(failed + rejected), usec / calls if calls else 0.0, self._buckets(name, before))
        errors = None if self.errors is None or before.errors is None else _more(self.errors, before.errors)
        return ServerTime(spent, errors)

    def _calls(self, name: str) -> float:
        return self.commands.get(name, {}).get("calls", 0)

    def _buckets(self, name: str, before: "Counters") -> Mapping[int, int] | None:
        if self.histograms is None or before.histograms is None:
            return None
        return _more(self.histograms.get(name, {}), before.histograms.get(name, {})) or None


class ServerTimeMeter:
    """Reads what the server has counted at its creation, and the difference whenever it is asked.

    The counters belong to the whole server, so its other clients' calls are in the difference, too. A reading costs the server 0.2 ms.

    Args:
        config: which server.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._unread: list[str] = []
        self._before = self._read()

    @property
    def unread(self) -> tuple[str, ...]:
        """Say what could not be read, and why."""
        return tuple(dict.fromkeys(self._unread))

    def read(self) -> ServerTime | None:
        """Return what the server has spent since the creation; None where it can't be told, and `unread` says why."""
        if self._before is None or (now := self._read()) is None:
            return None
        spent = now.since(self._before)
        if spent is None:
            self._unread.append("commandstats: the server was restarted or its counters were reset in between")
        return spent

    def _read(self) -> Counters | None:
        try:
            with connect(self._config, observers=[]) as client, deadline(_PATIENCE_S):
                return self._read_with(client)
        except (TypeError, ValueError, LookupError, AttributeError) as error:
            self._unread.append(f"commandstats: they have a form that no Redis gives them ({error})")
            return None
        except redis.RedisError as error:
            self._unread.append(f"commandstats: {error}")
            return None

    def _read_with(self, client: redis.Redis) -> Counters:
        # In one write, so that no other command comes between the two that are compared with each other.
        pipeline = client.pipeline(transaction=False)
        for section in ("server", "commandstats", "errorstats"):
            pipeline.execute_command("INFO", section)
        pipeline.execute_command("LATENCY", "HISTOGRAM")
        server, commands, errors, histograms = pipeline.execute(raise_on_error=False)
        if isinstance(commands, redis.RedisError):
            raise commands
        if isinstance(histograms, redis.RedisError):
            self._unread.append(f"LATENCY HISTOGRAM: {histograms}")
        return Counters(
            str(server.get("run_id", "")) if isinstance(server, dict) else "",
            {name.removeprefix("cmdstat_"): counted for name, counted in commands.items()},
            None if isinstance(histograms, redis.RedisError) else read_histograms(histograms),
            {name.removeprefix("errorstat_"): counted["count"] for name, counted in errors.items()} if isinstance(errors, dict) else None,
        )


def read_histograms(reply: Any) -> dict[str, dict[int, int]]:
    """Read the reply of LATENCY HISTOGRAM: how many calls fell into each bucket, whose upper bound is in µs, by command.

    Args:
        reply: of RESP2, where maps are flat lists, or of RESP3; names are `str` or `bytes`. Its counts are cumulative.
    """
    found = {}
    for name, described in _items(reply):
        counted = {_text(key): value for key, value in _items(described)}
        buckets = sorted((int(bound), int(total)) for bound, total in _items(counted.get("histogram_usec", {})))
        before = [0, *(total for _, total in buckets)]
        found[_text(name)] = {bound: total - earlier for (bound, total), earlier in zip(buckets, before, strict=False)}
    return found


def _items(mapping: Any) -> Iterable[tuple[Any, Any]]:
    if isinstance(mapping, Mapping):
        return mapping.items()
    return zip(mapping[::2], mapping[1::2], strict=True)


def _text(word: str | bytes) -> str:
    return word.decode(errors="replace") if isinstance(word, bytes) else word


def _more(after: Mapping[Any, int], before: Mapping[Any, int]) -> dict[Any, int] | None:
    """Return by how much counters have grown, without those that have not; None where one has shrunk."""
    grown = {name: after.get(name, 0) - before.get(name, 0) for name in after.keys() | before.keys()}
    if any(count < 0 for count in grown.values()):
        return None
    return {name: count for name, count in grown.items() if count}
