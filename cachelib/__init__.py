"""A pooled, reconnecting Redis client that never applies a write twice."""

from cachelib.client import Client, connect, deadline, idempotent
from cachelib.config import Config
from cachelib.errors import CacheError, ConfigError, OutcomeUnknown, PoolExhausted, Refused, Unavailable
from cachelib.events import Disconnected, Event, OutcomeLost, Reconnected, Retried, SlowCall, log_event
from cachelib.health import HealthReport, Reason, check
from cachelib.pool import PoolStats

__all__ = [
    "CacheError",
    "Client",
    "Config",
    "ConfigError",
    "Disconnected",
    "Event",
    "HealthReport",
    "OutcomeLost",
    "OutcomeUnknown",
    "PoolExhausted",
    "PoolStats",
    "Reason",
    "Reconnected",
    "Refused",
    "Retried",
    "SlowCall",
    "Unavailable",
    "check",
    "connect",
    "deadline",
    "idempotent",
    "log_event",
]
