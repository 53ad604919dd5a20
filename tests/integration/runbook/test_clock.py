"""A clock of its own for one server: steps are seen by it alone, and what hinders them is told."""

import shutil
from pathlib import Path

import pytest

from cachelib import connect
from runbook.drills.catalogue import DRILLS
from runbook.drills.drill import Ground
from runbook.drills.faults.clock import NoClock, OwnClock, ahead_s
from runbook.drills.undo import UndoLog
from runbook.evidence import Verdict
from runbook.targets import Embedded

FLAGS = ("--appendonly", "yes", "--appendfsync", "always")
COMPILES = pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler")


def _environ(engine: Embedded) -> dict[str, str]:
    return {"PATH": "/usr/bin:/bin", "REDIS_SERVER": engine._binary.path}


@COMPILES
def test_steps_are_seen_by_the_server_and_by_the_keys_that_expire_and_its_syncs_are_counted(engine: Embedded, tmp_path: Path) -> None:
    with (
        OwnClock(_environ(engine), tmp_path) as clock,
        Embedded(clock.environ, FLAGS, parent=tmp_path) as server,
        connect(server.config) as client,
        connect(engine.config) as other,
    ):
        assert abs(ahead_s(client)) < 2
        assert clock.step(client, 10) == ()
        assert 8 < ahead_s(client) < 12
        assert abs(ahead_s(other)) < 2
        client.set("key", "value", ex=8)
        before = clock.fsyncs
        client.set("key", "value", ex=8)
        assert clock.fsyncs > before
        assert clock.step(client, 20) == ()
        assert client.get("key") is None
        assert repr(clock) == "<OwnClock +30 s>"
        assert clock.step(client, -30) == ()
        assert abs(ahead_s(client)) < 2


def test_a_clock_that_the_server_does_not_go_by_is_doubted(engine: Embedded, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook.drills.faults.clock.NOTICE_S", 0.1)
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    with OwnClock(_environ(engine), tmp_path) as clock, connect(engine.config) as client:
        (doubt,) = clock.step(client, 10)
    assert doubt.startswith("the server's clock was stepped by +10 s, and its TIME by")


def test_without_a_compiler_nothing_is_concluded_and_the_reason_says_what_to_install(tmp_path: Path) -> None:
    environ = {"PATH": str(tmp_path)}
    with pytest.raises(NoClock, match="install the package gcc"):
        OwnClock(environ, tmp_path)
    ground = Ground("clock-step", environ, "embedded", "quick", 1, 1, tmp_path, UndoLog(tmp_path), lambda what: None)
    assert {finding.verdict for finding in DRILLS["clock-step"].perform(ground)} == {Verdict.INCONCLUSIVE}


def test_a_compiler_that_fails_is_told(tmp_path: Path) -> None:
    compiler = tmp_path / "cc"
    compiler.write_text("#!/bin/sh\necho 'fatal error: time.h: no such file' >&2\nexit 1\n")
    compiler.chmod(0o700)
    with pytest.raises(NoClock, match=r"fatal error: time.h.*install the package libc6-dev"):
        OwnClock({"PATH": str(tmp_path)}, tmp_path)
