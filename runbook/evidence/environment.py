"""The circumstances of a run: host, versions, noise."""

import importlib.metadata
import os
import platform

PACKAGES = ("redis", "hiredis", "papermill", "nbclient", "ipykernel", "pandas", "matplotlib")


def describe_host() -> dict[str, str | int]:
    """Describe the machine, without its name."""
    return {
        "system": platform.system(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1,
    }


def describe_versions() -> dict[str, str]:
    """List the versions of Python and of the packages that a result depends on."""
    return {"python": platform.python_version()} | {name: importlib.metadata.version(name) for name in PACKAGES}
