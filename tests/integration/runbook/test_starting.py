"""Real servers that refuse their files, and such as were kept from serving by something else."""

import socket
from pathlib import Path

import pytest

from runbook.drills.backups.backup import SNAPSHOT_NAME
from runbook.drills.starting import start_or_refusal
from runbook.targets import Embedded, NotServing, TargetError
from tests.conftest import SERVER_ENVIRON

FLAGS = ("--appendonly", "no", "--save", "")


def test_files_that_it_cannot_read_are_refused_in_words_each_time(tmp_path: Path) -> None:
    (tmp_path / SNAPSHOT_NAME).write_bytes(b"REDIS0999")
    with Embedded(SERVER_ENVIRON, FLAGS, data=tmp_path, started=False) as server:
        assert "RDB format version 999" in start_or_refusal(server)
        assert "RDB format version 999" in start_or_refusal(server)
        (server.folder / SNAPSHOT_NAME).unlink()
        assert start_or_refusal(server) == ""


def test_a_port_that_was_taken_meanwhile_is_no_refusal() -> None:
    with Embedded(SERVER_ENVIRON, FLAGS, started=False) as server, socket.socket() as taking:
        taking.bind(("127.0.0.1", server.config.port))
        with pytest.raises(TargetError, match="Address already in use"):
            start_or_refusal(server)


def test_a_start_that_comes_late_is_no_refusal() -> None:
    with Embedded(SERVER_ENVIRON, FLAGS, started=False) as server:
        with pytest.raises(TargetError, match="did not serve"):
            start_or_refusal(server, timeout_s=0.0)
        assert start_or_refusal(server) == ""


def test_after_words_of_an_earlier_start_a_later_one_that_was_kept_away_is_no_refusal(tmp_path: Path) -> None:
    (tmp_path / SNAPSHOT_NAME).write_bytes(b"REDIS0999")
    with Embedded(SERVER_ENVIRON, FLAGS, data=tmp_path, started=False) as server, socket.socket() as taking:
        assert start_or_refusal(server)
        taking.bind(("127.0.0.1", server.config.port))
        with pytest.raises(TargetError, match="Address already in use"):
            start_or_refusal(server)


def test_a_crash_is_no_refusal_but_a_fault_of_the_server(tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text('#!/bin/sh\necho "1:M now # Server initialized"; echo "1:M now # REDIS BUG REPORT START"; kill -SEGV $$\n')
    program.chmod(0o755)
    with Embedded({"REDIS_SERVER": str(program)}, FLAGS, started=False) as server, pytest.raises(NotServing, match="status -11"):
        start_or_refusal(server)
