"""Whatever happens to a run, nothing of it is left, and nothing of anyone else's is touched."""

import contextlib
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from cachelib import connect
from runbook.targets import TargetError
from runbook.targets.compose import DEV, Compose
from runbook.targets.docker import Docker
from tests.compose.conftest import ENVIRON, of_project

pytestmark = pytest.mark.timeout(180)

OpenCompose = Callable[..., Compose]
Ask = Callable[..., Any]
LABEL = "redis-runbook.project"

# Opens a target, says so, and waits to be ended.
HOLD = """
import os, sys, time
from runbook.targets.compose import Compose
with Compose(os.environ) as compose:
    compose.up_health() if "health" in sys.argv else None
    print(compose.folder, flush=True)
    time.sleep(60)
"""


@pytest.fixture
def project() -> str:
    return f"test-{uuid.uuid4().hex[:10]}"


def identity(docker: Docker, kind: str, name: str) -> str:
    """Return what changes when it is touched: when it was made and, of a container, when it was started."""
    formats = {"container": "{{.Id}} {{.State.StartedAt}} {{.State.Running}}", "network": "{{.Id}}", "volume": "{{.CreatedAt}}"}
    return docker.run(kind, "inspect", "--format", formats[kind], name).strip()


@pytest.fixture
def untouched(docker: Docker, project: str) -> Iterator[None]:
    """Fail the test if something of somebody else is not as it was before."""
    nearness = {
        "none": (),
        "compose": ("--label", f"com.docker.compose.project=near-{project}"),
        "another": ("--label", f"{LABEL}=of-another-run-{project}"),
    }
    made: list[tuple[str, str]] = []
    try:
        for near, labels in nearness.items():
            name = f"{near}-{project}"
            for kind in ("volume", "network"):
                docker.run(kind, "create", *labels, name)
                made.append((kind, name))
            docker.run("run", "--detach", "--name", name, *labels, "--volume", f"{name}:/data", "--network", name, "redis:7-alpine")
            made.append(("container", name))
        before = [identity(docker, *what) for what in made]
        yield
        assert [identity(docker, *what) for what in made] == before
    finally:
        for kind, name in sorted(made):  # containers first
            docker.run(kind, "rm", *(["--force"] if kind != "network" else []), name)


@contextlib.contextmanager
def holding(project: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Start a process that makes the project; kill it at the end, if it still runs."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, *arguments],
        env=ENVIRON | {"RUNBOOK_PROJECT": project},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, *(pytest.param(number, marks=pytest.mark.nightly) for number in (signal.SIGTERM, signal.SIGINT))]
)
def test_nothing_is_left_of_a_process_that_is_ended(
    number: signal.Signals, project: str, untouched: None, docker: Docker, eventually: Ask
) -> None:
    with holding(project, "health") as process:
        assert process.stdout
        folder = Path(process.stdout.readline().strip())
        assert list(folder.iterdir()) == [folder / "redis_password"]
        assert len(of_project(docker, project)) == 4  # two containers, a network, a volume
        process.send_signal(number)
        process.wait(30)
        eventually(lambda: not of_project(docker, project), timeout_s=30.0)
        eventually(lambda: not folder.exists())


@pytest.mark.parametrize(
    ("number", "after_s"),
    [
        (signal.SIGKILL, 0.7),
        *(
            pytest.param(number, after_s, marks=pytest.mark.nightly)
            for number in (signal.SIGKILL, signal.SIGINT)
            for after_s in (0.4, 0.7, 1.0)
        ),
    ],
)
def test_nothing_is_left_of_a_process_that_is_ended_while_it_starts(
    number: signal.Signals, after_s: float, project: str, docker: Docker, eventually: Ask
) -> None:
    with holding(project) as process:
        time.sleep(0.3)  # python itself
        time.sleep(after_s)
        process.send_signal(number)
        process.wait(60)
        time.sleep(1.5)  # what the engine was told may still come about
        eventually(lambda: not of_project(docker, project), timeout_s=30.0)


def test_nothing_is_left_of_a_start_that_fails(project: str, untouched: None, docker: Docker) -> None:
    with pytest.raises(TargetError):
        Compose(ENVIRON | {"RUNBOOK_PROJECT": project, "REDIS_MAXMEMORY": "much"})
    assert not of_project(docker, project)


def test_what_only_resembles_ours_is_left_alone_at_a_normal_end(project: str, untouched: None, docker: Docker) -> None:
    with Compose(ENVIRON | {"RUNBOOK_PROJECT": project}) as compose:
        compose.down()
        compose.up()
    assert not of_project(docker, project)


@pytest.mark.parametrize("kind", ["volume", "network"])
def test_somebody_elses_project_is_refused(kind: str, project: str, docker: Docker) -> None:
    name = f"{project}_{'redis_data' if kind == 'volume' else 'trading-network'}"
    docker.run(kind, "create", "--label", f"com.docker.compose.project={project}", name)
    try:
        with pytest.raises(TargetError, match=f"the project {project} is not the runbook's: .* choose another name in RUNBOOK_PROJECT"):
            Compose(ENVIRON | {"RUNBOOK_PROJECT": project})
        assert docker.found(kind, f"name=^{name}$")
    finally:
        docker.run(kind, "rm", name)


def test_a_volume_made_by_hand_under_our_name_is_refused(project: str, docker: Docker) -> None:
    docker.run("volume", "create", f"{project}_redis_data")
    try:
        with pytest.raises(TargetError, match="does not bear its label"):
            Compose(ENVIRON | {"RUNBOOK_PROJECT": project})
    finally:
        docker.run("volume", "rm", f"{project}_redis_data")


def test_a_project_at_work_is_refused_and_goes_on(project: str, open_compose: OpenCompose) -> None:
    first = open_compose(DEV, RUNBOOK_PROJECT=project)
    with pytest.raises(TargetError, match=f"the project {project} has 1 containers: another run or somebody else is at work in it"):
        open_compose(DEV, RUNBOOK_PROJECT=project)
    with connect(first.config) as client:
        assert client.ping()


@pytest.mark.parametrize("name", ["Upper", "with space", "-dash", "a" * 42, "../up", "a;b"])
def test_an_impossible_name_is_refused(name: str, open_compose: OpenCompose) -> None:
    with pytest.raises(TargetError, match=r"RUNBOOK_PROJECT is .* takes up to 41 small letters, digits, - and _"):
        open_compose(DEV, RUNBOOK_PROJECT=name)


def test_a_volume_is_removed_on_request_only_if_this_run_made_it(project: str, open_compose: OpenCompose, docker: Docker) -> None:
    own = open_compose()
    own.down(volume=True)
    assert not of_project(docker, own.project)
    volume = f"{project}_redis_data"
    docker.run("volume", "create", "--label", f"{LABEL}={project}", "--label", f"com.docker.compose.project={project}", volume)
    try:
        found = open_compose(DEV, RUNBOOK_PROJECT=project)
        with pytest.raises(TargetError, match=f"the volume {volume} was there before this run: remove it by hand"):
            found.down(volume=True)
        found.close()
        assert docker.found("volume", f"name=^{volume}$") == [volume]
    finally:
        docker.run("volume", "rm", volume)


@contextlib.contextmanager
def drilling(runs: Path, project: str) -> Iterator[subprocess.Popen[str]]:
    """Run the persistence drill on Compose, and yield in the middle of its first load."""
    process = subprocess.Popen(
        [sys.executable, "-m", "runbook", "run", "persistence-drill", "-p", "target=compose", "--runs", str(runs)],
        env={**os.environ, "RUNBOOK_PROJECT": project},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        assert process.stdout
        seen = ""
        while "cell 4 of" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        time.sleep(1.0)
        yield process
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)])
def test_an_interrupted_command_returns_when_nothing_is_left(number: signal.Signals, project: str, docker: Docker, tmp_path: Path) -> None:
    with drilling(tmp_path / "runs", project) as process:
        assert of_project(docker, project)
        process.send_signal(number)
        said, _ = process.communicate(timeout=60)
        assert process.returncode == 130, said
        assert not of_project(docker, project)


def test_a_killed_kernel_leaves_nothing_when_the_command_returns(project: str, docker: Docker, tmp_path: Path) -> None:
    with drilling(tmp_path / "runs", project) as process:
        for kernel in _kernels_below(process.pid):
            os.kill(kernel, signal.SIGKILL)
        said, _ = process.communicate(timeout=120)
        assert process.returncode == 4, said
        assert not of_project(docker, project)


def test_a_killed_command_leaves_nothing(project: str, docker: Docker, tmp_path: Path, eventually: Ask) -> None:
    with drilling(tmp_path / "runs", project) as process:
        process.kill()
        process.wait(10)
        eventually(lambda: not of_project(docker, project), timeout_s=30.0)


def _kernels_below(pid: int) -> list[int]:
    """List the kernels among the descendants of a process."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    below = {pid}
    while more := {child for child, parent in parents.items() if parent in below} - below:
        below |= more
    return [child for child in below if b"ipykernel_launcher" in _command(child)]


def _command(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""
