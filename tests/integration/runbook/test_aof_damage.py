"""Damaged append-only files before real servers: what each of them does, and that our checks tell."""

import dataclasses
from pathlib import Path

import pytest

from cachelib import Client, connect
from runbook.drills.aof_damage import try_case, write_original
from runbook.drills.damage.cases import Case, Kind, cases
from runbook.drills.damage.check_aof import find_check_aof
from runbook.drills.damage.judging import judge_outcomes
from runbook.drills.damage.manifest import DIRECTORY, problems_of_set
from runbook.drills.damage.outcome import Held
from runbook.drills.drill import Ground
from runbook.drills.faults.files import digest_of_files
from runbook.drills.undo import UndoLog
from runbook.evidence import Verdict
from runbook.targets import Embedded, NotServing
from runbook.targets.binary import find_server

FLAGS = ("--appendonly", "yes")


@pytest.fixture
def ground(engine: Embedded, tmp_path: Path) -> Ground:
    """Ground with servers of the same engine as the fixture's."""
    environ = {"REDIS_SERVER": engine._binary.path}
    return Ground("aof-damage", environ, "embedded", "quick", 3, 1, tmp_path, UndoLog(tmp_path / "state"), lambda what: None)


def test_no_kind_of_damage_passes_our_checks_unseen(ground: Ground) -> None:
    original = write_original(ground)
    assert problems_of_set(original.folder) == []
    before = digest_of_files(original.folder)
    tool = find_check_aof(ground.environ, ground.folder)
    assert tool is not None
    todo = list(cases(original, ground.chance(), cuts=2, each=1))
    assert {case.kind for case in todo} == set(Kind)
    outcomes = [try_case(ground, original, case, tool) for case in todo]
    findings = judge_outcomes(outcomes, Held(original.written, original.digest), has_tool=True)
    assert {finding.claim: finding.reason for finding in findings if finding.verdict is not Verdict.PASS and not finding.known} == {}
    assert sum(finding.is_known for finding in findings) == 4
    assert digest_of_files(original.folder) == before
    assert {path.name for path in ground.folder.iterdir()} <= {"original", "redis-check-aof", "valkey-check-aof", "state"}


def test_a_server_that_crashes_over_a_damaged_base_has_not_started_on_other_data(ground: Ground) -> None:
    original = write_original(ground)
    base = next((original.folder / DIRECTORY).glob("*.base.rdb")).name

    def make_two_keys_one(folder: Path) -> None:
        path = folder / DIRECTORY / base
        path.write_bytes(path.read_bytes().replace(b"runbook:aof:0141", b"runbook:aof:0140"))

    case = Case(Kind.BASE, "a key twice", make_two_keys_one, units=None)
    outcome = try_case(ground, original, case, tool=None)
    assert outcome.crashed
    assert outcome.said.startswith("RDB has duplicated key")  # Valkey does not name it
    findings = judge_outcomes([outcome], Held(original.written, original.digest), has_tool=False)
    assert all(finding.verdict is not Verdict.FAIL for finding in findings)
    told = next(measured for finding in findings for measured in finding.measured if measured.name == Kind.BASE)
    assert told.value == f"crashed 1 (“{outcome.said}”); accused by nobody"


@pytest.mark.parametrize("says", ["", "1:M now # Server initialized\n1:M now # Cannot allocate memory"])
def test_a_crash_that_is_not_over_the_files_says_nothing_of_them(says: str, ground: Ground, tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text(f"#!/bin/sh\necho '{says}'; kill -SEGV $$\n")
    program.chmod(0o755)
    original = write_original(ground)
    crashing = dataclasses.replace(ground, environ={"REDIS_SERVER": str(program)})
    with pytest.raises(NotServing, match="status -11"):
        try_case(crashing, original, Case(Kind.NOTHING, "an undamaged copy", lambda folder: None, units=None), tool=None)


def test_a_server_starts_on_a_copy_of_the_data_that_it_is_given(engine: Embedded, client: Client, tmp_path: Path) -> None:
    client.set("key", "value")
    engine.stop()
    before = digest_of_files(engine.folder / "appendonlydir")
    with Embedded({"REDIS_SERVER": engine._binary.path}, FLAGS, parent=tmp_path, data=engine.folder) as server:
        with connect(server.config) as reading:
            assert reading.get("key") == b"value"
            reading.set("key", "other")
        assert server.folder != engine.folder
    assert digest_of_files(engine.folder / "appendonlydir") == before
    assert list(tmp_path.iterdir()) == []


def test_a_script_that_starts_a_server_is_not_taken_for_the_tool(tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text(f'#!/bin/sh\nexec {find_server({"PATH": "/usr/bin:/bin"}).path} "$@"\n')
    script.chmod(0o755)
    assert find_check_aof({"REDIS_SERVER": str(script), "PATH": str(tmp_path)}, tmp_path) is None
