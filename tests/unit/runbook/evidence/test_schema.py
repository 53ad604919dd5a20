"""The published schemas take what runs write, and refuse what a reader could not rely on.

The end-to-end tests hold every real result against them, by `read_result`.
"""

import copy
import fnmatch
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from runbook.evidence import CRITERIA
from runbook.evidence.store import MANIFEST, RESULT, SCHEMA_VERSION
from tests.schema import complaint, schema
from tests.unit.runbook.report.results import RESULTS

REPOSITORY = Path(__file__).resolve().parents[4]
NOTEBOOK, VERIFICATION, DRILLS = RESULTS["PASS"], RESULTS["verification"], RESULTS["drills"]
AGAINST = RESULTS["verification against an accepted one"]
GONE = object()


def _objects(part: Any) -> Iterator[dict[str, Any]]:
    if isinstance(part, dict):
        yield part
    for each in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from _objects(each)


def _described_objects(name: str) -> list[dict[str, Any]]:
    """List the parts of a schema that say which fields an object has."""
    return [part for part in _objects(schema(name)) if part.get("type") == "object" and "properties" in part and "oneOf" not in part]


def _changed(result: dict[str, Any], path: str, value: object) -> dict[str, Any]:
    changed = copy.deepcopy(result)
    *way, last = [int(step) if step.isdigit() else step for step in path.split(".")]
    place: Any = changed
    for step in way:
        place = place[step]
    if value is GONE:
        del place[last]
    else:
        place[last] = value
    return changed


@pytest.mark.parametrize("name", [RESULT, MANIFEST])
class TestSchema:
    def test_it_is_a_schema_of_2020_12_with_an_id(self, name: str) -> None:
        Draft202012Validator.check_schema(schema(name))
        assert schema(name)["$schema"] == "https://json-schema.org/draft/2020-12/schema"
        assert schema(name)["$id"].endswith(f":{SCHEMA_VERSION}")

    def test_each_field_says_what_it_means(self, name: str) -> None:
        definitions = schema(name).get("$defs", {})
        for part in _described_objects(name):
            for field, described in part["properties"].items():
                named = definitions.get(str(described.get("$ref", "")).removeprefix("#/$defs/"), {})
                assert {"description", "const", "anyOf"} & {*described, *named}, f"{field} is not described"

    def test_what_is_described_is_all_that_there_may_be(self, name: str) -> None:
        # Two kinds of findings are made of the same fields, and each of them is closed.
        shared = schema(name).get("$defs", {}).get("finding_fields")
        assert all(part["additionalProperties"] is False for part in _described_objects(name) if part != shared)

    def test_it_is_packaged(self, name: str) -> None:
        patterns = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["runbook"]
        assert any(fnmatch.fnmatch(f"evidence/{Path(name).stem}.schema.json", pattern) for pattern in patterns)


@pytest.mark.parametrize("result", RESULTS.values(), ids=RESULTS)
def test_it_takes_what_runs_write(result: dict[str, Any]) -> None:
    assert complaint(RESULT, result) == ""


def test_it_takes_the_id_of_every_criterion_of_the_story() -> None:
    assert {criterion["id"] for criterion in VERIFICATION["criteria"]} == set(CRITERIA)


@pytest.mark.parametrize(
    ("result", "path", "value"),
    [
        pytest.param(NOTEBOOK, "verdict", "PASSED", id="a verdict that there is not"),
        pytest.param(NOTEBOOK, "findings.0.verdict", "pass", id="a verdict in small letters"),
        pytest.param(NOTEBOOK, "criteria", {"I-4": "MAYBE"}, id="a criterion's verdict that there is not"),
        pytest.param(NOTEBOOK, "verdict", None, id="no verdict, and no reason"),
        pytest.param(NOTEBOOK, "broken", "the kernel died", id="a verdict although it is broken"),
        pytest.param(NOTEBOOK, "findings.0.claim", GONE, id="a finding without its claim"),
        pytest.param(NOTEBOOK, "findings.0.criterion", "the first", id="a criterion that has no id"),
        pytest.param(NOTEBOOK, "findings.0.measured.0.samples", GONE, id="a number without its samples"),
        pytest.param(NOTEBOOK, "findings.0.measured.0.value", [7], id="a list for a number"),
        pytest.param(NOTEBOOK, "findings.0.confidence", 0.9, id="a field of a finding that nobody knows"),
        pytest.param(NOTEBOOK, "mood", "good", id="a field that nobody knows"),
        pytest.param(NOTEBOOK, "kind", "novel", id="a kind that there is not"),
        pytest.param(NOTEBOOK, "kind", "drills", id="another kind"),
        pytest.param(NOTEBOOK, "duration_s", -1, id="less than no time"),
        pytest.param(NOTEBOOK, "started_utc", "yesterday", id="a time that is none"),
        pytest.param(NOTEBOOK, "started_utc", "2026-01-01T00:00:00+02:00", id="a time that is not UTC"),
        pytest.param(NOTEBOOK, "schema_version", 2, id="another version"),
        pytest.param(NOTEBOOK, "host.hostname", "db1", id="the name of the machine"),
        pytest.param(VERIFICATION, "criteria.0.text", GONE, id="a criterion without its text"),
        pytest.param(VERIFICATION, "criteria.0.verdict", "BROKEN", id="a broken criterion"),
        pytest.param(VERIFICATION, "criteria", [], id="no criteria at all"),
        pytest.param(VERIFICATION, "criteria.15.findings.0.run", GONE, id="a criterion's finding without its run"),
        pytest.param(VERIFICATION, "verdict", None, id="a verification without verdict"),
        pytest.param(VERIFICATION, "runs.0.manifest_sha256", "abc", id="a digest that is none"),
        pytest.param(VERIFICATION, "runs.1.broken", "", id="a notebook without verdict or reason"),
        pytest.param(AGAINST, "headlines.0.before", GONE, id="a headline that leaves out what was before"),
        pytest.param(AGAINST, "configuration.password", "hunter2", id="a setting of nobody"),
        pytest.param(AGAINST, "image.digest", GONE, id="an image without its digest"),
        pytest.param(AGAINST, "baseline.by", GONE, id="an acceptance by nobody"),
        pytest.param(AGAINST, "against.sentences", "worse", id="a comparison that is no list"),
        pytest.param(DRILLS, "drills.0.promise", GONE, id="a drill that promises nothing"),
        pytest.param(DRILLS, "drills.3.broken", "", id="a drill without verdict or reason"),
        pytest.param(DRILLS, "controls.of", GONE, id="controls of how many"),
        pytest.param(DRILLS, "criteria", [], id="a field of another kind"),
    ],
)
def test_it_refuses(result: dict[str, Any], path: str, value: object) -> None:
    assert complaint(RESULT, _changed(result, path, value))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("limits", "a power cut"),
        ("interrupted", False),
        ("finished_utc", "2026-01-01T00:00:12+00:00"),
        ("configuration", {"server": {}, "client": {"pool_size": "10"}}),
        ("image", None),
        ("seed", 1),
        ("host.steal_percent", 12.2),
    ],
)
def test_a_result_may_tell_more_of_its_circumstances(path: str, value: object) -> None:
    assert complaint(RESULT, _changed(NOTEBOOK, path, value)) == ""


DIGEST = "0123456789abcdef" * 4


def test_a_manifest_holds_the_digests_of_all_files_but_its_own() -> None:
    assert complaint(MANIFEST, {"schema_version": 1, "sha256": {"result.json": DIGEST, "deep/plot.png": DIGEST}}) == ""


@pytest.mark.parametrize(
    "digests",
    [{}, {"index.html": DIGEST}, {"result.json": DIGEST.upper()}, {"result.json": DIGEST[:-1]}, {"result.json": DIGEST, MANIFEST: DIGEST}],
    ids=["nothing", "no result", "large letters", "too short", "of itself"],
)
def test_a_manifest_that_proves_nothing_is_refused(digests: dict[str, str]) -> None:
    assert complaint(MANIFEST, {"schema_version": 1, "sha256": digests})
