"""The notebooks on disk: which there are, what they ask, and which parameters they take."""

import ast
import io
import json
import re
import tokenize
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

DEFAULT, FULL, NO_PROFILE = "default", "full", "none"
# What `runbook verify --profile` takes; each runs what the ones before it run, too.
PROFILES = (DEFAULT, FULL)
FOLDER = Path(__file__).resolve().parent.parent / "notebooks"

_SECRET_NAME = re.compile(r"pass(word|wd|phrase)?|secret|token|credential|api_?key|auth", re.IGNORECASE)

Value = bool | int | float | str


class UsageError(Exception):
    """The caller asked for something that there is not; the message says what there is."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, as the cell tagged `parameters` declares it.

    Attributes:
        name: of the variable.
        default: its literal, which also declares the type; where it is above 0, so is every value.
        meaning: the comment behind it.
    """

    name: str
    default: Value
    meaning: str

    def parse(self, text: str) -> Value:
        """Turn text from the command line into a value of the declared type, strictly.

        Raises:
            UsageError: it is no such value.
        """
        try:
            match self.default:
                case bool():
                    return {"true": True, "false": False}[text.lower()]
                case int():
                    return self._in_range(int(_matching(r"-?[0-9]+", text)))
                case float():
                    return self._in_range(float(_matching(r"-?[0-9]+(\.[0-9]+)?", text)))
                case _:
                    return text
        except (KeyError, ValueError):
            kind = {bool: "true or false", int: "a whole number", float: "a number"}[type(self.default)]
            above = " above 0" if not isinstance(self.default, bool) and isinstance(self.default, int | float) and self.default > 0 else ""
            raise UsageError(f"parameter {self.name} takes {kind}{above}, got {text!r}") from None

    def _in_range(self, value: int | float) -> int | float:
        assert isinstance(self.default, int | float)
        if value <= 0 < self.default:
            raise ValueError
        return value


@dataclass(frozen=True, slots=True)
class Notebook:
    """A notebook of the runbook.

    Attributes:
        name: its file's name without the ending.
        path: the file.
        title: its first heading.
        question: the paragraph that begins with **Question.**, in one line
        parameters: what it takes.
        pace: `measures` needs a quiet host, and is executed after all others; `busy` does not.
        targets: on which it can answer its question; empty for all.
        profile: the first verification profile that runs it, `none` for a notebook that no verification runs.
        limits: what it does not show: the paragraph that begins with **Does not show**, in one line.
    """

    name: str
    path: Path
    title: str
    question: str
    parameters: tuple[Parameter, ...]
    pace: str
    targets: tuple[str, ...] = ()
    limits: str = ""
    profile: str = DEFAULT

    def is_in(self, profile: str) -> bool:
        """Tell whether a verification of this profile runs it."""
        return self.profile in PROFILES[: PROFILES.index(profile) + 1]

    def applies_to(self, target: str) -> bool:
        """Tell whether it can answer its question on this target."""
        return not self.targets or target in self.targets

    @property
    def defaults(self) -> dict[str, Value]:
        """What each parameter is if it is told nothing."""
        return {parameter.name: parameter.default for parameter in self.parameters}

    @property
    def default_target(self) -> str:
        """The target that it takes if it is told none."""
        return next((str(parameter.default) for parameter in self.parameters if parameter.name == "target"), "embedded")

    def parse(self, texts: Mapping[str, str]) -> dict[str, Value]:
        """Check parameters given as text, and turn them into values.

        Raises:
            UsageError: one is unknown, has the wrong type, or looks like a secret.
        """
        known = {parameter.name: parameter for parameter in self.parameters}
        values = {}
        for name, text in texts.items():
            if _SECRET_NAME.search(name) or _holds_password(text):
                raise UsageError(
                    f"parameter {name} looks like a secret, and parameters are written into the evidence: "
                    "set REDIS_PASSWORD_FILE or REDIS_PASSWORD in the environment instead"
                )
            if name not in known:
                raise UsageError(f"{self.name} takes no parameter {name}; it takes {', '.join(known) or 'none'}")
            values[name] = known[name].parse(text)
        return values


def list_notebooks(folder: Path = FOLDER) -> list[Notebook]:
    """Read every notebook of a folder, in the order in which they are told: by the number in their metadata, then by name."""
    found = [(_metadata(path).get("order", 99), path.stem, path) for path in folder.glob("*.ipynb")]
    return [read_notebook(path) for _, _, path in sorted(found)]


def find_notebook(name: str, folder: Path = FOLDER) -> Notebook:
    """Find a notebook by name.

    Raises:
        UsageError: there is none.
    """
    paths = {path.stem: path for path in sorted(folder.glob("*.ipynb"))}
    if name not in paths:
        there = f"there are {', '.join(paths)}" if paths else f"there are none in {folder}"
        raise UsageError(f"there is no notebook {name}; {there}")
    return read_notebook(paths[name])


def read_notebook(path: Path) -> Notebook:
    """Read what a notebook says of itself."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    prose = "\n\n".join(_source(cell) for cell in cells if cell["cell_type"] == "markdown")
    title = re.search(r"^# (.+)$", prose, re.MULTILINE)
    declared = [cell for cell in cells if "parameters" in cell["metadata"].get("tags", [])]
    return Notebook(
        name=path.stem,
        path=path,
        title=title[1] if title else path.stem,
        question=_paragraph(r"\*\*Question\.\*\*", prose),
        parameters=_declared(_source(declared[0])) if declared else (),
        pace=str(_metadata(path).get("pace", "busy")),
        targets=tuple(_metadata(path).get("targets", ())),
        limits=_paragraph(r"\*\*Does not show\*\*", prose),
        profile=_profile(path),
    )


def _paragraph(beginning: str, prose: str) -> str:
    found = re.search(rf"^{beginning} (.+?)(?:\n\s*\n|\Z)", prose, re.MULTILINE | re.DOTALL)
    return " ".join(found[1].split()) if found else ""


def _profile(path: Path) -> str:
    named = str(_metadata(path).get("profile", DEFAULT))
    if named not in (*PROFILES, NO_PROFILE):
        raise UsageError(f"{path} says that its profile is {named!r}: write {', '.join(PROFILES)} or {NO_PROFILE} into its metadata")
    return named


def _metadata(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))["metadata"].get("runbook", {}))


def _source(cell: Mapping[str, Any]) -> str:
    return "".join(cell["source"])


def _declared(source: str) -> tuple[Parameter, ...]:
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {token.start[0]: token.string.lstrip("#").strip() for token in tokens if token.type == tokenize.COMMENT}
    parameters = []
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name):
            meaning = comments.get(statement.end_lineno or statement.lineno, "")
            parameters.append(Parameter(statement.targets[0].id, ast.literal_eval(statement.value), meaning))
    return tuple(parameters)


def _matching(pattern: str, text: str) -> str:
    if not re.fullmatch(pattern, text, re.ASCII):
        raise ValueError
    return text


def _holds_password(text: str) -> bool:
    try:
        return urlsplit(text).password is not None
    except ValueError:
        return "@" in text
