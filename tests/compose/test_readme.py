"""The README's steps, run as they stand there; only names, ports and what takes the host's root or a registry are others."""

import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from cachelib import Config, Refused, connect
from cachelib.config import Secret
from runbook.targets.docker import Docker
from runbook.targets.port import free_port
from runbook.targets.serving import await_serving
from tests.compose.conftest import ENVIRON

REPOSITORY = Path(__file__).resolve().parent.parent.parent
FIRST_WORDS = {
    "Development": ["export"],
    "Production": [
        "echo",
        "mkdir",
        "export",
        "docker compose stop",
        "backup=",
        "docker image",
        "echo REDIS_IMAGE",
        "openssl",
        "docker volume",
    ],
}


def blocks(heading: str) -> list[str]:
    """Return the shell commands under a heading of the README, a string for each block."""
    section = re.search(rf"^### {heading}\n(.*?)^##", (REPOSITORY / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    assert section
    found = re.findall(r"```sh\n(.*?)```", section[1], re.DOTALL)
    assert [block.startswith(word) for block, word in zip(found, FIRST_WORDS[heading], strict=True)] == [True] * len(found)
    return found


class Deployment:
    """A copy of what is deployed, in which the README's commands are run."""

    def __init__(self, folder: Path, docker: Docker) -> None:
        self.name, self.folder, self.docker = f"readme-{uuid.uuid4().hex[:8]}", folder, docker
        self.file = "docker-compose.yml"
        self.port, self.health_port = free_port(), free_port()
        for part in ("compose", "cachelib"):
            shutil.copytree(REPOSITORY / part, folder / part, ignore=shutil.ignore_patterns("secrets", ".env"))
        shutil.copy(REPOSITORY / ".dockerignore", folder)
        self.environ = ENVIRON | {
            "REDIS_CONTAINER": f"{self.name}-redis",
            "HEALTH_CONTAINER": f"{self.name}-health",
            "REDIS_PORT": str(self.port),
            "HEALTH_PORT": str(self.health_port),
            "HEALTH_IMAGE": f"{self.name}-health",
        }

    def run(self, commands: str) -> str:
        """Run commands with a shell that stops at the first failure, and return what they print."""
        others = {
            r"COMPOSE_PROJECT_NAME=\S+": f"COMPOSE_PROJECT_NAME={self.name}",
            r"binance-bot-redis": f"{self.name}-redis",
            r"bot_redis_data": f"{self.name}_redis_data",
            r"localhost:8080": f"localhost:{self.health_port}",
            r"redis:before": f"{self.name}:before",
            r"redis-runbook-health": f"{self.name}-health",
            r"docker compose pull .*": "true",
            r"build --pull": "build",
            r"docker compose": " ".join(self.docker.compose),
        }
        for there, here in others.items():
            commands = re.sub(there, here, commands)
        exports = f"export COMPOSE_PROJECT_NAME={self.name} COMPOSE_FILE=compose/{self.file}\n"
        done = subprocess.run(
            ["bash", "-euc", exports + commands],
            cwd=self.folder,
            env=self.environ,
            capture_output=True,
            text=True,
            timeout=110,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def config(self) -> Config:
        secret = self.folder / "compose/secrets/redis_password"
        login = {"username": "app", "password": Secret(secret.read_text().strip())} if secret.exists() else {}
        config = Config(host="127.0.0.1", port=self.port, **login)
        assert await_serving(config, timeout_s=30.0, goes_on=lambda: True)
        return config

    def inspect(self, what: str) -> str:
        return self.docker.run("inspect", "--format", what, f"{self.name}-redis").strip()


@pytest.fixture
def deployment(tmp_path: Path, docker: Docker) -> Iterator[Deployment]:
    made = Deployment(tmp_path, docker)
    try:
        yield made
    finally:
        made.run("docker compose down --volumes")
        docker.run("image", "rm", "--force", f"{made.name}:before", f"{made.name}-health", f"{made.name}-health:before")


def test_development_is_up_with_its_commands_and_keeps_its_data(deployment: Deployment) -> None:
    (block,) = blocks("Development")
    up, down = block.split("docker compose down")
    said = deployment.run(up)
    assert '"status": "healthy"' in said
    with connect(deployment.config()) as client:
        client.set("kept", "down")
    deployment.run(f"docker compose down{down}")
    deployment.run("docker compose up -d")
    with connect(deployment.config()) as client:
        assert client.get("kept") == b"down"


@pytest.mark.timeout(240)
def test_production_is_set_up_backed_up_restored_upgraded_rolled_back_and_renewed(deployment: Deployment, docker: Docker) -> None:
    deployment.file = "docker-compose.prod.yml"
    _, secret, up, backup, restore, upgrade, back, renew, _ = blocks("Production")
    deployment.run(secret)
    assert len((deployment.folder / "compose/secrets/redis_password").read_text().strip()) == 64
    assert "ready" in deployment.run(up)
    with connect(deployment.config()) as client:
        client.set("state", "before the backup")
    deployment.run(backup)
    with connect(deployment.config()) as client:
        assert client.get("state") == b"before the backup"
        client.set("state", "spoilt")
    torn = deployment.folder / "redis_data-99991231T235959.tgz"
    torn.write_bytes(next(deployment.folder.glob("redis_data-*.tgz")).read_bytes()[:-20])
    with pytest.raises(AssertionError, match=r"tar|gzip|unexpected"):
        deployment.run(restore)
    torn.unlink()
    deployment.run("docker compose start redis")
    with connect(deployment.config()) as client:
        assert client.get("state") == b"spoilt", "a backup that can't be read destroys nothing"
    deployment.run(restore)
    with connect(deployment.config()) as client:
        assert client.get("state") == b"before the backup"
    deployment.run(upgrade)
    container = deployment.inspect("{{.Id}}")
    del deployment.environ["HEALTH_IMAGE"]  # it would outweigh what is written into .env
    deployment.run(back)
    assert deployment.inspect("{{.Config.Image}}") == f"{deployment.name}:before"
    assert docker.inspect(f"{deployment.name}-health")["Config"]["Image"] == f"{deployment.name}-health:before"
    assert deployment.inspect("{{.Id}}") != container
    with connect(deployment.config()) as client:
        assert client.get("state") == b"before the backup"
    before = deployment.config()
    deployment.run(renew)
    with connect(deployment.config()) as client:
        assert client.get("state") == b"before the backup"
    with connect(before) as client, pytest.raises(Refused):
        client.ping()
