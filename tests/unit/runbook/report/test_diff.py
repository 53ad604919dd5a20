"""What is told between two runs: hand-made loads, with a known-bad for each thing that must be seen and for each that must not."""

import functools
import random
from array import array
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import pytest

from runbook.evidence import Verdict
from runbook.load.offered import Offered
from runbook.load.recording import LATENCY, RESPONSE, Cell, Recording
from runbook.report.diff import Diff, Effect, compare
from runbook.report.loads import Loads

SLICE_NS = 50_000_000
SLICES, CALLS = 120, 60
DESCRIPTION = {"operations": {"SET": 1}, "loop": "open", "rate_per_s": 2000.0}
CLOSED = {**DESCRIPTION, "loop": "closed", "rate_per_s": None}
HOST = {"system": "Linux", "machine": "x86_64", "cpus": 4, "kernel": "6.1"}
REDIS = {"product": "redis", "version": "7.0.15", "found_by": "PATH"}


def cells(number: int, values_us: Iterable[int], operation: str = "SET") -> list[Cell]:
    counts = Counter(values_us)
    pair = array("I", counts), array("Q", counts.values())
    return [Cell(number, series, operation, *pair) for series in (LATENCY, RESPONSE)]


def offered(
    seed: object,
    slower_us: int = 0,
    *,
    in_share: float = 1.0,
    stalls: float = 0.0,
    slices: int = SLICES,
    calls: int = CALLS,
    description: dict[str, Any] = DESCRIPTION,
    errors: dict[tuple[str, str], int] | None = None,
    **counted: int,
) -> Offered:
    """Offer calls of about 0.1 ms to a server, and to its control.

    Args:
        seed: of the latencies.
        slower_us: so much longer takes the server.
        in_share: for this share of its calls.
        stalls: share of the slices of time in which the host adds up to 8 ms to every call, of both.
    """
    choice = random.Random(str(seed))
    server: list[Cell] = []
    control: list[Cell] = []
    for number in range(1000, 1000 + slices):
        stall_us = choice.uniform(500, 8000) if choice.random() < stalls else 0
        both = [[round(100 * choice.lognormvariate(0, 0.3) + stall_us * choice.random()) for _ in range(calls)] for _ in range(2)]
        server += cells(number, [us + (slower_us if choice.random() < in_share else 0) for us in both[0]])
        control += cells(number, both[1])
    seconds = slices * SLICE_NS / 1e9
    echoed = Recording(SLICE_NS, tuple(control), seconds=seconds)
    made = Recording(SLICE_NS, tuple(server), Counter(errors or {}), seconds, **{"sent": slices * calls, **counted}, control=echoed)
    return Offered(description, made)


def run(name: str, load: Offered, **different: Any) -> Loads:
    return replace(Loads(name, "embedded", REDIS, HOST, {"python": "3.12"}, {"latency-benchmark/steady": load}), **different)


def diff(before: Offered, after: Offered) -> Diff:
    return compare(run("a", before), run("b", after))


def effects(found: Diff) -> dict[str, Effect]:
    return {change.what: change.effect for load in found.loads for change in load.changes}


class TestWhatIsSlower:
    @pytest.mark.parametrize("seed", range(3))
    def test_a_server_that_is_slower_in_two_calls_of_a_hundred_is_told(self, seed: int) -> None:
        found = diff(offered(seed), offered(f"other {seed}", 400, in_share=0.02))
        assert found.verdict is Verdict.FAIL
        assert effects(found)["p99 of all calls"] is Effect.WORSE
        assert effects(found)["p50 of SET"] is Effect.SAME

    def test_a_server_that_is_slower_everywhere_is_told_at_each_percentile(self) -> None:
        found = diff(offered(1), offered(2, 300))
        assert [effects(found)[f"{label} of SET"] for label in ("p50", "p90", "p99")] == [Effect.WORSE] * 3

    def test_it_is_told_on_a_host_that_stalls(self) -> None:
        found = diff(offered(1, stalls=0.05), offered(2, 300, stalls=0.05))
        assert effects(found)["p50 of SET"] is Effect.WORSE

    def test_it_is_said_in_a_sentence_with_what_failed_first(self) -> None:
        found = diff(offered(1), offered(2, 300, errors={("SET", "LOADING"): 3}))
        failed, first, *_, summary = found.sentences
        assert failed == "failed calls of SET at 2,000/s: 0 → 3 (3 × LOADING)"
        assert first.startswith("p")
        assert " of SET at 2,000/s, beyond the control: " in first or " of all calls at 2,000/s, beyond the control: " in first
        assert first.endswith(" ms")
        assert summary == "0 percentiles of 1 load did not change beyond noise"
        assert found.headline == "FAIL: 7 figures worse beyond noise"

    def test_what_is_faster_is_told_and_passes(self) -> None:
        found = diff(offered(1, 300), offered(2))
        assert found.verdict is Verdict.PASS
        assert effects(found)["p99 of SET"] is Effect.BETTER
        assert found.headline == "PASS: nothing worse beyond noise, 6 figures better"
        assert any(", −0.3" in sentence for sentence in found.sentences)


class TestWhatIsNoise:
    @pytest.mark.parametrize("pairs", [8, pytest.param(40, marks=pytest.mark.nightly)])
    def test_the_same_server_is_not_called_changed(self, pairs: int) -> None:
        small = functools.partial(offered, slices=60, calls=30)
        false = [change.sentence for seed in range(pairs) for change in diff(small(seed), small(f"other {seed}")).changes]
        assert not false

    @pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in range(1, 6))])
    def test_a_host_that_stalls_in_one_run_only_is_no_change(self, seed: int) -> None:
        """Each tenth slice of time: 10 % of the calls take up to 8 ms, and so do those to the control."""
        quiet, noisy = offered(seed), offered(f"other {seed}", stalls=0.1)
        assert not diff(quiet, noisy).changes
        assert not diff(noisy, quiet).changes

    def test_a_change_too_small_to_matter_is_noise(self) -> None:
        assert not diff(offered(1), offered(2, 100)).changes


class TestFailures:
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
    def test_failed_calls_count_from_the_first_on(self, before: int, after: int, effect: Effect) -> None:
        text = ("SET", "BUSY")
        found = diff(offered(1, errors={text: before}), offered(2, errors={text: after}))
        assert effects(found)["failed calls of SET"] is effect
        assert found.verdict is (Verdict.FAIL if effect is Effect.WORSE else Verdict.PASS)

    def test_a_server_that_answers_nothing_any_more_fails(self) -> None:
        failed = Counter({("SET", "connection lost"): 100})
        dead = Offered(DESCRIPTION, Recording(SLICE_NS, (), failed, 6.0, 100, 0, 4, control=Recording(SLICE_NS)))
        found = diff(offered(1), dead)
        assert found.verdict is Verdict.FAIL
        assert effects(found)["p50 of SET"] is Effect.UNTOLD

    @pytest.mark.parametrize("counted", ["unsent", "lost"])
    def test_calls_never_sent_and_connections_lost_are_worse(self, counted: str) -> None:
        assert diff(offered(1), offered(2, **{counted: 5})).verdict is Verdict.FAIL


class TestWhatCanNotBeCompared:
    def test_loads_without_a_control_are_compared_by_their_failures_only(self) -> None:
        """Those of a closed loop, and of runs from before there was a control."""
        before, after = (replace(load, recording=replace(load.recording, control=None)) for load in (offered(1), offered(2, 5000)))
        found = diff(before, after)
        assert found.verdict is Verdict.INCONCLUSIVE
        assert set(effects(found)) == {"failed calls of SET", "calls never sent", "connections lost"} or not found.changes
        lost = replace(after, recording=replace(after.recording, lost=3))
        assert diff(before, lost).verdict is Verdict.FAIL

    @pytest.mark.parametrize(
        ("different", "reason"),
        [
            ({"target": "remote"}, "target embedded against remote"),
            ({"engine": {"product": "valkey", "version": "9.1"}}, "engine redis 7.0.15 against valkey 9.1"),
            ({"engine": {}}, "engine redis 7.0.15 against unknown"),
        ],
    )
    def test_unlike_servers_are_not_compared(self, different: dict[str, Any], reason: str) -> None:
        found = compare(run("a", offered(1)), run("b", offered(2, 300), **different))
        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.loads == ()
        assert f"not compared: {reason}" in found.sentences
        assert found.headline == f"INCONCLUSIVE: nothing can be compared: {reason}"

    def test_two_unknown_engines_are_not_alike(self) -> None:
        assert compare(run("a", offered(1), engine={}), run("b", offered(2), engine={})).left_out

    def test_a_load_of_another_description_is_not_compared_and_the_others_are(self) -> None:
        slow = offered(2, 300, description={**DESCRIPTION, "rate_per_s": 1500.0})
        before = run("a", offered(1), loads={"n/x": offered(1), "n/y": offered(3), "n/z": offered(5), "n/old": offered(7)})
        after = run("b", slow, loads={"n/x": slow, "n/y": offered(4), "n/z": offered(6, 300), "n/new": offered(8)})
        found = compare(before, after)
        assert set(found.left_out) == {"load n/x: rate_per_s 2000.0 against 1500.0", "load n/old is in a only", "load n/new is in b only"}
        assert [load.name for load in found.loads] == ["n/y", "n/z"]
        assert {change.at for change in found.changes} == {"at 2,000/s in n/z"}

    def test_without_a_load_in_common_it_is_inconclusive(self) -> None:
        found = compare(run("a", offered(1)), run("b", offered(2), loads={"other/steady": offered(2)}))
        assert found.verdict is Verdict.INCONCLUSIVE
        assert len(found.left_out) == 2

    def test_with_too_few_samples_of_everything_it_is_inconclusive(self) -> None:
        few = functools.partial(offered, slices=16, calls=1)
        found = diff(few(1), few(2, 300))
        assert found.verdict is Verdict.INCONCLUSIVE
        assert found.headline == "INCONCLUSIVE: too few samples to tell anything"


class TestWhatDiffersAndIsCompared:
    def test_another_version_or_host_is_said(self) -> None:
        after = run(
            "b",
            offered(2, 300),
            engine={**REDIS, "version": "7.4"},
            versions={"python": "3.13", "hiredis": "3.2"},
            host={**HOST, "kernel": "6.2"},
        )
        found = compare(run("a", offered(1)), after)
        assert found.sentences[:4] == [
            "differs, and is compared: engine redis 7.0.15 → redis 7.4",
            "differs, and is compared: kernel of the host 6.1 → 6.2",
            "differs, and is compared: hiredis absent → 3.2",
            "differs, and is compared: python 3.12 → 3.13",
        ]
        assert found.verdict is Verdict.FAIL

    def test_another_program_of_the_same_version_is_told(self) -> None:
        found = compare(run("a", offered(1)), run("b", offered(2), engine={**REDIS, "found_by": "image"}))
        assert found.differs == ("engine redis 7.0.15, PATH → redis 7.0.15, image",)
