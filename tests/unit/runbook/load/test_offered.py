"""A load that was offered, written down and read again."""

import json
from collections import Counter
from typing import Any

import pytest

from cachelib import Config
from runbook.load.offered import Mark, Offered, describe
from runbook.load.plan import Plan
from runbook.load.recording import LATE, SECOND_NS, SERVICE, Recorder, Recording
from runbook.load.traffic import Traffic


@pytest.fixture
def offered() -> Offered:
    recorder = Recorder(SECOND_NS // 10, 0)
    for number in range(1000):
        start_ns = number * 7_000_000
        recorder.call(("GET", "SET")[number % 2], start_ns, start_ns + number, start_ns + number * 12_345)
        recorder.sent("GET", start_ns, 0, start_ns + number * 10)
    recorder.error("SET", "error OOM „ü“", 3)
    recorder.error("GET", "connection lost")
    control = Recorder(SECOND_NS // 10, 0)
    control.call("GET", 0, 0, 99_000)
    control.response("GET", 0, 99_000)
    echoed = Recording(control.slice_ns, control.finish(), seconds=7.0, sent=1)
    recording = Recording(recorder.slice_ns, recorder.finish(), recorder.errors, 7.000123, 1004, 2, 1, control=echoed)
    plan = Plan(Config(), Traffic("k:", {"GET": 0.5, "SET": 0.5}, {64: 1, 1024: 2}), 7.0, 3, 143.0)
    return Offered(describe(plan, "nothing is pinned"), recording, (Mark(5, 0, "fork"), Mark(9, 7, "AOF")))


def test_it_is_written_down_without_loss(offered: Offered) -> None:
    again = Offered.from_json(offered.to_json())
    assert again == offered
    assert again.to_json() == offered.to_json()
    for series in (SERVICE, LATE):
        assert again.histogram(series=series).pairs() == offered.histogram(series=series).pairs()


def test_an_empty_one_is_written_down_too() -> None:
    empty = Offered({}, Recording(1))
    assert Offered.from_json(empty.to_json()) == empty


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "null", "7", '"x"', "{}", '{"format": 1}', "[" * 100_000], ids=["empty", *"{[n7x{f", "deep"]
)
def test_damaged_text_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="this is no recording of a load"):
        Offered.from_json(text)


def test_a_cut_text_is_refused_wherever_it_was_cut(offered: Offered) -> None:
    text = offered.to_json()
    for length in range(0, len(text), 997):
        with pytest.raises(ValueError, match="this is no recording of a load"):
            Offered.from_json(text[:length])


def test_another_format_is_named(offered: Offered) -> None:
    with pytest.raises(ValueError, match="it is of format 3, and 1 and 2 can be read"):
        Offered.from_json(json.dumps({**json.loads(offered.to_json()), "format": 3}))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("cells", [[0, "latency", "GET", [1, 2], [1]]]),
        ("cells", [[0, "latency", "GET", [1.5], [1]]]),
        ("cells", [[0, "latency", "GET", [-1], [1]]]),
        ("cells", [[0, "latency", "GET", [1 << 40], [1]]]),
        ("cells", [["0", "latency", "GET", [1], [1]]]),
        ("cells", [[0, None, "GET", [1], [1]]]),
        ("cells", [[0, "latency"]]),
        ("cells", None),
        ("errors", [["GET", "bad"]]),
        ("errors", [["GET", "bad", "3"]]),
        ("errors", [[["GET"], "bad", 3]]),
        ("sent", "1"),
        ("unsent", True),
        ("lost", None),
        ("seconds", "long"),
        ("slice_ns", 0.5),
        ("marks", [1]),
        ("marks", [[1, 2]]),
        ("marks", [[1, "2", "fork"]]),
        ("description", [1]),
        ("description", None),
    ],
)
def test_each_damaged_field_is_refused(offered: Offered, name: str, value: Any) -> None:
    with pytest.raises(ValueError, match="this is no recording of a load"):
        Offered.from_json(json.dumps({**json.loads(offered.to_json()), name: value}))


@pytest.mark.parametrize("name", ["cells", "errors", "sent", "unsent", "lost", "seconds", "slice_ns", "marks", "description"])
def test_each_missing_field_is_refused(offered: Offered, name: str) -> None:
    found = json.loads(offered.to_json())
    del found[name]
    with pytest.raises(ValueError, match=f"this is no recording of a load: '{name}'"):
        Offered.from_json(json.dumps(found))


def test_a_description_tells_what_cannot_be_compared_and_holds_no_secret() -> None:
    traffic = Traffic("k:", {"GET": 1})
    config = Config.from_env({"REDIS_PASSWORD": "hush", "REDIS_TLS": "true"})
    found = describe(Plan(config, traffic, 1.0, 5, 100.0, "poisson", depth=2, spin=True), "apart")
    assert found["loop"] == "open"
    assert (found["rate_per_s"], found["arrivals"], found["connections"], found["depth"]) == (100.0, "poisson", 5, 2)
    assert (found["waiting"], found["tls"], found["placement"]) == ("spinning", True, "apart")
    assert "hush" not in json.dumps(found)
    assert describe(Plan(config, traffic, 1.0), "")["loop"] == "closed"


def test_errors_of_the_same_words_stay_apart_by_operation() -> None:
    errors = Counter({("GET", "bad"): 1, ("SET", "bad"): 2})
    assert Offered.from_json(Offered({}, Recording(1, errors=errors)).to_json()).recording.errors == errors


def test_a_load_of_before_there_was_a_control_can_be_read() -> None:
    old = {**json.loads(Offered({}, Recording(SECOND_NS)).to_json()), "format": 1, "stalled": [3]}
    del old["control"]
    assert Offered.from_json(json.dumps(old)) == Offered({}, Recording(SECOND_NS))
