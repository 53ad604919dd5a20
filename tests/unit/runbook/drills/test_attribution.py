"""Where the time of a call went, told from loads written by hand."""

import pytest

from runbook.drills.attribution import PARTS, Layers, take_apart
from runbook.load.offered import Offered
from tests.unit.runbook.drills.loads import offered, recording

COUNT = 2000


def _bare(took_ms: float, echo_ms: float = 0.1) -> Offered:
    return offered(*[took_ms] * COUNT, control_ms=[echo_ms] * COUNT)


def _client(service_ms: float, *, queue_ms: float = 0.0, late_ms: float = 0.0) -> Offered:
    return Offered({}, recording([("GET", service_ms)] * COUNT, queue_ms=queue_ms, late_ms=late_ms))


def _taken(**changes: object) -> Layers:
    measured = {
        "bare": _bare(0.16),
        "client": _client(0.2, queue_ms=0.3, late_ms=0.02),
        "command_us": 8.0,
    }
    layers = take_apart("GET", 0.99, **(measured | changes))  # type: ignore[arg-type]
    assert layers is not None
    return layers


def _part(layers: Layers, name: str) -> float | None:
    return layers.parts_ms[PARTS.index(name)]


def test_each_level_accounts_for_what_the_one_before_it_does_not() -> None:
    layers = _taken()
    assert layers.whole_ms == pytest.approx(0.52)
    assert layers.parts_ms == pytest.approx((0.1, 0.008, 0.04, 0.3, 0.02))


def test_what_the_server_does_around_the_command_is_not_attributed() -> None:
    assert _taken().rest_ms == pytest.approx(0.052)


@pytest.mark.parametrize("command_us", [None, 0.0, 8.0, 5000.0])
def test_the_parts_and_the_rest_add_up_to_the_whole(command_us: float | None) -> None:
    for layers in (_taken(command_us=command_us), _taken(bare=_bare(0.16, 3.0), command_us=command_us)):
        assert sum(part or 0.0 for part in layers.parts_ms) + layers.rest_ms == pytest.approx(layers.whole_ms)
        assert all(part is None or part >= 0 for part in layers.parts_ms)


def test_what_could_not_be_measured_is_said_and_not_attributed() -> None:
    layers = _taken(command_us=None)
    assert _part(layers, "server: the command, at most") is None
    assert _part(layers, "host and wire: an echo") == pytest.approx(0.1)
    assert layers.rest_ms == pytest.approx(0.06)


def test_a_slow_host_is_found_to_be_the_host() -> None:
    layers = _taken(bare=_bare(2.2, 2.1), client=_client(2.3))
    assert max(zip((part or 0 for part in layers.parts_ms), PARTS, strict=True))[1] == "host and wire: an echo"


def test_a_slow_command_is_found_to_be_the_server() -> None:
    layers = _taken(bare=_bare(5.1), client=_client(5.15), command_us=4900)
    assert max(zip((part or 0 for part in layers.parts_ms), PARTS, strict=True))[1] == "server: the command, at most"


def test_too_few_calls_tell_nothing() -> None:
    few = offered(*[0.2] * 100)
    assert take_apart("GET", 0.99, bare=few, client=few, command_us=None) is None
    assert take_apart("GET", 0.5, bare=few, client=few, command_us=None) is not None


def test_without_a_control_nothing_is_told() -> None:
    bare = Offered({}, recording([("GET", 0.16)] * COUNT))
    assert take_apart("GET", 0.5, bare=bare, client=_client(0.2), command_us=8.0) is None
