"""The acceptance criteria by id, and who decides those that no measurement decides."""

CRITERIA: dict[str, str] = {
    "AC-1": "A Redis 7 Alpine container in docker-compose.yml and in docker-compose.prod.yml",
    "AC-2": "AOF persistence on: appendonly yes, appendfsync everysec",
    "AC-3": "A named volume redis_data at /data; the data survive the container's recreation",
    "AC-4": "A health check every 10 s in compose, and a health endpoint that answers “healthy”",
    "AC-5": "The client library integrated, initialised at start-up, PING answered by PONG",
    "AC-6": "A connection pool of configurable size",
    "AC-7": "Graceful reconnection after a lost connection, with exponential backoff",
    "AC-8": "Configuration from the environment",
    "U-1": "The client is built from a valid configuration",
    "U-2": "An invalid configuration is an error that names what is wrong",
    "U-3": "The pool is created as configured",
    "U-4": "The health check does PING/PONG",
    "I-1": "The container starts",
    "I-2": "The health endpoint says healthy",
    "I-3": "The application side reaches Redis",
    "I-4": "AOF: after a restart the data are there",
    "I-5": "The client reconnects after a Redis restart",
    "I-6": "While Redis is unavailable the application side stays graceful",
    "P-1": "The pool handles 100 concurrent connections",
    "P-2": "Basic operations answer in under 1 ms",
    "D-1": "Over 80 % of the code covered by tests",
    "D-2": "Dev and prod files both run; the README tells how to set Redis up",
    "D-3": "The product owner can accept it from the report alone",
}

# The `criterion` of a finding of a benchmark, which belongs to no acceptance criterion.
BENCH = "bench"

# Decided by the product owner, with `runbook accept`.
BY_WORD = "D-3"
# Measured by `make test`.
BY_TESTS = "D-1"
# About containers, so that only the targets compose and compose-prod examine them.
OF_CONTAINERS = ("AC-1", "AC-3", "AC-4", "I-1", "I-2", "D-2")
