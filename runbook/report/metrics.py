"""A run as metrics in Prometheus' text format, for the node exporter's textfile collector or a push gateway.

A verdict is a set of states, as OpenMetrics writes it: a sample for each word that it could be, and 1 for the one that it is. An alert is
`redis_runbook_run_verdict{kind="verification", verdict="PASS"} == 0`, and one on a verification that nobody does any more
`time() - redis_runbook_finished_timestamp_seconds{kind="verification"} > 7 * 86400`.
"""

from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Any

from prometheus_client import CollectorRegistry, Gauge, generate_latest

from runbook.evidence.verdict import Verdict
from runbook.report.cases import Case, cases_of, drill_case, notebook_case

PREFIX = "redis_runbook_"
_CRITERION_WORDS = (*Verdict, "NOT EXAMINED")
_RUN_WORDS = (*Verdict, "BROKEN")
_SUBJECT = ("kind", "name", "target")
_NUMBER = ("criterion", "claim", "name", "unit", "source", "target")


def metrics(result: Mapping[str, Any]) -> str:
    """Write a result as metrics in Prometheus' text format; the same result gives the same text.

    Args:
        result: of a verification, of a notebook or of drills, as its `result.json` holds it.
    """
    registry, target, cases = CollectorRegistry(), result["target"] or "unknown", cases_of(result)

    def gauge(name: str, meaning: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, meaning, labels, registry=registry)

    criteria = gauge("criterion_verdict", "Verdict on a criterion: 1 for the one that holds.", "criterion", "target", "verdict")
    for case in cases:
        if case.kind == "criterion":
            _set_state(criteria, case.word, _CRITERION_WORDS, criterion=case.name, target=target)

    verdicts = gauge("run_verdict", "Verdict of a run, or of a part of it: 1 for the one that holds.", *_SUBJECT, "verdict")
    durations = gauge("duration_seconds", "How long it took, in seconds.", *_SUBJECT)
    finished = gauge("finished_timestamp_seconds", "When the run ended, in seconds since 1970.", *_SUBJECT)
    whole, *parts = _subjects(result, cases)
    for each in (whole, *parts):
        _set_state(verdicts, each.word, _RUN_WORDS, kind=each.kind, name=each.name, target=target)
        if each.duration_s is not None:
            _set(durations, each.duration_s, kind=each.kind, name=each.name, target=target)
    if (ended_s := _ended_s(result)) is not None:
        _set(finished, ended_s, kind=whole.kind, name=whole.name, target=target)

    measured = gauge("measured", "Number that a claim was judged by, in the unit that its label names.", *_NUMBER)
    samples = gauge("measured_samples", "From how many samples that number was taken.", *_NUMBER)
    for number in _numbers(result, cases):
        labels = {"target": target, **{name: number[name] for name in _NUMBER if name != "target"}}
        _set(measured, number["value"], **labels)
        if number["samples"] is not None:
            _set(samples, number["samples"], **labels)

    engine = gauge("engine_info", "The server that was examined; always 1.", "product", "version", "target")
    if result["engine"]:
        _set(engine, 1, product=result["engine"]["product"], version=result["engine"]["version"], target=target)
    return generate_latest(registry).decode()


def _subjects(result: Mapping[str, Any], cases: Iterable[Case]) -> list[Case]:
    """List all that has a verdict of its own: the run as a whole, and then the notebooks or the drills that it is made of."""
    took_s = result.get("duration_s")
    verdict = Verdict(result["verdict"]) if result["verdict"] else None
    broken = "" if verdict is Verdict.FAIL else result["broken"]  # which a failure outweighs, as in the exit status
    match result["kind"]:
        case "drills":
            return [Case("drills", "drill", "", verdict, broken, duration_s=took_s), *cases]
        case "verification":
            drilled = (result.get("drills") or {}).get("drills", ())
            return [
                Case("verification", "verify", "", verdict, broken, duration_s=took_s),
                *map(notebook_case, result["runs"]),
                *map(drill_case, drilled),
            ]
        case _:
            return [notebook_case(result)]


def _numbers(result: Mapping[str, Any], cases: Iterable[Case]) -> Iterator[dict[str, Any]]:
    """Yield each measurement that is a number, with `criterion` and `claim` of its finding, and the notebook or the drill as `source`."""
    for case in cases:
        for finding in case.findings:
            source = case.name if case.kind == "drill" else finding.get("notebook") or result.get("notebook", "")
            where = {"criterion": finding["criterion"], "claim": finding["claim"], "source": source}
            yield from ({**each, **where} for each in finding["measured"] if isinstance(each["value"], int | float))


def _ended_s(result: Mapping[str, Any]) -> float | None:
    try:
        if ended := result.get("finished_utc"):
            return datetime.fromisoformat(ended).timestamp()
        return (datetime.fromisoformat(result["started_utc"]) + timedelta(seconds=result["duration_s"])).timestamp()
    except ValueError:  # a time that can't be read: no metric says more than a wrong one
        return None


def _set_state(gauge: Gauge, word: str, words: Iterable[str], **labels: str) -> None:
    for each in words:
        _set(gauge, each == word, **labels, verdict=each.replace(" ", "_"))


def _set(gauge: Gauge, value: float, /, **labels: str) -> None:
    # Half a surrogate pair, which JSON may hold, has no bytes.
    gauge.labels(**{name: str(text).encode(errors="replace").decode() for name, text in labels.items()}).set(value)
