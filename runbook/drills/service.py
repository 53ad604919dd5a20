"""The story's service: what it asks for, what a compose file says, and what a container has; each as the same eight settings."""

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runbook.targets.embedded import STORY_FLAGS

# What the story asks for, word for word but for its traps: the port is not open to the world, and the check looks at the answer.
STORY = {
    "image": ("AC-1", "redis:7-alpine"),
    "container name": ("AC-1", "binance-bot-redis"),
    "port": ("AC-1", "127.0.0.1:6379 to 6379"),
    "command": ("AC-1", shlex.join(("redis-server", *STORY_FLAGS))),
    "network": ("AC-1", "trading-network"),
    "restart": ("AC-1", "unless-stopped"),
    "volume": ("AC-3", "redis_data at /data"),
    "health check": ("AC-4", "redis-cli ping every 10 s"),
}

# Where a port is published that names no address.
EVERYWHERE = "0.0.0.0"  # noqa: S104
_UNITS_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class Difference:
    """A setting that is not what was wanted.

    Attributes:
        where: whose setting.
        name: of the setting.
        wanted: its value as it should be.
        found: as it is.
    """

    where: str
    name: str
    wanted: str
    found: str

    def __str__(self) -> str:
        return f"{self.where}: {self.name} is {self.found or 'not set'}, not {self.wanted}"


def differences(where: str, wanted: Mapping[str, str], found: Mapping[str, str]) -> tuple[Difference, ...]:
    """List the settings that are not what was wanted."""
    return tuple(Difference(where, name, value, found.get(name, "")) for name, value in wanted.items() if found.get(name, "") != value)


def in_file(service: Mapping[str, Any]) -> dict[str, str]:
    """Read the settings of a service out of a compose file as `config` shows it, in the words of either Compose.

    Args:
        service: the mapping under the service's name.
    """
    command = service.get("command") or ()
    check = service.get("healthcheck") or {}
    return {
        "image": str(service.get("image", "")),
        "container name": str(service.get("container_name", "")),
        "port": ", ".join(_published(port) for port in service.get("ports", ())),
        "command": shlex.join(shlex.split(command) if isinstance(command, str) else command),
        "network": ", ".join(service.get("networks") or ()),
        "restart": str(service.get("restart", "")),
        "volume": ", ".join(_named_volumes(service.get("volumes", ()))),
        "health check": _check_words(check.get("test") or (), _seconds(str(check.get("interval", "")))),
    }


def in_container(inspected: Mapping[str, Any], project: str) -> dict[str, str]:
    """Read the settings of a container out of what the engine knows of it.

    Args:
        inspected: as `docker inspect` shows it.
        project: whose name Compose puts before those of volumes and networks.
    """
    config, host = inspected["Config"], inspected["HostConfig"]
    check = config.get("Healthcheck") or {}
    own = f"{project}_"
    volumes = [mount for mount in inspected["Mounts"] if mount["Type"] == "volume"]
    return {
        "image": config["Image"],
        "container name": inspected["Name"].removeprefix("/"),
        "port": ", ".join(
            _from_to(at.get("HostIp", ""), at["HostPort"], port) for port, ats in (host["PortBindings"] or {}).items() for at in ats
        ),
        "command": shlex.join(config["Cmd"] or ()),
        "network": ", ".join(name.removeprefix(own) for name in inspected["NetworkSettings"]["Networks"]),
        "restart": host["RestartPolicy"]["Name"],
        "volume": ", ".join(f"{mount['Name'].removeprefix(own)} at {mount['Destination']}" for mount in volumes),
        "health check": _check_words(check.get("Test") or (), check.get("Interval", 0) / 1e9),
    }


def flags(command: str) -> dict[str, str]:
    """Return the server's settings on its command line, such as `{"appendonly": "yes"}`."""
    return dict(re.findall(r"--(\S+) (\S+)", command))


def _published(port: str | Mapping[str, Any]) -> str:
    if isinstance(port, Mapping):  # Compose v2
        return _from_to(port.get("host_ip", ""), str(port.get("published", "")), str(port["target"]))
    parts = ["", "", *str(port).rsplit(":", 2)]
    return _from_to(parts[-3], parts[-2], parts[-1])


def _from_to(address: str, published: str, target: str) -> str:
    return f"{address or EVERYWHERE}:{published or 'any'} to {target.removesuffix('/tcp')}"


def _named_volumes(volumes: Sequence[str | Mapping[str, Any]]) -> list[str]:
    named = []
    for volume in volumes:
        if isinstance(volume, Mapping):  # Compose v2
            kind, source, target = volume["type"], str(volume.get("source", "")), str(volume["target"])
        else:
            source, target = volume.split(":")[:2]
            kind = "bind" if source.startswith(("/", ".", "~")) else "volume"
        if kind == "volume":
            named.append(f"{source} at {target}")
    return named


def _check_words(test: Sequence[str], interval_s: float) -> str:
    """Say what a health check asks, and how often: it may pass options, and must compare the answer, since NOAUTH exits with 0 too."""
    if not test:
        return ""
    asked = re.search(r"\bredis-cli\b[^|;&]*?\bping\b(?P<compared> *\| *grep -q?x PONG$)?", " ".join(test))
    what = "something else" if not asked else "redis-cli ping" if asked["compared"] else "redis-cli ping, whatever the answer,"
    return f"{what} every {interval_s:g} s"


def _seconds(duration: str) -> float:
    """Read a duration of Compose, such as `1m30s`."""
    return sum(float(number) * _UNITS_S[unit] for number, unit in re.findall(r"([0-9.]+)(ms|s|m|h)", duration))
