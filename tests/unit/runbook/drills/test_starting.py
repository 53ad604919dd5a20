"""What of a server's log counts as a refusal of its files."""

import pytest

from runbook.drills.starting import complaint_in

BEGIN = "1:C 28 Nov 2026 10:13:12.000 # Configuration loaded\n"
INITIALIZED = (
    "1:M 28 Nov 2026 10:13:12.001 # Server initialized\n1:M 28 Nov 2026 10:13:12.001 # WARNING Memory overcommit must be enabled!\n"
)


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (
            "1:M 28 Nov 2026 10:13:12.002 # \n*** FATAL AOF MANIFEST FILE ERROR ***\n\n"
            "1:M 28 Nov 2026 10:13:12.002 # Reading the manifest file, at line 1\n",
            "Reading the manifest file, at line 1",
        ),
        (
            "1:M 28 Nov 2026 10:13:12.002 * Reading RDB base file\n"
            "1:M 28 Nov 2026 10:13:12.002 # Can't handle RDB format version 99\n"
            "1:M 28 Nov 2026 10:13:12.002 # Fatal error loading the DB: Invalid argument. Exiting.\n",
            "Can't handle RDB format version 99",
        ),
        (
            "1:M 28 Nov 2026 10:13:12.002 # Bad file format reading the append only file a.aof: make a backup of your AOF file, then\n",
            "Bad file format reading the append only file a.aof",
        ),
    ],
    ids=["a manifest", "a snapshot", "an increment"],
)
def test_the_first_words_about_the_files_are_the_complaint(said: str, complaint: str) -> None:
    assert complaint_in(BEGIN + INITIALIZED + said) == complaint


@pytest.mark.parametrize(
    "log",
    [
        "",
        BEGIN,
        BEGIN + "1:M 28 Nov 2026 10:13:12.246 # Warning: Could not create server TCP listening socket: bind: Address already in use\n"
        "1:M 28 Nov 2026 10:13:12.246 # Failed listening on port 25992 (TCP), aborting.\n",
        BEGIN + INITIALIZED,
        BEGIN + INITIALIZED + "1:M 28 Nov 2026 10:13:12.246 # Fail to persist the AOF manifest: No space left on device\n",
    ],
    ids=["nothing", "ended early", "port taken", "still loading", "disk full"],
)
def test_what_tells_nothing_of_the_files_is_none(log: str) -> None:
    assert complaint_in(log) == ""
