"""The run folder: whole files or none, no secrets, digests that can be checked, and errors that help."""

import contextlib
import gzip
import hashlib
import json
import re
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest

from runbook.evidence.secrets import MASK
from runbook.evidence.store import FOLDER_VARIABLE, MANIFEST, EvidenceError, RunFolder, write_atomically

SECRET = "correct horse"


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path, {"REDIS_PASSWORD": SECRET})


@contextlib.contextmanager
def _tiny_disk() -> Iterator[None]:
    """Let every write of this process beyond a file's hundredth byte fail, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def _names(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


class TestWriting:
    def test_a_file_is_replaced_as_a_whole(self, tmp_path: Path) -> None:
        path = tmp_path / "result.json"
        write_atomically(path, b"a long old content")
        write_atomically(path, b"new")
        assert path.read_bytes() == b"new"
        assert _names(tmp_path) == ["result.json"]

    def test_a_write_that_fails_leaves_the_old_content_and_no_temporary_file(self, tmp_path: Path) -> None:
        path = tmp_path / "result.json"
        write_atomically(path, b"old")
        with pytest.raises(OSError, match="File too large"), _tiny_disk():
            write_atomically(path, b"x" * 10_000)
        assert path.read_bytes() == b"old"
        assert _names(tmp_path) == ["result.json"]

    def test_a_replacement_that_fails_leaves_no_temporary_file(self, tmp_path: Path) -> None:
        (tmp_path / "taken").mkdir()
        with pytest.raises(OSError, match="taken"):
            write_atomically(tmp_path / "taken", b"content")
        assert _names(tmp_path) == ["taken"]

    def test_others_may_read_what_is_written(self, tmp_path: Path) -> None:
        """The page is handed to a product owner, who is another user."""
        write_atomically(tmp_path / "index.html", b"page")
        assert (tmp_path / "index.html").stat().st_mode & 0o777 == 0o644

    def test_the_same_text_compressed_twice_gives_the_same_bytes(self, folder: RunFolder) -> None:
        folder.write_gzip("a.gz", "worker,operation\n")
        folder.write_gzip("b.gz", "worker,operation\n")
        assert (folder.path / "a.gz").read_bytes() == (folder.path / "b.gz").read_bytes()

    def test_json_comes_back_as_it_went(self, folder: RunFolder) -> None:
        value = {"verdict": "PASS", "measured": [{"value": 0.25, "unit": "µs"}], "target": None}
        folder.write_json("result.json", value)
        assert folder.read_json("result.json") == value


class TestSecrets:
    def test_a_secret_is_replaced_in_text(self, folder: RunFolder) -> None:
        folder.write_text("server.log", f"AUTH {SECRET} failed")
        assert (folder.path / "server.log").read_text() == f"AUTH {MASK} failed"

    def test_a_secret_is_replaced_in_json_keys_and_values(self, folder: RunFolder) -> None:
        folder.write_json("result.json", {f"key {SECRET}": [{"deep": f"value {SECRET}"}]})
        assert folder.read_json("result.json") == {f"key {MASK}": [{"deep": f"value {MASK}"}]}

    def test_a_secret_is_replaced_before_json_encodes_it(self, tmp_path: Path) -> None:
        r"""JSON writes `"` as `\"`, in which form the secret would not be found any more."""
        folder = RunFolder(tmp_path, {"REDIS_PASSWORD": 'say "friend"'})
        folder.write_json("result.json", ['say "friend"'])
        assert folder.read_json("result.json") == [MASK]

    def test_a_secret_is_replaced_in_compressed_files(self, folder: RunFolder) -> None:
        folder.write_gzip("samples.csv.gz", f"0,GET,{SECRET}\n")
        assert gzip.decompress((folder.path / "samples.csv.gz").read_bytes()).decode() == f"0,GET,{MASK}\n"


class TestReading:
    def test_a_missing_file_is_an_error_that_names_the_folder_and_asks_the_likely_question(self, folder: RunFolder) -> None:
        with pytest.raises(EvidenceError, match=r"holds no result\.json: is it the folder of a finished run") as error:
            folder.read_json("result.json")
        assert str(folder.path) in str(error.value)

    @pytest.mark.parametrize("content", [b"", b'{"verdict": "PA', b"\xff\xfe", b"not json"], ids=["empty", "cut off", "binary", "text"])
    def test_a_damaged_file_is_an_error_that_names_it_and_says_to_run_again(self, folder: RunFolder, content: bytes) -> None:
        (folder.path / "result.json").write_bytes(content)
        with pytest.raises(EvidenceError, match=r"is damaged .*: run it again") as error:
            folder.read_json("result.json")
        assert str(folder.path / "result.json") in str(error.value)


class TestFolders:
    def test_a_run_is_named_by_its_utc_second_and_its_notebook(self, tmp_path: Path) -> None:
        folder = RunFolder.create(tmp_path / "runs", "setup", {})
        assert re.fullmatch(r"\d{8}T\d{6}Z(-\d+)?-setup", folder.name)
        assert folder.path == tmp_path / "runs" / folder.name
        assert folder.path.is_dir()

    def test_runs_of_the_same_second_get_folders_of_their_own(self, tmp_path: Path) -> None:
        names = [RunFolder.create(tmp_path, "setup", {}).name for _ in range(20)]
        assert len(set(names)) == 20
        assert _names(tmp_path) == sorted(names)

    def test_a_folder_that_is_no_folder_is_an_error_of_the_evidence(self, tmp_path: Path) -> None:
        """`--runs README.md` is a slip of the hand, not a crash of ours."""
        (tmp_path / "runs").write_text("a file")
        with pytest.raises(EvidenceError, match="runs"):
            RunFolder.create(tmp_path / "runs", "setup", {})

    def test_the_runner_hands_the_folder_on_in_the_environment(self, tmp_path: Path) -> None:
        folder = RunFolder.from_environ({FOLDER_VARIABLE: str(tmp_path), "REDIS_PASSWORD": SECRET})
        assert folder is not None
        assert folder.path == tmp_path
        folder.write_text("server.log", SECRET)
        assert (tmp_path / "server.log").read_text() == MASK

    @pytest.mark.parametrize("environ", [{}, {FOLDER_VARIABLE: ""}])
    def test_without_a_runner_there_is_no_folder(self, environ: dict[str, str]) -> None:
        assert RunFolder.from_environ(environ) is None


class TestManifest:
    def test_it_holds_the_digest_of_every_file_but_itself(self, folder: RunFolder) -> None:
        folder.write_text("server.log", "ready")
        folder.write_json("result.json", {"verdict": "PASS"})
        (folder.path / "deep").mkdir()
        (folder.path / "deep" / "plot.png").write_bytes(b"\x89PNG")
        folder.write_manifest()
        digests = folder.read_json(MANIFEST)["sha256"]
        assert sorted(digests) == ["deep/plot.png", "result.json", "server.log"]
        assert all(digests[name] == hashlib.sha256((folder.path / name).read_bytes()).hexdigest() for name in digests)

    def test_a_later_change_can_be_seen(self, folder: RunFolder) -> None:
        folder.write_text("server.log", "ready")
        folder.write_manifest()
        (folder.path / "server.log").write_text("edited")
        digest = hashlib.sha256((folder.path / "server.log").read_bytes()).hexdigest()
        assert json.loads((folder.path / MANIFEST).read_text())["sha256"]["server.log"] != digest

    def test_a_file_of_its_own_name_in_a_folder_is_covered_and_a_link_is_not(self, folder: RunFolder) -> None:
        """A link's content is not ours to vouch for."""
        (folder.path / "deep").mkdir()
        (folder.path / "deep" / MANIFEST).write_text("{}")
        (folder.path / "link").symlink_to(folder.path / "deep" / MANIFEST)
        folder.write_manifest()
        assert list(folder.read_json(MANIFEST)["sha256"]) == [f"deep/{MANIFEST}"]

    def test_writing_it_again_changes_nothing(self, folder: RunFolder) -> None:
        folder.write_text("server.log", "ready")
        folder.write_manifest()
        first = (folder.path / MANIFEST).read_bytes()
        folder.write_manifest()
        assert (folder.path / MANIFEST).read_bytes() == first
