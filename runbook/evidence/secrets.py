"""Keeps secrets out of evidence: whatever the environment holds as one is replaced before anything is written.

Our own program never asks a server for a password. A notebook that does is covered by what the environment holds, and, where the server
has another one, by the names under which a server tells it.
"""

import contextlib
import functools
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from runbook.evidence.forms import encoded_patterns, plain_pattern

MASK = "********"
# A shorter secret, or number, is found inside of ordinary ones; nobody is protected by it anyway.
SHORTEST, SHORTEST_NUMBER = 4, 8
# From this length on nobody chooses a word that our pages are made of.
LONGEST_WORD = 12

_WORD = re.compile(r"[^\W_]([\w-]*[^\W_])?")
# What measurements, dates and the gaps between them are made of.
_NUMBER = re.compile(r"[\d\s.,:+-]*")
_SECRET_VARIABLE = re.compile(r"(^|_)(PASS(WORD|WD|PHRASE)|SECRET|TOKEN|CREDENTIALS?|(API|ACCESS|PRIVATE)_?KEY)$|^REDISCLI_AUTH$")
# Settings of a server that are secrets, whoever knows them.
_SECRET_SETTINGS = ("requirepass", "masterauth", "tls-key-file-pass", "tls-client-key-file-pass")


class Rule(NamedTuple):
    """What is replaced, and by what."""

    pattern: re.Pattern[str]
    by: str


_SETTINGS = "|".join(_SECRET_SETTINGS)
_QUOTE = r"""(?:\\{0,7}["']|&quot;|&#0*39;|&#[xX]0*27;)"""
_BY_NAME = (
    Rule(re.compile(rf"({_QUOTE}(?:{_SETTINGS}){_QUOTE}[\s:=,]{{1,4}}(?:\d\) )?b?{_QUOTE})(?:(?!{_QUOTE})[^\n])+"), rf"\1{MASK}"),
    Rule(re.compile(rf"((?:^|--)(?:{_SETTINGS})[ \t:=]+)(?!{_QUOTE})\S+", re.MULTILINE), rf"\1{MASK}"),
)
_IN_URL = Rule(re.compile(r"(?<=://)([^\s/:@\[\]<>\"']*):[^\s/@<>\"']+(?=@)"), rf"\1:{MASK}")


def secrets_of(environ: Mapping[str, str] = os.environ) -> tuple[Rule, ...]:
    """Return the rules that find the secrets of an environment in every form in which they may turn up.

    They are the password in `REDIS_PASSWORD`, `REDIS_PASSWORD_FILE` and `REDIS_URL`, and whatever else a variable holds that is named like
    a secret, or is a URL with a password. One that is an ordinary word or number is only replaced where a text says that it is a password:
    elsewhere the gaps would spoil the evidence, and tell which word it is.
    """
    secrets = sorted({_readable(secret) for secret in _secrets(environ) if secret}, key=len, reverse=True)
    return tuple(rule for secret in secrets for rule in _rules(secret))


def redact(value: Any, secrets: tuple[Rule, ...]) -> Any:
    """Return a copy of a JSON value, or of a text, with each secret replaced; numbers stay what they are."""
    if isinstance(value, str):
        told = _BY_NAME if any(name in value for name in _SECRET_SETTINGS) else ()
        for rule in (*secrets, *told, *([_IN_URL] if "://" in value else [])):
            value = rule.pattern.sub(rule.by, value)
        return value
    if isinstance(value, list | tuple):
        return [redact(item, secrets) for item in value]
    if isinstance(value, dict):
        return {
            redact(key, secrets): MASK if key in _SECRET_SETTINGS and item and isinstance(item, str) else redact(item, secrets)
            for key, item in value.items()
        }
    return value


def _secrets(environ: Mapping[str, str]) -> Iterator[str]:
    for name, value in environ.items():
        if name == "REDIS_PASSWORD" or _SECRET_VARIABLE.search(name):
            yield value
        elif "://" in value:
            yield from _of_url(value)
    if path := environ.get("REDIS_PASSWORD_FILE"):
        with contextlib.suppress(OSError, ValueError):  # `Config.from_env` reports it
            yield Path(path).read_text(encoding="utf-8").strip("\r\n")


def _of_url(url: str) -> Iterator[str]:
    try:
        password = urlsplit(url).password or ""
    except ValueError:
        yield url
        password = ""
    # One that should have been encoded, and so can't be taken apart, is a secret all the same.
    password = password or url.partition("://")[2].rpartition("@")[0].partition(":")[2]
    yield from (password, unquote(password), unquote(password, "latin-1"))


def _readable(secret: str) -> str:
    """Take bytes that an environment holds and that are no UTF-8 for Latin-1."""
    try:
        secret.encode()
    except UnicodeEncodeError:
        return os.fsencode(secret).decode("latin-1")
    return secret


@functools.lru_cache(maxsize=64)
def _rules(secret: str) -> tuple[Rule, ...]:
    plain = plain_pattern(secret)
    if is_ordinary(secret):
        told = r"(?i:passw(?:or)?d|passphrase|auth|secret)\W{1,4}(?:\w+\W{1,3}){0,2}?"
        first = Rule(re.compile(rf"({told})(?<!\w){plain}(?!\w)"), rf"\1{MASK}")
    else:
        first = Rule(re.compile(rf"(?<!\d){plain}(?!\d)" if secret.isdecimal() else plain), MASK)
    encoded = encoded_patterns(secret) if len(secret) >= SHORTEST else ()
    return (first, *(Rule(re.compile(pattern), MASK) for pattern in encoded))


def is_ordinary(secret: str) -> bool:
    """Tell whether a secret is so short, or so ordinary a word or number, that it stands in every page anyway."""
    if len(secret) < SHORTEST or (len(secret) < SHORTEST_NUMBER and _NUMBER.fullmatch(secret)):
        return True
    return len(secret) < LONGEST_WORD and _WORD.fullmatch(secret) is not None and secret in _own_words()


@functools.cache
def _own_words() -> str:
    """Return the text of our own program: a secret that stands in it is a word that stands in the evidence too."""
    files = Path(__file__).parent.parent.rglob("*")
    return "\n".join(path.read_text(encoding="utf-8") for path in sorted(files) if path.suffix in (".py", ".j2"))
