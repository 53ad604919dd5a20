"""`runbook load` as its users meet it: any load, what was measured, and a message for what can't be offered."""

import os
import re
import subprocess
import sys

import pytest

from runbook.targets import Embedded

pytestmark = pytest.mark.timeout(60)


def process(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "runbook", "load", "--duration-s", "0.4", *arguments],
        env={name: value for name, value in os.environ.items() if not name.startswith("REDIS_")},
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert "Traceback" not in done.stdout + done.stderr
    return done


@pytest.fixture
def load(run_here):
    return lambda *arguments, **environ: run_here("load", "--duration-s", "0.4", *arguments, **environ)


def at(server: Embedded) -> dict[str, str]:
    return {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.config.port), "REDIS_DEADLINE_S": "1"}


def test_a_load_on_a_server_of_our_own_is_offered_and_told(tmp_path):
    hgrm = tmp_path / "latencies.hgrm"
    done = process("--rate-per-s", "1000", "--operations", "GET=9,SET=1", "--sizes-bytes", "16=3,2000=1", "--hgrm", str(hgrm))
    assert done.returncode == 0, done.stderr
    assert re.search(r"open loop, 1000 calls/s, constant +10 ", done.stdout)
    assert re.search(r"load +all +400 ", done.stdout)
    assert "#[Max" in hgrm.read_text()
    assert re.search(r"TotalCount += +400", hgrm.read_text())


def test_a_closed_loop_is_called_capacity(server, load):
    done = load("--target", "remote", "--closed", "--depth", "8", **at(server))
    assert done.returncode == 0
    assert "closed loop: capacity" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--rate-per-s", "0"], "a rate takes operations a second above 0"),
        (["--rate-per-s", "-5"], "a rate takes operations a second above 0"),
        (["--rate-per-s", "nan"], "a rate takes operations a second above 0"),
        (["--duration-s", "0"], "a load takes seconds above 0"),
        (["--connections", "0"], "at least one connection"),
        (["--connections", "9999999"], "raise `ulimit -n`"),
        (["--sizes-bytes", "2000000"], "a value takes 1 to 1,048,576 bytes"),
        (["--sizes-bytes", "big"], "takes whole numbers of bytes"),
        (["--operations", "FLUSHALL=1"], "there is no operation 'FLUSHALL'"),
        (["--operations", "GET=many"], "takes names with weights"),
        (["--processes", "9", "--connections", "3"], "3 connections take 1 to 3 processes"),
    ],
)
def test_what_cannot_be_offered_is_wrong_usage_and_says_what_it_takes(arguments, words, server, load):
    done = load("--target", "remote", *arguments, **at(server))
    assert (done.returncode, done.stdout.splitlines()[1:]) == (2, [])
    assert words in done.stderr


def test_a_server_that_is_away_is_named(load):
    done = load("--target", "remote", REDIS_HOST="127.0.0.1", REDIS_PORT="1", REDIS_DEADLINE_S="0.3")
    assert done.returncode == 2
    assert "127.0.0.1:1" in done.stderr


def test_a_missing_and_a_wrong_password_are_named_and_never_shown(start_server, load):
    server = start_server("--requirepass", "sesame-street")
    for wrong in ({}, {"REDIS_PASSWORD": "open-sesame"}):
        done = load("--target", "remote", **at(server), **wrong)
        assert done.returncode == 2
        assert "REDIS_PASSWORD" in done.stderr
        assert "sesame" not in done.stdout + done.stderr
    assert load("--target", "remote", **at(server), REDIS_PASSWORD="sesame-street").returncode == 0


def test_calls_that_the_server_refuses_are_counted_and_shown(start_server, load):
    full = start_server("--maxmemory", "1500kb", "--maxmemory-policy", "noeviction")
    done = load("--target", "remote", "--operations", "INCR", "--keys", "60000", "--rate-per-s", "15000", **at(full))
    assert done.returncode == 1
    assert re.search(r"[\d,]+ INCR failed: error OOM command not allowed", done.stdout)
