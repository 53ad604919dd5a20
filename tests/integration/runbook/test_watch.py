"""What a watch sees of real servers of both engines, what it leaves as it was, and what it says that it could not see."""

import contextlib
import time
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest

from cachelib import Client, Config
from runbook.load.offered import Mark
from runbook.load.watch import POLL_S, Watch
from runbook.targets import Embedded
from tests.timing import HostStalls

MS = 1_000_000
FLAGS = ("--appendonly", "yes", "--enable-debug-command", "yes", "--slowlog-log-slower-than", "12345")
SETTINGS = ("slowlog-log-slower-than", "latency-monitor-threshold")


def _settings(client: Client) -> list[str]:
    return [client.config_get(name)[name] for name in SETTINGS]


def _of(watch: Watch, what: str) -> list[Mark]:
    return [mark for mark in watch.marks if what in mark.what]


def test_a_slow_command_is_marked_where_it_ran_and_one_before_the_watch_is_not(engine: Embedded, client: Client) -> None:
    client.execute_command("DEBUG", "SLEEP", "0.08")
    with Watch(engine.config, own=True) as watch:
        time.sleep(3 * POLL_S)
        before_ns = time.monotonic_ns()
        client.execute_command("DEBUG", "SLEEP", "0.05")
        after_ns = time.monotonic_ns()
        time.sleep(3 * POLL_S)
    (mark,) = _of(watch, "DEBUG")
    assert 50 * MS <= mark.took_ns <= after_ns - before_ns
    # A busy host may delay a look, and by that widen what is known: by no more than the second that the server names.
    assert before_ns - 1000 * MS < mark.at_ns < after_ns + 1000 * MS
    assert _of(watch, "command took")  # by the latency monitor
    assert watch.unwatched == ()


def test_a_mark_lies_within_two_looks_of_the_truth_on_a_host_that_lets_it(engine: Embedded, client: Client) -> None:
    """One of ten counts, since a busy host delays looks; the server's own clock tells whole seconds, which is five times as coarse."""

    def off_ns() -> float:
        with HostStalls() as stalls, Watch(engine.config, own=True) as watch:
            time.sleep(2.5 * POLL_S)
            before_ns = time.monotonic_ns()
            client.execute_command("DEBUG", "SLEEP", "0.05")
            time.sleep(2.5 * POLL_S)
        return abs(_of(watch, "DEBUG")[0].at_ns - before_ns) - stalls.until_now_s() * 1000 * MS

    assert any(off_ns() < 2 * POLL_S * 1000 * MS for _ in range(10))


def test_what_happens_in_the_last_moment_is_seen(engine: Embedded, client: Client) -> None:
    with Watch(engine.config, own=True) as watch:
        client.execute_command("DEBUG", "SLEEP", "0.02")
    assert len(_of(watch, "DEBUG")) == 1


def test_every_one_of_many_slow_commands_is_marked(engine: Embedded, client: Client) -> None:
    with Watch(engine.config, own=True) as watch:
        for _ in range(30):
            client.execute_command("DEBUG", "SLEEP", "0.006")
    assert len(_of(watch, "DEBUG")) == 30


def test_no_argument_of_a_command_is_kept(engine: Embedded, client: Client) -> None:
    with Watch(engine.config, own=True) as watch:
        client.eval("local sum = 0 for n = 1, 3000000 do sum = sum + n end return ARGV[1]", 0, b"confidential\xff")
    assert [mark.what.split()[0] for mark in _of(watch, "slow log")] == ["EVAL"]
    assert "confidential" not in repr(watch.marks)
    assert "confidential" not in repr(vars(watch))


def test_a_rewrite_of_the_aof_gives_a_span_and_a_fork(engine: Embedded, client: Client) -> None:
    with Watch(engine.config, own=True) as watch:
        before_ns = time.monotonic_ns()
        client.bgrewriteaof()
        until_s = time.monotonic() + 20
        while client.info("persistence")["aof_rewrite_in_progress"] and time.monotonic() < until_s:
            time.sleep(0.01)
        after_ns = time.monotonic_ns()
    (span,) = [mark for mark in watch.marks if mark.what.startswith("rewrite of the AOF")]
    (fork,) = _of(watch, "fork for a rewrite of the AOF took")
    assert fork.took_ns > 0
    assert span.at_ns <= after_ns
    assert span.at_ns + span.took_ns >= before_ns


def test_a_snapshot_gives_a_fork(engine: Embedded, client: Client) -> None:
    with Watch(engine.config, own=True) as watch:
        client.bgsave()
    assert len([mark for mark in watch.marks if mark.what.startswith("fork") and "latency monitor" not in mark.what]) == 1


def test_a_watch_of_a_server_of_ours_sets_back_what_it_noted_before(engine: Embedded, client: Client) -> None:
    before = _settings(client)
    with Watch(engine.config, own=True):
        assert _settings(client) == ["5000", "5"]
    assert _settings(client) == before == ["12345", "0"]


def test_settings_are_set_back_after_an_exception(engine: Embedded, client: Client) -> None:
    with pytest.raises(RuntimeError, match="of the test"), Watch(engine.config, own=True):
        raise RuntimeError("of the test")
    assert _settings(client) == ["12345", "0"]


def test_of_a_server_that_is_not_ours_nothing_is_changed(engine: Embedded, client: Client) -> None:
    client.config_resetstat()
    with Watch(engine.config, own=False) as watch:
        client.execute_command("DEBUG", "SLEEP", "0.03")
    written = {name for name in client.info("commandstats") if "config" in name or "reset" in name}
    assert written <= {"cmdstat_config|resetstat"}
    assert len(_of(watch, "DEBUG")) == 1  # above the 12 ms that it notes by itself
    assert watch.unwatched == ()


def test_a_busy_server_can_be_told_from_an_idle_one(engine: Embedded, client: Client) -> None:
    with Watch(engine.config, own=False) as idle:
        time.sleep(0.5)
    with Watch(engine.config, own=False) as busy:
        until_s = time.monotonic() + 0.7
        while time.monotonic() < until_s:
            client.eval("local sum = 0 for n = 1, 1000000 do sum = sum + n end return 1", 0)
    assert idle.server_busy is not None
    assert busy.server_busy is not None
    assert idle.server_busy < 0.2 < busy.server_busy < 1.1
    assert idle.server_busy < busy.server_busy / 2


@pytest.mark.parametrize(
    ("rules", "missing"),
    [
        (["-slowlog", "-commandlog"], "the slow log: "),
        (["-latency"], "the latency monitor: "),
        (["-info"], "INFO stats: "),
        (["-config"], "slowlog-log-slower-than could not be lowered: "),
        (["-time"], "the server's clock: "),
    ],
    ids=lambda value: value[0].lstrip("-") if isinstance(value, list) else "",
)
def test_without_a_permission_it_says_so_and_watches_the_rest(engine: Embedded, client: Client, rules: list[str], missing: str) -> None:
    for rule in rules:
        with contextlib.suppress(Exception):  # Redis knows no COMMANDLOG
            client.execute_command("ACL", "SETUSER", "default", rule)
    with Watch(engine.config, own=True) as watch:
        client.execute_command("DEBUG", "SLEEP", "0.03")
    assert any(what.startswith(missing) for what in watch.unwatched), watch.unwatched
    assert bool(_of(watch, "DEBUG")) == (missing != "the slow log: ")
    assert (watch.server_busy is None) == (missing == "INFO stats: ")


def test_a_server_that_is_not_there_is_no_error() -> None:
    with Watch(Config(host="127.0.0.1", port=1), own=True) as watch:
        pass
    assert watch.marks == ()
    assert watch.server_busy is None
    assert len(watch.unwatched) == 1
    assert watch.unwatched[0].startswith("the server as a whole: ")


def test_a_server_that_wants_a_password_is_no_error(start_server: Callable[..., Embedded]) -> None:
    server = start_server("--requirepass", "secret")
    with Watch(server.config, own=True) as watch:
        pass
    assert watch.unwatched[0].startswith("the server as a whole: ")
    assert "secret" not in watch.unwatched[0]


def test_a_server_that_ends_during_the_watch_is_told_with_what_it_hid(engine: Embedded) -> None:
    with Watch(engine.config, own=True) as watch:
        time.sleep(2 * POLL_S)
        engine.kill()
    assert any("in which the server did not answer" in what for what in watch.unwatched)
    assert any("could not be set back" in what for what in watch.unwatched)


def test_a_restart_during_the_watch_is_told_and_what_comes_after_is_seen(engine: Embedded, client: Client) -> None:
    with Watch(engine.config, own=False) as watch:
        client.execute_command("DEBUG", "SLEEP", "0.02")
        time.sleep(3 * POLL_S)
        engine.kill()
        engine.start()
        client.execute_command("DEBUG", "SLEEP", "0.03")
    assert "what a restart of the server, or a reset of its counters, hid" in watch.unwatched
    assert len(_of(watch, "DEBUG")) == 2


def test_a_stall_is_survived_and_what_it_hid_is_told(
    engine: Embedded, client: Client, paused: Callable[[Embedded], AbstractContextManager[None]]
) -> None:
    with Watch(engine.config, own=True) as watch:
        time.sleep(2 * POLL_S)
        with paused(engine):
            time.sleep(1.6)
        client.execute_command("DEBUG", "SLEEP", "0.03")
    assert any("in which the server did not answer" in what for what in watch.unwatched)
    assert len(_of(watch, "DEBUG")) == 1
    assert _settings(client) == ["12345", "0"]
