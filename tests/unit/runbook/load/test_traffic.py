"""What is asked of the server: which commands, on which keys, and which replies count as success."""

import statistics
from collections import Counter
from typing import Any

import pytest

from runbook.load.replies import reply_end
from runbook.load.traffic import LARGEST_BYTES, MOST_ENCODED_BYTES, OPERATIONS, Request, Traffic, encode

FEWER, FEW = 20_000, 1_000


@pytest.fixture(autouse=True)
def few_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("runbook.load.traffic.MOST_REQUESTS", FEW)


@pytest.fixture
def fewer_requests(few_requests: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frequencies of choices show in a third of the requests as well."""
    monkeypatch.setattr("runbook.load.traffic.MOST_REQUESTS", FEWER)


def _words(wire: bytes) -> list[bytes]:
    """Decode an array of bulk strings."""
    found, at = [], wire.index(b"\r\n") + 2
    while at < len(wire):
        end = reply_end(wire, at)
        found.append(wire[wire.index(b"\r\n", at) + 2 : end - 2])
        at = end
    assert b"*%d" % len(found) == wire[: wire.index(b"\r\n")]
    return found


def _keys(requests: list[Request]) -> Counter[bytes]:
    return Counter(_words(request.wire)[1] for request in requests)


@pytest.mark.parametrize(
    ("operation", "words"),
    [
        ("GET", [b"GET", b"k:string:0"]),
        ("SET", [b"SET", b"k:string:0", b"xxx"]),
        ("PING", [b"PING"]),
        ("INCR", [b"INCR", b"k:counter:0"]),
        ("HSET", [b"HSET", b"k:hash:0", b"field", b"xxx"]),
        ("MGET", [b"MGET"] + [b"k:string:0"] * 10),
        ("ECHO", [b"ECHO", b"xxx"]),
    ],
)
def test_each_operation_is_the_command_of_its_name(operation: str, words: list[bytes]) -> None:
    request = Traffic("k:", {operation: 1}, {3: 1}, keys=1).requests()[0]
    assert request.operation == operation
    assert _words(request.wire) == words


@pytest.mark.parametrize("operation", OPERATIONS)
def test_the_expected_reply_is_a_whole_one(operation: str) -> None:
    request = Traffic("k:", {operation: 1}, {3: 1}).requests()[0]
    assert request.expected is not None or request.prefix is not None
    if request.expected is not None:
        assert reply_end(request.expected, 0) == len(request.expected)


def test_a_lifetime_goes_along_with_set_and_makes_nil_a_good_answer() -> None:
    found = {request.operation: request for request in Traffic("k:", {"GET": 1, "SET": 1}, ttl_s=7).requests()}
    assert _words(found["SET"].wire)[3:] == [b"EX", b"7"]
    assert found["GET"].prefix == b"$-1\r\n"


def test_without_a_lifetime_nil_is_no_answer() -> None:
    assert Traffic("k:", {"GET": 1}).requests()[0].prefix is None


def test_the_same_seed_makes_the_same_requests_and_each_stream_its_own() -> None:
    traffic = Traffic("k:", sizes_bytes={10: 1, 20: 1})
    assert traffic.requests(0) == traffic.requests(0)
    assert traffic.requests(0) != traffic.requests(1)
    assert traffic.requests(0) != Traffic("k:", sizes_bytes={10: 1, 20: 1}, seed=2).requests(0)


@pytest.mark.usefixtures("fewer_requests")
def test_operations_come_as_often_as_they_weigh() -> None:
    found = Counter(request.operation for request in Traffic("k:", {"GET": 9, "SET": 1, "PING": 0}).requests())
    assert found["GET"] / found["SET"] == pytest.approx(9, rel=0.05)
    assert found["PING"] == 0


@pytest.mark.usefixtures("fewer_requests")
def test_sizes_come_as_often_as_they_weigh_and_a_key_keeps_its_own() -> None:
    sizes: dict[bytes, set[int]] = {}
    for request in Traffic("k:", {"SET": 1}, {10: 3, 20: 1, 30: 0}).requests():
        _, key, value = _words(request.wire)
        sizes.setdefault(key, set()).add(len(value))
    assert len(sizes) == 1000
    assert all(len(found) == 1 for found in sizes.values())
    found = Counter(size for (size,) in sizes.values())
    assert found[10] / 1000 == pytest.approx(0.75, abs=0.05)
    assert found[10] + found[20] == 1000


@pytest.mark.usefixtures("fewer_requests")
def test_get_expects_the_length_that_set_wrote() -> None:
    traffic = Traffic("k:", {"GET": 1, "SET": 1}, {10: 1, 20: 1})
    written, expected = {}, {}
    for request in traffic.requests():
        words = _words(request.wire)
        if request.operation == "SET":
            written[words[1]] = encode(words[2])[len("*1\r\n") :]
        else:
            expected[words[1]] = request.expected
    assert written == expected


@pytest.mark.usefixtures("fewer_requests")
def test_uniform_keys_come_equally_often() -> None:
    found = _keys(Traffic("k:", {"GET": 1}, keys=10).requests())
    assert len(found) == 10
    assert max(found.values()) / min(found.values()) < 1.2


def test_sequential_keys_come_in_turn() -> None:
    requests = Traffic("k:", {"GET": 1}, keys=3, distribution="sequential").requests()
    assert [_words(request.wire)[1] for request in requests[:4]] == [b"k:string:0", b"k:string:1", b"k:string:2", b"k:string:0"]


@pytest.mark.usefixtures("fewer_requests")
def test_the_nth_key_of_a_zipfian_choice_comes_n_times_as_rarely() -> None:
    ranked = [count for _, count in _keys(Traffic("k:", {"GET": 1}, keys=1000, distribution="zipfian").requests()).most_common()]
    total = sum(1 / rank**0.99 for rank in range(1, 1001))
    assert ranked[0] / FEWER == pytest.approx(1 / total, rel=0.05)
    assert statistics.fmean(ranked[9:11]) / ranked[0] == pytest.approx(10**-0.99, rel=0.15)


@pytest.mark.usefixtures("fewer_requests")
def test_processes_agree_on_the_key_that_is_wanted_most() -> None:
    traffic = Traffic("k:", {"GET": 1}, keys=1000, distribution="zipfian")
    assert _keys(traffic.requests(0)).most_common(1)[0][0] == _keys(traffic.requests(1)).most_common(1)[0][0]


@pytest.mark.parametrize("operation", ["GET", "SET", "MGET", "ECHO"])
def test_the_largest_values_do_not_fill_the_memory(operation: str) -> None:
    """Ten values of 1 MiB in each of 65,536 replies to MGET would take 640 GiB."""
    held: dict[int, int] = {}
    for request in Traffic("k:", {operation: 1}, {LARGEST_BYTES: 1}, keys=100).requests():
        for part in (request.wire, request.expected or b""):
            held[id(part)] = len(part)
    assert sum(held.values()) < MOST_ENCODED_BYTES + 12 * LARGEST_BYTES


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"operations": {"FLUSHALL": 1}}, "no operation 'FLUSHALL' to offer: choose of GET, SET"),
        ({"operations": {"get": 1}}, "no operation 'get'"),
        ({"operations": {}}, "the weights of operations are numbers from 0 with a sum above 0"),
        ({"operations": {"GET": 0}}, "the weights of operations"),
        ({"operations": {"GET": -1, "SET": 2}}, "the weights of operations"),
        ({"operations": {"GET": float("nan")}}, "the weights of operations"),
        ({"operations": {"GET": float("inf")}}, "the weights of operations"),
        ({"sizes_bytes": {}}, "the weights of sizes"),
        ({"sizes_bytes": {64: 0}}, "the weights of sizes"),
        ({"sizes_bytes": {0: 1}}, "a value takes 1 to 1,048,576 bytes, got 0"),
        ({"sizes_bytes": {-1: 1}}, "a value takes 1 to 1,048,576 bytes, got -1"),
        ({"sizes_bytes": {LARGEST_BYTES + 1: 1}}, "a value takes 1 to 1,048,576 bytes, got 1048577"),
        ({"keys": 0}, "at least one key, got 0"),
        ({"distribution": "normal"}, "no distribution 'normal' of keys: choose of uniform"),
        ({"ttl_s": 0}, "whole seconds from 1, got 0"),
    ],
)
def test_impossible_traffic_is_refused(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Traffic("k:", **wrong)
