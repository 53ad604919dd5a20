"""From a verification to its acceptance, and to the next verification: what was accepted stays as it was, and what became worse is told."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys

import nbformat
import pytest

from runbook.cli_evidence import baseline_of
from runbook.evidence import RunFolder
from runbook.evidence.records import manifest_sha256

pytestmark = pytest.mark.timeout(180)

WORSE = "worse: I-4 passed, and fails now (AOF: after a restart the data are there): fail"

JUDGES = """
import os
import runbook
from runbook.evidence import Finding, Verdict
book = runbook.open("judges")
book.show((Finding("I-4", "It holds", Verdict(os.environ["SEEDED_VERDICT"]), os.environ["SEEDED_VERDICT"].lower()),))
"""


@pytest.fixture
def command(run_here, runs):
    return lambda name, *arguments: run_here(name, "--runs", runs, *arguments)


def process(*arguments, runs, prefix=(), environ):
    done = subprocess.run(
        [*prefix, sys.executable, "-m", "runbook", *map(str, arguments), "--runs", str(runs)],
        env={**os.environ, **environ},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def verify(runs, books, verdict, *arguments):
    return process("verify", "--notebooks", books, *arguments, runs=runs, environ={"SEEDED_VERDICT": verdict})


def verifications(runs):
    return sorted(path for path in runs.glob("2*-verify"))


def result_of(path):
    return json.loads((path / "result.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def books(tmp_path_factory):
    """A folder with one notebook, whose verdict the environment chooses."""
    cells = [nbformat.v4.new_markdown_cell("# Judges\n\n**Question.** Does it hold?")]
    cells += [nbformat.v4.new_code_cell(source) for source in (JUDGES.strip(), "book.verdict()")]
    folder = tmp_path_factory.mktemp("books")
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / "judges.ipynb")
    return folder


@pytest.fixture(scope="module")
def verified(tmp_path_factory, books):
    """A verification that passes, and one that fails, held against the first; none is accepted."""
    runs = tmp_path_factory.mktemp("verified") / "runs"
    done = verify(runs, books, "PASS")
    assert done.returncode == 0, done.stdout + done.stderr
    done = verify(runs, books, "FAIL", "--against", verifications(runs)[0].name)
    assert done.returncode == 1, done.stdout + done.stderr
    assert WORSE in done.stdout
    return runs


@pytest.fixture
def runs(tmp_path, verified):
    shutil.copytree(verified, tmp_path / "runs", symlinks=True)
    return tmp_path / "runs"


@pytest.fixture
def passed(runs):
    return verifications(runs)[0]


def digest_in(text):
    return next(line.removeprefix("digest: ") for line in text.splitlines() if line.startswith("digest: "))


def test_an_acceptance_prints_a_digest_that_covers_all_evidence(runs, passed, command):
    done = command("accept", passed.name, "--by", "  Ada \n Lovelace ", "--despite", "no engine here")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{passed.name} is accepted by Ada Lovelace, recorded on 20" in done.stdout
    assert ", despite: no engine here" in done.stdout
    assert "not examined: AC-1 A Redis 7 Alpine container" in done.stdout
    assert "not examined: D-3" not in done.stdout  # it is what whoever accepts says by it
    assert "can't reach" in done.stdout
    digest = digest_in(done.stdout)
    checked = command("integrity", passed.name, "--digest", digest.upper())
    assert checked.returncode == 0, checked.stdout
    for text in (", and of the 1 runs that it sums up", "as it was noted", "by Ada Lovelace", "nothing was altered"):
        assert text in checked.stdout
    assert "unknown" not in checked.stdout
    again = command("accept", passed.name, "--by", "Ada Lovelace", "--despite", "no engine here")
    assert again.returncode == 0
    assert "already: nothing more was recorded" in again.stdout
    with sqlite3.connect(runs / "history.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM entry WHERE kind = 'acceptance'").fetchone() == (1,)
    connection.close()


def test_the_noted_digest_finds_out_who_rewrote_a_run_its_manifests_and_the_history(runs, passed, command):
    digest = digest_in(command("accept", passed.name, "--by", "Ada", "--despite", "a test").stdout)
    (member,) = (runs / run["run"] for run in result_of(passed)["runs"])
    (member / "server.log").write_text("rewritten")
    named = command("integrity", passed.name)
    assert named.returncode == 1
    assert f"ALTERED   {member.name}/server.log was altered: its SHA-256 was " in named.stdout
    (runs / "history.sqlite3").unlink()
    RunFolder(member, {}).write_manifest()
    assert f"{member.name}/manifest.json is not the one that {passed.name} sums up" in command("integrity", passed.name).stdout
    result = result_of(passed)
    result["runs"][0]["manifest_sha256"] = manifest_sha256(member)
    RunFolder(passed, {}).write_json("result.json", result)
    RunFolder(passed, {}).write_manifest()
    done = command("integrity", passed.name, "--digest", digest)
    assert done.returncode == 1
    assert f"{passed.name}/manifest.json is not the one that was noted: its SHA-256 was {digest}, and is " in done.stdout


@pytest.mark.parametrize("noted", ["", " ", "sha256:", "3f5a"])
def test_a_digest_that_is_none_proves_nothing(passed, command, noted):
    """As of a variable of a script that is not set."""
    done = command("integrity", passed.name, "--digest", noted)
    assert done.returncode == 2
    assert f"--digest takes the 64 hexadecimal digits of a SHA-256, got {noted!r}" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["{open}", "--by", "Ada"], "Not accepted: "),
        (["{passed}", "--by", "Ada"], "criteria that need no container pass"),
        (["{open}", "--by", "Ada", "--despite", "  "], "--despite says nothing that can be read"),
        (["{passed}", "--by", " \t"], "--by says nothing that can be read"),
        (["{passed}", "--by", "\x1b[2J"], "--by says nothing that can be read"),
        (["{passed}"], "the following arguments are required: --by"),
        (["{member}", "--by", "Ada"], "is no verification, which `runbook verify` makes"),
        (["no-such", "--by", "Ada"], "there is no run no-such"),
    ],
)
def test_what_can_not_be_accepted_is_refused_with_the_reason(runs, passed, command, arguments, complaint):
    names = {"open": verifications(runs)[1].name, "passed": passed.name, "member": result_of(passed)["runs"][0]["run"]}
    done = command("accept", *(each.format(**names) for each in arguments))
    assert done.returncode == 2
    assert complaint in done.stderr
    with sqlite3.connect(runs / "history.sqlite3") as connection:
        assert connection.execute("SELECT count(*) FROM entry WHERE kind = 'acceptance'").fetchone() == (0,)
    connection.close()


def test_what_does_not_pass_is_accepted_with_a_reason_that_is_recorded(runs, command):
    name = verifications(runs)[1].name
    done = command("accept", name, "--by", "Ada", "--despite", "the host was busy")
    assert done.returncode == 0, done.stderr
    assert "despite: the host was busy" in done.stdout
    assert "by Ada, despite: the host was busy" in command("integrity", name).stdout


def test_what_no_history_tells_of_is_accepted_with_a_reason_only(runs, passed, command):
    """As of a copy whose result was edited, under a manifest that was written anew."""
    copy = RunFolder(runs / passed.name.replace("-verify", "-2-verify"), {})
    shutil.copytree(passed, copy.path)
    result = result_of(passed)
    ready = [{**each, "verdict": "PASS"} for each in result["criteria"]]
    copy.write_json("result.json", {**result, "run": copy.name, "criteria": ready})
    copy.write_manifest()
    done = command("accept", copy.name, "--by", "Ada")
    assert done.returncode == 2
    assert f"Not checked: no history tells of {copy.name}" in done.stderr
    done = command("accept", copy.name, "--by", "Ada", "--despite", "brought from another machine")
    assert done.returncode == 0, done.stderr
    assert "despite: brought from another machine" in done.stdout


def test_the_scorecard_that_tells_of_it_lies_with_the_run(runs, passed, command, tmp_path):
    done = command("accept", passed, "--by", "Ada", "--despite", "a test", "--runs", tmp_path / "others")
    assert done.returncode == 0, done.stderr
    assert f"scorecard: {runs / 'latest' / 'index.html'}" in done.stdout
    assert not (tmp_path / "others").exists()


@pytest.mark.parametrize("despite", [(), ("--despite", "a test")])
def test_what_did_not_come_to_its_end_is_no_baseline_for_anybody(runs, passed, command, despite):
    RunFolder(passed, {}).write_json("result.json", {**result_of(passed), "broken": "it was interrupted"})
    RunFolder(passed, {}).write_manifest()
    (runs / "history.sqlite3").unlink()
    done = command("accept", passed.name, "--by", "Ada", *despite)
    assert done.returncode == 2
    assert "did not come to its end (it was interrupted), so there is nothing to accept: verify again" in done.stderr


def test_altered_evidence_is_not_accepted(runs, passed, command):
    (passed / "result.json").write_text((passed / "result.json").read_text().replace("PASS", "FAIL"))
    done = command("accept", passed.name, "--by", "Ada")
    assert done.returncode == 2
    assert f"{passed.name}/result.json was altered" in done.stderr


def test_without_redis_and_network_the_page_is_rendered_the_same_byte_for_byte(runs, passed):
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in passed.iterdir()}
    (passed / "index.html").unlink()
    unshare = shutil.which("unshare")
    apart = [unshare, "--net"] if unshare and os.geteuid() == 0 else []
    done = process("report", passed.name, runs=runs, prefix=apart, environ={"PATH": "", "REDIS_SERVER": "/no-such", "TZ": "Asia/Tokyo"})
    assert done.returncode == 0, done.stderr
    after = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in passed.iterdir()}
    assert after.pop("index.html")[0] == before.pop("index.html")[0]
    assert after == before


def test_what_became_worse_is_kept_with_the_later_verification(runs, passed, command):
    newest = verifications(runs)[-1]
    against = result_of(newest)["against"]
    assert (against["run"], against["verdict"], against["sentences"]) == (passed.name, "FAIL", [WORSE])
    assert WORSE in (newest / "diff.html").read_text(encoding="utf-8")
    assert "diff.html" in json.loads((newest / "manifest.json").read_text())["sha256"]
    assert command("integrity", newest.name).returncode == 0


def test_what_was_accepted_last_is_the_baseline(runs, passed, command):
    for path in (verifications(runs)[1], passed):
        assert command("accept", path.name, "--by", "Ada", "--despite", "a test").returncode == 0
    assert baseline_of(None, "embedded", runs, {}) == passed.resolve()


def test_what_was_accepted_and_is_damaged_does_not_lose_the_next_verification(runs, passed, books, command):
    assert command("accept", passed.name, "--by", "Ada", "--despite", "a test").returncode == 0
    (passed / "result.json").unlink()
    done = verify(runs, books, "PASS")
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"no numbers of {passed.name}, accepted by Ada, are told" in done.stderr
    assert result_of(verifications(runs)[-1])["baseline"] is None


def _nothing(runs, passed, command):
    pass


def _alter(runs, passed, command):
    (runs / result_of(passed)["runs"][0]["run"] / "server.log").write_text("altered")


def _accept_and_remove(runs, passed, command):
    assert command("accept", passed.name, "--by", "Ada", "--despite", "a test").returncode == 0
    shutil.rmtree(passed)


@pytest.mark.parametrize(
    ("prepare", "against", "complaint"),
    [
        (_nothing, "accepted", "no verification of the target embedded was accepted"),
        (_nothing, "{member}", "is no verification"),
        (_alter, "{passed}", "server.log was altered"),
        (_accept_and_remove, "accepted", "accepted by Ada, is gone: bring it back"),
    ],
)
def test_a_baseline_that_can_not_serve_is_refused_before_anything_runs(runs, passed, books, command, prepare, against, complaint):
    names = {"passed": passed.name, "member": result_of(passed)["runs"][0]["run"]}
    prepare(runs, passed, command)
    before = sorted(runs.iterdir())
    done = command("verify", "--notebooks", books, "--against", against.format(**names))
    assert done.returncode == 2
    assert complaint in done.stderr
    assert sorted(runs.iterdir()) == before
