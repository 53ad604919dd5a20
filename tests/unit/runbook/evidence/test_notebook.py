"""Which executed notebooks have earned a verdict, and what of a notebook may be kept."""

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest

from runbook.evidence.notebook import VERDICT_MIME, normalise, read_verdict
from runbook.evidence.verdict import Verdict

Notebook = dict[str, Any]


def _code(count: int | None, *outputs: dict[str, Any], source: str = "book.summary()") -> dict[str, Any]:
    return {"cell_type": "code", "execution_count": count, "id": "c", "metadata": {}, "outputs": list(outputs), "source": [source]}


def _prose(text: str) -> dict[str, Any]:
    return {"cell_type": "markdown", "id": "p", "metadata": {}, "source": [text]}


def _shows(verdict: Any = "PASS") -> dict[str, Any]:
    data = {"schema_version": 1, "notebook": "setup", "verdict": verdict, "criteria": {"AC-2": verdict}}
    return {
        "output_type": "execute_result",
        "execution_count": 3,
        "data": {VERDICT_MIME: data, "text/plain": [f"setup: {verdict}"]},
        "metadata": {VERDICT_MIME: {"findings": [{"criterion": "AC-2"}]}},
    }


def _text(text: str) -> dict[str, Any]:
    return {"output_type": "stream", "name": "stdout", "text": [text]}


def _error(name: str = "ValueError", value: str = "wrong") -> dict[str, Any]:
    return {"output_type": "error", "ename": name, "evalue": value, "traceback": ["Traceback"]}


def _notebook(*cells: dict[str, Any]) -> Notebook:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5}


def _executed(verdict: Any = "PASS") -> Notebook:
    """Three code cells, executed in order, the last of which shows the verdict."""
    return _notebook(_prose("# Set up"), _code(1), _prose("Why"), _code(2, _text("ready\n")), _code(3, _shows(verdict)), _prose("The end"))


class TestReading:
    @pytest.mark.parametrize("verdict", Verdict)
    def test_a_notebook_executed_in_order_earns_the_verdict_of_its_last_code_cell(self, verdict: Verdict) -> None:
        reading = read_verdict(_executed(str(verdict)))
        assert reading.verdict is verdict
        assert reading.breakage == ""
        assert reading.data["criteria"] == {"AC-2": verdict}
        assert reading.details["findings"] == [{"criterion": "AC-2"}]

    def test_prose_and_empty_cells_behind_the_verdict_do_no_harm(self) -> None:
        notebook = _executed()
        notebook["cells"] += [_prose("more"), _code(None, source=""), _code(None, source=" \n ")]
        assert read_verdict(notebook).verdict is Verdict.PASS

    def test_other_outputs_beside_the_verdict_do_no_harm(self) -> None:
        notebook = _executed()
        notebook["cells"][4]["outputs"].insert(0, _text("closing\n"))
        assert read_verdict(notebook).verdict is Verdict.PASS

    def test_a_cell_whose_source_is_one_text_is_read_like_one_of_lines(self) -> None:
        notebook = _executed()
        for cell in notebook["cells"]:
            cell["source"] = "".join(cell["source"])
        assert read_verdict(notebook).verdict is Verdict.PASS


def _edit(change: Callable[[list[dict[str, Any]]], object]) -> Notebook:
    notebook = _executed()
    change(notebook["cells"])
    return notebook


BROKEN = {
    "an error in an early cell": (
        _edit(lambda cells: cells[1]["outputs"].append(_error("KeyError", "'port'"))),
        "code cell 1 of 3 raised KeyError",
    ),
    "an error beside the verdict": (_edit(lambda cells: cells[4]["outputs"].append(_error())), "code cell 3 of 3 raised ValueError: wrong"),
    "a cell without execution count": (_edit(lambda cells: cells[3].update(execution_count=None)), "code cell 2 of 3 was not executed"),
    "the verdict's cell without execution count": (_edit(lambda cells: cells[4].update(execution_count=None)), "code cell 3 of 3 was not"),
    "no cell executed at all": (
        _edit(lambda cells: [cell.update(execution_count=None) for cell in cells if "outputs" in cell]),
        "code cell 1 of 3 was not executed",
    ),
    "a gap in the counts": (_edit(lambda cells: cells[4].update(execution_count=4)), "code cell 3 of 3 was not executed in its turn"),
    "counts that don't begin at 1": (
        _edit(lambda cells: [cells[at].update(execution_count=count) for at, count in ((1, 2), (3, 3), (4, 4))]),
        "code cell 1 of 3 was not executed in its turn",
    ),
    "counts in the wrong order": (
        _edit(lambda cells: [cells[at].update(execution_count=count) for at, count in ((1, 2), (3, 1))]),
        "code cell 1 of 3 was not executed in its turn",
    ),
    "a cell executed twice": (_edit(lambda cells: cells[3].update(execution_count=1)), "code cell 2 of 3 was not executed in its turn"),
    "no verdict in the last code cell": (_edit(lambda cells: cells[4]["outputs"].clear()), "its last code cell shows no verdict"),
    "a verdict in an earlier cell only": (
        _edit(lambda cells: cells.append(_code(4, _text("bye\n"), source="print('bye')"))),
        "its last code cell shows no verdict",
    ),
    "an empty verdict bundle": (
        _edit(lambda cells: cells[4]["outputs"][0]["data"].update({VERDICT_MIME: {}})),
        "its last code cell shows no verdict",
    ),
    "an unknown verdict word": (_executed("GOOD"), "'GOOD' is none of PASS, INCONCLUSIVE, FAIL"),
    "a verdict in lower case": (_executed("pass"), "'pass' is none of PASS"),
    "a verdict that is no text": (_executed(None), "None is none of PASS"),
    "no verdict in the bundle": (
        _edit(lambda cells: cells[4]["outputs"][0]["data"].update({VERDICT_MIME: {"schema_version": 1}})),
        "None is none of PASS",
    ),
    "no code": (_notebook(_prose("# Nothing but words")), "it has no code"),
    "nothing but empty code cells": (_notebook(_code(None, source=""), _code(None, source="\n")), "it has no code"),
    "no cell": (_notebook(), "it has no code"),
}


@pytest.mark.parametrize(("notebook", "reason"), BROKEN.values(), ids=BROKEN)
def test_a_notebook_with_this_breakage_has_no_verdict_and_says_why(notebook: Notebook, reason: str) -> None:
    reading = read_verdict(notebook)
    assert reading.verdict is None
    assert reason in reading.breakage


def test_a_breakage_does_not_repeat_an_endless_error_text() -> None:
    notebook = _edit(lambda cells: cells[1]["outputs"].append(_error(value="x" * 100_000)))
    assert len(read_verdict(notebook).breakage) < 1_000


def _papermilled() -> Notebook:
    """An executed notebook as papermill leaves it: parameters, paths and times in its metadata, markers at an error."""
    notebook = _executed()
    notebook["metadata"] = {
        "kernelspec": {"display_name": ".venv (3.11)", "language": "python", "name": "venv311"},
        "language_info": {"name": "python", "version": "3.11.2", "file_extension": ".py"},
        "papermill": {
            "parameters": {"target": "remote", "url": "redis://:hunter2@cache.example"},
            "input_path": "/home/ops/notebooks/setup.ipynb",
            "output_path": "/home/ops/runs/notebook.ipynb",
            "start_time": "2026-01-01T00:00:00",
        },
        "runbook": {"order": 1},
        "widgets": {},
    }
    for cell in notebook["cells"]:
        cell["metadata"] = {
            "papermill": {"duration": 0.01, "status": "completed"},
            "execution": {"iopub.execute_input": "2026"},
            "tags": [],
        }
    notebook["cells"][1]["metadata"]["tags"] = ["parameters"]
    marker = _prose("An Exception was encountered at <a href='#papermill-error-cell'>In [2]</a>")
    marker["metadata"] = {"tags": ["papermill-error-cell-tag"]}
    notebook["cells"] = [copy.deepcopy(marker), *notebook["cells"][:3], marker, *notebook["cells"][3:]]
    return notebook


class TestNormalising:
    def test_papermills_metadata_parameters_and_paths_are_removed(self) -> None:
        text = json.dumps(normalise(_papermilled()))
        assert not [word for word in ("/home/ops", "hunter2", "remote", '"papermill"', "2026", "duration") if word in text]

    def test_the_markers_of_an_error_are_removed(self) -> None:
        clean = normalise(_papermilled())
        assert [cell["cell_type"] for cell in clean["cells"]] == ["markdown", "code", "markdown", "code", "code", "markdown"]
        assert "papermill-error-cell" not in json.dumps(clean)

    def test_the_kernel_is_any_python_3(self) -> None:
        metadata = normalise(_papermilled())["metadata"]
        assert metadata["kernelspec"]["name"] == "python3"
        assert "3.11" not in json.dumps(metadata)

    def test_our_own_metadata_and_the_tags_are_kept(self) -> None:
        clean = normalise(_papermilled())
        assert clean["metadata"]["runbook"] == {"order": 1}
        assert clean["cells"][1]["metadata"] == {"tags": ["parameters"]}
        assert clean["cells"][0]["metadata"] == {}

    def test_sources_outputs_and_counts_are_kept(self) -> None:
        def kept(notebook: Notebook) -> list[Any]:
            return [(cell["source"], cell.get("outputs"), cell.get("execution_count")) for cell in notebook["cells"]]

        assert kept(normalise(_papermilled())) == kept(_executed())

    def test_what_a_notebook_proves_stays_the_same(self) -> None:
        assert read_verdict(normalise(_papermilled())) == read_verdict(_executed())

    def test_twice_is_the_same_as_once(self) -> None:
        once = normalise(_papermilled())
        assert normalise(once) == once

    def test_two_executions_of_one_notebook_get_the_same_cell_ids(self) -> None:
        one, other = _papermilled(), _papermilled()
        for number, cell in enumerate(other["cells"]):
            cell["id"] = f"random-{number}"
        assert normalise(one) == normalise(other)

    def test_the_argument_is_left_as_it_was(self) -> None:
        notebook = _papermilled()
        normalise(notebook)
        assert notebook == _papermilled()

    def test_a_notebook_that_was_never_executed_can_be_normalised(self) -> None:
        clean = normalise(_notebook(_prose("# Words"), _code(None)))
        assert [cell["execution_count"] for cell in clean["cells"] if cell["cell_type"] == "code"] == [None]
