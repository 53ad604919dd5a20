"""What a session keeps of loads: recordings that can be read back, histograms for other tools, and no secrets."""

import gzip
import re
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from runbook.evidence import Finding, RunFolder
from runbook.evidence.secrets import MASK
from runbook.load import History
from runbook.load.offered import Mark, Offered
from runbook.session import Session
from runbook.targets import Engine
from tests.unit.runbook.drills.loads import offered

SECRET = 'correct "horse" battery'
MARKS = (Mark(50_000_000, 3_000_000, "fork took 3.0 ms"),)


class _Target:
    """Answers who it is, and is never asked for more."""

    name, engine = "remote", Engine("Redis", "8.0", "INFO")


@dataclass(frozen=True)
class _Result:
    loads: dict[str, Offered]
    findings: tuple[Finding, ...] = ()
    histories: dict[str, History] = field(default_factory=dict)


def _kept(load: Offered, folder: RunFolder | None) -> None:
    Session("latency-benchmark", _Target(), folder).record(_Result({"modest-rate": load}))  # type: ignore[arg-type]


def _read(path: Path) -> str:
    return gzip.decompress((path / "load-modest-rate.json.gz").read_bytes()).decode()


@pytest.mark.parametrize(
    "load",
    [
        offered(*[0.2] * 120, 70_000.0, 3.0, errors={("SET", "OOM"): 3}, marks=MARKS),
        offered(),
        offered(errors={("GET", "LOADING"): 5}),
    ],
    ids=["all", "nothing", "errors only"],
)
def test_a_load_is_kept_and_read_back_identically(load: Offered, tmp_path: Path) -> None:
    _kept(load, RunFolder(tmp_path, {"REDIS_PASSWORD": SECRET}))
    assert Offered.from_json(_read(tmp_path)) == load


def test_each_operation_leaves_a_histogram_of_its_calls(tmp_path: Path) -> None:
    load = offered(*[0.2] * 250, errors={("SET", "OOM"): 1})
    _kept(load, RunFolder(tmp_path, {}))
    totals = {
        path.name: float(found[1])
        for path in tmp_path.glob("*.hgrm")
        if (found := re.search(r"TotalCount\s*=\s*([\d.]+)", path.read_text(encoding="utf-8")))
    }
    assert totals == {"load-modest-rate-GET.hgrm": 250, "load-modest-rate-SET.hgrm": 0}


def test_a_secret_in_the_error_of_a_load_is_replaced(tmp_path: Path) -> None:
    load = offered(0.2, errors={("GET", f"ERR unknown command AUTH {SECRET}"): 1})
    _kept(load, RunFolder(tmp_path, {"REDIS_PASSWORD": SECRET}))
    assert "horse" not in _read(tmp_path)
    assert Offered.from_json(_read(tmp_path)).recording.failed() == {f"ERR unknown command AUTH {MASK}": 1}


def test_a_password_made_of_digits_damages_no_number(tmp_path: Path) -> None:
    load = offered(*[1.0] * 2000, errors={("GET", "AUTH with 1000 failed"): 1000})
    _kept(load, RunFolder(tmp_path, {"REDIS_PASSWORD": "1000"}))
    again = Offered.from_json(_read(tmp_path))
    assert again.recording.count() == 2000
    assert again.recording.failed() == {f"AUTH with {MASK} failed": 1000}


def test_without_a_folder_nothing_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    _kept(offered(0.2), None)
    assert not list(tmp_path.iterdir())
