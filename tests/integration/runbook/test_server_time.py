"""The server's own time, as real servers of both engines tell it."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from cachelib import Client
from runbook.load.server_time import ServerTimeMeter
from runbook.targets import Embedded

FLAGS = ("--save", "", "--enable-debug-command", "yes")
BUSY = "local sum = 0 for n = 1, 3000000 do sum = sum + n end return 1"


def test_slow_calls_show_in_mean_and_percentiles_and_calls_made_before_do_not(engine: Embedded, client: Client) -> None:
    client.execute_command("DEBUG", "SLEEP", "0.3")
    meter = ServerTimeMeter(engine.config)
    for _ in range(3):
        client.execute_command("DEBUG", "SLEEP", "0.05")
    client.eval(BUSY, 0)
    spent = meter.read()
    assert spent is not None
    slept, script = spent.commands["debug"], spent.commands["eval"]
    assert slept.calls == 3
    assert slept.mean_us >= 50_000
    assert (slept.percentile_us(0.5) or 0) >= 50_000
    assert script.calls == 1
    assert 1_000 < script.mean_us <= (script.percentile_us(0.99) or 0) <= 2.2 * script.mean_us
    assert spent.busy_us >= 150_000
    assert meter.unread == ()


def test_a_call_before_the_first_reading_leaves_no_trace(engine: Embedded, client: Client) -> None:
    client.set("key", "value")
    client.execute_command("DEBUG", "SLEEP", "0.05")
    meter = ServerTimeMeter(engine.config)
    client.get("key")
    spent = meter.read()
    assert spent is not None
    assert not {"set", "debug"} & spent.commands.keys()
    assert spent.commands["get"].calls == 1


def test_each_command_is_counted_and_errors_are(engine: Embedded, client: Client) -> None:
    meter = ServerTimeMeter(engine.config)
    for number in range(20):
        client.set(f"key:{number}", number)
    client.keys("*")
    for _ in range(2):
        assert isinstance(client.pipeline(transaction=False).lpush("key:1", 1).execute(raise_on_error=False)[0], Exception)
    spent = meter.read()
    assert spent is not None
    assert {name: spent.commands[name].calls for name in ("set", "keys", "lpush")} == {"set": 20, "keys": 1, "lpush": 2}
    assert sum((spent.commands["set"].buckets_us or {}).values()) == 20
    assert spent.commands["lpush"].failed == 2
    assert (spent.errors or {}).get("WRONGTYPE") == 2


def test_reading_resets_nothing(engine: Embedded, client: Client) -> None:
    client.set("key", "value")
    meter = ServerTimeMeter(engine.config)
    meter.read()
    meter.read()
    assert client.info("commandstats")["cmdstat_set"]["calls"] == 1


def test_a_reset_by_somebody_else_gives_nothing_and_says_so(engine: Embedded, client: Client) -> None:
    meter = ServerTimeMeter(engine.config)
    client.config_resetstat()
    for _ in range(100):
        client.ping()
    assert meter.read() is None
    assert meter.unread == ("commandstats: the server was restarted or its counters were reset in between",)


def test_a_restart_gives_nothing(engine: Embedded) -> None:
    meter = ServerTimeMeter(engine.config)
    engine.stop()
    engine.start()
    assert meter.read() is None
    assert "restarted" in meter.unread[0]


def test_without_permission_for_the_histogram_the_mean_remains(engine: Embedded, client: Client, connect_to: Callable[..., Client]) -> None:
    client.execute_command("ACL", "SETUSER", "default", "-latency")
    meter = ServerTimeMeter(engine.config)
    client.execute_command("DEBUG", "SLEEP", "0.01")
    spent = meter.read()
    assert spent is not None
    assert spent.commands["debug"].mean_us >= 10_000
    assert spent.commands["debug"].percentile_us(0.5) is None
    assert len(meter.unread) == 1
    assert meter.unread[0].startswith("LATENCY HISTOGRAM: ")


def test_a_server_that_keeps_no_histogram_still_gives_the_mean(engine: Embedded, client: Client) -> None:
    client.config_set("latency-tracking", "no")
    meter = ServerTimeMeter(engine.config)
    client.execute_command("DEBUG", "SLEEP", "0.01")
    spent = meter.read()
    assert spent is not None
    assert spent.commands["debug"].mean_us >= 10_000
    assert spent.commands["debug"].percentile_us(0.5) is None


def test_without_permission_for_info_there_is_nothing(engine: Embedded, client: Client) -> None:
    client.execute_command("ACL", "SETUSER", "default", "-info")
    meter = ServerTimeMeter(engine.config)
    assert meter.read() is None
    assert meter.unread
    assert meter.unread[0].startswith("commandstats: ")


def test_a_server_that_wants_a_password_gives_nothing(start_server: Callable[..., Embedded]) -> None:
    server = start_server("--requirepass", "secret")
    meter = ServerTimeMeter(server.config)
    assert meter.read() is None
    assert "secret" not in meter.unread[0]


def test_a_server_that_is_paused_gives_nothing_in_time(
    server: Embedded, paused: Callable[[Embedded], AbstractContextManager[None]]
) -> None:
    meter = ServerTimeMeter(server.config)
    with paused(server):
        assert meter.read() is None
    assert meter.unread[0].startswith("commandstats: ")
    assert meter.read() is not None
