"""A pooled, reconnecting Redis client that never applies a write twice."""

from cachelib.client import Client, connect, deadline
from cachelib.config import Config
from cachelib.errors import CacheError, ConfigError, OutcomeUnknown, PoolExhausted, Refused, Unavailable
from cachelib.health import HealthReport, Reason, check

__all__ = [
    "CacheError",
    "Client",
    "Config",
    "ConfigError",
    "HealthReport",
    "OutcomeUnknown",
    "PoolExhausted",
    "Reason",
    "Refused",
    "Unavailable",
    "check",
    "connect",
    "deadline",
]
