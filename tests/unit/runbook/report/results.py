"""Results as runs write them, and the hostile texts that servers, notebooks and errors may put into them."""

from typing import Any

from runbook.evidence import CRITERIA

Json = dict[str, Any]

# What would break out of XML, of Markdown's tables, of HTML, or of Prometheus' text format, were it taken as it is.
HOSTILE = (
    'a | b\n\n# heading\r\n| c | d |\n`code` **bold** <script>alert("x")</script> ]]> [here](https://evil.example) www.evil.example '
    '![](https://evil.example/x.png) \\| \\` </details> &amp; $x$ @somebody \x00\x1b[31m\u202e\ud800 "quoted"} 1'
)

LOSSES: list[Json] = [
    {"name": "acknowledged writes lost", "value": 7, "unit": "writes", "samples": 56789, "threshold": "= 0"},
    {"name": "window of the loss", "value": 0.75, "unit": "s", "samples": None, "threshold": ""},
    {"name": "seen", "value": "0:7", "unit": "", "samples": None, "threshold": ""},
    {"name": "p99.9", "value": None, "unit": "ms", "samples": 3, "threshold": ""},
]
CIRCUMSTANCES: Json = {
    "engine": {"product": "redis", "version": "7.0.15", "found_by": "redis-server on PATH"},
    "host": {"system": "Linux", "kernel": "6.1", "machine": "x86_64", "cpus": 2},
    "versions": {"python": "3.11.2", "redis": "8.1.0"},
}
MORE_CIRCUMSTANCES: Json = {
    "configuration": {"server": {"appendfsync": "everysec"}, "client": {"pool_size": "10"}},
    "image": {"reference": "redis:7-alpine", "digest": "sha256:0123"},
    "seed": 1,
}
RUN = "20260101T000000Z-persistence-drill"
KNOWN = "it checks no value"


def finding(verdict: str = "PASS", reason: str = "", *, criterion: str = "I-4", claim: str = "No write is lost", known: str = "") -> Json:
    return {"criterion": criterion, "claim": claim, "verdict": verdict, "reason": reason, "measured": LOSSES, "known": known}


def notebook(verdict: str | None = "PASS", *findings: Json, broken: str = "") -> Json:
    return {
        "schema_version": 1,
        "kind": "notebook",
        "run": RUN,
        "notebook": "persistence-drill",
        "title": "Kill Redis under load",
        "question": "Does it keep what it acknowledged?",
        "verdict": verdict,
        "broken": broken,
        "criteria": {each["criterion"]: each["verdict"] for each in findings} if verdict else {},
        "parameters": {"target": "embedded", "rate_per_s": 1000},
        "started_utc": "2026-01-01T00:00:00+00:00",
        "duration_s": 12.5,
        "target": "embedded",
        **CIRCUMSTANCES,
        "findings": list(findings),
    }


def dead() -> Json:
    """A notebook whose kernel died before it could say anything of itself."""
    return {**notebook(None, broken="the kernel died"), **dict.fromkeys(("target", "engine", "host", "versions"))}


def verification(verdict: str = "PASS", *findings: Json, broken: str = "", **more: Any) -> Json:
    """A verification of `persistence-drill`, and of `setup` if that is broken; each finding decides its criterion."""
    criteria = []
    for name, text in CRITERIA.items():
        found = [{**each, "notebook": "persistence-drill", "run": RUN} for each in findings if each["criterion"] == name]
        decisive = [each["verdict"] for each in found if not each["known"]]
        worst = next((word for word in ("FAIL", "INCONCLUSIVE", "PASS") if word in decisive), None)
        criteria.append({"id": name, "text": text, "verdict": worst, "findings": found})
    line = {"run": RUN, "notebook": "persistence-drill", "title": "Kill Redis", "question": "Does it keep?"}
    runs = [{**line, "verdict": verdict, "broken": "", "duration_s": 12.5}]
    if broken:
        runs.append({**line, "run": "20260101T000000Z-setup", "notebook": "setup", "verdict": None, "broken": broken, "duration_s": 0.5})
    return {
        "schema_version": 1,
        "kind": "verification",
        "run": "20260101T000000Z-verify",
        "verdict": verdict,
        "broken": "setup did not come to a verdict" if broken else "",
        "target": "embedded",
        "finished_utc": "2026-01-01T00:01:00+00:00",
        "criteria": criteria,
        "runs": runs,
        **CIRCUMSTANCES,
        **more,
    }


def drills() -> Json:
    drill = {"question": "Does it keep?", "promise": "It does", "faults": ["SIGKILL"], "times": 3, "duration_s": 4.5}
    known = finding("FAIL", "1 of 1 loaded", claim="Redis notices a changed byte", known=KNOWN)
    return {
        "schema_version": 1,
        "kind": "drills",
        "run": "20260101T000000Z-drill",
        "verdict": "FAIL",
        "broken": "pause",
        "interrupted": False,
        "target": "embedded",
        "parameters": {"profile": "quick", "seed": 7},
        "started_utc": "2026-01-01T00:00:00+00:00",
        "duration_s": 18.0,
        "controls": {"failed_as_they_must": 3, "of": 4},
        "drills": [
            {**drill, "name": "stop", "verdict": "PASS", "broken": "", "known": 0, "findings": [finding()]},
            {**drill, "name": "kill", "verdict": "FAIL", "broken": "", "known": 0, "findings": [finding("FAIL", "7 lost, first 0:7")]},
            {**drill, "name": "aof-damage", "verdict": "INCONCLUSIVE", "broken": "", "known": 1, "findings": [known]},
            {**drill, "name": "pause", "verdict": None, "broken": "the watchdog ended it after 2 s", "known": 0, "findings": []},
        ],
        **CIRCUMSTANCES,
    }


def against(verdict: str = "FAIL") -> Json:
    return {"run": "20251231T000000Z-verify", "verdict": verdict, "headline": "1 became worse", "sentences": ["GET p99 rose by 40 %."]}


HEADLINE: Json = {
    **LOSSES[0],
    "name": "Writes lost",
    "verdict": "PASS",
    "criterion": "I-4",
    "run": RUN,
    "notebook": "persistence-drill",
    "before": 3,
}
BASELINE = {"run": "20251231T000000Z-verify", "by": "Owner", "accepted_utc": "2025-12-31T12:00:00+00:00"}

RESULTS: dict[str, Json] = {
    "PASS": notebook("PASS", finding()),
    "FAIL": notebook("FAIL", finding("FAIL", "7 of 56789 acknowledged writes lost")),
    "INCONCLUSIVE": notebook("INCONCLUSIVE", finding("INCONCLUSIVE", "only 99 writes before the outage")),
    "nothing found": notebook("INCONCLUSIVE"),
    "dead": dead(),
    "verification": verification(
        "FAIL",
        finding(),
        finding("FAIL", "1 of 4 writers never came back", criterion="I-5"),
        finding("INCONCLUSIVE", "the limit lies within", criterion="P-2"),
        finding("FAIL", "1 of 1 loaded", claim="Redis notices a changed byte", known=KNOWN),
        broken="the kernel died",
    ),
    "verification against an accepted one": verification(
        "PASS", finding(), headlines=[HEADLINE], baseline=BASELINE, against=against(), **MORE_CIRCUMSTANCES
    ),
    "drills": drills(),
}


def hostile(value: Any, text: str = HOSTILE) -> Any:
    """Replace each text that somebody else could have written."""
    if isinstance(value, dict):
        kept = ("kind", "verdict", "id", "criterion", "started_utc", "finished_utc", "accepted_utc")
        return {key: item if key in kept else hostile(item, text) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, text) for item in value]
    return text if isinstance(value, str) and value else value
