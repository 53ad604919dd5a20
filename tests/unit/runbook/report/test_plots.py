"""The contract of each plot: what it shows, on which axes, against which limit; and that nothing recorded can crash it."""

import numpy as np
import pytest
from matplotlib.lines import Line2D

from runbook.drills import aof_damage, persistence, power_loss, restore_time
from runbook.drills.checkers import account
from runbook.drills.damage import claims
from runbook.drills.faults import Outage
from runbook.evidence import Finding, Measurement, Verdict
from runbook.load import History, Outcome, Record
from runbook.report.display import Plot
from runbook.report.plots import cuts, restore_curve, timeline
from runbook.report.tables import cuts_table, damage_table, outages_table

SECOND, MS = 1_000_000_000, 1_000_000


def _append(number: int, sent_s: float, outcome: Outcome = Outcome.OK) -> Record:
    sent_ns = round(sent_s * SECOND)
    return Record(0, "RPUSH", f"0:{number}", sent_ns, sent_ns, sent_ns + MS, outcome)


def _drilled(records: list[Record]) -> persistence.Result:
    """An outage from the second to the third second."""
    history = History(records)
    outage = Outage("SIGKILL", 2 * SECOND, round(2.1 * SECOND), 3 * SECOND)
    found = account(history, [record.value for record in history], [outage.down_ns])
    return persistence.Result("SIGKILL", (outage,), history, account=found)


APPENDS = [_append(number, sent_s) for number, sent_s in enumerate([*np.arange(0, 2, 0.01), *np.arange(3.02, 5, 0.01)])]


def _labels(plot: Plot) -> tuple[str, str]:
    axes = plot.figure.axes[0]
    return axes.get_xlabel(), axes.get_ylabel()


def _texts(plot: Plot) -> list[str]:
    return [text.get_text() for text in plot.figure.axes[0].texts]


def _heights(line: Line2D) -> list[float]:
    return [float(y) for y in np.asarray(line.get_ydata())]


def _contract(plot: Plot) -> str:
    return str(plot._repr_mimebundle_()[0]["text/plain"])


class TestOutages:
    def test_each_outage_is_a_row_with_what_it_took(self) -> None:
        assert outages_table(_drilled(APPENDS)).text().splitlines()[-1].split() == ["1", "1.00", "0", "0.00", "21"]

    def test_a_server_that_was_left_alone_has_no_rows(self) -> None:
        assert len(outages_table(persistence.Result("SIGKILL")).text().splitlines()) == 2

    def test_an_outage_from_which_nobody_returned_is_marked(self) -> None:
        assert outages_table(_drilled(APPENDS[:200])).text().splitlines()[-1].endswith("—")


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


def _cut(policy: str, lost: int) -> power_loss.Cut:
    records = [Record(0, "RPUSH", f"0:{n}", n * MS, n * MS, n * MS + 1, Outcome.OK) for n in range(2000)]
    found = account(History(records), [f"0:{n}" for n in range(2000 - lost)], [2000 * MS])
    return power_loss.Cut(policy, Outage("power cut"), History([]), found, 0.0, lost, 50)


CUTS = power_loss.Result("true", {"everysec": [_cut("everysec", 900)], "always": [_cut("always", 0)], "no": [_cut("no", 2000)]}, ())


def test_cuts_show_each_window_against_the_promise() -> None:
    plot = cuts(CUTS)
    assert plot.threshold == "≤ 2 s"
    assert plot.series == ("appendfsync everysec", "appendfsync always", "appendfsync no")
    assert "everysec 0.90 s, always 0.00 s, no 2.00 s" in plot.alt


def test_the_table_of_cuts_tells_what_each_took_and_what_the_model_says() -> None:
    text = cuts_table(CUTS).text()
    assert "everysec 1        2,000         900    0.90" in text
    assert text.count("by itself") == 3


TIMINGS = {
    kind: [restore_time.Timing(size, size, 0.0, size * factor) for size in (10, 100, 400)]
    for kind, factor in (("a snapshot", 0.01), ("commands", 0.02))
}


def test_a_restore_curve_names_the_growth_of_each_kind_and_draws_what_is_promised() -> None:
    plot = restore_curve(restore_time.Result(TIMINGS, ()))
    assert plot.series == ("a snapshot", "commands")
    assert "a snapshot: 0.10 to 4.00 s, linear; commands: 0.20 to 8.00 s, linear" in plot.alt
    assert plot.threshold == "≤ 10 s and 10 s for each 100 MiB"


def test_a_restore_curve_of_nothing_says_so() -> None:
    assert "Nothing was restored" in restore_curve(restore_time.Result({}, ())).alt


def test_the_table_of_damage_has_a_row_for_each_kind() -> None:
    measured = (Measurement("as claimed", 3), Measurement("manifest missing", "started empty 1; accused by our digest 1", samples=1))
    finding = Finding("I-4", claims.TOLD, Verdict.PASS, "", measured)
    assert "manifest missing  1       started empty 1; accused by our digest 1" in damage_table(aof_damage.Result((), (finding,))).text()
