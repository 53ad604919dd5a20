"""Checks the set of append-only files before a server starts on it: some sets that have lost data start without a word.

The format is that of Redis 7 (`aof.c`, `aofLoadManifestFromFile`): a line for each file, of a name, a sequence number and a type: `b` for
the base, `i` for an increment, `h` for history, which may be gone already.
"""

import re
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

DIRECTORY, NAME = "appendonlydir", "appendonly.aof"
_LONGEST_LINE = 1024
_BASE, _INCREMENT, _HISTORY = "b", "i", "h"


class Entry(NamedTuple):
    """A line of a manifest."""

    file: str
    sequence: int
    type: str


def problems_of_set(data: Path, directory: str = DIRECTORY, name: str = NAME) -> list[str]:
    """Tell what is wrong with the append-only files in a server's data folder, and what to do; empty if they are a whole set.

    Not for a server that was never started, nor for one that is just rewriting its files: it may have no base yet.

    Args:
        data: the server's `dir`; it is only looked at.
        directory: its `appenddirname`.
        name: its `appendfilename`.
    """
    folder = data / directory
    there = sorted(path.name for path in folder.glob("*")) if folder.is_dir() else []
    files = [file for file in there if re.fullmatch(re.escape(name) + r"\.\d+\.(base|incr)\.(rdb|aof)", file)]
    if f"{name}.manifest" not in there:
        if not files:
            return [f"there are no append-only files in {directory}: a server starts empty here; put them back if there should be data"]
        return [
            f"{name}.manifest is missing, though there are {len(files)} data files: a server starts empty here, without a word, and may "
            "overwrite them; copy the folder away, and put back the manifest"
        ]
    entries, problems = read_manifest((folder / f"{name}.manifest").read_text(errors="replace"))
    return problems + _order_problems(entries) + _file_problems(entries, there, files)


def read_manifest(text: str) -> tuple[list[Entry], list[str]]:
    """Return the entries of a manifest, and which of its lines can't be read."""
    entries, problems = [], []
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if line.startswith("#"):
            continue
        if not line.endswith("\n") or len(line) > _LONGEST_LINE:
            problems.append(f"line {number} of the manifest is cut off or too long: a server refuses it; put back the manifest")
        elif entry := _entry(line):
            entries.append(entry)
        else:
            problems.append(f"line {number} of the manifest is not of the form `file NAME seq NUMBER type b|i|h`: put back the manifest")
    return entries, problems


def manifest_of(files: Sequence[str]) -> str:
    """Write a manifest anew from the names of the files: right only where no older ones lie beside them, so compare digests after the load.

    Args:
        files: the base and the increments, in whatever order.
    """
    numbered = sorted((kind != "base", int(number), file) for file in files for number, kind in [file.split(".")[-3:-1]])
    types = {False: _BASE, True: _INCREMENT}
    return "".join(f"file {file} seq {number} type {types[is_increment]}\n" for is_increment, number, file in numbered)


def _entry(line: str) -> Entry | None:
    try:
        words = shlex.split(line)
        fields = dict(zip(words[::2], words[1::2], strict=True))
        entry = Entry(fields["file"], int(fields["seq"]), fields["type"])
    except (ValueError, KeyError):
        return None
    return entry if entry.type in (_BASE, _INCREMENT, _HISTORY) and entry.sequence > 0 and "/" not in entry.file else None


def _order_problems(entries: Sequence[Entry]) -> list[str]:
    bases = [entry.file for entry in entries if entry.type == _BASE]
    increments = [entry for entry in entries if entry.type == _INCREMENT]
    problems = []
    if len(bases) != 1:
        named = f"{len(bases)} bases ({', '.join(bases)})" if bases else "no base"
        problems.append(f"the manifest names {named} instead of one: put back the manifest that belongs to these files")
    for before, after in pairwise(increments):
        if after.sequence <= before.sequence:
            problems.append(
                f"the manifest names {after.file} (seq {after.sequence}) behind {before.file} (seq {before.sequence}): a server refuses "
                "what does not go up; put back the manifest"
            )
    return problems


def _file_problems(entries: Sequence[Entry], there: Sequence[str], files: Sequence[str]) -> list[str]:
    named = {entry.file for entry in entries}
    missing = [entry.file for entry in entries if entry.type != _HISTORY and entry.file not in there]
    return [
        *(f"{file} is named in the manifest and missing: put it back, or restore a backup of the whole set" for file in missing),
        *(
            f"{file} is not named in the manifest: a server starts without what it holds, and without a word; put back the manifest that "
            "names it, or move it away if it is a rest of a rewrite that was broken off"
            for file in files
            if file not in named
        ),
    ]
