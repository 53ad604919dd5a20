"""`runbook diff` as its users meet it: two run folders, a sentence for each change, a page, and an exit status for CI."""

import functools
import json
import random
import re
from array import array
from collections import Counter

import pytest

from runbook.evidence.archive import Archive
from runbook.evidence.records import record
from runbook.evidence.store import RESULT, RunFolder
from runbook.load.offered import Offered
from runbook.load.recording import LATENCY, RESPONSE, Cell, Recording

DESCRIPTION = {"operations": {"GET": 1, "SET": 1}, "loop": "open", "rate_per_s": 2000.0, "placement": "<pinned>"}
RESULT_OF_A_RUN = {
    "kind": "notebook",
    "notebook": "latency-benchmark",
    "target": "embedded",
    "engine": {"product": "redis", "version": "7.0.15", "found_by": "PATH"},
    "host": {"system": "Linux", "kernel": "6.1", "machine": "x86_64", "cpus": 4},
    "versions": {"python": "3.12.1", "redis": "8.1.0"},
}


def load(seed, slower_us=0, errors=()):
    """Calls of 0.1 ms by server and control, the server's a little slower."""
    choice = random.Random(seed)
    made, control = (
        [
            Cell(number, series, operation, array("I", counts), array("Q", counts.values()))
            for number in range(80)
            for operation in ("GET", "SET")
            for counts in [Counter(round(100 * choice.lognormvariate(0, 0.3)) + more_us for _ in range(50))]
            for series in (LATENCY, RESPONSE)
        ]
        for more_us in (slower_us, 0)
    )
    echoed = Recording(50_000_000, tuple(control), seconds=4.0, sent=8000)
    return Offered(DESCRIPTION, Recording(50_000_000, tuple(made), Counter(dict(errors)), 4.0, 8000, control=echoed))


def write_run(under, name, *loads, **different):
    folder = RunFolder(under / name, {})
    folder.path.mkdir(parents=True)
    folder.write_json(RESULT, {**RESULT_OF_A_RUN, "run": name, **different})
    for number, offered in enumerate(loads):
        folder.write_gzip(f"load-{number}.json.gz", offered.to_json())
    return folder.path


def write_verification(runs, name, *members, **verdicts):
    listed = [{"run": member, "notebook": "latency-benchmark", "broken": ""} for member in members]
    criteria = [{"id": each, "text": f"what {each} asks for", "verdict": verdict, "findings": []} for each, verdict in verdicts.items()]
    ended = {"finished_utc": "2026-01-01T00:00:00+00:00", "verdict": "PASS", "broken": ""}
    return write_run(runs, name, kind="verification", runs=listed, criteria=criteria, **ended)


@pytest.fixture
def diff(run_here):
    return functools.partial(run_here, "diff", "--runs")


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_a_slow_down_fails_and_the_page_shows_it(diff, runs):
    write_run(runs, "20260101T000000Z-a", load(1))
    write_run(runs, "20260102T000000Z-b", load(2, 300, {("SET", "<script>alert(1)</script>"): 2}.items()), versions={"python": "3.13.0"})
    done = diff(runs, "20260101T000000Z-a", "20260102T000000Z-b")
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"^p50 of SET at 2,000/s, beyond the control: -?0\.00 → 0\.30 ms, \+0\.30 ms$", done.stdout, re.MULTILINE)
    assert "failed calls of SET at 2,000/s: 0 → 2" in done.stdout
    assert "differs, and is compared: python 3.12.1 → 3.13.0" in done.stdout
    assert re.search(r"^FAIL: \d+ figures worse beyond noise$", done.stdout, re.MULTILINE)
    page_path = runs / "diff-20260101T000000Z-a-against-20260102T000000Z-b.html"
    assert f"page: {page_path}" in done.stdout
    page = page_path.read_text(encoding="utf-8")
    assert "<script" not in page
    assert not re.search(r"https?://", re.sub(r"base64,[^\"]*", "", page))
    assert re.search(r'<img src="data:image/png;base64,[^"]{1000,}" alt="How long did callers wait .*p50 of SET .* → 0\.\d+ ms', page)
    for text in ("p99 of GET", "beyond noise", "<strong>3.13.0</strong>", "7.0.15", "&lt;pinned&gt;"):
        assert text in page


@pytest.mark.parametrize(("slower_us", "word"), [(0, "PASS: nothing worse beyond noise\n"), (300, "PASS: nothing worse beyond noise, ")])
def test_no_change_or_a_faster_one_passes(diff, runs, slower_us, word):
    before, after = write_run(runs, "a", load(1, slower_us)), write_run(runs, "b", load(2))
    page = runs / "elsewhere.html"
    done = diff(runs, before, after, "--page", page)
    assert done.returncode == 0, done.stdout + done.stderr
    assert word in done.stdout
    assert page.exists()
    assert not list(runs.glob("diff-*"))


def test_of_two_verifications_the_runs_of_the_same_notebook_are_compared(diff, runs):
    for side, slower_us in (("a", 0), ("b", 300)):
        write_run(runs, f"{side}-latency", load(side, slower_us))
        write_run(runs, f"{side}-setup", notebook="setup")
        verified = write_verification(runs, f"{side}-verify", f"{side}-latency", f"{side}-setup")
    RunFolder(verified).write_manifest()
    record(verified, Archive(runs, {}))
    done = diff(runs, "a-verify", "latest")
    assert done.returncode == 1, done.stdout + done.stderr
    assert (runs / "diff-a-verify-against-b-verify.html").exists()
    assert diff(runs, "a-latency", "latest").returncode == 1


def test_of_two_verifications_the_criteria_are_compared_even_where_no_load_can_be(diff, runs):
    write_run(runs, "a-latency", load(1))
    write_verification(runs, "a-verify", "a-latency", I5="PASS", P2="PASS", D2=None)
    write_verification(runs, "b-verify", I5="FAIL", P2="INCONCLUSIVE", D2="PASS")
    done = diff(runs, "a-verify", "b-verify")
    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines() == [
        "worse: I5 passed, and fails now (what I5 asks for)",
        "maybe worse: P2 passed, and could not be decided now (what P2 asks for)",
        "better: D2 was not examined, and passes now (what D2 asks for)",
        "not compared: load latency-benchmark/0 is in a-verify only",
        "FAIL: I5 worse; P2 maybe worse; of the loads, nothing can be compared",
    ]
    assert diff(runs, "b-verify", "a-verify").returncode == 3


def test_another_server_is_inconclusive_and_leaves_no_page(diff, runs):
    write_run(runs, "a", load(1))
    write_run(runs, "b", load(2, 300), engine={**RESULT_OF_A_RUN["engine"], "product": "valkey"})
    done = diff(runs, "a", "b")
    assert done.returncode == 3
    assert "not compared: engine redis 7.0.15 against valkey 7.0.15" in done.stdout
    assert "INCONCLUSIVE: nothing can be compared" in done.stdout
    assert not list(runs.glob("*.html"))


def damage_load(path):
    (path / "load-0.json.gz").write_bytes((path / "load-0.json.gz").read_bytes()[:-40])


def write_load(path, text):
    RunFolder(path, {}).write_gzip("load-0.json.gz", text)


@pytest.mark.parametrize(
    ("harm", "complaint"),
    [
        (lambda path: (path / "load-0.json.gz").unlink(), "holds no load"),
        (damage_load, "load-0.json.gz is damaged"),
        (lambda path: (path / "load-0.json.gz").write_bytes(b"no gzip"), "load-0.json.gz is damaged"),
        (lambda path: write_load(path, "{"), "load-0.json.gz is damaged"),
        (lambda path: write_load(path, json.dumps({"format": 99})), "it is of format 99"),
        (lambda path: (path / RESULT).unlink(), "is not the folder of a run"),
        (lambda path: (path / RESULT).write_text("{"), "result.json is damaged"),
        (lambda path: (path / RESULT).write_text("[]"), "is no result of this version"),
        (lambda path: (path / RESULT).write_text('{"kind": "notebook", "notebook": "n"}'), "is no result of this version"),
    ],
)
def test_what_can_not_be_read_is_named_and_exits_with_2(diff, runs, harm, complaint):
    write_run(runs, "a", load(1))
    harm(write_run(runs, "b", load(2)))
    done = diff(runs, "a", "b")
    assert done.returncode == 2, done.stdout + done.stderr
    assert complaint in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["a", "no-such"], "there is no run no-such"),
        (["a", "a"], "a and a are the same run: name two"),
        (["a", "b", "--page", "/no/such/folder/page.html"], "page.html can't be written (No such file or directory): `runbook diff` takes"),
    ],
)
def test_wrong_usage_is_explained_and_exits_with_2(diff, runs, arguments, complaint):
    write_run(runs, "a", load(1))
    write_run(runs, "b", load(2))
    done = diff(runs, *arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
