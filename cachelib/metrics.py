"""What the health endpoint tells Prometheus: its checks, and what the connections of its client do."""

from collections.abc import Callable, Iterator

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from cachelib.health import HealthReport, Reason
from cachelib.stats import PoolStats

# A check on a loopback takes about a millisecond, and none takes longer than its bound, which is in seconds.
_BUCKETS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)


class Metrics:
    """Counts in a registry of its own, so that two in one process don't add up.

    Args:
        stats: asks the client; it is called at each `render`.
    """

    def __init__(self, stats: Callable[[], PoolStats]) -> None:
        self._registry = CollectorRegistry()
        self._healthy = Gauge("cachelib_health_healthy", "1 if the last check found Redis healthy.", registry=self._registry)
        self._checks = Counter("cachelib_health_checks", "Checks, by result.", ["result"], registry=self._registry)
        self._reasons = Counter("cachelib_health_reasons", "Reasons that checks found.", ["reason"], registry=self._registry)
        self._duration_s = Histogram(
            "cachelib_health_check_duration_seconds", "How long checks took.", buckets=_BUCKETS_S, registry=self._registry
        )
        # A series that appears with its first count has no rate at that moment.
        for result in ("healthy", "unhealthy"):
            self._checks.labels(result)
        for reason in Reason:
            self._reasons.labels(reason.value)
        self._registry.register(_Connections(stats))

    def observe(self, report: HealthReport) -> None:
        """Count one check."""
        self._healthy.set(report.healthy)
        self._checks.labels("healthy" if report.healthy else "unhealthy").inc()
        for reason in report.reasons:
            self._reasons.labels(reason.value).inc()
        self._duration_s.observe(report.duration_s)

    def render(self) -> bytes:
        """Return all of it in Prometheus' text format."""
        return generate_latest(self._registry)


class _Connections(Collector):
    """Turns `PoolStats` into metrics when it is asked: they are counted already."""

    def __init__(self, stats: Callable[[], PoolStats]) -> None:
        self._stats = stats

    def collect(self) -> Iterator[Metric]:
        stats = self._stats()
        yield GaugeMetricFamily("cachelib_connections_limit", "How many connections to Redis there may be.", value=stats.size)
        yield GaugeMetricFamily("cachelib_connections_in_use", "Connections that a call holds now.", value=stats.in_use)
        yield GaugeMetricFamily("cachelib_connections_idle", "Connections that are free.", value=stats.idle)
        yield GaugeMetricFamily("cachelib_calls_waiting", "Calls that wait for a connection, or for Redis to be back.", value=stats.waiting)
        yield CounterMetricFamily("cachelib_connections_made", "Connections that were made.", value=stats.made)
        yield CounterMetricFamily("cachelib_connections_lost", "Connections that were lost or given up.", value=stats.lost)
        yield CounterMetricFamily("cachelib_outages", "How often Redis could not be connected to any more.", value=stats.outages)
        yield CounterMetricFamily("cachelib_retries", "Attempts that failed and were followed by another one.", value=stats.retried)
        yield CounterMetricFamily("cachelib_outcomes_unknown", "Writes whose reply was lost.", value=stats.unknown)
        yield CounterMetricFamily("cachelib_slow_calls", "Successful calls that took longer than REDIS_SLOW_CALL_S.", value=stats.slow)
