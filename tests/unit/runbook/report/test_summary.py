"""The summary in Markdown: the sentence first, whatever was found; hostile text harmless; never more than a CI shows."""

import re
from collections.abc import Iterator
from typing import Any

import mistune
import pytest

from runbook.report.markdown import escaped
from runbook.report.sentence import sentence
from runbook.report.summary import LIMIT_BYTES, summary
from tests.unit.runbook.report.results import BASELINE, HEADLINE, RESULTS, against, dead, drills, finding, hostile, notebook, verification

EACH_RESULT = pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
PLUGINS = ("table", "strikethrough", "url", "footnotes", "math")

parse = mistune.create_markdown(renderer="ast", plugins=PLUGINS)
render = mistune.create_markdown(escape=False, plugins=PLUGINS)


def _structure(tokens: Any) -> Iterator[str]:
    """What a page is made of, without its texts."""
    for token in tokens:
        if token["type"] not in ("text", "blank_line"):
            yield token["type"] + (token["raw"] if token["type"] in ("block_html", "inline_html") else "")
        yield from _structure(token.get("children", ()))


def _row(text: str, name: str) -> str:
    (row,) = re.findall(rf"^\| \*\*{name}\*\* \|.*$", text, re.MULTILINE)
    return str(row)


@EACH_RESULT
def test_hostile_text_changes_nothing_but_texts(result: dict[str, Any]) -> None:
    bad, good = summary(hostile(result)), summary(hostile(result, "harmless"))
    assert list(_structure(parse(bad))) == list(_structure(parse(good)))
    page = str(render(bad))
    assert not any(tag in page for tag in ("<script", "<img", "<a "))


@EACH_RESULT
def test_the_same_result_gives_the_same_bytes(result: dict[str, Any]) -> None:
    assert summary(result) == summary(result)


@EACH_RESULT
def test_the_circumstances_are_folded_away_at_the_end(result: dict[str, Any]) -> None:
    text = summary(result)
    head, _, details = text.partition("<details>")
    assert "| run |" in details
    assert "| run |" not in head
    assert text.endswith("</details>\n")
    assert "did not answer" in details or "redis 7.0.15, redis-server on PATH" in details


def test_the_circumstances_tell_image_settings_and_seed_where_they_are_known() -> None:
    text = summary(RESULTS["verification against an accepted one"])
    for row in (
        "| image | redis:7-alpine sha256:0123 |",
        "| server: appendfsync | everysec |",
        "| client: pool\\_size | 10 |",
        "| seed | 1 |",
    ):
        assert row in text
    assert "| seed |" not in summary({**RESULTS["PASS"], "seed": None})


class TestVerification:
    def test_the_first_line_is_the_sentence(self) -> None:
        result = verification("PASS", finding())
        assert summary(result).splitlines()[0] == escaped(sentence(result))

    def test_a_criterion_that_fails_tells_every_reason_and_number(self) -> None:
        result = verification("FAIL", finding("FAIL", "7 lost"), finding("FAIL", "8 lost", claim="Nor here"), finding(claim="But here"))
        row = _row(summary(result), "I-4")
        assert (
            "| **FAIL** | No write is lost: **7 lost** (acknowledged writes lost: 7 writes (= 0, of 56,789))<br>Nor here: **8 lost**" in row
        )
        assert "But here" not in row

    def test_a_criterion_that_passes_tells_one_claim_and_its_number(self) -> None:
        row = _row(summary(verification("PASS", finding(), finding(claim="And here"))), "I-4")
        assert row.endswith("| PASS | No write is lost (acknowledged writes lost: 7 writes (= 0, of 56,789)) |")

    def test_what_was_not_examined_is_listed_with_its_text(self) -> None:
        text = summary(verification("PASS", finding()))
        assert "Not examined on the target embedded:" in text
        assert "- **AC-1** A Redis 7 Alpine container" in text
        assert "| **AC-1**" not in text

    def test_a_broken_notebook_is_named_with_its_cause(self) -> None:
        assert "- **setup** **BROKEN**: the kernel died" in summary(RESULTS["verification"])

    def test_a_known_failure_of_the_server_is_told_as_such(self) -> None:
        text = summary(RESULTS["verification"])
        assert "Known failures of the server itself, which count for no verdict:" in text
        assert "- Redis notices a changed byte: that does not hold. it checks no value (I-4)" in text

    def test_headline_numbers_stand_beside_their_limits_and_the_accepted_ones(self) -> None:
        text = summary(verification("PASS", finding(), headlines=[HEADLINE], baseline=BASELINE))
        assert "| headline | now | limit | accepted 2025-12-31 by Owner | verdict |" in text
        assert "| Writes lost | 7 writes | = 0 | 3 writes | PASS |" in text

    def test_a_comparison_is_told_in_its_sentences(self) -> None:
        text = summary(verification("PASS", finding(), against=against()))
        assert "**Against 20251231T000000Z-verify**: 1 became worse\n\n- GET p99 rose by 40 %." in text


class TestOthers:
    def test_drills_are_counted_and_named_by_what_became_of_them(self) -> None:
        first = summary(drills()).splitlines()[0]
        for words in (
            "FAIL: 1 of 4 drills pass",
            "failed: kill",
            "could not be decided here: aof-damage",
            "broken: pause",
            "3 of 4 negative",
        ):
            assert words in first

    def test_each_drill_has_a_row(self) -> None:
        text = summary(drills())
        assert "| **FAIL** | No write is lost: **7 lost, first 0:7**" in _row(text, "kill")
        assert "| **BROKEN** | the watchdog ended it after 2 s |" in _row(text, "pause")

    def test_an_interruption_is_said(self) -> None:
        assert "it was interrupted" in summary({**drills(), "interrupted": True}).splitlines()[0]

    @pytest.mark.parametrize(
        ("result", "first"),
        [(RESULTS["PASS"], "persistence-drill: PASS."), (dead(), "persistence-drill: BROKEN, the kernel died.")],
    )
    def test_a_notebook_says_its_verdict_first(self, result: dict[str, Any], first: str) -> None:
        assert summary(result).splitlines()[0] == first

    def test_a_notebook_that_found_nothing_is_undecided(self) -> None:
        assert "- **persistence-drill** **INCONCLUSIVE**" in summary(RESULTS["nothing found"])


class TestSize:
    def test_what_is_too_much_is_cut_between_rows_and_says_so(self) -> None:
        """A step's summary on GitHub above 1 MiB is not shown at all."""
        text = summary(notebook("FAIL", *(finding("FAIL", "|" * 900, criterion=f"I-{number}") for number in range(400))))
        assert 0.9 * LIMIT_BYTES < len(text.encode()) < LIMIT_BYTES
        assert "**It is cut off here**" in text
        assert text.endswith("</details>\n")
        table = [line for line in text.splitlines() if line.startswith("| **I-")]
        assert all(line.endswith("|") for line in table)

    def test_one_criterion_with_too_many_reasons_is_cut_too(self) -> None:
        text = summary(notebook("FAIL", *(finding("FAIL", "|" * 900, claim=f"Claim {number}") for number in range(400))))
        assert len(text.encode()) < LIMIT_BYTES
        assert text.startswith("persistence-drill: FAIL.")

    def test_what_fits_is_whole(self) -> None:
        assert "cut off" not in summary(RESULTS["verification"])
