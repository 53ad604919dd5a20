"""What notebooks say of themselves, and which parameters they accept."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runbook.cli import main
from runbook.notebooks import Notebook, UsageError, find_notebook, list_notebooks, read_notebook

PARAMETERS = """\
target = "embedded"  # where the Redis runs
writers = 4  # callers that append
down_s = 0.5  # seconds for which the server stays down
destructive = False  # whether data may be lost
"""
PROSE = "# Kill Redis under load\n\n**Question.** Does it keep what it acknowledged?\n\n**Passes when** nothing is lost."


def _cell(kind: str, source: str, *tags: str) -> dict[str, Any]:
    return {"cell_type": kind, "metadata": {"tags": list(tags)} if tags else {}, "source": source.splitlines(keepends=True)}


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Notebook]:
    """Write a notebook into the test's folder, and read it."""

    def write(parameters: str | None = PARAMETERS, prose: str = PROSE, name: str = "persistence-drill", **metadata: Any) -> Notebook:
        cells = [_cell("markdown", prose)]
        cells += [_cell("code", parameters, "parameters")] if parameters is not None else []
        cells += [_cell("code", 'ignored = "not tagged"  # not a parameter')]
        path = tmp_path / f"{name}.ipynb"
        path.write_text(
            json.dumps({"cells": cells, "metadata": {"runbook": metadata} if metadata else {}, "nbformat": 4, "nbformat_minor": 5})
        )
        return read_notebook(path)

    return write


class TestReading:
    def test_the_title_is_the_first_heading_and_the_question_the_line_that_begins_so(self, write: Callable[..., Notebook]) -> None:
        notebook = write()
        assert notebook.name == "persistence-drill"
        assert notebook.title == "Kill Redis under load"
        assert notebook.question == "Does it keep what it acknowledged?"

    def test_a_question_of_several_lines_is_read_to_the_end_of_its_paragraph(self, write: Callable[..., Notebook]) -> None:
        prose = "# Kill Redis\n\n**Question.** Does it keep\nwhat it  acknowledged?\n\n**Passes when** nothing is lost."
        assert write(prose=prose).question == "Does it keep what it acknowledged?"

    def test_a_notebook_without_a_heading_is_titled_by_its_file(self, write: Callable[..., Notebook]) -> None:
        notebook = write(prose="Just words.")
        assert (notebook.title, notebook.question) == ("persistence-drill", "")

    def test_parameters_are_read_from_the_tagged_cell_with_type_and_comment(self, write: Callable[..., Notebook]) -> None:
        found = [(parameter.name, parameter.default, parameter.meaning) for parameter in write().parameters]
        assert found == [
            ("target", "embedded", "where the Redis runs"),
            ("writers", 4, "callers that append"),
            ("down_s", 0.5, "seconds for which the server stays down"),
            ("destructive", False, "whether data may be lost"),
        ]
        assert [type(default) for _, default, _ in found] == [str, int, float, bool]

    def test_a_negative_default_is_a_number(self, write: Callable[..., Notebook]) -> None:
        (parameter,) = write("offset_s = -1.5  # may be negative").parameters
        assert parameter.default == -1.5

    def test_a_parameter_without_a_comment_has_no_meaning(self, write: Callable[..., Notebook]) -> None:
        (parameter,) = write("writers = 4").parameters
        assert parameter.meaning == ""

    def test_a_hash_inside_of_a_default_is_not_its_comment(self, write: Callable[..., Notebook]) -> None:
        (parameter,) = write('channel = "#alerts"  # where to post').parameters
        assert (parameter.default, parameter.meaning) == ("#alerts", "where to post")

    def test_a_notebook_without_a_tagged_cell_takes_no_parameters(self, write: Callable[..., Notebook]) -> None:
        assert write(parameters=None).parameters == ()

    @pytest.mark.parametrize(("metadata", "pace"), [({}, "busy"), ({"pace": "measures"}, "measures"), ({"order": 3}, "busy")])
    def test_a_notebook_says_what_it_does_to_the_host(self, metadata: dict[str, Any], pace: str, write: Callable[..., Notebook]) -> None:
        assert write(**metadata).pace == pace


class TestFinding:
    def test_notebooks_are_listed_by_their_number_and_those_without_one_by_name_behind(
        self, write: Callable[..., Notebook], tmp_path: Path
    ) -> None:
        for name, metadata in (("zebra", {"order": 1}), ("apple", {"order": 2}), ("pear", {}), ("fig", {})):
            write(name=name, **metadata)
        assert [notebook.name for notebook in list_notebooks(tmp_path)] == ["zebra", "apple", "fig", "pear"]

    def test_an_empty_folder_holds_none(self, tmp_path: Path) -> None:
        assert list_notebooks(tmp_path) == []

    def test_a_notebook_is_found_by_its_name(self, write: Callable[..., Notebook], tmp_path: Path) -> None:
        written = write()
        assert find_notebook("persistence-drill", tmp_path) == written

    @pytest.mark.parametrize("name", ["persistance-drill", "persistence-drill.ipynb", "../persistence-drill", "*", ""])
    def test_an_unknown_name_is_an_error_that_names_those_that_there_are(
        self, name: str, write: Callable[..., Notebook], tmp_path: Path
    ) -> None:
        write()
        write(name="setup")
        with pytest.raises(UsageError, match="there are persistence-drill, setup"):
            find_notebook(name, tmp_path)

    def test_where_there_is_no_notebook_at_all_the_error_says_so(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError) as error:
            find_notebook("setup", tmp_path)
        assert "none" in str(error.value) or str(tmp_path) in str(error.value)


class TestParsing:
    def test_nothing_given_is_nothing_changed(self, write: Callable[..., Notebook]) -> None:
        assert write().parse({}) == {}

    def test_each_text_becomes_a_value_of_the_declared_type(self, write: Callable[..., Notebook]) -> None:
        given = {"target": "remote", "writers": "8", "down_s": "2", "destructive": "true"}
        values = write().parse(given)
        assert values == {"target": "remote", "writers": 8, "down_s": 2.0, "destructive": True}
        assert [type(value) for value in values.values()] == [str, int, float, bool]

    @pytest.mark.parametrize(("text", "value"), [("true", True), ("True", True), ("false", False), ("FALSE", False)])
    def test_true_and_false_are_booleans_in_any_case(self, text: str, value: bool, write: Callable[..., Notebook]) -> None:
        """papermill alone would inject the text "false", which is true."""
        assert write().parse({"destructive": text}) == {"destructive": value}

    @pytest.mark.parametrize("text", ["yes", "no", "1", "0", "on", "", " true", "truee", "None"])
    def test_anything_else_is_no_boolean(self, text: str, write: Callable[..., Notebook]) -> None:
        with pytest.raises(UsageError, match="parameter destructive takes true or false, got "):
            write().parse({"destructive": text})

    @pytest.mark.parametrize("text", ["4.0", "4.5", "four", "", "1e3", "0x10", "true", "1_000", " 4 "])
    def test_what_is_not_a_whole_number_is_refused(self, text: str, write: Callable[..., Notebook]) -> None:
        with pytest.raises(UsageError, match="parameter writers takes a whole number above 0, got "):
            write().parse({"writers": text})

    @pytest.mark.parametrize("text", ["-3", "0", "12"])
    def test_whole_numbers_may_be_negative_where_the_default_is_not_above_zero(self, text: str, write: Callable[..., Notebook]) -> None:
        assert write("offset = 0  # where to begin").parse({"offset": text}) == {"offset": int(text)}

    @pytest.mark.parametrize(("name", "text"), [("writers", "0"), ("writers", "-1"), ("down_s", "0"), ("down_s", "-0.5")])
    def test_what_is_above_zero_stays_above_zero(self, name: str, text: str, write: Callable[..., Notebook]) -> None:
        with pytest.raises(UsageError, match=f"parameter {name} takes a .*number above 0, got '{text}'"):
            write().parse({name: text})

    @pytest.mark.parametrize("text", ["half", "", "1,5", "0.5s", "false", "nan", "inf", " 2 "])
    def test_what_is_not_a_number_is_refused(self, text: str, write: Callable[..., Notebook]) -> None:
        with pytest.raises(UsageError, match="parameter down_s takes a number above 0, got "):
            write().parse({"down_s": text})

    def test_an_unknown_parameter_is_refused_with_those_that_there_are(self, write: Callable[..., Notebook]) -> None:
        with pytest.raises(UsageError, match="persistence-drill takes no parameter writer; it takes target, writers, down_s, destructive"):
            write().parse({"writer": "4"})

    def test_a_notebook_without_parameters_says_that_it_takes_none(self, write: Callable[..., Notebook]) -> None:
        with pytest.raises(UsageError, match="it takes none"):
            write(parameters=None).parse({"writers": "4"})

    @pytest.mark.parametrize(
        "name",
        ["password", "redis_password", "PASSWORD", "passwd", "passphrase", "secret", "token", "api_key", "apikey", "credentials", "auth"],
    )
    def test_a_parameter_named_like_a_secret_is_refused_without_repeating_its_value(
        self, name: str, write: Callable[..., Notebook]
    ) -> None:
        """Even a declared one: what is given as a parameter is written into the evidence."""
        with pytest.raises(UsageError, match="REDIS_PASSWORD_FILE or REDIS_PASSWORD") as error:
            write(f'{name} = ""').parse({name: "hunter2"})
        assert "hunter2" not in str(error.value)

    @pytest.mark.parametrize(
        "url",
        [
            "redis://:hunter2@cache.example:6379/0",
            "redis://bot:hunter2@cache.example",
            "rediss://bot:hunter2@[::1]:6379",
            "https://bot:hunter2@cache.example/x?y=z",
            "redis://bot:hunter2@[broken",
        ],
    )
    @pytest.mark.parametrize("name", ["target", "url", "writers"], ids=["a text", "unknown", "a number"])
    def test_a_url_with_a_password_is_refused_without_repeating_it(self, url: str, name: str, write: Callable[..., Notebook]) -> None:
        with pytest.raises(UsageError, match="looks like a secret") as error:
            write().parse({name: url})
        assert "hunter2" not in str(error.value)

    @pytest.mark.parametrize("text", ["redis://cache.example:6379/0", "redis://bot@cache.example", "https://cache.example/a:b@c", "a:b"])
    def test_a_url_without_a_password_is_a_text_like_any_other(self, text: str, write: Callable[..., Notebook]) -> None:
        assert write().parse({"target": text}) == {"target": text}


class TestCommandLine:
    """What reaches a notebook only through the command line; each of these ends before anything is started."""

    def _run(self, folder: Path, *assignments: str) -> int:
        arguments = [word for assignment in assignments for word in ("-p", assignment)]
        return main(["run", "persistence-drill", "--notebooks", str(folder), "--runs", str(folder / "runs"), *arguments])

    @pytest.mark.parametrize(
        ("assignments", "message"),
        [
            (["writers=4", "writers=5"], "parameter writers is given twice: give it once"),
            (["writers=4", "writers=4"], "parameter writers is given twice: give it once"),
            (["writers"], "-p takes name=value, got 'writers'"),
            (["=4"], "-p takes name=value, got no name"),
            (["writers=many"], "parameter writers takes a whole number above 0, got 'many'"),
            (["writer=4"], "takes no parameter writer"),
        ],
        ids=["twice", "twice the same", "no value", "no name", "wrong type", "unknown"],
    )
    def test_a_wrong_assignment_is_wrong_usage_and_starts_nothing(
        self,
        assignments: list[str],
        message: str,
        write: Callable[..., Notebook],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        write()
        assert self._run(tmp_path, *assignments) == 2
        assert message in capsys.readouterr().err
        assert not (tmp_path / "runs").exists()

    @pytest.mark.parametrize("assignment", ["password=hunter2", "target=redis://:hunter2@cache.example"])
    def test_a_secret_is_not_repeated_on_the_terminal(
        self, assignment: str, write: Callable[..., Notebook], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write()
        assert self._run(tmp_path, assignment) == 2
        printed = capsys.readouterr()
        assert "hunter2" not in printed.out + printed.err
        assert "REDIS_PASSWORD_FILE" in printed.err

    def test_a_value_may_hold_an_equals_sign(
        self, write: Callable[..., Notebook], tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        write()
        assert self._run(tmp_path, "target=a=b") == 2
        assert "there is no target 'a=b'" in capsys.readouterr().err
