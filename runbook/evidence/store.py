"""The run folder: written atomically, without secrets, with a manifest of digests."""

import contextlib
import gzip
import hashlib
import json
import os
import tempfile
import zlib
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from runbook.evidence.secrets import redact, secrets_of

SCHEMA_VERSION = 1

NOTEBOOK = "notebook.ipynb"
RESULT = "result.json"
MANIFEST = "manifest.json"
PAGE = "index.html"
# What machines read beside it.
JUNIT = "junit.xml"
SUMMARY = "summary.md"
METRICS = "metrics.prom"
# What is rendered from the rest, and can be again.
DERIVED = (PAGE, JUNIT, SUMMARY, METRICS)

# How a notebook's own process learns where its evidence goes; without it (plain papermill, JupyterLab) the notebook is the evidence.
FOLDER_VARIABLE = "RUNBOOK_EVIDENCE_DIR"


class EvidenceError(Exception):
    """A run folder can't be used; the message says why."""


class RunFolder:
    """The evidence of one run.

    Args:
        path: the folder, which exists.
        environ: whose secrets must not be written.
    """

    def __init__(self, path: Path, environ: Mapping[str, str] = os.environ) -> None:
        self.path = path
        self._secrets = secrets_of(environ)

    @classmethod
    def create(cls, runs: Path, name: str, environ: Mapping[str, str] = os.environ) -> "RunFolder":
        """Make `runs/<utc>-<name>/`; a second one in the same second gets a number.

        Raises:
            EvidenceError: it can't be made.
        """
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        for number in range(1, 1000):
            path = runs / (f"{stamp}-{name}" if number == 1 else f"{stamp}-{number}-{name}")
            try:
                path.mkdir(parents=True)
            except FileExistsError as error:
                if runs.is_dir():
                    continue
                raise EvidenceError(f"{runs} is no folder: name another with --runs") from error
            except OSError as error:
                raise EvidenceError(f"{path} can't be made ({error.strerror}): name another folder with --runs") from error
            return cls(path, environ)
        raise EvidenceError(f"{runs} holds a thousand runs of this second already: remove some")

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> "RunFolder | None":
        """Return the folder into which the runner wants this process's evidence, None without a runner."""
        return cls(Path(environ[FOLDER_VARIABLE]), environ) if environ.get(FOLDER_VARIABLE) else None

    @property
    def name(self) -> str:
        """The run's name, which is unique under `runs/`."""
        return self.path.name

    def write_text(self, name: str, text: str) -> None:
        """Write a file at once or not at all, each secret replaced."""
        write_atomically(self.path / name, redact(text, self._secrets).encode())

    def write_json(self, name: str, value: Any) -> None:
        """Write a JSON file at once or not at all, each secret replaced before it is encoded."""
        write_atomically(self.path / name, json.dumps(redact(value, self._secrets), indent=1, ensure_ascii=False).encode() + b"\n")

    def write_json_gzip(self, name: str, value: Any) -> None:
        """Write a compressed JSON file at once or not at all, each secret replaced in its texts, and in no number."""
        text = json.dumps(redact(value, self._secrets), ensure_ascii=False)
        write_atomically(self.path / name, gzip.compress(text.encode(), mtime=0))

    def write_gzip(self, name: str, text: str) -> None:
        """Write a compressed file at once or not at all, each secret replaced; the same text gives the same bytes."""
        write_atomically(self.path / name, gzip.compress(redact(text, self._secrets).encode(), mtime=0))

    def read_json(self, name: str) -> Any:
        """Read one of the run's JSON files.

        Raises:
            EvidenceError: it is missing or damaged.
        """
        try:
            return json.loads((self.path / name).read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise EvidenceError(f"{self.path} holds no {name}: is it the folder of a finished run?") from None
        except ValueError as error:
            raise EvidenceError(f"{self.path / name} is damaged ({error}): run it again") from error

    def read_gzip(self, name: str) -> str:
        """Read one of the run's compressed files.

        Raises:
            EvidenceError: it is missing or damaged.
        """
        try:
            return gzip.decompress((self.path / name).read_bytes()).decode()
        except FileNotFoundError:
            raise EvidenceError(f"{self.path} holds no {name}: is it the folder of a finished run?") from None
        except (gzip.BadGzipFile, zlib.error, EOFError, UnicodeDecodeError) as error:
            raise EvidenceError(f"{self.path / name} is damaged ({error}): run it again") from error

    def write_manifest(self) -> None:
        """Write down the SHA-256 of every file, so that a later change can be seen."""
        files = sorted(path for path in self.path.rglob("*") if path.is_file() and not path.is_symlink() and path != self.path / MANIFEST)
        digests = {path.relative_to(self.path).as_posix(): sha256(path) for path in files}
        self.write_json(MANIFEST, {"schema_version": SCHEMA_VERSION, "sha256": digests})


def write_atomically(path: Path, content: bytes) -> None:
    """Write a file so that a reader, or a crash, sees either the old or the whole new content."""
    with _beside(path) as (descriptor, temporary):
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)


def sha256(path: Path) -> str:
    """Return the digest of a file."""
    with path.open("rb") as file:  # in pieces, since samples may be larger than the memory
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[int, str]]:
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}-", dir=path.parent)
    try:
        yield descriptor, temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
