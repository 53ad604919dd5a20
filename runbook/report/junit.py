"""JUnit XML of a run, for whatever shows test reports: a test case per criterion, or per drill.

The dialect is the one that Jenkins and Surefire have in common: `failure` for FAIL, `error` for INCONCLUSIVE and for what is broken, since
nothing was proven, `skipped` for what was not examined, or is open and keeps nobody from accepting.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any
from xml.etree import ElementTree as ET  # it only writes here, and never reads what a stranger wrote

from runbook.evidence.verdict import Measurement, Verdict, is_known
from runbook.report.cases import Case, cases_of
from runbook.report.measured import measured_text

# https://www.w3.org/TR/xml/#charsets: a document that holds any other is no XML, however it is escaped.
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_REPLACEMENT = "\ufffd"

_SUITES = {"verification": "verify", "drills": "drill"}


def junit(result: Mapping[str, Any]) -> str:
    """Write a result as JUnit XML.

    Args:
        result: of a verification, of a notebook or of drills, as its `result.json` holds it.
    """
    cases = [_testcase(case, result["target"] or "unknown") for case in cases_of(result)]
    name = _SUITES.get(result["kind"]) or result["notebook"]
    counts = {
        "tests": len(cases),
        "failures": sum(case.find("failure") is not None for case in cases),
        "errors": sum(case.find("error") is not None for case in cases),
    }
    took_s = _took_s(result)
    root = _element("testsuites", name="redis-runbook", **counts, time=took_s)
    skipped = sum(case.find("skipped") is not None for case in cases)
    # By custom in UTC, and without saying so.
    began = {"timestamp": result["started_utc"][:19]} if result.get("started_utc") else {}
    suite = _element("testsuite", name=name, **counts, skipped=skipped, time=took_s, **began)
    suite.append(_properties(result))
    suite.extend(cases)
    root.append(suite)
    ET.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ET.tostring(root, encoding="unicode")}\n'


def _testcase(case: Case, target: str) -> ET.Element:
    group = case.name.partition("-")[0] if case.kind == "criterion" else f"{case.kind}s"
    time = {} if case.duration_s is None else {"time": case.duration_s}
    name = f"{case.name} {case.text}".strip() if case.kind == "criterion" else case.name
    testcase = _element("testcase", classname=f"story.{target}.{group}", name=name, **time)
    against = [finding for finding in case.findings if finding["verdict"] != Verdict.PASS and finding not in case.known]
    if case.broken:
        testcase.append(_element("error", case.broken, message=case.broken, type="BROKEN"))
    elif case.verdict is None:
        testcase.append(_element("skipped", message=f"not examined on the target {target}"))
    elif case.verdict is not Verdict.PASS:
        reasons = [finding["reason"] or finding["claim"] for finding in case.deciding]
        message = "; ".join(dict.fromkeys(reasons)) or "nothing that was found decides it"
        tag = "failure" if case.verdict is Verdict.FAIL else "error"
        testcase.append(_element(tag, _told(against), message=message, type=str(case.verdict)))
        if told := _told(finding for finding in case.findings if finding not in against):
            testcase.append(_element("system-out", told))
        return testcase
    if told := _told(case.findings):
        testcase.append(_element("system-out", told))
    return testcase


def _told(findings: Iterable[Mapping[str, Any]]) -> str:
    lines = []
    for finding in findings:
        known = finding["known"] if is_known(finding) else ""
        lines.append(f"{finding['verdict']}{' (known of the server)' if known else ''}: {finding['claim']}")
        measured = measured_text(Measurement(**each) for each in finding["measured"])
        lines += [f"    {text}" for text in (finding["reason"], known, measured) if text]
    return "\n".join(lines)


def _properties(result: Mapping[str, Any]) -> ET.Element:
    properties = ET.Element("properties")
    engine, host = result["engine"] or {}, result["host"] or {}
    profile = {"profile": result["profile"]} if "profile" in result else {}
    values = {"run": result["run"], "verdict": result["verdict"] or "BROKEN", "target": result["target"], **profile, **engine, **host}
    for name, value in values.items():
        properties.append(_element("property", name=name, value="unknown" if value is None else value))
    return properties


def _took_s(result: Mapping[str, Any]) -> float:
    """Return the whole time; where a verification does not hold it, the sum of its notebooks', some of which ran side by side."""
    if result["kind"] != "verification" or "duration_s" in result:
        return float(result["duration_s"])
    return round(float(sum(run["duration_s"] for run in result["runs"])), 1)


def _element(tag: str, text: str = "", /, **attributes: Any) -> ET.Element:
    element = ET.Element(tag, {name: _allowed(str(value)) for name, value in attributes.items()})
    element.text = _allowed(text) or None
    return element


def _allowed(text: str) -> str:
    return _FORBIDDEN.sub(_REPLACEMENT, text)
