"""The configuration of a client: typed, frozen, validated as a whole, its secret masked."""

import dataclasses
import ipaddress
import math
import os
import re
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from cachelib.environment import read_environment
from cachelib.errors import ConfigError

_LABEL = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOST = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(\.{_LABEL})*\.?", re.ASCII)
_BRACKETED = re.compile(r"\[([^\[\]]*)\]")
# What a person writes; Python would read 1e3, 1_000 and ' 7 ' too.
_WHOLE = re.compile(r"-?[0-9]{1,18}", re.ASCII)
_DECIMAL = re.compile(r"[0-9]{1,18}(\.[0-9]{1,18})?", re.ASCII)


class Secret:
    """A text that shows itself only when asked to: `repr` and `str` are masked."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "'********'"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)


def _host(value: Any) -> str:
    """Accept a host name or an address; take the brackets off an IPv6 address."""
    if _HOST.fullmatch(value):
        return str(value)
    bracketed = _BRACKETED.fullmatch(value)
    address = ipaddress.ip_address(bracketed[1] if bracketed else value)
    if any(character.isspace() for character in value):  # a zone may hold anything, says ipaddress
        raise ValueError
    return str(address)


def _whole(lowest: int, highest: int) -> Callable[[Any], int]:
    def parse(value: Any) -> int:
        if isinstance(value, str) and _WHOLE.fullmatch(value):
            value = int(value)
        if type(value) is not int or not lowest <= value <= highest:
            raise ValueError
        return value

    return parse


def _seconds(value: Any) -> float:
    if isinstance(value, str) and _DECIMAL.fullmatch(value):
        value = float(value)
    if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value <= 3600:
        raise ValueError
    return float(value)


def _switch(value: Any) -> bool:
    return {"true": True, "1": True, "false": False, "0": False}[str(value).lower()]


def _name(value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ValueError
    return value


def _password(value: Any) -> Secret:
    secret = value if isinstance(value, Secret) else Secret(value)
    if not isinstance(secret.reveal(), str) or not secret.reveal():
        raise ValueError
    secret.reveal().encode()  # bytes that an environment holds and that are no UTF-8 can't be sent
    return secret


def _file(value: Any) -> Path:
    path = Path(value)
    if not path.is_file():
        raise ValueError
    return path


def _setting(default: Any, parse: Callable[[Any], Any], takes: str) -> Any:
    return dataclasses.field(default=default, metadata={"parse": parse, "takes": takes})


_TAKES_SECONDS = "seconds, above 0 and at most 3600, such as 0.5"
_TAKES_FILE = "the path of an existing PEM file"


@dataclass(frozen=True, kw_only=True)
class Config:
    """How to reach a Redis and how patient to be.

    Values may be given as text, as an environment has them, or in their own type. Invalid ones raise `ConfigError`, all at once.

    Attributes:
        host: name or address of the server.
        port: TCP port.
        username: ACL user; None is the server's default user.
        password: its password; a `str` is accepted and wrapped.
        db: number of the database.
        pool_size: how many connections at the most.
        connect_timeout_s: bound of one connection attempt, in seconds.
        deadline_s: bound of one call over all that it takes, in seconds.
        backoff_base_s: upper bound of the first wait between two attempts, in seconds.
        backoff_cap_s: highest upper bound of such a wait, in seconds.
        connection_max_age_s: after how many seconds a connection is replaced, up to a tenth earlier by chance.
        slow_call_s: from how many seconds on a successful call is reported as slow.
        tls: whether to speak TLS; the server's certificate is always verified.
        tls_ca_file: authorities to trust instead of the system's.
        tls_cert_file: client certificate.
        tls_key_file: its key.
    """

    host: str = _setting("redis", _host, "a host name or an IP address")
    port: int = _setting(6379, _whole(1, 65535), "a whole number from 1 to 65535")
    username: str | None = _setting(None, _name, "a user name")
    password: Secret | None = _setting(None, _password, "a password")
    db: int = _setting(0, _whole(0, 2**31 - 1), "a whole number from 0")
    pool_size: int = _setting(10, _whole(1, 10_000), "a whole number from 1 to 10000")
    connect_timeout_s: float = _setting(1.0, _seconds, _TAKES_SECONDS)
    deadline_s: float = _setting(5.0, _seconds, _TAKES_SECONDS)
    backoff_base_s: float = _setting(0.001, _seconds, _TAKES_SECONDS)
    backoff_cap_s: float = _setting(0.05, _seconds, _TAKES_SECONDS)
    connection_max_age_s: float = _setting(1800.0, _seconds, _TAKES_SECONDS)
    slow_call_s: float = _setting(0.1, _seconds, _TAKES_SECONDS)
    tls: bool = _setting(False, _switch, "true or false")
    tls_ca_file: Path | None = _setting(None, _file, _TAKES_FILE)
    tls_cert_file: Path | None = _setting(None, _file, _TAKES_FILE)
    tls_key_file: Path | None = _setting(None, _file, _TAKES_FILE)

    def __post_init__(self) -> None:
        parsed, problems = _parse({name: getattr(self, name) for name in _FIELDS}, sources={})
        if problems:
            raise ConfigError(problems)
        for name, value in parsed.items():
            object.__setattr__(self, name, value)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] = os.environ) -> Self:
        """Read the configuration from environment variables.

        Args:
            environ: the variables. One that begins with `REDIS_` and is one slip away from a variable of ours is an error; others are
                ignored.

        Raises:
            ConfigError: naming every invalid, contradictory or misspelt variable at once, and no secret.
        """
        settings, problems = read_environment(environ)
        parsed, faults = _parse(
            {name: setting.value for name, setting in settings.items()},
            sources={name: setting.source for name, setting in settings.items()},
        )
        if problems + faults:
            raise ConfigError(problems + faults)
        return cls(**parsed)

    @property
    def endpoint(self) -> str:
        """Return where it points, for messages: `host:port/db`."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}/{self.db}"


def config_or_environment(config: Config | None) -> Config:
    """Return a configuration, the environment's if there is none.

    Raises:
        ConfigError: the environment holds no valid one.
        TypeError: it is something else, such as a URL.
    """
    if config is None:
        return Config.from_env()
    if not isinstance(config, Config):
        raise TypeError(f"connect takes a Config, got a {type(config).__name__}: Config.from_env({{'REDIS_URL': …}}) reads a URL")
    return config


_FIELDS = {field.name: field for field in dataclasses.fields(Config)}


def _parse(values: Mapping[str, Any], sources: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Parse raw values by field; each problem says the variable, what it got and what it takes."""
    parsed: dict[str, Any] = {}
    problems = []
    for name, value in values.items():
        field = _FIELDS[name]
        if value is None and field.default is None:
            continue
        try:
            parsed[name] = field.metadata["parse"](value)
        except (ValueError, TypeError, KeyError, OSError):
            # A URL put into REDIS_HOST may carry a password too.
            got = "a value that is not shown" if name == "password" or "@" in str(value) else repr(value)[:80]
            if value == "":
                got = "nothing (unset it for the default)"
            problems.append(f"{sources.get(name, name)}: got {got}; takes {field.metadata['takes']}")
    return parsed, problems + _contradictions(parsed, invalid={name for name in values.keys() - parsed.keys() if values[name] is not None})


def _contradictions(parsed: Mapping[str, Any], invalid: Set[str]) -> list[str]:
    """Find what contradicts itself among settings that are valid each for itself."""
    get = {name: parsed.get(name, field.default) for name, field in _FIELDS.items()}
    checks = (
        (
            ("backoff_cap_s", "backoff_base_s"),
            get["backoff_cap_s"] < get["backoff_base_s"],
            "REDIS_BACKOFF_CAP_S is below REDIS_BACKOFF_BASE_S: raise the cap or lower the base",
        ),
        (
            ("tls_cert_file", "tls_key_file"),
            (get["tls_cert_file"] is None) != (get["tls_key_file"] is None),
            "a client certificate needs both REDIS_TLS_CERT_FILE and REDIS_TLS_KEY_FILE: set the missing one",
        ),
        (
            ("tls",),
            not get["tls"] and bool(get["tls_ca_file"] or get["tls_cert_file"]),
            "REDIS_TLS_CA_FILE and REDIS_TLS_CERT_FILE do nothing without TLS: set REDIS_TLS to true",
        ),
    )
    return [problem for names, contradicts, problem in checks if contradicts and not invalid & set(names)]
