"""Where a Redis runs, and what may be done to it there."""

import functools
from collections.abc import Callable, Mapping

from runbook.targets.base import Contained, Engine, Local, NotServing, Pausable, Published, Restartable, Target, TargetError
from runbook.targets.compose import PROD, Compose
from runbook.targets.embedded import Embedded
from runbook.targets.remote import Remote

__all__ = [
    "TARGETS",
    "Compose",
    "Contained",
    "Embedded",
    "Engine",
    "Local",
    "NotServing",
    "Pausable",
    "Published",
    "Remote",
    "Restartable",
    "Target",
    "TargetError",
    "open_target",
]

TARGETS: dict[str, Callable[[Mapping[str, str]], Target]] = {
    "embedded": Embedded,
    "compose": Compose,
    "compose-prod": functools.partial(Compose, file=PROD),
    "remote": Remote,
}


def open_target(name: str, environ: Mapping[str, str]) -> Target:
    """Open the target of this name.

    Raises:
        TargetError: there is no such target, or it could not be started.
        ConfigError: the environment's configuration is invalid.
    """
    if name not in TARGETS:
        raise TargetError(f"there is no target {name!r}: choose one of {', '.join(TARGETS)}")
    return TARGETS[name](environ)
