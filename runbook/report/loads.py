"""Reads the loads of a finished run, or of all runs of a verification, and the circumstances under which they were offered."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runbook.evidence.store import RESULT, EvidenceError, RunFolder
from runbook.load.offered import Offered

_PREFIX, _SUFFIX = "load-", ".json.gz"


@dataclass(frozen=True, slots=True)
class Loads:
    """What a run offered.

    Attributes:
        run: its name.
        target: where the server ran, such as `embedded`; None if unknown.
        engine: its `product`, `version` and `found_by`; empty if unknown.
        host: `system`, `kernel`, `machine` and `cpus`; empty if unknown.
        versions: of Python and of packages, by name.
        loads: each load, by notebook and name, such as `latency-benchmark/steady`; empty if it offered none.
    """

    run: str
    target: str | None
    engine: Mapping[str, Any]
    host: Mapping[str, Any]
    versions: Mapping[str, str]
    loads: Mapping[str, Offered]


def read_loads(path: Path) -> Loads:
    """Read what a run, or every run of a verification, offered.

    Args:
        path: of the run folder; those of a verification's runs lie beside it.

    Raises:
        EvidenceError: it holds no result, or something of it is missing, damaged or of another version.
    """
    path = path.resolve()  # the runs lie beside it, also where it was named as `.`
    result = RunFolder(path).read_json(RESULT)
    try:
        runs = [run["run"] for run in result["runs"]] if result["kind"] == "verification" else [path.name]
        folders = [path.parent / run for run in runs]
        loads = {name: offered for folder in folders for name, offered in _loads_of(folder).items()}
        engine, host, versions = (dict(result[name] or {}) for name in ("engine", "host", "versions"))
        target = result["target"]
    except (KeyError, TypeError, ValueError) as error:
        raise EvidenceError(f"{path / RESULT} is no result of this version ({error}): run it again") from error
    return Loads(path.name, target, engine, host, versions, loads)


def _loads_of(path: Path) -> dict[str, Offered]:
    folder = RunFolder(path)
    notebook = folder.read_json(RESULT)["notebook"]
    found = {}
    for file in sorted(path.glob(f"{_PREFIX}*{_SUFFIX}")):
        try:
            offered = Offered.from_json(folder.read_gzip(file.name))
        except ValueError as error:
            raise EvidenceError(f"{file} is damaged ({error}): run it again") from error
        found[f"{notebook}/{file.name.removeprefix(_PREFIX).removesuffix(_SUFFIX)}"] = offered
    return found
