"""The committed notebooks are narratives that were executed: prose before code, short cells, outputs in order, nothing private."""

import ast
import json
import re
from pathlib import Path

import pytest

from runbook.evidence.notebook import normalise, read_verdict
from runbook.notebooks import DEFAULT, FOLDER, FULL, NO_PROFILE, PROFILES, list_notebooks

NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return json.loads(request.param.read_text(encoding="utf-8"))


def code_cells(notebook):
    return [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]


def source(cell):
    return "".join(cell["source"])


def test_the_three_notebooks_of_the_story_are_there():
    assert {"setup", "persistence-drill", "latency-benchmark"} <= {path.stem for path in NOTEBOOKS}


def test_the_question_what_passes_and_the_risks_stand_before_the_first_code(notebook):
    first_code = next(number for number, cell in enumerate(notebook["cells"]) if cell["cell_type"] == "code")
    opening = "\n".join(source(cell) for cell in notebook["cells"][:first_code])
    assert opening.startswith("# ")
    for word in ("**Question.**", "**Passes when**", "**Takes**", "**Blast radius:**", "**Abort:**", "**Roll back:**", "**Does not show**"):
        assert word in opening


def test_parameters_are_plain_literals_with_a_meaning(notebook):
    tagged = [cell for cell in code_cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    assert len(tagged) == 1
    for line in source(tagged[0]).splitlines():
        assignment = ast.parse(line).body[0]
        assert isinstance(assignment, ast.Assign)
        assert isinstance(assignment.value, ast.Constant)
        assert "  # " in line


def test_cells_are_short_and_hold_no_machinery(notebook):
    forbidden = (ast.FunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While, ast.Try, ast.With, ast.If, ast.ListComp)
    for cell in code_cells(notebook):
        assert 1 <= len(source(cell).splitlines()) <= 6, source(cell)
        assert not [node for node in ast.walk(ast.parse(source(cell))) if isinstance(node, forbidden)]


def test_at_most_two_code_cells_stand_in_a_row(notebook):
    kinds = "".join("c" if cell["cell_type"] == "code" else "." for cell in notebook["cells"])
    assert "ccc" not in kinds


def test_there_are_ten_words_of_prose_for_each_line_of_code(notebook):
    words = sum(len(source(cell).split()) for cell in notebook["cells"] if cell["cell_type"] == "markdown")
    lines = sum(len(source(cell).splitlines()) for cell in code_cells(notebook))
    assert words >= 10 * lines


def test_it_was_executed_as_a_whole_and_passed(notebook):
    reading = read_verdict(notebook)
    assert reading.breakage == ""
    assert reading.verdict == "PASS"


def test_every_cell_but_the_parameters_shows_something_that_nbval_can_compare(notebook):
    for cell in code_cells(notebook):
        if "parameters" not in cell["metadata"].get("tags", []):
            assert cell["outputs"], source(cell)


def test_nothing_tells_where_or_when_it_was_executed(notebook):
    assert normalise(notebook) == notebook
    text = json.dumps([cell["outputs"] for cell in code_cells(notebook)] + [source(cell) for cell in notebook["cells"]])
    assert not re.search(r"[\"' (](/home|/root|/tmp|/work|/usr|/opt|/Users)/", text)
    assert str(Path.cwd()) not in text


def test_nothing_was_written_to_stderr(notebook):
    outputs = [output for cell in code_cells(notebook) for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error" or output.get("name") == "stderr"]


def test_each_picture_has_an_alternative_text_and_a_contract(notebook):
    for cell in code_cells(notebook):
        for output in cell["outputs"]:
            if "image/png" in output.get("data", {}):
                assert len(output["metadata"]["image/png"]["alt"]) > 40
                assert "".join(output["data"]["text/plain"]).startswith("Plot: ")


def test_no_progress_line_was_saved(notebook):
    """JupyterLab saves what is left of one, an output without data; a notebook that is refreshed by the runner has none."""
    assert not [output for cell in code_cells(notebook) for output in cell["outputs"] if output.get("data") == {}]


def test_it_says_in_which_verification_profile_it_is(notebook):
    assert notebook["metadata"]["runbook"]["profile"] in (*PROFILES, NO_PROFILE)


def test_the_default_profile_has_what_the_acceptance_criteria_need_and_no_benchmark_of_the_client():
    default = {each.name for each in list_notebooks() if each.is_in(DEFAULT)}
    containers = {"deployment", "container-drill"}
    assert default == {"setup", "persistence-drill", "reconnection-drill", "latency-benchmark"} | containers
    assert {each.name for each in list_notebooks() if each.is_in(FULL)} == {path.stem for path in NOTEBOOKS} - {"client-benchmark"}
