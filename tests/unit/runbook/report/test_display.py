"""What a notebook shows: a text that is the same in each run, and beside it what was measured."""

import base64
import configparser
import html
import re
from pathlib import Path
from typing import NoReturn

import pytest
from matplotlib.figure import Figure

from runbook.drills import persistence
from runbook.drills.checkers import account
from runbook.drills.faults import Outage
from runbook.evidence import Finding, Measurement, Verdict, judge
from runbook.load import History, Outcome, Record
from runbook.report.display import Measured, Plot, Table
from runbook.report.tables import account_table, findings_table

HOSTILE = """<script>alert("x")</script>&'"""
NBVAL = Path(__file__).resolve().parents[3] / "nbval.cfg"


def _plain(shown: Table | Plot) -> str:
    return str(shown._repr_mimebundle_()[0]["text/plain"])


def _html(shown: Table) -> str:
    return str(shown._repr_mimebundle_()[0]["text/html"])


def _sanitized(page: str) -> str:
    """Blank out what nbval blanks out, by its own rules."""
    rules = configparser.ConfigParser()
    rules.read(NBVAL, encoding="utf-8")
    for name in rules.sections():
        page = re.sub(rules[name]["regex"], rules[name]["replace"], page)
    return page


class TestTable:
    def test_the_plain_text_has_the_title_the_columns_and_the_stable_cells(self) -> None:
        plain = _plain(Table("Appends", ("kind", "count"), [("lost", Measured("3")), ("phantom", Measured("0"))]))
        assert plain.splitlines() == ["Appends", "kind | count", "lost | …", "phantom | …"]

    def test_the_plain_text_holds_no_measured_value(self) -> None:
        assert "123.456" not in _plain(Table("t", ("a",), [(Measured("123.456"),)]))

    def test_the_html_holds_the_measured_value(self) -> None:
        assert '<td class="measured">123.456</td>' in _html(Table("t", ("a",), [(Measured("123.456"),)]))

    def test_two_runs_differ_in_html_only_where_nbval_does_not_look(self) -> None:
        one, other = (Table("t", ("a", "b"), [("stable", Measured(text))]) for text in ("0.25 ms <fast>", ""))
        assert _html(one) != _html(other)
        assert _sanitized(_html(one)) == _sanitized(_html(other))

    @pytest.mark.parametrize(
        ("criterion", "claim", "may_be_open"),
        [
            ("P-2", "The 99th percentile of GET is below 1 ms", True),
            ("bench", "100 threads through cachelib: at least 2 × the rate of redis-py", True),
            ("P-1", "100 connections of one pool are busy at once", False),
            ("I-4", "After SIGKILL and a restart no acknowledged write is lost", False),
        ],
    )
    def test_nbval_lets_open_what_speed_decides_and_nothing_else(self, criterion: str, claim: str, may_be_open: bool) -> None:
        for show in (_html, _plain):
            passed, undecided, failed = (
                _sanitized(show(findings_table([Finding(criterion, claim, verdict)])))
                for verdict in (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.FAIL)
            )
            assert (undecided == passed) == may_be_open
            assert failed != passed

        def crash() -> NoReturn:
            raise TypeError

        (crashed, fine) = (
            _sanitized(_html(findings_table([found])))
            for found in (judge(criterion, claim, crash), Finding(criterion, claim, Verdict.PASS))
        )
        assert crashed != fine

    def test_the_html_escapes_the_title_the_columns_and_the_cells(self) -> None:
        page = _html(Table(HOSTILE, (HOSTILE,), [(HOSTILE,), (Measured(HOSTILE),)]))
        assert "<script" not in page
        assert page.count(html.escape(HOSTILE)) == 4

    def test_a_table_without_rows_keeps_its_head(self) -> None:
        assert '<th scope="col">kind</th>' in _html(Table("t", ("kind",), []))

    def test_there_is_a_cell_for_each_column(self) -> None:
        page = _html(Table("t", ("a", "b", "c"), [("1", "2", Measured("3"))] * 2))
        assert page.count("<th ") == 3
        assert page.count("<td") == 6


class TestPlot:
    PLOT = Plot(
        Figure(figsize=(2, 1)), "Who was served?", ("GET", "SET"), ("time, s", "rate, 1/s"), "1 ms", "At 100 a second p99 was 0.25 ms."
    )

    def test_the_plain_text_is_the_contract_of_the_plot(self) -> None:
        assert _plain(self.PLOT).splitlines() == [
            "Plot: Who was served?",
            "x: time, s; y: rate, 1/s",
            "series: GET, SET",
            "threshold: 1 ms",
        ]

    def test_the_plain_text_holds_no_measured_value(self) -> None:
        assert "0.25" not in _plain(self.PLOT)

    def test_the_picture_is_a_png_with_a_text_for_those_who_cannot_see_it(self) -> None:
        data, metadata = self.PLOT._repr_mimebundle_()
        assert base64.b64decode(data["image/png"]).startswith(b"\x89PNG\r\n")
        assert metadata["image/png"]["alt"] == "At 100 a second p99 was 0.25 ms."

    def test_a_plot_without_a_threshold_says_so(self) -> None:
        assert _plain(Plot(Figure(), "t", (), ("x", "y"), "", "a")).endswith("threshold: none")

    def test_the_picture_tells_nothing_of_the_software_that_drew_it(self) -> None:
        assert b"atplotlib" not in base64.b64decode(self.PLOT._repr_mimebundle_()[0]["image/png"])


# Numbers that appear in none of the stable texts.
ODD = 7_919


def _persistence_result(appends: int) -> persistence.Result:
    records = [Record(0, "RPUSH", f"0:{n}", n, n, n + 1, Outcome.OK) for n in range(appends)]
    history = History(records)
    found = account(history, [record.value for record in records[:-3]], [appends])
    return persistence.Result("SIGTERM", (Outage("SIGTERM"),), history, account=found)


class TestOurTables:
    def test_findings_show_criterion_claim_and_verdict_and_hide_numbers_and_reasons(self) -> None:
        finding = Finding("I-4", "nothing is lost", Verdict.FAIL, f"{ODD} lost", (Measurement("lost", ODD, "writes"),))
        table = findings_table([finding])
        assert "I-4 | nothing is lost | FAIL | … | …" in _plain(table)
        assert "7,919" in _html(table)
        assert f"{ODD} lost" in _html(table)

    def test_hostile_words_of_a_server_in_a_reason_are_escaped(self) -> None:
        assert "<script" not in _html(findings_table([Finding("I-4", "c", Verdict.FAIL, HOSTILE)]))

    def test_the_account_of_two_runs_has_the_same_plain_text(self) -> None:
        one, other = account_table(_persistence_result(ODD)), account_table(_persistence_result(50))
        assert _plain(one) == _plain(other)
        assert "7,919" in _html(one)
        assert _sanitized(_html(one)) == _sanitized(_html(other))

    @pytest.mark.parametrize("name", ["acknowledged", "outcome unknown", "lost", "duplicated", "phantom", "out of order"])
    def test_the_account_names_everything_that_can_become_of_an_append(self, name: str) -> None:
        assert f"\n{name} | " in _plain(account_table(_persistence_result(50)))
