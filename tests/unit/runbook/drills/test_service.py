"""The story's service as files and engines tell of it: each wrong setting is found, in the words of either Compose."""

import copy
from typing import Any

import pytest

from runbook.drills.service import STORY, differences, flags, in_container, in_file

STORY_SETTINGS = {name: value for name, (_, value) in STORY.items()}
COMMAND = "redis-server --appendonly yes --appendfsync everysec --maxmemory 512mb --maxmemory-policy noeviction"
CHECK = ["CMD-SHELL", "redis-cli ping | grep -qx PONG"]

# As `config` of Compose 1.29 shows it, and as that of v2 does.
OLD = {
    "image": "redis:7-alpine",
    "container_name": "binance-bot-redis",
    "ports": ["127.0.0.1:6379:6379/tcp"],
    "command": COMMAND,
    "networks": {"trading-network": None},
    "restart": "unless-stopped",
    "volumes": ["./start.sh:/start.sh:ro", "redis_data:/data:rw"],
    "healthcheck": {"test": CHECK, "interval": "10s"},
}
NEW = OLD | {
    "ports": [{"mode": "ingress", "host_ip": "127.0.0.1", "target": 6379, "published": "6379", "protocol": "tcp"}],
    "command": COMMAND.split(),
    "volumes": [
        {"type": "bind", "source": "/srv/start.sh", "target": "/start.sh"},
        {"type": "volume", "source": "redis_data", "target": "/data", "volume": {}},
    ],
}
CONTAINER = {
    "Name": "/binance-bot-redis",
    "Config": {"Image": "redis:7-alpine", "Cmd": COMMAND.split(), "Healthcheck": {"Test": CHECK, "Interval": 10_000_000_000}},
    "HostConfig": {
        "PortBindings": {"6379/tcp": [{"HostIp": "127.0.0.1", "HostPort": "6379"}]},
        "RestartPolicy": {"Name": "unless-stopped"},
    },
    "Mounts": [
        {"Type": "bind", "Source": "/srv/start.sh", "Destination": "/start.sh"},
        {"Type": "volume", "Name": "bot_redis_data", "Destination": "/data"},
    ],
    "NetworkSettings": {"Networks": {"bot_trading-network": {}}},
}

EITHER = pytest.mark.parametrize("service", [OLD, NEW], ids=["1.29", "v2"])


@EITHER
def test_the_storys_own_service_has_no_difference(service: dict[str, Any]) -> None:
    assert in_file(service) == STORY_SETTINGS


def test_the_storys_own_container_has_no_difference() -> None:
    assert in_container(CONTAINER, "bot") == STORY_SETTINGS


@EITHER
@pytest.mark.parametrize(
    ("change", "name", "found"),
    [
        ({"image": "redis:latest"}, "image", "redis:latest"),
        ({"container_name": "redis"}, "container name", "redis"),
        ({"ports": ["127.0.0.1:6380:6380"]}, "port", "127.0.0.1:6380 to 6380"),
        ({"ports": ["6379:6379"]}, "port", "0.0.0.0:6379 to 6379"),
        ({"ports": ["6379"]}, "port", "0.0.0.0:any to 6379"),
        ({"ports": [{"target": 6379, "published": "6379"}]}, "port", "0.0.0.0:6379 to 6379"),
        ({"ports": ["127.0.0.1:6379:6379", "[::]:6379:6379"]}, "port", "127.0.0.1:6379 to 6379, [::]:6379 to 6379"),
        ({"ports": []}, "port", ""),
        ({"command": COMMAND.replace("everysec", "no")}, "command", COMMAND.replace("everysec", "no")),
        ({"command": f"{COMMAND} --save ''"}, "command", f"{COMMAND} --save ''"),
        ({"networks": {"default": None}}, "network", "default"),
        ({"restart": "no"}, "restart", "no"),
        ({"volumes": ["./data:/data"]}, "volume", ""),
        ({"volumes": ["redis_data:/var/lib/redis"]}, "volume", "redis_data at /var/lib/redis"),
        ({"healthcheck": {"test": CHECK, "interval": "1m30s"}}, "health check", "redis-cli ping every 90 s"),
        ({"healthcheck": {"test": ["CMD", "true"], "interval": "10s"}}, "health check", "something else every 10 s"),
        *(
            (
                {"healthcheck": {"test": ["CMD-SHELL", test], "interval": "10s"}},
                "health check",
                "redis-cli ping, whatever the answer, every 10 s",
            )
            for test in ("redis-cli ping", "redis-cli ping | grep -qx PONG || true", "redis-cli ping | cat")
        ),
        (
            {"healthcheck": {"test": ["CMD-SHELL", "redis-cli info; echo ping"], "interval": "10s"}},
            "health check",
            "something else every 10 s",
        ),
        ({"healthcheck": None}, "health check", ""),
    ],
)
def test_a_wrong_setting_of_a_file_is_named(service: dict[str, Any], change: dict[str, Any], name: str, found: str) -> None:
    (difference,) = differences("the file", STORY_SETTINGS, in_file(service | change))
    assert (difference.name, difference.found) == (name, found)
    assert str(difference) == f"the file: {name} is {found or 'not set'}, not {STORY_SETTINGS[name]}"


@pytest.mark.parametrize(
    ("path", "value", "name"),
    [
        (("Config", "Image"), "redis:6", "image"),
        (("Name",), "/bot_redis_1", "container name"),
        (("Config", "Cmd"), ["redis-server"], "command"),
        (("Config", "Healthcheck"), None, "health check"),
        (("HostConfig", "RestartPolicy", "Name"), "", "restart"),
        (("HostConfig", "PortBindings"), None, "port"),
        (("HostConfig", "PortBindings"), {"6379/tcp": [{"HostIp": "", "HostPort": "6379"}]}, "port"),
        (("Mounts",), [], "volume"),
        (("NetworkSettings", "Networks"), {"bridge": {}}, "network"),
    ],
)
def test_a_wrong_setting_of_a_container_is_named(path: tuple[str, ...], value: Any, name: str) -> None:
    inspected = copy.deepcopy(CONTAINER)
    holder: Any = inspected
    for step in path[:-1]:
        holder = holder[step]
    holder[path[-1]] = value
    assert [difference.name for difference in differences("", STORY_SETTINGS, in_container(inspected, "bot"))] == [name]


def test_a_check_may_pass_options_and_a_password() -> None:
    test = ["CMD-SHELL", "REDISCLI_AUTH=$(cat /run/secrets/x) redis-cli --user app ping | grep -qx PONG"]
    assert in_file(OLD | {"healthcheck": {"test": test, "interval": "10s"}}) == STORY_SETTINGS


def test_flags_are_read_from_the_command_line() -> None:
    assert flags(COMMAND) == {"appendonly": "yes", "appendfsync": "everysec", "maxmemory": "512mb", "maxmemory-policy": "noeviction"}
