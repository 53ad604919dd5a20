"""A pooled, reconnecting Redis client that never applies a write twice."""

from cachelib.aio import AsyncClient, connect_async
from cachelib.client import Client, connect, deadline, idempotent
from cachelib.config import Config
from cachelib.errors import CacheError, ConfigError, OutcomeUnknown, PoolExhausted, Refused, Unavailable
from cachelib.events import Disconnected, Event, LogEvents, OutcomeLost, ProbeFailed, Reconnected, Retried, SlowCall
from cachelib.health import HealthReport, Reason, check, check_async
from cachelib.stats import PoolStats

__all__ = [
    "AsyncClient",
    "CacheError",
    "Client",
    "Config",
    "ConfigError",
    "Disconnected",
    "Event",
    "HealthReport",
    "LogEvents",
    "OutcomeLost",
    "OutcomeUnknown",
    "PoolExhausted",
    "PoolStats",
    "ProbeFailed",
    "Reason",
    "Reconnected",
    "Refused",
    "Retried",
    "SlowCall",
    "Unavailable",
    "check",
    "check_async",
    "connect",
    "connect_async",
    "deadline",
    "idempotent",
]
