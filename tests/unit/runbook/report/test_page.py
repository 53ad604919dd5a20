"""The page of a run, rendered from stored evidence alone: complete, self-contained, and the same each time."""

import copy
import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from runbook.evidence import CRITERIA, EvidenceError
from runbook.evidence.notebook import VERDICT_MIME
from runbook.evidence.store import JUNIT, MANIFEST, METRICS, NOTEBOOK, PAGE, RESULT, SUMMARY
from runbook.report.page import write_page
from tests.unit.runbook.report.results import drills

Json = dict[str, Any]

HOSTILE = """<script>alert("x")</script><img src="https://evil.example/x.png">&'"""
# A picture of one pixel.
PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="

MEASURED = [
    {"name": "acknowledged writes lost", "value": 1234, "unit": "writes", "samples": 56789, "threshold": "= 0"},
    {"name": "window of the loss", "value": 0.75, "unit": "s", "samples": None, "threshold": ""},
]
CIRCUMSTANCES = {
    "engine": {"product": "redis", "version": "7.0.15", "found_by": "redis-server on PATH"},
    "host": {"system": "Linux", "kernel": "6.1", "machine": "x86_64", "cpus": 2},
    "versions": {"python": "3.11.2", "redis": "8.1.0"},
}


def _finding(verdict: str, reason: str = "") -> Json:
    return {"criterion": "I-4", "claim": "No write is lost", "verdict": verdict, "reason": reason, "measured": MEASURED}


def _run(verdict: str | None, reason: str = "", broken: str = "") -> Json:
    return {
        "schema_version": 1,
        "kind": "notebook",
        "run": "20260101T000000Z-persistence-drill",
        "notebook": "persistence-drill",
        "title": "Kill Redis under load",
        "question": "Does it keep what it acknowledged?",
        "verdict": verdict,
        "broken": broken,
        "criteria": {"I-4": verdict} if verdict else {},
        "parameters": {"target": "embedded", "rate_per_s": 1000},
        "started_utc": "2026-01-01T00:00:00+00:00",
        "duration_s": 12.34,
        "target": "embedded",
        **CIRCUMSTANCES,
        "findings": [_finding(verdict, reason)] if verdict else [],
    }


def _broken() -> Json:
    """A run whose kernel died before it could say anything of itself."""
    return {
        **_run(None, broken="code cell 2 of 9 was not executed in its turn"),
        "target": None,
        "engine": None,
        "host": None,
        "versions": None,
    }


def _verification() -> Json:
    decided = {"I-4": ("PASS", ""), "I-5": ("FAIL", "1 of 4 writers never came back"), "P-2": ("INCONCLUSIVE", "the limit lies within")}
    criteria = []
    for name, text in CRITERIA.items():
        verdict, reason = decided.get(name, (None, ""))
        finding = {
            **_finding(verdict or "", reason),
            "criterion": name,
            "notebook": "persistence-drill",
            "run": "20260101T000000Z-persistence-drill",
        }
        criteria.append({"id": name, "text": text, "verdict": verdict, "findings": [finding] if verdict else []})
    run = {
        "run": "20260101T000000Z-persistence-drill",
        "notebook": "persistence-drill",
        "title": "Kill Redis",
        "question": "Does it keep?",
        "limits": "A power cut.",
    }
    return {
        "schema_version": 1,
        "kind": "verification",
        "run": "20260101T000000Z-verify",
        "verdict": "FAIL",
        "broken": "setup did not come to a verdict",
        "target": "embedded",
        "finished_utc": "2026-01-01T00:01:00+00:00",
        "criteria": criteria,
        "headlines": [
            {
                **MEASURED[0],
                "name": "Writes lost",
                "criterion": "I-4",
                "run": run["run"],
                "notebook": run["notebook"],
                "verdict": "FAIL",
                "before": 7,
            }
        ],
        "baseline": {"run": "20251231T000000Z-verify", "by": "Ada", "accepted_utc": "2025-12-31T00:00:00+00:00"},
        "runs": [
            {**run, "verdict": "FAIL", "broken": "", "duration_s": 12.34},
            {**run, "run": "20260101T000000Z-setup", "notebook": "setup", "verdict": None, "broken": "the kernel died", "duration_s": 0.5},
        ],
        **CIRCUMSTANCES,
    }


def _code(count: int, *outputs: Json) -> Json:
    return {
        "cell_type": "code",
        "execution_count": count,
        "id": f"c{count}",
        "metadata": {},
        "outputs": list(outputs),
        "source": "book.summary()",
    }


def _shown(data: Json, metadata: Json | None = None) -> Json:
    return {"output_type": "execute_result", "execution_count": 1, "data": data, "metadata": metadata or {}}


def _notebook() -> Json:
    table = '<table class="runbook"><tr><td class="measured">0.25 ms</td></tr></table>'
    cells = [
        {
            "cell_type": "markdown",
            "id": "m1",
            "metadata": {},
            "source": "# Kill Redis under load\n\nProse with $x^2$, `code` and\n\n| a | b |\n|---|---|\n| 1 | 2 |",
        },
        _code(1, _shown({"text/html": table, "text/plain": "table"})),
        _code(2, _shown({"image/png": PNG, "text/plain": "Plot: who?"}, {"image/png": {"alt": "Nobody was served for a second."}})),
        _code(3, {"output_type": "stream", "name": "stdout", "text": "printed\n"}),
        _code(
            4, {"output_type": "error", "ename": "ValueError", "evalue": HOSTILE, "traceback": [f"\x1b[31mValueError\x1b[0m: {HOSTILE}"]}
        ),
        _code(5, _shown({VERDICT_MIME: {"verdict": "PASS"}, "text/plain": "PASS", "text/html": "<p><strong>PASS</strong></p>"})),
    ]
    return {"cells": cells, "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3"}}, "nbformat": 4, "nbformat_minor": 5}


RUNS = {
    "PASS": _run("PASS"),
    "FAIL": _run("FAIL", "1234 of 56789 acknowledged writes lost"),
    "INCONCLUSIVE": _run("INCONCLUSIVE", "only 99 writes before the outage"),
    "BROKEN": _broken(),
    "verification": _verification(),
}
EACH_RUN = pytest.mark.parametrize("result", RUNS.values(), ids=RUNS)


@pytest.fixture
def render(tmp_path: Path) -> Callable[..., str]:
    """Store a result, and a notebook if there is one, as evidence; render it and return the page."""

    def store(folder: Path, result: Json, notebook: Json | None) -> None:
        folder.mkdir(exist_ok=True)
        (folder / RESULT).write_text(json.dumps(result), encoding="utf-8")
        if notebook is not None:
            (folder / NOTEBOOK).write_text(json.dumps(notebook), encoding="utf-8")

    def write(result: Json, notebook: Json | None = None) -> str:
        path = tmp_path / "rendered"
        if result["kind"] == "verification":
            store(tmp_path / RUNS["PASS"]["run"], RUNS["PASS"], _notebook())
        store(path, result, notebook)
        write_page(path)
        return (path / PAGE).read_text(encoding="utf-8")

    return write


def _text(page: str) -> str:
    """What a reader sees, blanks run together."""
    body = re.sub(r"(?s)<(style|title)>.*?</\1>", "", page)
    return html.unescape(re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", body)))


class References(HTMLParser):
    """Collects what a browser would fetch or execute."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.fetched: list[str] = []
        self.scripts: list[str] = []
        self.feed(page)
        for style in re.findall(r"(?s)<style.*?</style>", page) + re.findall(r'style="[^"]*"', page):
            self.fetched += re.findall(r"url\(([^)]*)\)|@import\s+(\S+)", style)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        if tag in ("script", "iframe", "object", "embed"):
            self.scripts.append(tag)
        for name, value in attributes:
            if name.startswith("on"):
                self.scripts.append(name)
            if name in ("src", "href", "srcset", "poster", "data", "action") and re.match(
                r"\s*(https?:|//|file:|javascript:)", value or ""
            ):
                self.fetched.append(f"{tag} {name}={value}")


class TestEveryPage:
    @EACH_RUN
    def test_it_refers_to_nothing_outside_and_runs_no_script(self, result: Json, render: Callable[..., str]) -> None:
        page = render(result, _notebook() if result["kind"] == "notebook" else None)
        found = References(page)
        assert found.fetched == []
        assert found.scripts == []
        assert "<script" not in page
        assert "@import" not in page

    @EACH_RUN
    def test_the_same_evidence_gives_the_same_bytes(self, result: Json, render: Callable[..., str]) -> None:
        notebook = _notebook() if result["kind"] == "notebook" else None
        assert render(result, notebook) == render(copy.deepcopy(result), copy.deepcopy(notebook))

    @EACH_RUN
    def test_it_is_one_whole_html_document_with_a_title(self, result: Json, render: Callable[..., str]) -> None:
        page = render(result)
        assert page.startswith("<!doctype html>")
        assert page.rstrip().endswith("</html>")
        assert re.search(r"<title>[^<]*\S[^<]*</title>", page)
        assert 'charset="utf-8"' in page

    @EACH_RUN
    def test_it_says_the_verdict_in_its_title_and_first(self, result: Json, render: Callable[..., str]) -> None:
        page = render(result)
        answer = title = result["verdict"] or "BROKEN"
        if result["kind"] == "verification":
            answer, title = "Not accepted", "failed"
        assert title in re.findall(r"<title>(.*?)</title>", page)[0]
        assert answer in _text(page)[:160]

    @EACH_RUN
    def test_rendering_it_writes_a_manifest_of_the_page(self, result: Json, render: Callable[..., str], tmp_path: Path) -> None:
        render(result)
        assert {PAGE, RESULT} <= set(json.loads((tmp_path / "rendered" / MANIFEST).read_text())["sha256"])


class TestNotebookPage:
    @pytest.mark.parametrize("verdict", ["PASS", "FAIL", "INCONCLUSIVE"])
    def test_it_shows_each_finding_with_verdict_reason_and_numbers(self, verdict: str, render: Callable[..., str]) -> None:
        text = _text(render(RUNS[verdict]))
        assert re.search(rf"I-4 No write is lost .*{verdict}", text)
        assert RUNS[verdict]["findings"][0]["reason"] in text
        assert "1,234 writes" in text
        assert "of 56,789" in text

    def test_it_shows_the_question_and_the_circumstances(self, render: Callable[..., str]) -> None:
        text = _text(render(RUNS["PASS"]))
        for words in (
            "Does it keep what it acknowledged?",
            "redis 7.0.15",
            "redis-server on PATH",
            "Linux",
            "3.11.2",
            "rate_per_s 1000",
            "12.34 s",
        ):
            assert words in text

    def test_a_broken_run_says_why_and_never_pass(self, render: Callable[..., str]) -> None:
        text = _text(render(_broken()))
        assert "BROKEN" in text
        assert "code cell 2 of 9 was not executed in its turn" in text
        assert "PASS" not in text

    def test_a_run_whose_notebook_never_started_has_a_page(self, render: Callable[..., str]) -> None:
        assert "it did not start" in _text(render({**_broken(), "broken": "it did not start"}))

    def test_a_server_that_did_not_answer_is_said_so(self, render: Callable[..., str]) -> None:
        assert "did not answer" in _text(render(_broken()))

    def test_the_narrative_is_there_with_prose_tables_output_and_pictures(self, render: Callable[..., str]) -> None:
        page = render(RUNS["PASS"], _notebook())
        assert "Kill Redis under load" in _text(page)
        assert '<td class="measured">0.25 ms</td>' in page
        assert "printed" in _text(page)
        assert re.search(r'<img[^>]*src="data:image/png;base64,', page)
        assert 'alt="Nobody was served for a second."' in page
        assert page.count('<details class="code">') == 5

    def test_a_finding_without_measurements_has_a_row(self, render: Callable[..., str]) -> None:
        result = _run("PASS")
        result["findings"][0]["measured"] = []
        assert "No write is lost" in _text(render(result))


class TestVerificationPage:
    def test_every_criterion_of_the_story_is_listed_with_its_text(self, render: Callable[..., str]) -> None:
        text = _text(render(_verification()))
        for name, words in CRITERIA.items():
            assert f"{name} {words}" in text

    def test_what_was_not_examined_is_said_to_be_so(self, render: Callable[..., str]) -> None:
        text = _text(render(_verification()))
        assert text.count("not examined") >= len(CRITERIA) - 3
        assert f"{len(CRITERIA) - 4} were not examined on the target embedded" in text  # the word of whoever accepts is not missed

    def test_a_reason_and_the_deciding_number_stand_beside_the_verdict(self, render: Callable[..., str]) -> None:
        text = _text(render(_verification()))
        assert re.search(r"I-5 .*? FAIL .*?1 of 4 writers never came back .*?1,234 writes", text)

    def test_a_criterion_leads_to_the_story_of_its_notebook_on_the_same_page(self, render: Callable[..., str]) -> None:
        page = render(_verification())
        for notebook in ("persistence-drill", "setup"):
            assert f'href="#{notebook}"' in page
            assert page.count(f'id="{notebook}"') == 1
        assert "../" not in page

    def test_every_link_within_it_leads_somewhere_and_no_id_is_given_twice(self, render: Callable[..., str]) -> None:
        page = render(_verification())
        ids = re.findall(r'<[^>]* id="([^"]*)"', page)
        assert sorted(ids) == sorted(set(ids))
        assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)

    def test_the_story_is_told_below_the_headings_of_the_page(self, render: Callable[..., str]) -> None:
        page = render(_verification())
        assert len(re.findall(r"<h1\b", page)) == 1
        assert re.search(r"<h2\b[^>]*>Kill Redis under load", page)
        assert "Nobody was served for a second." in page
        assert "No write is lost" in page[page.index('class="notebook"') :]

    def test_a_run_whose_folder_is_missing_is_said_to_be_so(self, render: Callable[..., str]) -> None:
        assert "The folder of this run is missing" in _text(render(_verification()))  # that of setup

    def test_a_headline_stands_against_its_limit_and_the_accepted_run(self, render: Callable[..., str]) -> None:
        text = _text(render(_verification()))
        assert re.search(r"Writes lost 1,234 writes FAIL , allowed = 0 accepted: 7.writes", text)
        assert "is run 20251231T000000Z-verify, by Ada, 2025-12-31" in text

    def test_without_an_accepted_run_it_says_so(self, render: Callable[..., str]) -> None:
        result = {**_verification(), "baseline": None}
        result["headlines"][0]["before"] = None
        text = _text(render(result))
        assert "No run on this target was accepted before" in text
        assert "accepted: " not in text[: text.index("Criteria")].replace("Not accepted: ", "")

    def test_it_says_what_it_does_not_show(self, render: Callable[..., str]) -> None:
        text = _text(render(_verification()))
        missing = text[text.index("What this evidence does not show") :]
        assert "persistence-drill : A power cut." in missing
        assert "D-1, Over 80 % of the code covered by tests: not examined; make test measures it" in missing

    def test_a_verification_of_an_older_version_can_still_be_rendered(self, render: Callable[..., str]) -> None:
        result = _verification()
        for name in ("headlines", "baseline"):
            del result[name]
        for run in result["runs"]:
            del run["limits"]
        assert "None of them was measured." in _text(render(result))

    def test_why_something_was_not_examined_is_not_made_up(self, render: Callable[..., str]) -> None:
        text = _text(render(_verification()))
        assert (
            "AC-1, A Redis 7 Alpine container in docker-compose.yml and in docker-compose.prod.yml: "
            "not examined; runbook verify --target compose examines it" in text
        )
        assert "AC-6, A connection pool of configurable size: not examined; setup did not come to a verdict." in text

    def test_the_sentence_leads_to_the_criteria_that_it_names(self, render: Callable[..., str]) -> None:
        page = render(_verification())
        assert (
            '<p class="sentence failed"><span class="icon" aria-hidden="true">✗</span> Not accepted: <a href="#I-5">I-5</a> fails' in page
        )
        assert '; <a href="#P-2">P-2</a> could not be decided' in page

    def test_what_stands_between_backticks_is_code_and_nothing_else_of_it_is_markup(self, render: Callable[..., str]) -> None:
        result = _verification()
        result["runs"][0]["limits"] = "`a < b` and <b>bold</b>"
        assert "<code>a &lt; b</code> and &lt;b&gt;bold&lt;/b&gt;" in render(result)

    def test_what_became_worse_than_the_accepted_run_is_said_in_sentences(self, render: Callable[..., str]) -> None:
        against = {"run": "r1", "verdict": "FAIL", "headline": "FAIL: 1 figure worse", "sentences": ["p99 of GET: 0.2 → 0.9 ms"]}
        text = _text(render({**_verification(), "against": against}))
        assert "FAIL: 1 figure worse p99 of GET: 0.2 → 0.9 ms" in text

    def test_a_broken_notebook_is_shown_as_broken_with_its_cause(self, render: Callable[..., str]) -> None:
        text = _text(render(_verification()))
        assert re.search(r"setup Does it keep\? the kernel died BROKEN", text)

    def test_a_verification_in_which_no_server_answered_has_a_page(self, render: Callable[..., str]) -> None:
        assert "did not answer" in _text(render({**_verification(), "engine": None, "host": None, "versions": None}))


def _hostile(value: Any) -> Any:
    """Replace each text that a server, a notebook or an error could have written."""
    if isinstance(value, dict):
        kept = ("kind", "verdict", "criterion", "id")
        return {key: item if key in kept else _hostile(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_hostile(item) for item in value]
    return HOSTILE if isinstance(value, str) else value


class TestHostileText:
    @EACH_RUN
    def test_it_is_escaped_wherever_it_stands(self, result: Json, render: Callable[..., str]) -> None:
        page = render(_hostile(result))
        found = References(page)
        assert found.scripts == []
        assert found.fetched == []
        assert "&lt;script&gt;" in page

    def test_it_is_escaped_in_the_error_of_a_cell(self, render: Callable[..., str]) -> None:
        page = render(RUNS["PASS"], _notebook())
        assert References(page).scripts == []
        assert "&lt;script&gt;" in page

    def test_it_is_escaped_in_the_name_of_a_parameter(self, render: Callable[..., str]) -> None:
        assert "<script" not in render({**RUNS["PASS"], "parameters": {HOSTILE: HOSTILE}})


class TestUnusableEvidence:
    def test_a_folder_without_a_result_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(EvidenceError, match=r"holds no result\.json"):
            write_page(tmp_path)

    def test_a_damaged_result_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        (tmp_path / RESULT).write_text('{"kind": "noteb')
        with pytest.raises(EvidenceError, match="damaged"):
            write_page(tmp_path)

    @pytest.mark.parametrize("content", ["{}", "[]", '{"kind": "notebook"}', '{"kind": "verification"}'])
    def test_a_result_that_is_not_ours_is_an_error_that_says_so(self, content: str, tmp_path: Path) -> None:
        (tmp_path / RESULT).write_text(content)
        with pytest.raises(EvidenceError, match=r"result\.json"):
            write_page(tmp_path)

    def test_a_damaged_notebook_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        (tmp_path / RESULT).write_text(json.dumps(RUNS["PASS"]))
        (tmp_path / NOTEBOOK).write_text('{"cells": [')
        with pytest.raises(EvidenceError, match=r"notebook\.ipynb"):
            write_page(tmp_path)

    def test_what_cannot_be_rendered_leaves_the_old_page(self, tmp_path: Path) -> None:
        (tmp_path / PAGE).write_text("the old page")
        with pytest.raises(EvidenceError):
            write_page(tmp_path)
        assert (tmp_path / PAGE).read_text() == "the old page"


class TestDrills:
    @pytest.fixture
    def page(self, tmp_path: Path) -> str:
        (tmp_path / RESULT).write_text(json.dumps(drills()))
        write_page(tmp_path)
        return (tmp_path / PAGE).read_text()

    def test_its_sentence_names_what_failed_what_is_open_and_what_is_broken(self, page: str) -> None:
        for part in ("1 of 4 drills pass", "failed: kill", "could not be decided here: aof-damage", "broken: pause"):
            assert part in page

    def test_it_counts_the_controls_that_failed_as_they_must(self, page: str) -> None:
        assert "3 of 4 negative controls failed as they must" in page

    def test_known_failures_of_the_server_are_listed_as_such(self, page: str) -> None:
        assert "1 known failures of the server itself were shown" in page
        assert "Redis notices a changed byte: <strong>that does not hold</strong>. it checks no value" in page

    def test_each_drill_stands_with_its_promise_and_its_counter_example(self, page: str) -> None:
        assert "7 lost, first 0:7" in page
        assert "the watchdog ended it after 2 s" in page
        assert page.count("<strong>Promise:</strong> It does") == 4


class TestForMachines:
    @EACH_RUN
    def test_what_machines_read_lies_beside_the_page_and_in_the_manifest(
        self, result: Json, render: Callable[..., str], tmp_path: Path
    ) -> None:
        render(result)
        assert {JUNIT, SUMMARY, METRICS} <= set(json.loads((tmp_path / "rendered" / MANIFEST).read_text())["sha256"])

    def test_rendering_it_again_gives_the_same_bytes(self, render: Callable[..., str], tmp_path: Path) -> None:
        render(_verification())
        folder = tmp_path / "rendered"
        before = {name: (folder / name).read_bytes() for name in (JUNIT, SUMMARY, METRICS, MANIFEST)}
        render(_verification())
        assert {name: (folder / name).read_bytes() for name in before} == before

    def test_a_verdict_that_there_is_not_is_an_error_that_says_so(self, tmp_path: Path) -> None:
        (tmp_path / RESULT).write_text(json.dumps({**_run("PASS"), "verdict": "MAYBE"}))
        with pytest.raises(EvidenceError, match="MAYBE"):
            write_page(tmp_path)
