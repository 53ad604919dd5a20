"""Keeps secrets out of evidence: whatever the environment holds as one is replaced before anything is written."""

import base64
import contextlib
import html
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus, unquote, urlsplit

MASK = "********"
# A shorter secret would be found inside ordinary words; nobody is protected by it anyway.
SHORTEST = 4


def secrets_of(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """List the secrets of an environment in every form in which they may turn up: raw, escaped, URL-encoded, base64; the longest first."""
    raw = {environ.get("REDIS_PASSWORD", "")}
    if url := environ.get("REDIS_URL"):
        try:
            raw |= {urlsplit(url).password or "", unquote(urlsplit(url).password or "")}
        except ValueError:
            raw.add(url)
    if path := environ.get("REDIS_PASSWORD_FILE"):
        with contextlib.suppress(OSError, ValueError):  # `Config.from_env` reports it
            raw.add(Path(path).read_text(encoding="utf-8").strip("\r\n"))
    forms = set()
    for secret in raw:
        if len(secret) >= SHORTEST:
            encoded = base64.b64encode(secret.encode()).decode()
            forms |= {secret, quote(secret, safe=""), quote_plus(secret), encoded, repr(secret)[1:-1], json.dumps(secret)[1:-1]}
            forms |= {html.escape(secret), html.escape(secret, quote=False)}
    return tuple(sorted(forms, key=len, reverse=True))


def redact(value: Any, secrets: tuple[str, ...]) -> Any:
    """Return a copy of a JSON value, or of a text, with each secret replaced."""
    if not secrets:
        return value
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, MASK)
        return value
    if isinstance(value, list | tuple):
        return [redact(item, secrets) for item in value]
    if isinstance(value, dict):
        return {redact(key, secrets): redact(item, secrets) for key, item in value.items()}
    return value
