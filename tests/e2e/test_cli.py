"""The command line as its users meet it: real processes, real notebooks, real servers."""

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import pytest

from runbook.evidence.archive import Archive
from runbook.notebooks import FOLDER
from runbook.targets import Embedded
from runbook.targets.binary import find_server
from tests.schema import read_result

pytestmark = pytest.mark.timeout(180)

KILLS_ITS_KERNEL = "import os, signal; os.kill(os.getpid(), signal.SIGKILL)"
VERDICT_ONLY = "import runbook; book = runbook.open('test'); book.verdict()"


def command(*arguments, runs, environ=None, timeout_s=170, **options):
    return subprocess.run(
        [sys.executable, "-m", "runbook", *arguments, "--runs", str(runs)],
        env={**os.environ, **(environ or {})},
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        **options,
    )


def run_folder(runs, name):
    (folder,) = runs.glob(f"*-{name}")
    return folder


def wait_for(condition, patience_s=30.0):
    until_s = time.monotonic() + patience_s
    while not condition():
        assert time.monotonic() < until_s, "it did not happen in time"
        time.sleep(0.05)


def servers_under(folder):
    """List the ids of all processes that work in a folder below this one, as an embedded server does."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cwd"):
        with contextlib.suppress(OSError):
            if os.readlink(path).startswith(f"{folder}/"):
                found.add(int(path.parent.name))
    return found


@contextlib.contextmanager
def running_drill(runs, scratch, until):
    """Start a persistence drill whose servers work below `scratch`, and wait until it prints `until`."""
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "runbook", "run", "persistence-drill", "--runs", str(runs)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "TMPDIR": str(scratch)},
    )
    assert process.stdout
    seen = ""
    while until not in seen:
        line = process.stdout.readline()
        assert line, seen
        seen += line
    assert servers_under(scratch)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def write_notebook(folder, name, *sources):
    cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n**Question.** Does it work?")]
    cells += [nbformat.v4.new_code_cell(source) for source in sources]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    folder.mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=metadata), folder / f"{name}.ipynb")


@pytest.fixture
def runs(tmp_path):
    return tmp_path / "runs"


def test_list_tells_each_notebook_its_question_and_its_parameters(run_here):
    done = run_here("list")
    assert done.returncode == 0
    for word in ("setup", "persistence-drill", "latency-benchmark", "-p rate_per_s=2000", "acknowledged when its process is stopped"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("arguments", "environ", "complaint"),
    [
        (["run", "no-such"], {}, "there is no notebook no-such; there are aof-damage-drill, client-benchmark"),
        (["run", "setup", "-p", "pool=3"], {}, "setup takes no parameter pool; it takes target, pool_size"),
        (["run", "setup", "-p", "pool_size=many"], {}, "pool_size takes a whole number above 0, got 'many'"),
        (["run", "setup", "-p", "pool_size"], {}, "-p takes name=value"),
        (["run", "setup", "-p", "pool_size=1", "-p", "pool_size=2"], {}, "given twice"),
        (["run", "setup", "-p", "password=hunter2"], {}, "looks like a secret"),
        (["run", "setup", "-p", "target=redis://:hunter2@h"], {}, "looks like a secret"),
        (["run", "setup", "-p", "target=moon"], {}, "there is no target 'moon'; choose one of embedded, compose, compose-prod, remote"),
        (["run", "deployment", "-p", "target=embedded"], {}, "can't be answered on the target embedded: choose compose or compose-prod"),
        (["verify", "--target", "compose"], {"DOCKER_HOST": "unix:///no-such.sock"}, "no Docker engine answers: start it"),
        (["verify", "--target", "compose"], {"PATH": "/no-such"}, "there is no program `docker`: install Docker Engine and Compose"),
        (
            ["verify", "--target", "compose"],
            {"RUNBOOK_PROJECT": "one"},
            "notebooks side by side: unset it, or run one at a time",
        ),
        (["verify", "--target", "moon"], {}, "invalid choice: 'moon'"),
        (["verify", "--cell-timeout-s", "0"], {}, "invalid number of seconds above 0 value: '0'"),
        (["verify"], {"REDIS_PORT": "0", "REDIS_DB": "x"}, "2 problems in the Redis configuration"),
        (["verify"], {"REDIS_SERVER": "no-such-server"}, "REDIS_SERVER is 'no-such-server'"),
        (["verify", "--target", "remote"], {}, "name it with REDIS_HOST or REDIS_URL"),
        (["verify", "--against", ""], {}, "there is no run without a name"),
        (["report", "no-such"], {}, "there is no run no-such"),
        (["report", ""], {}, "there is no run without a name"),
        (["integrity", ".."], {}, "is not the folder of a run: it holds neither result.json nor manifest.json"),
        (["bench", "client", "--seconds", "0"], {}, "invalid"),
        (["bench", "server"], {}, "invalid choice: 'server'"),
        (["bench", "client"], {"REDIS_SERVER": "no-such-server"}, "REDIS_SERVER is 'no-such-server'"),
        (["dance"], {}, "invalid choice: 'dance'"),
    ],
)
def test_wrong_usage_is_explained_and_exits_with_2(runs, arguments, environ, complaint, run_here):
    done = run_here(*arguments, "--runs", runs, **environ)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "hunter2" not in done.stdout + done.stderr
    assert not runs.exists()


def test_wrong_usage_is_explained_by_a_process_as_well(runs):
    done = command("run", "no-such", runs=runs)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("runbook: there is no notebook no-such")


def test_bench_shows_each_client_and_exits_with_the_worst_verdict(runs, run_here):
    done = run_here("bench", "client", "--seconds", "6", "--runs", runs)
    rows = dict(re.findall(r"^(one caller|10?,?0+ (?:threads|tasks)) +(\S+)", done.stdout, re.MULTILINE))
    assert set(rows) == {"one caller", "100 threads", "100 tasks", "10,000 tasks"}
    verdicts = set(re.findall(r"^(PASS|FAIL|INCONCLUSIVE) ", done.stdout, re.MULTILINE))
    assert verdicts, done.stdout + done.stderr
    assert done.returncode == (1 if "FAIL" in verdicts else 3 if "INCONCLUSIVE" in verdicts else 0)
    assert not runs.exists()


def test_bench_history_needs_no_server(runs, run_here):
    done = run_here("bench", "history", "--records", "3000", "--runs", runs, REDIS_SERVER="no-such-server")
    assert "The recorder, over 3,000 records" in done.stdout, done.stderr
    assert len(re.findall(r"^(?:PASS|FAIL|INCONCLUSIVE) ", done.stdout, re.MULTILINE)) == 3


@pytest.fixture(scope="module")
def passed(tmp_path_factory):
    """A run of `setup` that other tests only look at."""
    runs = tmp_path_factory.mktemp("passed") / "runs"
    done = command("run", "setup", "-p", "pool_size=3", runs=runs)
    assert done.returncode == 0, done.stdout + done.stderr
    return done, run_folder(runs, "setup")


@pytest.mark.covers_processes
def test_a_passing_notebook_leaves_its_evidence(passed):
    done, folder = passed
    evidence = {"notebook.ipynb", "result.json", "index.html", "manifest.json", "server.log"}
    assert {path.name for path in folder.iterdir()} == evidence | {"junit.xml", "summary.md", "metrics.prom"}
    result = read_result(folder)
    assert result["verdict"] == "PASS"
    assert result["parameters"] == {"target": "embedded", "pool_size": 3}
    assert set(result["criteria"].values()) == {"PASS"}
    assert result["engine"]["product"] in ("redis", "valkey")
    assert "connections busy at once in a pool of 3" in (folder / "index.html").read_text(encoding="utf-8")
    assert f"page: {folder / 'index.html'}" in done.stdout
    (recorded,) = Archive(folder.parent, {}).entries()
    assert (recorded.run, recorded.content["verdict"]) == (folder.name, "PASS")


def test_an_executed_notebook_does_not_tell_where_it_was_executed(passed):
    notebook = (passed[1] / "notebook.ipynb").read_text(encoding="utf-8")
    assert '"papermill": {' not in notebook
    assert str(FOLDER) not in notebook


def test_rendering_again_gives_the_same_page(passed, run_here):
    page = passed[1] / "index.html"
    before = page.read_bytes()
    page.unlink()
    assert run_here("report", page.parent.name, "--runs", page.parent.parent).returncode == 0
    assert page.read_bytes() == before


def test_a_pdf_without_a_chromium_is_an_error_in_one_line_that_says_what_to_do(passed, run_here):
    folder = passed[1]
    done = run_here("report", folder.name, "--pdf", "--runs", folder.parent, RUNBOOK_CHROMIUM="/no/such/chromium")
    assert done.returncode == 2
    assert done.stderr.startswith("runbook: RUNBOOK_CHROMIUM names /no/such/chromium, which is no program: name the path")
    assert done.stderr.count("\n") == 1
    assert not list(folder.parent.glob("*.pdf"))


@pytest.mark.nightly  # the drills against such servers, without a notebook, are among the integration tests
def test_a_server_without_persistence_behind_the_drills_back_fails_it(runs, tmp_path):
    """The wrapper silently adds `--appendonly no`; redis takes the last of two equal options."""
    binary = find_server(os.environ).path
    wrapper = tmp_path / "forgetful-server"
    wrapper.write_text(f'#!/bin/sh\nexec "{binary}" "$@" --appendonly no\n')
    wrapper.chmod(0o755)
    done = command("run", "persistence-drill", runs=runs, environ={"REDIS_SERVER": str(wrapper)})
    assert done.returncode == 1, done.stdout + done.stderr
    folder = run_folder(runs, "persistence-drill")
    result = read_result(folder)
    assert result["verdict"] == "FAIL"
    assert result["criteria"]["I-4"] == "FAIL"
    assert '<failure message="' in (folder / "junit.xml").read_text(encoding="utf-8")
    assert (folder / "summary.md").read_text(encoding="utf-8").startswith("persistence-drill: FAIL.")
    assert re.search(r"\d+ of \d+ acknowledged writes lost", done.stdout)


def test_a_broken_notebook_exits_with_4_and_says_why(runs, tmp_path):
    books = tmp_path / "books"
    write_notebook(books, "kernel-killed", KILLS_ITS_KERNEL, VERDICT_ONLY)
    write_notebook(books, "kernel-killed-last", VERDICT_ONLY, KILLS_ITS_KERNEL)
    write_notebook(books, "exits", "exit(0)", VERDICT_ONLY)
    write_notebook(books, "exits-by-sys", "import sys; sys.exit(0)", VERDICT_ONLY)
    write_notebook(books, "no-verdict", "1 + 1")
    write_notebook(books, "raises", "1 / 0", VERDICT_ONLY)
    write_notebook(books, "hangs", "import time; time.sleep(600)", VERDICT_ONLY)
    done = command("verify", "--notebooks", str(books), "--cell-timeout-s", "10", runs=runs)
    assert done.returncode == 4, done.stdout + done.stderr
    broken = {run["notebook"]: run["broken"] for run in read_result(run_folder(runs, "verify"))["runs"]}
    assert len(broken) == 7
    assert all(broken.values())
    assert "the kernel died" in broken["kernel-killed"]
    assert "shows no verdict" in broken["no-verdict"]
    assert "ZeroDivisionError" in broken["raises"]
    assert "SystemExit" in broken["exits-by-sys"]
    assert "imeout" in broken["hangs"]
    assert "BROKEN" in (runs / "latest" / "acceptance.html").read_text(encoding="utf-8")
    assert ' errors="7"' in (runs / "latest" / "junit.xml").read_text(encoding="utf-8")


def test_a_drill_on_a_server_that_is_not_ours_is_inconclusive_and_leaves_no_secret(runs):
    password = "S3cr/t #pass?word"
    with Embedded(os.environ, flags=("--requirepass", password)) as server:
        environ = {"REDIS_HOST": "127.0.0.1", "REDIS_PORT": str(server.config.port), "REDIS_PASSWORD": password}
        done = command("run", "persistence-drill", "-p", "target=remote", runs=runs, environ=environ)
        assert done.returncode == 3, done.stdout + done.stderr
        assert "is not ours to stop" in done.stdout
    written = b"".join(path.read_bytes() for path in runs.rglob("*") if path.is_file())
    printed = done.stdout + done.stderr
    for form in ("S3cr/t", "S3cr%2Ft", "UzNjci90"):  # raw, URL-encoded, base64
        assert form.encode() not in written
        assert form not in printed


@pytest.mark.parametrize("signal_number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.nightly)])
def test_ctrl_c_leaves_no_server_and_keeps_what_was_recorded(runs, tmp_path, signal_number):
    with running_drill(runs, tmp_path / "scratch", until="cell 6 of") as process:
        process.send_signal(signal_number)
        rest, _ = process.communicate(timeout=60)
        assert process.returncode == 130, rest
    wait_for(lambda: not servers_under(tmp_path / "scratch"))
    assert not list((tmp_path / "scratch").iterdir())
    folder = run_folder(runs, "persistence-drill")
    assert read_result(folder)["broken"] == "it was interrupted"
    executed = [cell for cell in json.loads((folder / "notebook.ipynb").read_text())["cells"] if cell.get("execution_count")]
    assert len(executed) >= 4
    assert (folder / "index.html").exists()
    assert [entry.content["interrupted"] for entry in Archive(runs, {}).entries()] == [True]


def test_killing_the_runner_ends_its_server_too(runs, tmp_path):
    with running_drill(runs, tmp_path / "scratch", until="cell 4 of") as process:
        process.kill()
        process.wait()
        wait_for(lambda: not servers_under(tmp_path / "scratch"))


def test_verify_sums_up_every_criterion_and_points_to_its_page(runs, tmp_path):
    # One is enough: nbval executes all of them, and `make nightly` verifies with all of them.
    (tmp_path / "books").mkdir()
    for name in ("setup", "client-benchmark"):  # the second is in no profile
        shutil.copy(FOLDER / f"{name}.ipynb", tmp_path / "books")
    done = command("verify", "--notebooks", str(tmp_path / "books"), runs=runs)
    assert "client-benchmark" not in done.stdout
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"page: {run_folder(runs, 'verify') / 'index.html'}" in done.stdout
    assert f"scorecard: {runs / 'latest' / 'index.html'}" in done.stdout
    assert re.search(r"^9 of 15 criteria that need no container pass\. ", done.stdout, re.M)
    assert "`runbook verify --target compose` proves the other 6: AC-1, AC-3, AC-4, I-1, I-2, D-2. " in done.stdout
    result = read_result(run_folder(runs, "verify"))
    verdicts = {criterion["id"]: criterion["verdict"] for criterion in result["criteria"]}
    passed = {name for name, verdict in verdicts.items() if verdict == "PASS"}
    assert passed == {"AC-2", "AC-5", "AC-6", "AC-8", "U-1", "U-2", "U-3", "U-4", "I-3"}
    assert {verdicts[name] for name in ("AC-1", "I-4", "P-2")} == {None}
    assert (result["profile"], result["verdict"]) == ("default", "PASS")
    page = (runs / "latest" / "acceptance.html").read_text(encoding="utf-8")
    for run in result["runs"]:
        assert f'id="{run["notebook"]}"' in page
        assert (runs / run["run"] / "index.html").exists()


def test_refresh_puts_the_outputs_of_a_passing_notebook_into_the_notebook(runs, tmp_path):
    books = tmp_path / "books"
    check = "import runbook; book = runbook.open('good'); book.show(runbook.setup.check_health(book.target))"
    write_notebook(books, "good", check, "book.verdict()")
    write_notebook(books, "bad", "1 / 0")
    before = (books / "bad.ipynb").read_bytes()
    done = command("refresh", "--notebooks", str(books), runs=runs)
    assert done.returncode == 4
    assert "refreshed good" in done.stdout
    assert "left bad as it was" in done.stderr
    assert (books / "bad.ipynb").read_bytes() == before
    good = json.loads((books / "good.ipynb").read_text(encoding="utf-8"))
    assert good["cells"][-1]["outputs"]
    assert not runs.exists()


def test_plain_papermill_comes_to_the_same_verdict(tmp_path):
    papermill = Path(sys.executable).parent / "papermill"
    output = tmp_path / "out.ipynb"
    done = subprocess.run(
        [papermill, str(FOLDER / "setup.ipynb"), str(output), "-p", "target", "embedded"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, "JUPYTER_PREFER_ENV_PATH": "1"},
    )
    assert done.returncode == 0, done.stderr
    bundle = "application/vnd.runbook.verdict+json"
    (verdict,) = [out["data"][bundle] for out in json.loads(output.read_text())["cells"][-1]["outputs"] if bundle in out["data"]]
    assert verdict["verdict"] == "PASS"
