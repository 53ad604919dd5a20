"""What is told between two runs: hand-made loads, with a known-bad for each thing that must be seen and for each that must not."""

import functools
import random
from array import array
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any

import pytest

from runbook.evidence import Verdict
from runbook.load.offered import Offered
from runbook.load.recording import LATE, LATENCY, Cell, Recording
from runbook.report.diff import Diff, Effect, compare
from runbook.report.loads import Loads

SLICE_NS = 100_000_000
SLICES, CALLS = 60, 120  # p99.9 of 7,200 calls would need 10,000, so it is not told
DESCRIPTION = {"operations": {"SET": 1}, "loop": "open", "rate_per_s": 2000.0}
CLOSED = {**DESCRIPTION, "loop": "closed", "rate_per_s": None}
HOST = {"system": "Linux", "machine": "x86_64", "cpus": 4, "kernel": "6.1"}
REDIS = {"product": "redis", "version": "7.0.15", "found_by": "PATH"}


def latencies_us(choice: random.Random, count: int, factor: float = 1.0) -> list[int]:
    """Latencies around 0.4 ms with a long tail, as they are."""
    return [round(400 * factor * choice.lognormvariate(0, 0.3) * (4 if choice.random() < 0.02 else 1)) for _ in range(count)]


def cell(number: int, values_us: Iterable[int], operation: str = "SET", series: str = LATENCY) -> Cell:
    counts = Counter(values_us)
    return Cell(number, series, operation, array("I", counts), array("Q", counts.values()))


def offered(
    seed: object,
    factor: float = 1.0,
    *,
    slices: int = SLICES,
    calls: Callable[[int], int] = lambda number: CALLS,
    late_us: int = 0,
    description: dict[str, Any] = DESCRIPTION,
    errors: dict[tuple[str, str], int] | None = None,
    stalled: frozenset[int] = frozenset(),
    **counted: int,
) -> Offered:
    choice = random.Random(str(seed))
    cells = [cell(1000 + number, latencies_us(choice, calls(number), factor)) for number in range(slices)]
    if late_us:
        cells += [cell(1000 + number, [late_us] * calls(number), series=LATE) for number in range(slices)]
    sent = sum(map(calls, range(slices)))
    made = Recording(SLICE_NS, tuple(cells), Counter(errors or {}), slices * SLICE_NS / 1e9, **{"sent": sent, **counted})
    return Offered(description, made, stalled)


def run(name: str, load: Offered, **different: Any) -> Loads:
    return replace(Loads(name, "embedded", REDIS, HOST, {"python": "3.12"}, {"latency-benchmark/steady": load}), **different)


def diff(before: Offered, after: Offered) -> Diff:
    return compare(run("a", before), run("b", after))


def effects(found: Diff) -> dict[str, Effect]:
    return {change.what: change.effect for load in found.loads for change in load.changes}


@pytest.mark.no_cover
def test_a_slow_down_of_61_percent_is_always_caught():
    for seed in range(5):
        found = diff(offered(seed), offered(f"other {seed}", 1.61))
        assert found.verdict is Verdict.FAIL
        assert [effects(found)[f"{label} of SET"] for label in ("p50", "p90", "p99")] == [Effect.WORSE] * 3


@pytest.mark.no_cover
@pytest.mark.timeout(600)  # so many bootstraps take half a minute, and several on shared cores
def test_the_same_distribution_is_not_called_changed_in_200_pairs():
    small = functools.partial(offered, slices=20, calls=lambda number: 55)  # just enough for p99
    false = [change.sentence for seed in range(200) for change in diff(small(seed), small(f"other {seed}")).changes]
    assert not false


def test_it_says_in_a_sentence_what_changed_and_the_largest_change_first():
    found = diff(offered(1), offered(2, 1.61, errors={("SET", "LOADING"): 3}))
    failed, first, *_, summary = found.sentences
    assert failed == "failed calls of SET at 2,000/s: 0 → 3 (3 × LOADING)"
    assert first.endswith(", beyond noise")
    assert first.startswith("p")
    assert " of SET at 2,000/s: " in first
    assert " → " in first
    assert summary == "0 percentiles of 1 load did not change beyond noise; 1 had too few samples to tell"
    shares = [change.share for change in found.changes[1:]]
    assert shares == sorted(shares, reverse=True)
    assert found.headline == "FAIL: 4 figures worse beyond noise"


def test_the_sentence_holds_figures_and_share():
    flat = [Recording(SLICE_NS, tuple(cell(number, [us] * 40) for number in range(60)), seconds=6, sent=2400) for us in (410, 660)]
    found = diff(*(Offered(DESCRIPTION, made) for made in flat))
    assert "p99 of SET at 2,000/s: 0.41 → 0.66 ms, +61 %, beyond noise" in found.sentences


def test_what_is_faster_is_told_and_passes():
    found = diff(offered(1, 1.61), offered(2))
    assert found.verdict is Verdict.PASS
    assert effects(found)["p99 of SET"] is Effect.BETTER
    assert any("−38 %, beyond noise" in sentence or "−37 %, beyond noise" in sentence for sentence in found.sentences)
    assert found.headline == "PASS: nothing worse beyond noise, 3 figures better"


def test_one_stall_that_the_canary_missed_is_noise():
    """All calls of two slices of 60 waited: 3 % of the calls, but only two independent events."""
    after = offered(2)
    cells = [*after.recording.cells]
    for number in (30, 31):
        cells[number] = cell(1000 + number, [20_000] * CALLS)
    found = diff(offered(1), replace(after, recording=replace(after.recording, cells=tuple(cells))))
    assert effects(found)["p99 of SET"] is Effect.SAME
    assert found.verdict is Verdict.PASS


def test_seconds_in_which_the_host_stalled_are_left_out():
    after = offered(2)
    cells = [cell(1000 + number, [20_000] * CALLS) if 20 <= number < 40 else old for number, old in enumerate(after.recording.cells)]
    stalled = replace(after, recording=replace(after.recording, cells=tuple(cells)))
    assert diff(offered(1), stalled).verdict is Verdict.FAIL
    assert diff(offered(1), replace(stalled, stalled=frozenset({102, 103}))).verdict is Verdict.PASS


def test_a_slow_down_with_a_load_that_was_as_much_later_itself_is_inconclusive():
    found = diff(offered(1, late_us=50), offered(2, 1.61, late_us=290))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert set(effects(found).values()) == {Effect.DOUBTFUL, Effect.UNTOLD, Effect.SAME}
    assert "but the load itself came 0.050 → 0.290 ms late, so it may be the host" in found.sentences[0]
    assert found.headline == "INCONCLUSIVE: 3 figures worse, and the host may be why"


@pytest.mark.parametrize("late_us", [(50, 50), (50, 60), (290, 50), (2, 6)])
def test_a_slow_down_that_the_load_s_own_lateness_does_not_explain_is_caught(late_us):
    found = diff(offered(1, late_us=late_us[0]), offered(2, 1.61, late_us=late_us[1]))
    assert found.verdict is Verdict.FAIL
    assert Effect.DOUBTFUL not in effects(found).values()


def test_what_is_faster_because_the_host_became_quiet_is_no_improvement():
    found = diff(offered(1, 1.61, late_us=290), offered(2, late_us=50))
    assert found.verdict is Verdict.PASS
    assert effects(found)["p99 of SET"] is Effect.DOUBTFUL
    assert not found.changes


@pytest.mark.parametrize(("factor", "scale"), [(1.03, 1.0), (1.3, 0.02)])
def test_a_change_too_small_to_matter_is_noise(factor, scale):
    """3 % of 0.4 ms, and a third of 0.01 ms."""
    assert not diff(offered(1, scale), offered(2, scale * factor)).changes


@pytest.mark.parametrize(
    ("before", "after", "effect"),
    [
        (0, 1, Effect.WORSE),
        (1, 0, Effect.BETTER),
        (0, 0, Effect.SAME),
        (20, 29, Effect.SAME),
        (20, 45, Effect.WORSE),
        (1, 9, Effect.SAME),
        (45, 20, Effect.BETTER),
    ],
)
def test_failed_calls_count_from_the_first_on(before, after, effect):
    text = ("SET", "BUSY")
    found = diff(offered(1, errors={text: before}), offered(2, errors={text: after}))
    assert effects(found)["failed calls of SET"] is effect
    assert found.verdict is (Verdict.FAIL if effect is Effect.WORSE else Verdict.PASS)


def test_a_server_that_answers_nothing_any_more_fails():
    dead = Offered(DESCRIPTION, Recording(SLICE_NS, (), Counter({("SET", "connection lost"): 100}), 6.0, 100, 0, 4))
    found = diff(offered(1), dead)
    assert found.verdict is Verdict.FAIL
    assert effects(found)["p50 of SET"] is Effect.UNTOLD


@pytest.mark.parametrize("counted", ["unsent", "lost"])
def test_calls_never_sent_and_connections_lost_are_worse(counted):
    assert diff(offered(1), offered(2, **{counted: 5})).verdict is Verdict.FAIL


def test_calls_never_sent_while_the_host_stalled_are_not_the_server_s_fault():
    assert diff(offered(1), offered(2, unsent=5, stalled=frozenset({100}))).verdict is Verdict.PASS


@pytest.mark.parametrize(("calls", "effect"), [(100, Effect.WORSE), (150, Effect.BETTER), (121, Effect.SAME)])
def test_the_rate_of_a_closed_loop_is_compared(calls, effect):
    found = diff(offered(1, description=CLOSED), offered(2, description=CLOSED, calls=lambda number: calls + number % 3))
    assert effects(found)["rate of all calls"] is effect
    told = [sentence for sentence in found.sentences if sentence.startswith("rate of all calls at full speed: 1,200 → ")]
    assert len(told) == (effect is not Effect.SAME)


def test_the_rate_of_a_server_that_was_away_for_half_of_the_time_is_halved():
    found = diff(offered(1, description=CLOSED), offered(2, description=CLOSED, calls=lambda number: CALLS if number % 2 else 0))
    (rate,) = (change for change in found.loads[0].changes if change.unit == "calls/s")
    assert rate.share == pytest.approx(-0.5, abs=0.02)
    assert rate.effect is Effect.WORSE


@pytest.mark.parametrize(
    ("different", "reason"),
    [
        ({"host": {**HOST, "cpus": 8}}, "cpus of the host 4 against 8"),
        ({"host": {**HOST, "kernel": "6.2"}}, "kernel of the host 6.1 against 6.2"),
        ({"host": {}}, "system of the host Linux against unknown"),
        ({"target": "remote"}, "target embedded against remote"),
        ({"engine": {"product": "valkey", "version": "9.1"}}, "engine redis 7.0.15 against valkey 9.1"),
        ({"engine": {}}, "engine redis 7.0.15 against unknown"),
    ],
)
def test_unlike_environments_are_not_compared(different, reason):
    found = compare(run("a", offered(1)), run("b", offered(2, 1.61), **different))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.loads == ()
    assert f"not compared: {reason}" in found.sentences
    assert found.headline == f"INCONCLUSIVE: nothing can be compared: {reason}"


def test_two_unknown_engines_are_not_alike():
    assert compare(run("a", offered(1), engine={}), run("b", offered(2), engine={})).left_out


def test_another_version_is_said_and_compared():
    after = run("b", offered(2, 1.61), engine={**REDIS, "version": "7.4"}, versions={"python": "3.13", "hiredis": "3.2"})
    found = compare(run("a", offered(1)), after)
    assert found.sentences[:3] == [
        "differs, and is compared: engine redis 7.0.15 → redis 7.4",
        "differs, and is compared: hiredis absent → 3.2",
        "differs, and is compared: python 3.12 → 3.13",
    ]
    assert found.verdict is Verdict.FAIL


def test_a_load_of_another_description_is_not_compared_and_the_others_are():
    slow = offered(2, 1.61, description={**DESCRIPTION, "rate_per_s": 1500.0})
    before = run("a", offered(1), loads={"n/x": offered(1), "n/y": offered(3), "n/z": offered(5), "n/old": offered(7)})
    after = run("b", slow, loads={"n/x": slow, "n/y": offered(4), "n/z": offered(6, 1.61), "n/new": offered(8)})
    found = compare(before, after)
    assert set(found.left_out) == {"load n/x: rate_per_s 2000.0 against 1500.0", "load n/old is in a only", "load n/new is in b only"}
    assert [load.name for load in found.loads] == ["n/y", "n/z"]
    assert {change.at for change in found.changes} == {"at 2,000/s in n/z"}


def test_without_a_load_in_common_it_is_inconclusive():
    found = compare(run("a", offered(1)), run("b", offered(2), loads={"other/steady": offered(2)}))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert len(found.left_out) == 2


def test_where_every_second_stalled_it_is_inconclusive():
    found = diff(offered(1), offered(2, stalled=frozenset(range(90, 120))))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.left_out == ("load latency-benchmark/steady: the host stalled during 100% of the calls of b",)
    assert found.headline == "INCONCLUSIVE: nothing can be compared: the host stalled, so try again when it is quiet"


def test_another_program_of_the_same_version_is_told():
    found = compare(run("a", offered(1)), run("b", offered(2), engine={**REDIS, "found_by": "image"}))
    assert found.differs == ("engine redis 7.0.15, PATH → redis 7.0.15, image",)


def test_a_load_that_is_too_short_to_tell_how_the_host_varies_is_not_compared():
    found = diff(offered(1, slices=5), offered(2, 1.61, slices=5))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.left_out == (
        "load latency-benchmark/steady: 0.5 s of a are too short to tell how the host varies, "
        "0.5 s of b are too short to tell how the host varies",
    )


def test_with_too_few_samples_of_everything_it_is_inconclusive():
    few = functools.partial(offered, slices=16, calls=lambda number: 1)
    found = diff(few(1), few(2, 1.61))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert found.headline == "INCONCLUSIVE: too few samples to tell anything"
