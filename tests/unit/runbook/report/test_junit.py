"""JUnit XML: valid for those who read it, with counts that agree, and red wherever the exit status is."""

import re
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from runbook.report.junit import junit
from tests.unit.runbook.report.results import RESULTS, against, dead, drills, finding, hostile, verification

EACH_RESULT = pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)

# Element: attributes that it must have, that it may have, and its children, of which one group must not follow the next.
# After junit-10.xsd of Jenkins' xunit plugin and Surefire's own schema; what only one of them allows is left out, but `time` is optional.
SHAPE: dict[str, tuple[set[str], set[str], tuple[str, ...]]] = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, ("testsuite",)),
    "testsuite": ({"name", "tests", "failures", "errors", "skipped"}, {"time", "timestamp"}, ("properties", "testcase")),
    "properties": (set(), set(), ("property",)),
    "property": ({"name", "value"}, set(), ()),
    "testcase": ({"name", "classname"}, {"time"}, ("skipped", "error", "failure", "system-out")),
    "skipped": (set(), {"message"}, ()),
    "error": ({"message", "type"}, set(), ()),
    "failure": ({"message", "type"}, set(), ()),
    "system-out": (set(), set(), ()),
}


def _complaints(element: ET.Element) -> Iterator[str]:
    must, may, children = SHAPE[element.tag]
    if must - set(element.attrib) or set(element.attrib) - must - may:
        yield f"{element.tag} has the attributes {sorted(element.attrib)}"
    if not re.fullmatch(r"\d+(\.\d+)?", element.get("time", "0")):
        yield f"{element.tag} took {element.get('time')}"
    order = [children.index(child.tag) if child.tag in children else -1 for child in element]
    if -1 in order or order != sorted(order):
        yield f"{element.tag} holds {[child.tag for child in element]}"
    if element.tag == "testsuite":
        cases = element.findall("testcase")
        for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            if int(element.get(name, "")) != sum(case.find(tag) is not None for case in cases):
                yield f"{name} is {element.get(name)}"
        if int(element.get("tests", "")) != len(cases):
            yield f"tests is {element.get('tests')}"
        names = [(case.get("classname"), case.get("name")) for case in cases]
        if len(set(names)) != len(names):
            yield "two test cases have the same name"
    for child in element:
        if child.tag in SHAPE:
            yield from _complaints(child)


def _case(result: dict[str, Any], name: str) -> ET.Element:
    (found,) = [case for case in ET.fromstring(junit(result)).iter("testcase") if str(case.get("name")).split()[0] == name]
    return found


@EACH_RESULT
def test_it_has_the_shape_that_readers_of_junit_expect(result: dict[str, Any]) -> None:
    assert list(_complaints(ET.fromstring(junit(result)))) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('failures="1"', 'failures="0"'),
        ('errors="2"', 'errors="3"'),
        ("<skipped ", "<skip "),
        (' type="FAIL"', ""),
        ("system-out", "stdout"),
        (' time="0.5"', ' time="5e-1"'),
    ],
)
def test_that_check_sees_what_is_wrong(before: str, after: str) -> None:
    text = junit(RESULTS["verification"])
    assert before in text
    assert list(_complaints(ET.fromstring(text.replace(before, after))))


@EACH_RESULT
def test_hostile_text_leaves_it_well_formed_and_adds_no_element(result: dict[str, Any]) -> None:
    def tags(of: dict[str, Any]) -> list[str]:
        return [element.tag for element in ET.fromstring(junit(of).encode()).iter()]

    assert tags(hostile(result)) == tags(result)


def test_what_xml_forbids_is_replaced_and_nothing_else() -> None:
    message = str(_case(verification("FAIL", finding("FAIL", "a\x00b\x1b\ud800c\ufffe µ 😀 <&>")), "I-4").find("failure").get("message"))  # type: ignore[union-attr]
    assert message == "a\ufffdb\ufffd\ufffdc\ufffd µ 😀 <&>"


def test_the_same_result_gives_the_same_bytes() -> None:
    assert all(junit(result) == junit(result) for result in RESULTS.values())


class TestVerification:
    def test_a_failing_criterion_is_a_failure_with_claim_reason_and_numbers(self) -> None:
        failure = _case(RESULTS["verification"], "I-5").find("failure")
        assert failure is not None
        assert failure.get("message") == "1 of 4 writers never came back"
        for words in ("FAIL: No write is lost", "1 of 4 writers never came back", "acknowledged writes lost: 7 writes (= 0, of 56,789)"):
            assert words in str(failure.text)

    def test_what_could_not_be_decided_is_an_error(self) -> None:
        error = _case(RESULTS["verification"], "P-2").find("error")
        assert error is not None
        assert (error.get("type"), error.get("message")) == ("INCONCLUSIVE", "the limit lies within")

    def test_what_was_not_examined_is_skipped(self) -> None:
        skipped = _case(RESULTS["verification"], "AC-1").find("skipped")
        assert skipped is not None
        assert skipped.get("message") == "not examined on the target embedded"

    def test_a_broken_notebook_is_an_error_of_its_own_with_its_time(self) -> None:
        case = _case(RESULTS["verification"], "setup")
        error = case.find("error")
        assert error is not None
        assert (error.get("type"), error.get("message"), case.get("time")) == ("BROKEN", "the kernel died", "0.5")

    def test_a_known_failure_of_the_server_fails_nothing_and_is_told(self) -> None:
        case = _case(RESULTS["verification"], "I-4")
        assert [child.tag for child in case] == ["system-out"]
        assert "FAIL (known of the server): Redis notices a changed byte" in str(case.findtext("system-out"))
        assert "it checks no value" in str(case.findtext("system-out"))

    def test_test_cases_are_named_by_the_story(self) -> None:
        case = _case(RESULTS["verification"], "I-5")
        assert (case.get("classname"), case.get("name")) == ("story.embedded.I", "I-5 The client reconnects after a Redis restart")

    @pytest.mark.parametrize(("verdict", "tag"), [("FAIL", "failure"), ("INCONCLUSIVE", "error")])
    def test_what_became_worse_than_the_accepted_run_is_red(self, verdict: str, tag: str) -> None:
        (case,) = ET.fromstring(junit(verification("PASS", finding(), against=against(verdict)))).iter(tag)
        assert "GET p99 rose by 40 %" in str(case.get("message"))


class TestOthers:
    def test_a_drill_is_a_test_case_with_its_time(self) -> None:
        case = _case(drills(), "kill")
        failure = case.find("failure")
        assert failure is not None
        assert (case.get("classname"), case.get("time"), failure.get("message")) == ("story.embedded.drills", "4.5", "7 lost, first 0:7")

    def test_a_drill_that_the_watchdog_ended_is_an_error(self) -> None:
        error = _case(drills(), "pause").find("error")
        assert error is not None
        assert error.get("message") == "the watchdog ended it after 2 s"

    def test_a_drill_that_shows_nothing_but_a_known_failure_says_why_it_is_undecided(self) -> None:
        error = _case(drills(), "aof-damage").find("error")
        assert error is not None
        assert error.get("message")

    def test_a_notebook_that_died_before_it_knew_its_target_is_an_error(self) -> None:
        assert _case(dead(), "persistence-drill").get("classname") == "story.unknown.notebooks"
        assert _case(dead(), "persistence-drill").find("error") is not None

    def test_the_suite_says_when_it_began_and_how_long_it_took(self) -> None:
        suite = ET.fromstring(junit(drills())).find("testsuite")
        assert suite is not None
        assert (suite.get("timestamp"), suite.get("time")) == ("2026-01-01T00:00:00", "18.0")
