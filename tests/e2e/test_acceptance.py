"""One criterion that fails is told alike to whoever reads the page, the terminal, JUnit, the summary, the metrics, or the exit status."""

import re
from xml.etree import ElementTree

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.test_cli import command, run_folder, write_notebook
from tests.schema import read_result

pytestmark = pytest.mark.timeout(180)

SENTENCE = "Not accepted: AC-2 fails."


@pytest.fixture(scope="module")
def verified(tmp_path_factory):
    """A verification of a server whose setting was changed by hand, and beside it what passes."""
    runs, books = tmp_path_factory.mktemp("runs"), tmp_path_factory.mktemp("books")
    opened = "import cachelib, runbook; book = runbook.open('test')"
    write_notebook(
        books,
        "settings",
        opened,
        "cachelib.connect(book.target.config).config_set('appendfsync', 'no')",
        "book.show(runbook.setup.check_settings(book.target))",
        "book.verdict()",
    )
    write_notebook(books, "health", opened, "book.show(runbook.setup.check_health(book.target))", "book.verdict()")
    done = command("verify", "--notebooks", str(books), runs=runs)
    return done, runs


def test_the_exit_status_and_the_terminal_say_so(verified):
    done, _ = verified
    assert done.returncode == 1, done.stderr
    assert re.search(rf"^{re.escape(SENTENCE)}", done.stdout, re.MULTILINE)


def test_the_first_sentence_of_the_page_says_so(verified):
    _, runs = verified
    page = (runs / "latest" / "acceptance.html").read_text(encoding="utf-8")
    assert '<p class="sentence failed">' in page
    assert 'Not accepted: <a href="#AC-2">AC-2</a> fails.' in page
    assert "<title>Redis runbook: failed</title>" in page


def test_junit_has_one_failure_and_names_it(verified):
    _, runs = verified
    suite = ElementTree.parse(runs / "latest" / "junit.xml").getroot()
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")
    failed = [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None]
    assert [name.split()[0] for name in failed] == ["AC-2"]


def test_the_summary_the_metrics_and_the_result_say_so(verified):
    _, runs = verified
    latest = runs / "latest"
    assert (latest / "summary.md").read_text(encoding="utf-8").startswith("Not accepted: ")
    families = {family.name: family for family in text_string_to_metric_families((latest / "metrics.prom").read_text())}
    told = {
        (sample.labels["criterion"], sample.labels["verdict"]): sample.value
        for sample in families["redis_runbook_criterion_verdict"].samples
        if sample.labels.get("criterion") in ("AC-2", "U-4")
    }
    assert told["AC-2", "FAIL"] == 1
    assert told["AC-2", "PASS"] == 0
    assert told["U-4", "PASS"] == 1
    assert read_result(run_folder(runs, "verify"))["verdict"] == "FAIL"


def test_it_can_not_be_accepted_without_a_reason(verified, run_here):
    _, runs = verified
    done = run_here("accept", "latest", "--by", "Ada", "--runs", runs)
    assert done.returncode == 2
    assert SENTENCE in done.stderr
    assert "--despite" in done.stderr
