"""What the acceptance page looks for by the wording of a claim is found among the claims of the committed notebooks."""

import json

import pytest

from runbook.evidence.headline import HEADLINES, headlines
from runbook.evidence.notebook import read_verdict
from runbook.notebooks import FOLDER
from runbook.report.latency_chart import latency_chart


@pytest.fixture(scope="module")
def results():
    readings = {path.stem: read_verdict(json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.ipynb"))}
    return [
        {"run": name, "notebook": name, "verdict": reading.verdict, "findings": reading.details["findings"]}
        for name, reading in readings.items()
    ]


def test_each_headline_is_measured_by_a_notebook_for_the_criterion_that_it_speaks_for(results):
    assert [each["name"] for each in headlines(results, None)] == [headline.name for headline in HEADLINES]
    for headline in HEADLINES:
        claims = [finding for result in results for finding in result["findings"] if finding["claim"].startswith(headline.claim)]
        assert headline.criterion in {finding["criterion"] for finding in claims}


def test_the_latency_chart_has_a_row_for_each_operation_the_client_and_the_control(results):
    chart = latency_chart({"criteria": [{"findings": result["findings"]} for result in results]})
    assert {row.name for row in chart.rows} == {"GET", "SET", "PING", "client", "control"}
    for row in chart.rows:
        assert {"p50", "p99"} <= {point.name for point in row.points}
