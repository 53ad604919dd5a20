"""The engine against real servers, stalled and killed ones included, and against servers of our own that misbehave."""

import contextlib
import dataclasses
import gc
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from cachelib import Config, connect
from cachelib.config import Secret
from runbook.drills.engine_bench.known_delays import LIMIT, DelaySampler
from runbook.drills.engine_bench.part import Budget, judge_values
from runbook.drills.engine_bench.stall import expected_p99_ms, stalled
from runbook.drills.stage import Stage
from runbook.evidence import Verdict
from runbook.load import engine
from runbook.load.bare_loop import bare_loop
from runbook.load.closed_loop import ClosedLoop
from runbook.load.engine import offer
from runbook.load.known_delays import KINDS
from runbook.load.placement import Placement, cores
from runbook.load.plan import Plan
from runbook.load.recording import LATE, SECOND_NS, SERVICE, Recording
from runbook.load.side import UNSENT
from runbook.load.sockets import LOST, UNASKED, LoadError
from runbook.load.traffic import OPERATIONS, Traffic
from runbook.targets.base import TargetError
from runbook.targets.embedded import Embedded
from tests.pairs import pairs

pytestmark = pytest.mark.timeout(60)

PING = Traffic("load:", {"PING": 1})
HTTP = b"HTTP/1.1 400 Bad Request\r\n\r\n"
LOOPS = pytest.mark.parametrize("rate_per_s", [1000, None], ids=["open", "closed"])


def _at(ordered: Sequence[float], p: float) -> float:
    return ordered[max(0, math.ceil(len(ordered) * p) - 1)]


def _all_sent_are_accounted_for(made: Recording) -> bool:
    """Without a warm-up, each call has succeeded or failed."""
    return made.sent + made.unsent == made.count() + made.errors.total() - made.failed("").total()


@pytest.mark.parametrize(
    ("rate_per_s", "distribution", "depth"),
    pairs(
        [(4000, "uniform", 1), (None, "uniform", 8), (4000, "sequential", 8), (None, "zipfian", 1)],
        [4000, None],
        ["uniform", "zipfian", "sequential"],
        [1, 8],
    ),
)
def test_every_operation_succeeds(server: Embedded, rate_per_s: float | None, distribution: str, depth: int) -> None:
    ttl_s = 60 if depth == 8 else None
    traffic = Traffic("load:", dict.fromkeys(OPERATIONS, 1), {16: 2, 1000: 1}, keys=100, distribution=distribution, ttl_s=ttl_s)
    with connect(server.config) as client:
        traffic.fill(client)
        made = offer(Plan(server.config, traffic, 0.4, 5, rate_per_s, depth=depth))
        assert made.errors == {}
        assert (made.unsent, made.lost) == (0, 0)
        assert made.sent == made.count() > 0
        assert made.operations == sorted(OPERATIONS)
        if rate_per_s:
            assert made.sent == round(rate_per_s * 0.4)
            assert len(made.histogram(SERVICE)) == len(made.histogram(LATE)) == made.sent
        counters = client.mget(client.keys("load:counter:*"))
        assert sum(map(int, counters)) == made.count("INCR")
        traffic.clear(client)
        assert client.dbsize() == 0


def test_a_warm_up_is_sent_and_not_counted(server: Embedded) -> None:
    made = offer(Plan(server.config, PING, 0.3, 2, 1000, warm_up_s=0.2))
    assert (made.sent, made.count()) == (500, 300)
    assert made.seconds == pytest.approx(0.3, abs=0.1)


def test_poisson_arrivals_come_at_their_rate(server: Embedded) -> None:
    made = offer(Plan(server.config, PING, 0.5, 10, 4000, "poisson"))
    assert made.sent == made.count() == pytest.approx(2000, rel=0.1)


def test_an_open_loop_of_one_call_a_second_takes_its_whole_time(server: Embedded) -> None:
    made = offer(Plan(server.config, PING, 0.9, 1, 2))
    assert (made.count(), made.seconds) == (2, pytest.approx(0.9, abs=0.05))


def test_a_stall_shows_in_an_open_loop_and_hides_in_a_closed_one(server: Embedded) -> None:
    """Half a second of five holds up one call in ten: of all calls, one in a hundred waits for nine tenths of the stall or longer."""
    with stalled(server, 2.0) as stood:
        made = offer(Plan(server.config, PING, 5.0, 50, 5000))
    assert made.errors == {}
    assert made.count() == 25_000
    found = made.histogram()
    low, high = expected_p99_ms(stood, 5.0)
    assert low <= _at(found, 0.99) <= high
    with stalled(server, 1.5) as stood:
        closed = offer(Plan(server.config, PING, 3.0, 50)).histogram()
    assert closed[-1] > 1e3 * stood.least_s - 10  # it was there
    assert _at(closed, 0.99) < 100


@pytest.mark.parametrize("kind", KINDS)
def test_latencies_are_those_that_the_server_made(kind: str) -> None:
    """In each interval they are held against what the server knows, and against calls between them that are answered at once."""
    placement = Placement(cores()[0], (cores()[-1],)) if len(cores()) > 1 else Placement()
    with bare_loop(placement.load) as bare:
        sampler = DelaySampler(Stage(Config(), PING, placement), bare, kind)
        values = Budget(30.0, 1).sample(sampler.take, LIMIT)
    finding = judge_values(kind, LIMIT, values, sampler.wrong)
    print(finding.measured, sampler.shown)
    assert finding.verdict is Verdict.PASS, finding


@LOOPS
def test_a_wrong_value_is_no_success(server: Embedded, rate_per_s: float | None) -> None:
    traffic = Traffic("load:", {"GET": 1}, {4: 1}, keys=2, distribution="sequential")
    with connect(server.config) as client:
        traffic.fill(client)
        client.set("load:string:1", "other")
    made = offer(Plan(server.config, traffic, 0.2, 1, rate_per_s))
    assert set(made.failed("GET")) == {"unexpected reply '$5\\r\\nother'"}
    assert abs(made.errors.total() - made.count()) <= 1
    assert _all_sent_are_accounted_for(made)


@LOOPS
def test_a_server_out_of_memory_is_no_success(own_server: Embedded, rate_per_s: float | None) -> None:
    with connect(own_server.config) as client:
        client.config_set("maxmemory", "1")
    made = offer(Plan(own_server.config, Traffic("load:", {"SET": 1}), 0.2, 2, rate_per_s, depth=3))
    (text,) = made.failed("SET")
    assert text.startswith("error OOM command not allowed")
    assert made.count() == 0
    assert _all_sent_are_accounted_for(made)


def test_a_password_and_a_database_are_used_and_a_wrong_password_is_named(start_server: Any) -> None:
    server = start_server("--requirepass", "open sesame", "--appendonly", "no")
    config = dataclasses.replace(server.config, password=Secret("open sesame"), db=3)
    made = offer(Plan(config, Traffic("load:", {"SET": 1}, keys=5), 0.1, 2, 100))
    assert (made.count(), made.errors) == (10, {})
    with connect(config) as client:
        assert client.dbsize() > 0
    wrong = dataclasses.replace(config, password=Secret("hush"))
    with pytest.raises(LoadError, match=r"answers AUTH with an error: WRONGPASS .*correct REDIS_USERNAME and REDIS_PASSWORD") as refused:
        offer(Plan(wrong, PING, 0.1))
    assert "hush" not in str(refused.value)
    with pytest.raises(LoadError, match=r"answers PING with an error: NOAUTH .*correct REDIS_USERNAME and REDIS_PASSWORD"):
        offer(Plan(server.config, PING, 0.1))


def test_a_port_where_nobody_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    with pytest.raises(LoadError, match=rf"connection 1 of 3 to .*{port}/0 failed \(Connection refused\): is the server up"):
        offer(Plan(Config(host="127.0.0.1", port=port), PING, 0.1, 3))


def test_more_connections_than_the_server_takes_are_named(start_server: Any) -> None:
    server = start_server("--maxclients", "10", "--appendonly", "no")
    with pytest.raises(LoadError, match="max number of clients reached; raise the server's maxclients, or ask for fewer connections"):
        offer(Plan(server.config, PING, 0.1, 20))


def test_more_connections_than_descriptors_are_named(server: Embedded) -> None:
    script = f"""
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
from cachelib import Config
from runbook.load.engine import LoadError, offer
from runbook.load.plan import Plan
from runbook.load.traffic import Traffic
try:
    offer(Plan(Config(host="127.0.0.1", port={server.config.port}), Traffic("load:"), 0.1, 300))
except LoadError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True)
    assert done.stdout == "300 connections take 364 file descriptors, and this process may have 256: raise `ulimit -n`\n"
    assert done.stderr == ""


@LOOPS
def test_a_server_that_is_killed_costs_what_was_under_way_and_all_that_follows(
    start_server: Any, rate_per_s: float | None, capfd: pytest.CaptureFixture[str]
) -> None:
    server = start_server("--appendonly", "no")
    timer = threading.Timer(1.2, server.kill)
    timer.start()
    made = offer(Plan(server.config, PING, 3.0, 5, rate_per_s, depth=2))
    timer.join()
    assert made.count() > 0
    assert made.lost == 5
    assert 0 < made.seconds < 2.5
    if rate_per_s:
        assert set(made.failed()) <= {LOST, UNSENT}
        assert made.failed()[UNSENT] == made.unsent > 0
        assert made.sent + made.unsent == 3000
    else:
        assert made.failed() == {LOST: 10}
    assert _all_sent_are_accounted_for(made)
    assert capfd.readouterr().err == ""


Answer = Callable[[socket.socket, bytes], None]


@contextlib.contextmanager
def _answering(answer: Answer) -> Iterator[Config]:
    """A server that greets as it should, and answers what follows as it is told to."""

    def attend(line: socket.socket) -> None:
        with line, contextlib.suppress(OSError):
            line.recv(65536)
            line.sendall(b"+PONG\r\n")
            while data := line.recv(65536):
                answer(line, data)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=attend, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield Config(host="127.0.0.1", port=listener.getsockname()[1])
        listener.shutdown(socket.SHUT_RDWR)


@pytest.mark.parametrize(
    ("garbage", "rate_per_s"),
    pairs([(b"$abc\r\n", 1000), (b"*2\r\n:1\r\n*x\r\n", None), (HTTP, 1000)], [b"$abc\r\n", b"*2\r\n:1\r\n*x\r\n", HTTP], [1000, None]),
)
def test_garbage_is_a_failure_and_costs_the_connection(garbage: bytes, rate_per_s: float | None, capfd: pytest.CaptureFixture[str]) -> None:
    with _answering(lambda line, data: line.sendall(garbage)) as config:
        made = offer(Plan(config, PING, 0.1, 3, rate_per_s))
    assert made.lost == 3
    assert made.count() == 0
    unreadable = sum(count for text, count in made.failed("PING").items() if text.startswith("unreadable reply"))
    assert unreadable == 3
    assert _all_sent_are_accounted_for(made)
    assert capfd.readouterr().err == ""


@LOOPS
def test_replies_that_nobody_asked_for_cost_the_connection(rate_per_s: float | None) -> None:
    """Each would be taken for the reply to the next call, which then seems to take no time at all."""
    with _answering(lambda line, data: line.sendall(b"+PONG\r\n" * 2)) as config:
        made = offer(Plan(config, PING, 0.1, 1, rate_per_s))
    assert made.failed("")[UNASKED] == 1
    assert made.operations == ["PING"]
    assert (made.lost, made.count()) == (1, 1)


@LOOPS
def test_replies_that_come_byte_by_byte_are_whole_in_the_end(server: Embedded, rate_per_s: float | None) -> None:
    def slowly(line: socket.socket, data: bytes) -> None:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"$3\r\nxxx\r\n" * data.count(b"GET"):
            line.sendall(bytes([byte]))
            time.sleep(0.0005)

    with _answering(slowly) as config:
        made = offer(Plan(config, Traffic("load:", {"GET": 1}, {3: 1}), 0.2, 4, rate_per_s and 100, depth=2))
    assert made.errors == {}
    assert made.sent == made.count() >= 8
    assert made.histogram()[0] > 4


@LOOPS
def test_a_value_of_1_mib_passes_through_a_slow_reader_and_back(rate_per_s: float | None) -> None:
    size_bytes = 1 << 20
    head = len(b"*2\r\n$4\r\nECHO\r\n")
    held: dict[int, bytes] = {}

    def sip(line: socket.socket, data: bytes) -> None:
        time.sleep(0.0005)
        found = held.get(line.fileno(), b"") + data
        while len(found) >= (length := head + len(f"${size_bytes}\r\n") + size_bytes + 2):
            line.sendall(found[:length])
            found = found[length:]
        held[line.fileno()] = found

    with _answering(sip) as config:
        made = offer(Plan(config, Traffic("load:", {"ECHO": 1}, {size_bytes: 1}), 0.3, 2, rate_per_s and 20, depth=2))
    assert made.errors == {}
    assert made.sent == made.count() >= 4


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Plan], Recording]]:
    """Run a load in this process, which waits for 0.3 s behind its end."""
    for module in ("open_loop", "closed_loop"):
        monkeypatch.setattr(f"runbook.load.{module}.DRAIN_S", 0.3)
    yield lambda plan: engine.run(plan, 0, 1, time.monotonic_ns)
    gc.enable()


@LOOPS
def test_a_server_that_never_replies_costs_every_call(impatient: Callable[[Plan], Recording], rate_per_s: float | None) -> None:
    with _answering(lambda line, data: None) as config:
        made = impatient(Plan(config, PING, 0.2, 3, rate_per_s, depth=2))
    no_reply = "no reply within 5 s of the end"
    assert (made.count(), made.sent, made.lost) == (0, 6, 0)
    assert made.failed() == ({no_reply: 6, UNSENT: 194} if rate_per_s else {no_reply: 6})
    assert _all_sent_are_accounted_for(made)


def test_a_call_that_is_sent_behind_the_end_is_still_a_call_of_the_load(impatient: Callable[[Plan], Recording]) -> None:
    """One connection and 50 ms a call: of ten calls the last ones wait for those before them, and for nothing else."""

    def doze(line: socket.socket, data: bytes) -> None:
        time.sleep(0.05)
        line.sendall(b"+PONG\r\n")

    with _answering(doze) as config:
        made = impatient(Plan(config, PING, 0.3, 1, 30))
    assert made.sent == made.count() == 9
    assert made.seconds > 0.44
    assert _at(made.histogram(SERVICE), 0.5) < _at(made.histogram(), 0.5)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        *(({"rate_per_s": rate}, "a rate takes operations a second above 0") for rate in (0, -1, math.nan, math.inf)),
        *(({"duration_s": seconds}, "a load takes seconds above 0") for seconds in (0, -1, math.nan, math.inf)),
        *(({"warm_up_s": seconds}, "a warm-up takes seconds from 0") for seconds in (-1, math.nan, math.inf)),
        ({"connections": 0}, "at least one connection, got 0"),
        ({"depth": 0}, "a depth of 0"),
        ({"arrivals": "bursts"}, "no 'bursts' arrivals: choose of constant, poisson"),
    ],
)
def test_an_impossible_plan_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Plan(**{"config": Config(), "traffic": PING, "duration_s": 1.0, **wrong})


@pytest.mark.parametrize("processes", [0, -1, 3])
def test_more_processes_than_connections_are_refused(processes: int) -> None:
    with pytest.raises(ValueError, match="2 connections take 1 to 2 processes"):
        offer(Plan(Config(), PING, 1.0, 2), processes=processes)


def test_tls_carries_every_operation_and_strangers_get_nothing(certificate: tuple[Path, Path], start_server: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    pem, key = map(str, certificate)
    try:
        server = start_server("--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", key, "--tls-auth-clients", "no")
    except TargetError:
        pytest.skip("this server was built without TLS")
    traffic = Traffic("load:", dict.fromkeys(OPERATIONS, 1), {100: 9, 50_000: 1}, keys=50)
    with connect(server.config) as client:
        traffic.fill(client)
    config = dataclasses.replace(server.config, port=port, tls=True, tls_ca_file=certificate[0])
    for rate_per_s in (1000, None):
        made = offer(Plan(config, traffic, 0.5, 4, rate_per_s, depth=4))
        assert made.errors == {}
        assert made.sent == made.count() >= 500
    with pytest.raises(LoadError, match=r"CERTIFICATE_VERIFY_FAILED.*: check REDIS_TLS_CA_FILE"):
        offer(Plan(dataclasses.replace(config, tls_ca_file=None), traffic, 0.1))
    with pytest.raises(LoadError, match="does the server speak TLS on this port"):
        offer(Plan(dataclasses.replace(config, port=server.config.port), traffic, 0.1))
    (nothing := tmp_path / "nothing.pem").write_text("no certificate")
    with pytest.raises(LoadError, match=r"failed \(.*REDIS_TLS_CA_FILE"):
        offer(Plan(dataclasses.replace(config, tls_ca_file=nothing), traffic, 0.1))
    with pytest.raises(LoadError, match="is it a Redis without TLS"):
        offer(Plan(dataclasses.replace(server.config, port=port), traffic, 0.1))


def test_a_thousand_connections_are_there_at_once(start_server: Any) -> None:
    server = start_server("--maxclients", "2000", "--appendonly", "no")
    made = offer(Plan(server.config, PING, 0.5, 1000, 4000))
    assert made.errors == {}
    assert made.count() == 2000


@pytest.mark.parametrize(("processes", "arrivals"), [(2, "constant"), (3, "constant"), (2, "poisson")])
def test_processes_share_a_load(server: Embedded, processes: int, arrivals: str) -> None:
    made = offer(Plan(server.config, Traffic("load:", {"INCR": 1}), 0.4, 7, 3000, arrivals), processes=processes, cores=cores())
    assert made.errors == {}
    assert made.sent == made.count() == pytest.approx(1200, rel=0.15 if arrivals == "poisson" else 0.002)
    assert len(made.histogram(LATE)) == made.sent
    assert made.seconds >= 0.3
    with connect(server.config) as client:
        assert sum(map(int, client.mget(client.keys("load:*")))) == made.count()


def test_processes_share_a_closed_loop(server: Embedded) -> None:
    made = offer(Plan(server.config, Traffic("load:", {"INCR": 1}), 0.3, 3, depth=4), processes=2)
    with connect(server.config) as client:
        assert sum(map(int, client.mget(client.keys("load:*")))) == made.count() == made.sent


def test_millions_of_calls_take_little_memory(server: Embedded) -> None:
    script = f"""
import resource
from cachelib import Config
from runbook.load.engine import offer
from runbook.load.plan import Plan
from runbook.load.traffic import Traffic
made = offer(Plan(Config(host="127.0.0.1", port={server.config.port}), Traffic("load:"), 3.0, 50, depth=64))
print(made.count(), made.errors.total(), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
"""
    with connect(server.config) as client:
        Traffic("load:").fill(client)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=40, check=True)
    count, errors, peak_kib = map(int, done.stdout.split())
    print(f"{count:,} calls, {peak_kib / 1024:.0f} MiB")
    assert errors == 0
    assert count > 500_000
    assert peak_kib < 200 * 1024


def test_an_interrupted_load_leaves_no_process(server: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[subprocess.Popen[bytes]] = []

    class Watched(subprocess.Popen):  # type: ignore[type-arg]
        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, **options)
            started.append(self)

    monkeypatch.setattr(subprocess, "Popen", Watched)
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    began_s = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        offer(Plan(server.config, PING, 30.0, 2, 1000), processes=2)
    timer.join()
    assert time.monotonic() - began_s < 10
    assert len(started) == 2
    for process in started:
        assert process.returncode == -signal.SIGKILL
        with pytest.raises(ProcessLookupError):
            os.kill(process.pid, 0)


def test_a_process_of_the_load_that_is_killed_is_named(server: Embedded, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[int] = []
    told = engine._tell

    def tell(worker: subprocess.Popen[bytes], message: Any) -> None:
        started.append(worker.pid)
        told(worker, message)
        if isinstance(message, int):
            worker.kill()

    monkeypatch.setattr(engine, "_tell", tell)
    with pytest.raises(LoadError, match="a process of the load ended with status -9"):
        offer(Plan(server.config, PING, 5.0, 1, 100))
    assert started


def test_the_largest_batches_of_a_closed_loop_do_not_fill_the_memory() -> None:
    """Eight values of 1 MiB in each of 1,024 batches would take 8 GiB."""
    traffic = Traffic("load:", {"GET": 1}, {1 << 20: 1})
    plan = Plan(Config(), traffic, 1.0, depth=8)
    loop = ClosedLoop(plan, [], traffic.requests(), engine.Recorder(SECOND_NS, 0))
    loop.run(0)
    batches = [next(loop._batches) for _ in range(2000)]
    held = {id(text): len(text) for batch in batches for text in (batch.wire, batch.expected or b"")}
    assert sum(held.values()) < 80 << 20
