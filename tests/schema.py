"""Holds what runs write against the published schemas."""

import importlib.resources
import json
from pathlib import Path
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match

from runbook.evidence.store import MANIFEST, RESULT


def schema(name: str) -> dict[str, Any]:
    """Read the schema of a file, as the package ships it."""
    path = importlib.resources.files("runbook.evidence") / f"{Path(name).stem}.schema.json"
    return dict(json.loads(path.read_text(encoding="utf-8")))


def complaint(name: str, content: Any) -> str:
    """Say what the schema of a file has against a content; empty if nothing."""
    known = schema(name)
    kind = content.get("kind") if isinstance(content, dict) else None
    if kind in known.get("$defs", {}):  # of what no kind takes, say why that kind does not which it claims to be
        known["oneOf"] = [{"$ref": f"#/$defs/{kind}"}]
    error = best_match(Draft202012Validator(known).iter_errors(content))
    return f"{error.json_path}: {error.message}" if error else ""


def read_result(folder: Path) -> dict[str, Any]:
    """Read the result of a finished run, which has to be as the schema says, and its manifest too."""
    for name in (RESULT, MANIFEST):
        found = complaint(name, json.loads((folder / name).read_text(encoding="utf-8")))
        assert not found, f"{folder / name}: {found}"
    return dict(json.loads((folder / RESULT).read_text(encoding="utf-8")))
