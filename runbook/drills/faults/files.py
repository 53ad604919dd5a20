"""Damages a copy of a folder, and proves that it did; the original is only read."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(slots=True)
class DamagedCopy:
    """A copy that was damaged.

    Attributes:
        folder: where it is.
        doubts: why it can't be said that it differs from the original; empty if it does.
    """

    folder: Path
    doubts: tuple[str, ...] = ()


@contextlib.contextmanager
def damaged_copy(original: Path, damage: Callable[[Path], object], parent: Path) -> Iterator[DamagedCopy]:
    """Copy a folder and damage the copy; it is removed at the end of the block.

    Args:
        original: the folder.
        damage: is given the copy's folder.
        parent: the folder in which the copy is made.
    """
    with tempfile.TemporaryDirectory(prefix="damaged-", dir=parent) as made:
        folder = Path(shutil.copytree(original, Path(made) / original.name))
        damage(folder)
        same = digest_of_files(folder) == digest_of_files(original)
        yield DamagedCopy(folder, ("the damaged files are the same as before",) if same else ())


def overwrite(path: Path, offset: int, data: bytes) -> None:
    """Put bytes over those at an offset."""
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(data)


def cut(path: Path, length: int) -> None:
    """Cut a file off behind some bytes."""
    with path.open("r+b") as file:
        file.truncate(length)


def digest_of_files(folder: Path) -> str:
    """Return a digest over the names and bytes of all files of a folder."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            digest.update(f"{path.relative_to(folder)}:{path.stat().st_size}:".encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
