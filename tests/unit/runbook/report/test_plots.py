"""The contract of each plot: what it shows, on which axes, against which limit; and that nothing recorded can crash it."""

import numpy as np
import pytest
from matplotlib.lines import Line2D

from runbook.drills import latency, persistence
from runbook.drills.checkers import account
from runbook.drills.faults import Outage
from runbook.evidence import Finding, Measurement, Verdict
from runbook.load import History, Outcome, Record
from runbook.report.display import Plot
from runbook.report.plots import percentiles, timeline

SECOND, MS = 1_000_000_000, 1_000_000


def _append(number: int, sent_s: float, outcome: Outcome = Outcome.OK) -> Record:
    sent_ns = round(sent_s * SECOND)
    return Record(0, "RPUSH", f"0:{number}", sent_ns, sent_ns, sent_ns + MS, outcome)


def _drilled(records: list[Record]) -> persistence.Result:
    """An outage from the second to the third second."""
    history = History(records)
    outage = Outage("SIGKILL", 2 * SECOND, round(2.1 * SECOND), 3 * SECOND)
    found = account(history, [record.value for record in history], outage.down_ns)
    return persistence.Result("SIGKILL", outage, history, History([]), found, ())


APPENDS = [_append(number, sent_s) for number, sent_s in enumerate([*np.arange(0, 2, 0.01), *np.arange(3.02, 5, 0.01)])]


def _measured(count: int, took_ms: float = 0.2, operations: tuple[str, ...] = latency.OPERATIONS) -> latency.Result:
    calls = [
        Record(0, operation, "", at * 10 * MS, at * 10 * MS, at * 10 * MS + round(took_ms * MS * (1 + at / count)), Outcome.OK)
        for operation in operations
        for at in range(count)
    ]
    findings = tuple(
        Finding("P-2", f"{operation} is fast", Verdict.PASS, "", (Measurement(f"{operation} p99", took_ms, "ms", count),))
        for operation in operations
    )
    return latency.Result(300, 1, History(calls), None, findings)


def _labels(plot: Plot) -> tuple[str, str]:
    axes = plot.figure.axes[0]
    return axes.get_xlabel(), axes.get_ylabel()


def _texts(plot: Plot) -> list[str]:
    return [text.get_text() for text in plot.figure.axes[0].texts]


def _heights(line: Line2D) -> list[float]:
    return [float(y) for y in np.asarray(line.get_ydata())]


def _contract(plot: Plot) -> str:
    return str(plot._repr_mimebundle_()[0]["text/plain"])


class TestTimeline:
    def test_it_shows_what_was_acknowledged_and_when_the_server_was_down(self) -> None:
        plot = timeline(_drilled(APPENDS))
        assert plot.series == ("acknowledged", "server down")
        assert set(plot.series) <= set(_texts(plot))  # labelled directly

    def test_both_axes_have_a_unit(self) -> None:
        plot = timeline(_drilled(APPENDS))
        assert plot.axes == _labels(plot)
        assert "seconds" in plot.axes[0]
        assert "per second" in plot.axes[1]

    def test_it_draws_no_threshold_and_says_so(self) -> None:
        assert _contract(timeline(_drilled(APPENDS))).endswith("threshold: none")

    def test_its_title_is_a_question_that_names_the_fault(self) -> None:
        plot = timeline(_drilled(APPENDS))
        assert plot.title.endswith("?")
        assert "SIGKILL" in plot.title

    def test_the_rate_drawn_is_the_rate_of_the_history(self) -> None:
        (line,) = timeline(_drilled(APPENDS)).figure.axes[0].lines
        rates = _heights(line)
        assert np.median(rates[:19]) == pytest.approx(100, rel=0.1)
        assert 0 in rates  # the outage

    def test_the_text_for_those_who_cannot_see_it_tells_the_outage_and_the_return(self) -> None:
        plot = timeline(_drilled(APPENDS))
        assert f"{len(APPENDS)} appends" in plot.alt
        assert "down from 2.0 to 3.0 s" in plot.alt
        assert "21 ms after it served again" in plot.alt

    def test_where_no_writer_returned_the_text_says_so(self) -> None:
        assert "no writer succeeded again" in timeline(_drilled(APPENDS[:200])).alt

    def test_two_runs_have_the_same_contract(self) -> None:
        assert _contract(timeline(_drilled(APPENDS))) == _contract(timeline(_drilled(APPENDS[::2])))

    @pytest.mark.parametrize(
        "records",
        [[], [_append(0, 1, Outcome.FAIL)], [_append(0, 1)], [_append(0, 1, Outcome.UNKNOWN), _append(1, 4)]],
        ids=["empty", "nothing acknowledged", "a single append", "first unknown"],
    )
    def test_a_history_with_next_to_nothing_in_it_is_drawn(self, records: list[Record]) -> None:
        data, metadata = timeline(_drilled(records))._repr_mimebundle_()
        assert data["image/png"]
        assert metadata["image/png"]["alt"]

    def test_a_history_in_which_nothing_was_acknowledged_is_not_said_to_be_empty(self) -> None:
        assert "nothing was recorded" not in timeline(_drilled([_append(n, n / 10, Outcome.FAIL) for n in range(40)])).alt.lower()


class TestPercentiles:
    def test_it_shows_each_operation_labelled_directly(self) -> None:
        plot = percentiles(_measured(2000))
        assert plot.series == ("GET", "SET", "PING")
        assert set(plot.series) <= set(_texts(plot))

    def test_both_axes_have_a_unit(self) -> None:
        plot = percentiles(_measured(2000))
        assert plot.axes == _labels(plot)
        assert "percentile" in plot.axes[0]
        assert "ms" in plot.axes[1]

    def test_the_threshold_is_drawn_and_named(self) -> None:
        plot = percentiles(_measured(2000))
        assert plot.threshold == "1 ms"
        levels = [set(_heights(line)) for line in plot.figure.axes[0].lines]
        assert {latency.THRESHOLD_MS} in levels
        assert any("limit" in text and "1 ms" in text for text in _texts(plot))

    @pytest.mark.parametrize("took_ms", [0.001, 0.2, 40, 5000])
    def test_the_threshold_and_the_whole_curve_lie_within_the_picture(self, took_ms: float) -> None:
        axes = percentiles(_measured(2000, took_ms)).figure.axes[0]
        low, high = axes.get_ylim()
        assert low <= latency.THRESHOLD_MS <= high
        assert all(low <= value <= high for line in axes.lines for value in _heights(line))

    def test_a_curve_ends_where_fewer_than_ten_samples_lie_beyond(self) -> None:
        curves = [line for line in percentiles(_measured(2000)).figure.axes[0].lines if len(_heights(line)) > 2]
        assert [len(_heights(curve)) for curve in curves] == [1990] * 3

    def test_the_text_for_those_who_cannot_see_it_tells_each_p99_and_the_limit(self) -> None:
        alt = percentiles(_measured(2000)).alt
        assert "GET p99 0.2 ms, SET p99 0.2 ms, PING p99 0.2 ms" in alt
        assert "the limit is 1 ms" in alt

    def test_what_could_not_be_measured_is_not_told_as_none(self) -> None:
        findings = (Finding("P-2", "c", Verdict.INCONCLUSIVE, "", (Measurement("GET p99", None, "ms", 0),)),)
        assert "None" not in percentiles(latency.Result(300, 1, History([]), None, findings)).alt

    def test_two_runs_have_the_same_contract(self) -> None:
        assert _contract(percentiles(_measured(2000, 0.2))) == _contract(percentiles(_measured(20, 90)))

    @pytest.mark.parametrize(
        "result",
        [_measured(0), _measured(1), _measured(5), _measured(11), _measured(100, operations=("GET",))],
        ids=["empty", "one call each", "five", "eleven", "GET only"],
    )
    def test_a_history_with_next_to_nothing_in_it_is_drawn(self, result: latency.Result) -> None:
        data, metadata = percentiles(result)._repr_mimebundle_()
        assert data["image/png"]
        assert metadata["image/png"]["alt"]
