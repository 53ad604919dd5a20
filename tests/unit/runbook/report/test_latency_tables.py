"""Tables of latencies: the same plain text in each run, blanks where too little was measured, and sums that add up."""

import dataclasses

import pytest

from runbook.drills.attribution import PARTS, REST, Layers
from runbook.drills.latency import BARE, CLIENT, Result
from runbook.drills.sweep import Result as Swept
from runbook.drills.sweep import Step
from runbook.load.offered import Offered
from runbook.report.display import Measured, Table
from runbook.report.latency_tables import layers_table, loads_table, percentile_table, shares_table, sweep_table
from runbook.report.measured import MISSING
from tests.unit.runbook.drills.loads import excess, offered


def _plain(table: Table) -> str:
    return str(table._repr_mimebundle_()[0]["text/plain"])


def _row(table: Table, number: int) -> dict[str, str]:
    cells = [cell.text if isinstance(cell, Measured) else cell for cell in table.rows[number]]
    return dict(zip(table.columns, cells, strict=True))


def _layers(p: float, *parts_ms: float | None) -> Layers:
    return Layers("GET", p, 1.0, parts_ms)


def _step(rate_per_s: float, p99_ms: float | None = 0.3) -> Step:
    return Step(rate_per_s, rate_per_s, p99_ms, p99_ms, 0.01, excess(0.0 if p99_ms and p99_ms < 1 else 0.5), 0)


class TestSharesTable:
    def test_two_runs_have_the_same_plain_text(self) -> None:
        one, other = offered(*[0.2] * 2000), offered(*[0.3, 90.0] * 30, errors={("GET", "OOM"): 2})
        tables = [shares_table(Result(loads, ())) for loads in ({BARE: one, CLIENT: other}, {BARE: other}, {})]
        assert len({_plain(table) for table in tables}) == 1

    def test_it_shows_what_a_caller_and_the_control_saw_beside_the_servers_share(self) -> None:
        load = offered(*[*[0.2] * 9, 3.0] * 200, control_ms=[*[0.1] * 19, 2.0] * 100)
        cells = [cell.text if isinstance(cell, Measured) else cell for cell in shares_table(Result({BARE: load}, (), stolen=0.043)).rows[0]]
        assert cells[:8] == ["GET", "0.200", "3.000", "0.100", "2.000", "10.00", "5.00", "5.00"]
        assert cells[9] == "4.3"


class TestPercentileTable:
    def test_two_runs_have_the_same_plain_text(self) -> None:
        one, other = {BARE: offered(*[0.2] * 2000)}, {BARE: offered(*[0.3, 90.0] * 30, errors={("GET", "OOM"): 2})}
        assert _plain(percentile_table(one)) == _plain(percentile_table(other))

    @pytest.mark.parametrize(("count", "shown"), [(19, 0), (20, 1), (99, 1), (100, 2), (999, 2), (1000, 3), (9999, 3), (10_000, 4)])
    def test_a_percentile_with_fewer_than_ten_samples_beyond_it_stays_blank(self, count: int, shown: int) -> None:
        row = _row(percentile_table({BARE: offered(*[0.2] * count)}), 0)
        cells = [row[f"{name}, ms"] for name in ("p50", "p90", "p99", "p99.9")]
        assert cells == ["0.200"] * shown + [MISSING] * (4 - shown)
        assert (row["99 % confidence of p99"] == MISSING) == (shown < 3)

    def test_each_operation_has_a_row_and_all_of_them_together(self) -> None:
        table = percentile_table({BARE: offered(0.2, errors={("SET", "OOM"): 4}), CLIENT: offered()})
        rows = [_row(table, number) for number in range(len(table.rows))]
        assert [(row["load"], row["operation"], row["failed"]) for row in rows] == [
            (BARE, "GET", "0"),
            (BARE, "SET", "4"),
            (BARE, "all", "4"),
            (CLIENT, "all", "0"),
        ]

    def test_nothing_measured_is_an_empty_table(self) -> None:
        assert not percentile_table({}).rows


class TestLoadsTable:
    def test_a_load_that_offers_no_rate_is_said_to_show_capacity(self) -> None:
        load = offered(0.2)
        closed = Offered({**load.description, "loop": "closed", "rate_per_s": None}, load.recording)
        assert [row[1] for row in loads_table({"a": load, "b": closed}).rows] == [
            "open loop, 100 calls/s, constant",
            "closed loop: capacity",
        ]

    def test_two_runs_have_the_same_plain_text(self) -> None:
        assert _plain(loads_table({"a": offered(*[0.2] * 2000)})) == _plain(loads_table({"a": offered(9.0)}))


class TestLayersTable:
    def test_each_row_adds_up_to_the_whole(self) -> None:
        table = layers_table(Result({}, (), (_layers(0.5, 0.3, None, 0.3, 0.0, 0.05), _layers(0.99, *[0.0] * 5))))
        for number in range(2):
            row = _row(table, number)
            parts = [float(row[name]) for name in (*PARTS, REST) if row[name] != MISSING]
            assert sum(parts) == pytest.approx(float(row["whole"]))
        assert _row(table, 0)["server: the command, at most"] == MISSING

    def test_two_runs_have_the_same_plain_text(self) -> None:
        one = _layers(0.99, 0.3, 0.1, 0.3, 0.0, 0.05)
        other = dataclasses.replace(one, whole_ms=77.0, parts_ms=(None,) * 5)
        tables = [layers_table(Result({}, (), measured)) for measured in ((one,), (other,), ())]
        assert len({_plain(table) for table in tables}) == 1


class TestSweepTable:
    def test_the_plain_text_is_the_same_however_many_rates_were_tried(self) -> None:
        sweeps = [(), (_step(1000),), tuple(_step(1000 * 2**n) for n in range(9)), (_step(1000, 9.0),), (_step(1000, None),)]
        assert len({_plain(sweep_table(Swept(steps, f"cores {len(steps)}", ()))) for steps in sweeps}) == 1

    def test_it_tells_the_highest_rate_and_its_p99(self) -> None:
        cells = {row[0]: row[1].text for row in sweep_table(Swept((_step(1000), _step(2000, 0.9), _step(4000, 7.0)), "", ())).rows}  # type: ignore[union-attr]
        assert cells["highest that keeps the limit, calls/s"] == "2,000"
        assert cells["p99 there, ms"] == "0.900"
        assert cells["knee, calls/s"] == "1,000"
        assert cells["what could do no more"] == "the server"
