"""What one engine makes of the files that another one wrote."""

import dataclasses
import hashlib
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import redis

from cachelib import Client
from runbook.drills.backups.backup import SNAPSHOT_NAME, administering, copy_append_only_set, copy_snapshot, rewrite
from runbook.drills.backups.variety import write_variety
from runbook.drills.damage.manifest import DIRECTORY
from runbook.drills.digest import digest_of
from runbook.drills.starting import start_or_refusal
from runbook.targets import Embedded
from runbook.targets.embedded import STORY_FLAGS

BASE, COMMANDS, SNAPSHOT = "append-only set on a snapshot", "append-only set of plain commands", "snapshot"
NOVEL = "append-only set of plain commands, one of them novel"
FLAGS_OF = {BASE: STORY_FLAGS, COMMANDS: STORY_FLAGS, NOVEL: STORY_FLAGS, SNAPSHOT: ("--appendonly", "no", *STORY_FLAGS[2:])}

FUNCTION = "runbook_answer"
_LIBRARY = f"#!lua name=runbook\nredis.register_function('{FUNCTION}', function() return 42 end)"
HASH, BEHIND = "runbook:hash", "runbook:behind"
# In the protocol; that no engine knows.
_UNKNOWN = b"*1\r\n$13\r\nRUNBOOK.NOVEL\r\n"


@dataclass(frozen=True, slots=True)
class State:
    """What a server holds.

    Attributes:
        values: digest over all keys and their values.
        expiries: digest over when each key expires.
        functions: what a function of its library returns.
    """

    values: str
    expiries: str
    functions: str

    def differences(self, other: "State") -> str:
        """Name what is not the same; empty if all is."""
        return " and ".join(field.name for field in dataclasses.fields(self) if getattr(self, field.name) != getattr(other, field.name))


@dataclass(frozen=True, slots=True)
class Files:
    """What an engine wrote.

    Attributes:
        folders: one for each format, which holds what a server's folder has to hold.
        state: what it held.
    """

    folders: Mapping[str, Path]
    state: State


@dataclass(frozen=True, slots=True)
class Crossing:
    """What an engine made of files of another one.

    Attributes:
        written: what the engine held that wrote them.
        loaded: what the other one held; None where it refused.
        said: in which words.
        touched: whether the files were others afterwards.
        reloaded: what the engine that wrote them held after loading them again; None where it refused, or was not needed.
    """

    written: State
    loaded: State | None
    said: str = ""
    touched: bool = False
    reloaded: State | None = None

    @property
    def problem(self) -> str:
        """Why not everything arrived; empty if it did."""
        if self.loaded is None:
            return f"refused: {self.said}"
        differences = self.loaded.differences(self.written)
        return f"loaded with other {differences}" if differences else ""

    @property
    def harm(self) -> str:
        """What became worse by trying; empty if nothing did."""
        if self.loaded is not None:
            return self.problem
        if self.touched:
            return "it changed the files that it refused"
        if self.reloaded is None:
            return "the engine that wrote them does not load them any more"
        differences = self.reloaded.differences(self.written)
        return f"the engine that wrote them then loads them with other {differences}" if differences else ""


def write_files(environ: Mapping[str, str], into: Path, chance: random.Random, rounds: int) -> Files:
    """Let an engine write the same data in each format.

    Args:
        environ: which engine.
        into: a folder to make.
        chance: by which the data are chosen.
        rounds: how much of them.
    """
    folders = {name: into / str(number) for number, name in enumerate(FLAGS_OF)}
    with Embedded(environ, STORY_FLAGS, parent=into.parent) as server, administering(server) as client:
        write_variety(client, chance, rounds)
        client.hset(HASH, "field", "value")
        client.function_load(_LIBRARY)
        rewrite(client)
        client.set(BEHIND, "the base")
        state = state_of(server)
        copy_append_only_set(server, folders[BASE])
        copy_snapshot(server, folders[SNAPSHOT])
        client.config_set("aof-use-rdb-preamble", "no")
        rewrite(client)
        copy_append_only_set(server, folders[COMMANDS])
        try:  # the time of a hash's field is known from Redis 7.4 and Valkey 9.0 on
            client.execute_command("HPEXPIRE", HASH, 3_600_000, "FIELDS", 1, "field")
            unknown = b""
        except redis.ResponseError:
            unknown = _UNKNOWN
        copy_append_only_set(server, folders[NOVEL])
    for path in (folders[NOVEL] / DIRECTORY).glob("*.incr.aof"):
        path.write_bytes(path.read_bytes() + unknown)
    return Files(folders, state)


def cross(
    writer: Mapping[str, str],
    reader: Mapping[str, str],
    files: Files,
    name: str,
    parent: Path,
    then: Callable[[Client], object] | None = None,
) -> Crossing:
    """Start an engine on what another one wrote, and where it refuses, the one that wrote it on what it left.

    Args:
        writer: which engine wrote the files.
        reader: which one is to load them.
        files: what was written.
        name: of the format, one of `FLAGS_OF`.
        parent: the folder in which the servers make their own.
        then: done by a client before the state is taken.

    Raises:
        TargetError: one of them neither served nor refused.
    """
    with Embedded(reader, FLAGS_OF[name], parent=parent, data=files.folders[name], started=False) as server:
        if refusal := start_or_refusal(server):
            touched = _digests(server.folder) != _digests(files.folders[name])
            reloaded = _reloaded(writer, FLAGS_OF[name], server.folder, parent)
            return Crossing(files.state, None, refusal, touched, reloaded)
        if then:
            with administering(server) as client:
                then(client)
        return Crossing(files.state, state_of(server))


def state_of(server: Embedded) -> State:
    """Read what a server holds."""
    with administering(server) as client:
        keys = sorted(client.scan_iter(count=1000))
        with client.pipeline(transaction=False) as asking:
            for key in keys:
                asking.pexpiretime(key)
            expiries = asking.execute()
        try:
            answer = str(client.fcall(FUNCTION, 0))
        except redis.ResponseError as error:
            answer = str(error)
        return State(digest_of(client), hashlib.sha256(repr(expiries).encode()).hexdigest(), answer)


def _reloaded(environ: Mapping[str, str], flags: tuple[str, ...], data: Path, parent: Path) -> State | None:
    with Embedded(environ, flags, parent=parent, data=data, started=False) as server:
        return None if start_or_refusal(server) else state_of(server)


def _digests(folder: Path) -> dict[str, str]:
    """Digest each file of a server's data."""
    files = [*(folder / DIRECTORY).glob("*"), *folder.glob(SNAPSHOT_NAME)]
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
