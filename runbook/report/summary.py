"""A run in Markdown, for the page of a CI's job: the sentence, what was decided and by which number, what is open, the circumstances."""

from collections.abc import Mapping, Sequence
from typing import Any

from runbook.evidence.verdict import Measurement, Verdict
from runbook.report.cases import Case, cases_of
from runbook.report.drilled import drills_sentence
from runbook.report.markdown import escaped, table
from runbook.report.measured import MISSING, measured_text
from runbook.report.sentence import sentence, steal_warning

# A step's summary on GitHub may have 1 MiB; more of it is not shown at all.
LIMIT_BYTES = 1024 * 1024
_CUT = "**It is cut off here**: the rest stands on the run's page, `index.html`."


def summary(result: Mapping[str, Any]) -> str:
    """Write a result as Markdown of less than 1 MiB, in which no text of it can mark anything up.

    Args:
        result: of a verification, of a notebook or of drills, as its `result.json` holds it.
    """
    cases = cases_of(result)
    lines = [escaped(_first(result), most=5000), ""]
    lines += [_profile(result), ""] if "profile" in result else []
    for block in (_headlines(result), _against(result), _decided(cases), _broken(cases), _open(result, cases), _known(cases)):
        lines += [*block, ""] if block else []
    return _bounded(lines, _circumstances(result))


def _first(result: Mapping[str, Any]) -> str:
    match result["kind"]:
        case "verification":
            return "\n\n".join(filter(None, (sentence(result), steal_warning(result))))
        case "drills":
            return drills_sentence(result)
        case _:
            return f"{result['notebook']}: {result['verdict'] or 'BROKEN, ' + result['broken']}."


def _profile(result: Mapping[str, Any]) -> str:
    drilled = result["drills"]
    ran = ", ".join(run["notebook"] for run in result["runs"])
    also = f"; {len(drilled['drills'])} drills, in run {drilled['run']}: {drilled['verdict']}" if drilled else ""
    return f"Profile **{escaped(result['profile'])}**: {escaped(ran + also)}"


def _headlines(result: Mapping[str, Any]) -> list[str]:
    baseline = result.get("baseline")
    before = f"accepted {baseline['accepted_utc'][:10]} by {baseline['by']}" if baseline else "before"
    rows = [
        [escaped(each["name"]), _number(each, "value"), escaped(each["threshold"]), _number(each, "before"), escaped(each["verdict"])]
        for each in result.get("headlines") or ()
    ]
    return table(["headline", "now", "limit", escaped(before), "verdict"], rows)


def _number(headline: Mapping[str, Any], name: str) -> str:
    if (value := headline[name]) is None:
        return MISSING
    text = f"{value:,}" if isinstance(value, int) else str(value)
    return escaped(f"{text} {headline['unit']}".rstrip())


def _against(result: Mapping[str, Any]) -> list[str]:
    if not (against := result.get("against")):
        return []
    heading = f"**Against {escaped(against['run'])}**: {escaped(against['headline'])}"
    return [heading, "", *(f"- {escaped(each)}" for each in against["sentences"])]


def _decided(cases: Sequence[Case]) -> list[str]:
    kind = cases[0].kind if cases else ""  # of a verification the criteria come first; drills that no criterion speaks for are told below
    decided = [case for case in cases if case.kind == kind in ("criterion", "drill") and (case.verdict or case.broken)]
    rows = [[f"**{escaped(case.name)}**", escaped(case.text), _verdict(case), _deciding(case)] for case in decided]
    return table([decided[0].kind if decided else "", "what it asks", "verdict", "what decided it"], rows)


def _verdict(case: Case) -> str:
    return case.word if case.verdict is Verdict.PASS else f"**{case.word}**"


def _deciding(case: Case) -> str:
    if case.broken:
        return escaped(case.broken)
    # One is enough to show that something holds; of what does not hold, each is told.
    shown = case.deciding[:1] if case.verdict is Verdict.PASS else case.deciding
    return "<br>".join(map(_told, shown))


def _told(finding: Mapping[str, Any]) -> str:
    measured = measured_text(Measurement(**each) for each in finding["measured"][:1])
    reason = f": **{escaped(finding['reason'])}**" if finding["reason"] else ""
    return f"{escaped(finding['claim'])}{reason}{f' ({escaped(measured)})' if measured else ''}"


def _broken(cases: Sequence[Case]) -> list[str]:
    drills = cases and cases[0].kind != "drill"
    found = [case for case in cases if case.kind == "notebook" or (drills and case.kind == "drill")]
    lines = [f"- **{escaped(case.name)}** {_verdict(case)}{': ' + escaped(case.broken) if case.broken else ''}" for case in found]
    return ["What no criterion speaks for:", "", *lines] if found else []


def _open(result: Mapping[str, Any], cases: Sequence[Case]) -> list[str]:
    found = [case for case in cases if case.verdict is None and not case.broken]
    lines = [f"- **{escaped(case.name)}** {escaped(case.text)}" for case in found]
    return [f"Not examined on the target {escaped(result['target'] or 'unknown')}:", "", *lines] if found else []


def _known(cases: Sequence[Case]) -> list[str]:
    lines = [
        f"- {escaped(finding['claim'])}: that does not hold. {escaped(finding['known'])} ({escaped(case.name)})"
        for case in cases
        for finding in case.known
    ]
    return ["Known failures of the server itself, which count for no verdict:", "", *lines] if lines else []


def _circumstances(result: Mapping[str, Any]) -> list[str]:
    engine, image, configuration = result["engine"], result.get("image"), result.get("configuration") or {}
    values = {
        "run": result["run"],
        "target": result["target"] or "unknown",
        "server": f"{engine['product']} {engine['version']}, {engine['found_by']}" if engine else "did not answer",
        **({"image": f"{image['reference']} {image['digest']}"} if image else {}),
        **(result["host"] or {}),
        **{f"{side}: {name}": value for side, settings in configuration.items() for name, value in settings.items()},
        **(result["versions"] or {}),
        **{f"parameter {name}": value for name, value in result.get("parameters", {}).items()},
        **{name: result[name] for name in ("seed", "started_utc", "finished_utc", "duration_s") if result.get(name) is not None},
    }
    rows = [[escaped(name), escaped(value)] for name, value in values.items()]
    # Without the empty lines, what stands between the tags would not be read as Markdown.
    return ["<details><summary>Circumstances</summary>", "", *table(["", ""], rows), "", "</details>", ""]


def _bounded(lines: Sequence[str], end: Sequence[str]) -> str:
    """Put the lines together, and leave out of them, not of the end, what would be too much."""
    tail = "\n".join(end)
    room = LIMIT_BYTES - len(tail.encode()) - len(_CUT.encode()) - 10
    kept: list[str] = []
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            kept += ["", _CUT, ""]
            break
        kept.append(line)
    return "\n".join([*kept, tail])
