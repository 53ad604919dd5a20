"""Which secrets an environment holds, and that none of their forms stays in what is written."""

import base64
import html
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runbook.evidence.secrets import MASK, redact, secrets_of

PASSWORD = "pä/ss #w?rd+%&"

# Printable, and without the mask's own character.
passwords = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="*"), min_size=4)
# JSON, of whose keys no two are masked into one.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


def _forms(password: str) -> dict[str, str]:
    return {
        "raw": password,
        "URL-encoded": quote(password, safe=""),
        "form-encoded": quote_plus(password),
        "base64": base64.b64encode(password.encode()).decode(),
    }


def _from_variable(password: str, folder: Path) -> dict[str, str]:
    return {"REDIS_PASSWORD": password}


def _from_url(password: str, folder: Path) -> dict[str, str]:
    return {"REDIS_URL": f"redis://bot:{quote(password, safe='')}@cache.example:6379/0"}


def _from_file(password: str, folder: Path) -> dict[str, str]:
    (folder / "password").write_text(password + "\n", encoding="utf-8")
    return {"REDIS_PASSWORD_FILE": str(folder / "password")}


Source = Callable[[str, Path], dict[str, str]]
SOURCES = pytest.mark.parametrize("environment", [_from_variable, _from_url, _from_file], ids=["variable", "url", "file"])


@SOURCES
@pytest.mark.parametrize("form", _forms(PASSWORD).values(), ids=_forms(PASSWORD))
def test_each_form_of_a_secret_is_replaced(environment: Source, form: str, tmp_path: Path) -> None:
    secrets = secrets_of(environment(PASSWORD, tmp_path))
    assert redact(f"before {form} after", secrets) == f"before {MASK} after"


@SOURCES
def test_a_secret_in_the_html_of_a_table_is_replaced(environment: Source, tmp_path: Path) -> None:
    """A notebook's tables escape what they show, so a secret with `&`, `<` or a quote is written in this form too."""
    secrets = secrets_of(environment("one&two<three", tmp_path))
    assert redact(f"<td>{html.escape('one&two<three')}</td>", secrets) == f"<td>{MASK}</td>"


def test_a_percent_encoding_in_lower_case_as_in_the_url_is_replaced() -> None:
    secrets = secrets_of({"REDIS_URL": "redis://:a%2fsecret@cache.example"})
    assert redact("redis://:a%2fsecret@cache.example", secrets) == f"redis://:{MASK}@cache.example"
    assert redact("a/secret", secrets) == MASK


def test_the_secrets_of_all_three_variables_are_known(tmp_path: Path) -> None:
    environ = _from_variable("first-secret", tmp_path) | _from_url("second-secret", tmp_path) | _from_file("third-secret", tmp_path)
    assert {"first-secret", "second-secret", "third-secret"} <= set(secrets_of(environ))


@given(passwords, st.sampled_from(["REDIS_PASSWORD", "REDIS_URL"]), st.text(), st.text())
def test_no_form_of_any_password_survives(password: str, variable: str, before: str, after: str) -> None:
    environ = _from_variable(password, Path()) if variable == "REDIS_PASSWORD" else _from_url(password, Path())
    text = before + "\n".join(_forms(password).values()) + after
    redacted = redact(text, secrets_of(environ))
    assert not [name for name, form in _forms(password).items() if form in redacted]


@given(passwords)
def test_a_secret_is_replaced_in_the_keys_and_values_of_nested_json(password: str) -> None:
    value = {"kept": [password, {f"key {password}": f"value {password}"}], "number": 3, "nothing": None}
    redacted = redact(value, secrets_of({"REDIS_PASSWORD": password}))
    assert password not in str(list(_texts(redacted)))
    assert redacted["number"] == 3
    assert redacted["nothing"] is None


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in [key, *_texts(item)]]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


@given(values)
def test_without_a_secret_nothing_changes(value: object) -> None:
    assert redact(value, secrets_of({})) == value


@given(passwords, values)
def test_redacting_leaves_its_argument_as_it_was(password: str, value: object) -> None:
    before = repr(value)
    redact(value, secrets_of({"REDIS_PASSWORD": password}))
    assert repr(value) == before


def test_a_secret_that_holds_another_leaves_no_rest() -> None:
    environ = {"REDIS_PASSWORD": "hunter2", "REDIS_URL": "redis://:hunter2-and-more@cache.example"}
    assert redact("it is hunter2-and-more", secrets_of(environ)) == f"it is {MASK}"


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"REDIS_PASSWORD": ""},
        {"REDIS_PASSWORD": "abc"},
        {"REDIS_URL": "redis://cache.example:6379/0"},
        {"REDIS_PASSWORD_FILE": "/there/is/no/such/file"},
        {"REDIS_HOST": "cache.example"},
    ],
    ids=["empty", "empty password", "shorter than four", "URL without password", "missing file", "other variables"],
)
def test_an_environment_without_a_usable_secret_has_none(environ: dict[str, str]) -> None:
    assert secrets_of(environ) == ()


def test_a_url_that_cannot_be_taken_apart_is_a_secret_as_a_whole() -> None:
    url = "redis://:S3cret@[broken"
    assert MASK in redact(f"got {url}", secrets_of({"REDIS_URL": url}))
    assert "S3cret" not in redact(f"got {url}", secrets_of({"REDIS_URL": url}))
