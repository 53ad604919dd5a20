"""Which secrets an environment holds, and that none of their forms stays in what is written."""

import base64
import hashlib
import html
import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote, quote_plus
from xml.sax.saxutils import escape

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runbook.evidence.secrets import MASK, is_ordinary, redact, secrets_of

PASSWORD = "pä/ss #w?rd+%&<'\"x\\"

# Printable, without the mask's own character, and no ordinary word or number.
passwords = st.text(st.characters(exclude_categories=["C", "Zl", "Zp"], exclude_characters="*"), min_size=4).filter(
    lambda text: not is_ordinary(text)
)
# JSON, of whose keys no two are masked into one.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)


def _forms(password: str) -> dict[str, str]:
    raw = password.encode()
    latin = password.encode("latin-1", errors="ignore")
    latin = latin if latin.decode("latin-1") == password else raw
    quoted = quote(password, safe="")
    return {
        "raw": password,
        "URL-encoded": quoted,
        "URL-encoded in small letters": re.sub("%..", lambda found: found[0].lower(), quoted),
        "URL-encoded from Latin-1": quote(latin, safe=""),
        "URL-encoded twice": quote(quoted, safe=""),
        "URL-encoded three times": quote(quote(quoted, safe=""), safe=""),
        "each character URL-encoded": "".join(f"%{byte:02X}" for byte in raw),
        "form-encoded": quote_plus(password),
        "base64": base64.b64encode(raw).decode(),
        "base64 without padding": base64.b64encode(raw).decode().rstrip("="),
        "base64 for URLs": base64.urlsafe_b64encode(raw).decode(),
        "base64 in a URL": quote(base64.b64encode(raw).decode(), safe=""),
        "base64 in JavaScript": base64.b64encode(raw).decode().replace("/", r"\/"),
        "base64 from Latin-1": base64.b64encode(latin).decode(),
        "hexadecimal": raw.hex(),
        "HEXADECIMAL": raw.hex().upper(),
        "repr": repr(password)[1:-1],
        "repr of bytes": repr(raw)[2:-1],
        "repr of Latin-1": repr(latin)[2:-1],
        "repr of a repr": repr(repr(password)[1:-1])[1:-1],
        "ascii": ascii(password)[1:-1],
        "JSON": json.dumps(password)[1:-1],
        "JSON of JSON": json.dumps(json.dumps(password)[1:-1])[1:-1],
        "JSON with each character escaped": "".join(f"\\u{unit:04X}" for unit in _units(password)),
        "HTML": html.escape(password),
        "HTML without quotes": html.escape(password, quote=False),
        "HTML with numbers": "".join(f"&#{ord(character)};" for character in password),
        "HTML with hexadecimal numbers": "".join(f"&#x{ord(character):X};" for character in password),
        "HTML of HTML": html.escape(html.escape(password)),
        "HTML of a repr": html.escape(repr(password)[1:-1]),
        "XML": escape(password, {'"': "&quot;", "'": "&apos;"}),
        "UTF-8 read as Latin-1": raw.decode("latin-1"),
        "digest of an ACL": hashlib.sha256(raw).hexdigest(),
    }


def _units(text: str) -> list[int]:
    encoded = text.encode("utf-16-be")
    return [int.from_bytes(encoded[at : at + 2]) for at in range(0, len(encoded), 2)]


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
    assert redact("first-secret second-secret third-secret", secrets_of(environ)) == f"{MASK} {MASK} {MASK}"


@settings(max_examples=40)
@given(passwords, st.sampled_from(["REDIS_PASSWORD", "REDIS_URL"]), st.text(), st.text())
def test_no_form_of_any_password_survives(password: str, variable: str, before: str, after: str) -> None:
    environ = _from_variable(password, Path()) if variable == "REDIS_PASSWORD" else _from_url(password, Path())
    text = before + "\n".join(_forms(password).values()) + after
    redacted = redact(text, secrets_of(environ))
    assert not [name for name, form in _forms(password).items() if form in redacted]


@settings(max_examples=40)
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
        {"REDIS_URL": "redis://cache.example:6379/0"},
        {"REDIS_PASSWORD_FILE": "/there/is/no/such/file"},
        {"REDIS_HOST": "cache.example"},
    ],
    ids=["empty", "empty password", "URL without password", "missing file", "other variables"],
)
def test_an_environment_without_a_usable_secret_has_none(environ: dict[str, str]) -> None:
    assert secrets_of(environ) == ()


def test_a_url_that_cannot_be_taken_apart_is_a_secret_as_a_whole() -> None:
    url = "redis://:S3cret@[broken"
    assert MASK in redact(f"got {url}", secrets_of({"REDIS_URL": url}))
    assert "S3cret" not in redact(f"got {url}", secrets_of({"REDIS_URL": url}))


@pytest.mark.parametrize("before", ["", "d", "de", "default:", "app:"])
@pytest.mark.parametrize("after", ["", ":", "@h", "@cache.example:6379/0"])
@settings(max_examples=15)
@given(password=passwords)
def test_a_secret_within_the_base64_of_a_longer_text_is_replaced_whatever_stands_around_it(before: str, after: str, password: str) -> None:
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        encoded = encode((before + password + after).encode()).decode()
        redacted = redact(f"Authorization: Basic {encoded}", secrets_of({"REDIS_PASSWORD": password}))
        assert MASK in redacted
        for rest in redacted.removeprefix("Authorization: Basic ").split(MASK):
            assert len(rest.strip("=")) <= (len(before + after) + 2) * 4 / 3


def test_of_the_base64_around_a_secret_only_what_is_not_the_secret_stays() -> None:
    encoded = base64.b64encode(b"default:Tr0ub4dor").decode()
    assert redact(f"Basic {encoded}", secrets_of({"REDIS_PASSWORD": "Tr0ub4dor"})) == f"Basic {encoded[:10]}{MASK}"


@pytest.mark.parametrize("password", ["redis", "verdict", "PASS", "table", "class", "text", "abc", "ab", "1000", "42", "7"])
def test_an_ordinary_word_or_number_is_replaced_only_where_it_is_said_to_be_a_password(password: str) -> None:
    """In any other place the gap would spoil the evidence, and tell the password to everyone who knows the page without it."""
    secrets = secrets_of({"REDIS_PASSWORD": password})
    value = {
        "verdict": "PASS",
        "product": "redis",
        "engine": "redis 7.0",
        "page": '<table class="text">',
        "calls": "1000 of 1000",
        "abc": 42,
    }
    assert redact(value, secrets) == value
    for told in (
        "redis://bot:{}@h",
        "AUTH default {}",
        "'requirepass': '{}'",
        "REDIS_PASSWORD={}",
        '"password": "{}"',
        "AUTH with {} failed",
    ):
        assert redact(told.format(password), secrets) == told.format(MASK)


def test_a_number_of_eight_digits_is_replaced_but_not_within_a_longer_one() -> None:
    secrets = secrets_of({"REDIS_PASSWORD": "73519264"})
    assert redact("73519264, 173519264, 735192640, x73519264", secrets) == f"{MASK}, 173519264, 735192640, x{MASK}"


@pytest.mark.parametrize(
    "text",
    [
        "{'requirepass': 'Tr0ub4dor', 'save': ''}",
        "[b'requirepass', b'Tr0ub4dor']",
        '"requirepass": "Tr0ub4dor"',
        '\\"masterauth\\": \\"Tr0ub4dor\\"',
        "&#x27;requirepass&#x27;: &#x27;Tr0ub4dor&#x27;",
        "requirepass Tr0ub4dor",
        "redis-server --requirepass Tr0ub4dor --save ''",
        '1) "requirepass"\n2) "Tr0ub4dor"',
        "redis://bot:Tr0ub4dor@cache.example",
    ],
)
def test_what_a_server_tells_as_its_password_is_replaced_though_the_environment_does_not_hold_it(text: str) -> None:
    assert redact(text, ()) == text.replace("Tr0ub4dor", MASK)
    assert redact({"requirepass": "Tr0ub4dor", "masterauth": ""}, ()) == {"requirepass": MASK, "masterauth": ""}


@pytest.mark.parametrize(
    "text",
    [
        "never requirepass, masterauth and the like",
        "CONFIG GET requirepass",
        "redis://cache.example:6379/0",
        "takes redis://[user:password@]host",
    ],
)
def test_what_only_speaks_of_passwords_stays(text: str) -> None:
    assert redact(text, ()) == text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_TOKEN", "ghp_0123456789abcdef"),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG"),
        ("REDISCLI_AUTH", "Tr0ub4dor&3"),
        ("HTTPS_PROXY", "http://me:Tr0ub4dor&3@proxy.example"),
    ],
)
def test_other_secrets_of_an_environment_are_known_by_the_names_of_their_variables_or_as_urls(name: str, value: str) -> None:
    secret = "Tr0ub4dor&3" if "://" in value else value
    assert secret not in redact(f"environ({{{name!r}: {value!r}}}) {secret}", secrets_of({name: value}))


@pytest.mark.parametrize("name", ["CELERY_BROKER_PASSWORD", "DB_PASSWD", "API_KEY"])
@pytest.mark.parametrize("secret", ["x7q!", "hunter2"])
def test_a_short_secret_of_another_variable_is_replaced_as_that_of_redis_is(name: str, secret: str) -> None:
    text = f"password={secret}, and {secret} alone"
    assert redact(text, secrets_of({name: secret})) == redact(text, secrets_of({"REDIS_PASSWORD": secret}))
    assert secret not in redact(text, secrets_of({name: secret}))


@pytest.mark.parametrize("value", ["1", "true", "True", "none", "null", "test", "0.25", "-5.0", "12:30", "    ", "2026", "PASS"])
def test_a_variable_that_only_sounds_like_a_secret_leaves_no_gaps_in_evidence(value: str) -> None:
    text = f'{{"value": {value}, "text": "{value} of {value}", "passed": {value}, "at": "2026-01-01T12:30:00+00:00"}}\n    0.25 s'
    assert redact(text, secrets_of({"USE_TOKEN": value})) == text


@pytest.mark.parametrize("name", ["SSH_AUTH_SOCK", "TOKENIZERS_PARALLELISM", "XAUTHORITY", "GIT_ASKPASS"])
def test_variables_that_hold_no_secret_are_no_secrets(name: str) -> None:
    assert secrets_of({name: "/run/user/1000/something"}) == ()


@pytest.mark.parametrize(
    "url", ["redis://:Tr0ub#4dor@h", "redis://bot:Tr0ub/4dor@h", "redis://bot:Tr0ub@4dor@h", "redis://bot:Tr0ub%4dor@h"]
)
def test_the_password_of_a_url_that_should_have_been_encoded_is_a_secret(url: str) -> None:
    password = url.removesuffix("@h").partition("://")[2].partition(":")[2]
    assert redact(f"got {password} from {url}", secrets_of({"REDIS_URL": url})).count("dor") == 0


def test_a_password_that_is_no_utf8_is_replaced_as_latin1() -> None:
    assert redact("pässwört", secrets_of({"REDIS_PASSWORD": "p\udce4ssw\udcf6rt"})) == MASK


def test_a_megabyte_is_redacted_in_well_under_a_second() -> None:
    secrets = secrets_of({"REDIS_PASSWORD": PASSWORD})
    for text in (base64.b64encode(bytes(range(256)) * 3000).decode(), "1,GET,1000000,ok\n" * 60_000, "\\" * 1_000_000, "%25" * 330_000):
        began_s = time.process_time()
        assert redact(text, secrets) == text
        assert time.process_time() - began_s < 1
