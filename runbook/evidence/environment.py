"""The circumstances of a run: which server, how it and its client were configured, on which host, with which packages."""

import importlib.metadata
import os
import platform
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from cachelib import Config

PACKAGES = (
    "redis-runbook",
    "redis",
    "hiredis",
    "papermill",
    "nbclient",
    "nbconvert",
    "ipykernel",
    "jinja2",
    "numpy",
    "pandas",
    "matplotlib",
    "hdrhistogram",
    "granian",
)
# What every result says of them, by name.
CIRCUMSTANCES = ("engine", "image", "configuration", "seed", "host", "versions")
# Of a server of our own they are made up anew for each run.
_ENDPOINT = ("host", "port", "username", "password", "db", "tls", "tls_ca_file", "tls_cert_file", "tls_key_file")


def circumstances(engine: Mapping[str, Any] | None, client: Config, target: str, seed: int | None) -> dict[str, Any]:
    """Return the circumstances for a result.

    Args:
        engine: the fields of the `Engine` that answered; None if none did.
        client: its configuration.
        target: where the server ran; only of somebody else's it is told where that is.
        seed: of what was chosen by chance; None if nothing was.
    """
    told = dict(engine or {})
    settings, image = told.pop("settings", {}), told.pop("image", None)
    return {
        "engine": told or None,
        "image": image,
        "configuration": {"server": settings, "client": describe_client(client, endpoint=target == "remote")},
        "seed": seed,
        "host": describe_host(),
        "versions": describe_versions(),
    }


def describe_client(config: Config, *, endpoint: bool) -> dict[str, str]:
    """Return a client's configuration as resolved; its password is masked, and a file told by its name alone.

    Args:
        config: resolved.
        endpoint: whether to tell the server's address too, and how it is logged in to.
    """
    values = {field.name: getattr(config, field.name) for field in fields(config) if endpoint or field.name not in _ENDPOINT}
    return {name: _setting(value) for name, value in values.items()}


def describe_host() -> dict[str, str | int | float]:
    """Describe the machine, without its name; what the system does not tell is left out."""
    told: dict[str, str | int | float | None] = {
        "system": platform.system(),
        "release": _release(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpu": _after("/proc/cpuinfo", "model name"),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
        "memory_mib": _memory_mib(),
        "virtualised": _virtualised(),
        "steal_percent": _steal_percent(),
    }
    return {name: value for name, value in told.items() if value is not None}


def describe_versions() -> dict[str, str]:
    """List the versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}


def _setting(value: Any) -> str:
    if value is None:
        return "not set"
    return value.name if isinstance(value, Path) else str(value)


def _release() -> str | None:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        return None


def _memory_mib() -> int | None:
    told = _after("/proc/meminfo", "MemTotal")
    return int(told.split()[0]) // 1024 if told else None


def _virtualised() -> str | None:
    """Tell whether a hypervisor shows itself in the processor's flags."""
    flags = _after("/proc/cpuinfo", "flags")
    return None if flags is None else "yes" if "hypervisor" in flags.split() else "no"


def _steal_percent() -> float | None:
    """Return which share of the processor's time since the start the hypervisor has given to others."""
    try:
        times = [int(text) for text in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    except (OSError, ValueError, IndexError):
        return None
    total = sum(times)
    return round(100 * times[7] / total, 1) if len(times) == 8 and total else None


def _after(path: str, name: str) -> str | None:
    """Return what stands behind the colon of the first line that begins with a name."""
    try:
        with Path(path).open(encoding="utf-8", errors="replace") as lines:
            return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name), None)
    except OSError:
        return None
