"""Which settings the environment holds: variables, one URL or a file for the password; what contradicts itself, and what is misspelt."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit


class Setting(NamedTuple):
    """A raw value, and the variable that a message about it should name."""

    value: str
    source: str


# Variable → field. The first group can also be said as one REDIS_URL.
_ENDPOINT = {
    "REDIS_HOST": "host",
    "REDIS_PORT": "port",
    "REDIS_USERNAME": "username",
    "REDIS_PASSWORD": "password",
    "REDIS_DB": "db",
    "REDIS_TLS": "tls",
}
_BEHAVIOUR = {
    "REDIS_POOL_SIZE": "pool_size",
    "REDIS_CONNECT_TIMEOUT_S": "connect_timeout_s",
    "REDIS_DEADLINE_S": "deadline_s",
    "REDIS_BACKOFF_BASE_S": "backoff_base_s",
    "REDIS_BACKOFF_CAP_S": "backoff_cap_s",
    "REDIS_CONNECTION_MAX_AGE_S": "connection_max_age_s",
    "REDIS_SLOW_CALL_S": "slow_call_s",
    "REDIS_TLS_CA_FILE": "tls_ca_file",
    "REDIS_TLS_CERT_FILE": "tls_cert_file",
    "REDIS_TLS_KEY_FILE": "tls_key_file",
}
# Fields without a default: empty is unset, as a template leaves it. Elsewhere an empty value is an error, not the default.
_OPTIONAL = frozenset({"username", "password", "tls_ca_file", "tls_cert_file", "tls_key_file"})
_VARIABLES = _ENDPOINT | _BEHAVIOUR
KNOWN = [*_VARIABLES, "REDIS_PASSWORD_FILE", "REDIS_URL"]
_URL_OPTIONS = tuple(field for field in _BEHAVIOUR.values() if not field.startswith("tls_"))


def read_environment(environ: Mapping[str, str]) -> tuple[dict[str, Setting], list[str]]:
    """Collect the settings from the environment, and what contradicts itself there."""
    settings: dict[str, Setting] = {}
    problems = [_misspelt(name, known) for name in sorted(environ) for known in KNOWN if _one_slip(name, known)]

    for variable, field in _VARIABLES.items():
        value = environ.get(variable)
        if value or (value is not None and field not in _OPTIONAL):
            settings[field] = Setting(value, variable)

    if path := environ.get("REDIS_PASSWORD_FILE"):
        if "password" in settings:
            problems.append("REDIS_PASSWORD and REDIS_PASSWORD_FILE are both set: unset one of them")
        else:
            try:
                settings["password"] = Setting(_read_password(Path(path)), "REDIS_PASSWORD_FILE")
            except (OSError, ValueError) as error:
                reason = error.strerror if isinstance(error, OSError) else error
                problems.append(f"REDIS_PASSWORD_FILE: got {path!r}, which can't be used ({reason}); takes a file that holds the password")

    if url := environ.get("REDIS_URL"):
        from_url, url_problems = _read_url(url)
        problems += url_problems
        twice = [setting.source for field, setting in settings.items() if field in from_url or field in _ENDPOINT.values()]
        if twice:
            problems.append(f"REDIS_URL and {', '.join(twice)} are both set: say it in one place")
        settings |= from_url
    return settings, problems


def _read_password(path: Path) -> str:
    """Read a password file, without the one line end that editors add."""
    password = path.read_text(encoding="utf-8").removesuffix("\n").removesuffix("\r")
    if not password:
        raise ValueError("it is empty")
    return password


def _read_url(url: str) -> tuple[dict[str, Setting], list[str]]:
    """Take `redis[s]://[user[:password]@]host[:port][/db][?option=value]` apart; problems repeat only what can't be a secret."""
    takes = "takes redis://[user:password@]host[:port][/db], or rediss:// for TLS"
    if any(character.isspace() or not character.isprintable() for character in url):
        return {}, [f"REDIS_URL: holds a blank or a control character; {takes}"]
    try:
        parts = urlsplit(url)
        host, port, path = parts.hostname, parts.port, parts.path.removeprefix("/")
        if parts.fragment or "#" in url or "@" in path + parts.query:
            raise ValueError
    except ValueError:
        return {}, [f"REDIS_URL: can't be taken apart; {takes}; write the characters / # ? @ : % of a password as %2F %23 %3F %40 %3A %25"]

    problems = []
    if parts.scheme not in ("redis", "rediss"):
        problems.append(f"REDIS_URL: got an unknown scheme; {takes}")
    if not host:
        problems.append(f"REDIS_URL: names no host; {takes}")
    found: dict[str, str | None] = {
        "host": host,
        "port": None if port is None else str(port),
        "username": unquote(parts.username) if parts.username else None,
        "password": unquote(parts.password) if parts.password else None,
        "db": path or None,
        "tls": "true" if parts.scheme == "rediss" else None,
    }
    for name, value in parse_qsl(parts.query, keep_blank_values=True):
        if name not in _URL_OPTIONS:
            hint = "; the db goes into the path, as in redis://host:6379/0" if name == "db" else ""
            problems.append(f"REDIS_URL: got the unknown option {name[:40]!r}; takes {', '.join(_URL_OPTIONS)}{hint}")
        elif name in found:
            problems.append(f"REDIS_URL: got the option {name} twice: say it once")
        else:
            found[name] = value
    settings = {}
    for field, text in found.items():
        if text is not None:
            settings[field] = Setting(text, f"{field.upper()} in REDIS_URL" if field in _URL_OPTIONS else f"REDIS_URL ({field})")
    return settings, problems


def _misspelt(name: str, known: str) -> str:
    return f"{name}: is no variable of ours; did you mean {known}?"


def _one_slip(name: str, known: str) -> bool:
    """Tell whether `name`, unknown to us, is `known` with one character added, lost, replaced or swapped with its neighbour."""
    if not name.startswith("REDIS_") or name in KNOWN or abs(len(name) - len(known)) > 1:
        return False
    first = next((i for i, (a, b) in enumerate(zip(name, known, strict=False)) if a != b), min(len(name), len(known)))
    rest, known_rest = name[first:], known[first:]
    return (
        rest[1:] == known_rest
        or rest == known_rest[1:]
        or rest[1:] == known_rest[1:]
        or (rest[:2] == known_rest[1::-1] and rest[2:] == known_rest[2:])
    )
