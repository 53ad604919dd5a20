"""Removes what a compose project of ours has left, also when the process that made it was killed.

Run as a program (`python reaper.py PROJECT KEEP FOLDER`, with nothing but the standard library), it waits for the end of its standard
input, which comes with the end of its parent by whatever cause, and then removes the folder, and everything that bears the project's label.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping

LABEL = "redis-runbook.project"
# What is written to the reaper when there is nothing left to do.
DONE = b"done"
# The engine may still make what its client had asked for before it died.
SETTLE_S = 1.0
ATTEMPTS = 5
# An engine that is away for longer would start them again by their policy when it comes back.
MOST_ROUNDS = 600


def remove(project: str, keep: tuple[str, ...] = (), environ: Mapping[str, str] | None = None) -> list[str]:
    """Remove all containers, networks and volumes that bear the project's label, and return what is left of them after several attempts.

    The engine may refuse to remove a container while its policy starts it again.

    Args:
        project: value of the label.
        keep: names of volumes that stay.
        environ: of the commands, which says where the engine is; our own by default.

    Raises:
        subprocess.CalledProcessError: the engine does not tell what there is.
    """
    for attempt in range(ATTEMPTS):
        time.sleep(SETTLE_S if attempt else 0.0)
        for kind, options in (("container", ("--force", "--volumes")), ("network", ()), ("volume", ("--force",))):
            if labelled := _labelled(kind, project, keep, environ):
                command = ["docker", kind, "rm", *options, *labelled]
                subprocess.run(command, env=environ, capture_output=True, check=False, start_new_session=True)
        left = [name for kind in ("container", "network", "volume") for name in _labelled(kind, project, keep, environ)]
        if not left:
            break
    return left


def _labelled(kind: str, project: str, keep: tuple[str, ...], environ: Mapping[str, str] | None = None) -> list[str]:
    everything = ["--all"] if kind == "container" else []
    command = ["docker", kind, "ls", "--quiet", *everything, "--filter", f"label={LABEL}={project}"]
    listed = subprocess.run(command, env=environ, capture_output=True, text=True, check=True, start_new_session=True)
    return [name for name in listed.stdout.split() if name not in keep]


def main(project: str, keep: str, folder: str) -> None:
    """Wait for the parent's end; then remove, until nothing has appeared for a while."""
    if sys.stdin.buffer.read() == DONE:
        return
    shutil.rmtree(folder, ignore_errors=True)
    quiet_rounds = 0
    for _ in range(MOST_ROUNDS):
        try:
            found = _labelled("container", project, ())
            quiet_rounds = 0 if remove(project, tuple(json.loads(keep))) or found else quiet_rounds + 1
        except subprocess.CalledProcessError:
            quiet_rounds = 0
        if quiet_rounds == 2:
            return
        time.sleep(SETTLE_S)


if __name__ == "__main__":
    main(*sys.argv[1:])
