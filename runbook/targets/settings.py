"""What a server tells of its own configuration: only what verdicts depend on, and never a secret."""

import redis

# Each is asked for by its name: a pattern would bring passwords along.
SETTINGS = (
    "appendonly",
    "appendfsync",
    "no-appendfsync-on-rewrite",
    "auto-aof-rewrite-percentage",
    "auto-aof-rewrite-min-size",
    "aof-use-rdb-preamble",
    "aof-load-truncated",
    "save",
    "maxmemory",
    "maxmemory-policy",
    "maxclients",
    "timeout",
    "tcp-keepalive",
    "tcp-backlog",
    "io-threads",
    "databases",
    "hz",
)
# Where a user may not ask for settings: which fields of INFO tell the same.
_INFO = {"appendonly": "aof_enabled", "maxmemory": "maxmemory", "maxmemory-policy": "maxmemory_policy", "maxclients": "maxclients"}


def settings_of(client: redis.Redis) -> dict[str, str]:
    """Ask a server for its settings, by reading alone; where its ACL refuses that, return what INFO tells, or nothing."""
    try:
        info = client.info()
    except redis.ResponseError:
        info = {}
    found = {"build": str(info["redis_build_id"])} if "redis_build_id" in info else {}
    try:
        for name in SETTINGS:
            found |= {str(key): str(value) for key, value in client.config_get(name).items()}
    except (AttributeError, TypeError) as error:  # redis-py takes any reply for what a Redis sends
        raise redis.InvalidResponse(f"the reply to CONFIG GET has a form that no Redis gives it ({error}); is this a Redis?") from error
    except redis.ResponseError:
        found |= {name: str(info[field]) for name, field in _INFO.items() if field in info}
        if "appendonly" in found:
            found["appendonly"] = "yes" if found["appendonly"] == "1" else "no"
    return found
