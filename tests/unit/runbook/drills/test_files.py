"""Damage to copies of files: it is proven, and the original is left alone."""

from pathlib import Path

import pytest

from runbook.drills.faults.files import cut, damaged_copy, digest_of_files, overwrite


@pytest.fixture
def original(tmp_path: Path) -> Path:
    folder = tmp_path / "original" / "inner"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"0123456789")
    return folder.parent


@pytest.mark.parametrize(
    ("damage", "left"),
    [
        (lambda folder: overwrite(folder / "inner/file", 8, b"x"), b"01234567x9"),
        (lambda folder: cut(folder / "inner/file", 3), b"012"),
        (lambda folder: (folder / "inner/file").unlink(), None),
    ],
)
def test_the_copy_is_damaged_and_goes_away_and_the_original_stays(damage, left, original: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    before = digest_of_files(original)
    with damaged_copy(original, damage, tmp_path) as copy:
        file = copy.folder / "inner/file"
        assert (file.read_bytes() if file.exists() else None) == left
        assert copy.doubts == ()
    assert not copy.folder.exists()
    assert digest_of_files(original) == before
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_damage_that_changes_nothing_is_doubted(original: Path, tmp_path: Path) -> None:
    with damaged_copy(original, lambda folder: overwrite(folder / "inner/file", 0, b"0"), tmp_path) as copy:
        assert copy.doubts == ("the damaged files are the same as before",)


def test_the_copy_goes_away_when_the_block_raises(original: Path, tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), damaged_copy(original, lambda folder: cut(folder / "inner/file", 0), tmp_path):
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["original"]


def test_another_name_or_another_border_between_files_is_another_digest(original: Path) -> None:
    digests = {digest_of_files(original)}
    (original / "inner/file").rename(original / "inner/other")
    digests.add(digest_of_files(original))
    (original / "inner/other").write_bytes(b"01234")
    (original / "inner/z").write_bytes(b"56789")
    digests.add(digest_of_files(original))
    assert len(digests) == 3
