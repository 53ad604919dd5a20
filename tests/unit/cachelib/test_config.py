"""The configuration: its defaults, what it refuses and how, and that no secret leaves it."""

import dataclasses
import re
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cachelib import Config, ConfigError, connect, connect_async
from cachelib.config import Secret
from cachelib.environment import KNOWN

SECRET = "S3cr3t-hunter2"


def refusal(environ: Mapping[str, str]) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        Config.from_env(environ)
    return caught.value


def only_problem(environ: Mapping[str, str]) -> str:
    (problem,) = refusal(environ).problems
    return problem


# --- what is accepted ---


def test_defaults() -> None:
    config = Config.from_env({})
    assert (config.host, config.port, config.db, config.pool_size) == ("redis", 6379, 0, 10)
    assert (config.connect_timeout_s, config.deadline_s) == (1.0, 5.0)
    assert (config.connection_max_age_s, config.slow_call_s) == (1800.0, 0.1)
    assert (config.username, config.password, config.tls) == (None, None, False)


def test_the_environment_and_the_constructor_agree_on_the_defaults() -> None:
    assert Config.from_env({}) == Config()


def test_every_field_can_be_set_from_the_environment(tmp_path: Path) -> None:
    pem = tmp_path / "any.pem"
    pem.touch()
    assert Config.from_env(
        {
            "REDIS_HOST": "cache.example",
            "REDIS_PORT": "7000",
            "REDIS_USERNAME": "bot",
            "REDIS_PASSWORD": SECRET,
            "REDIS_DB": "3",
            "REDIS_POOL_SIZE": "50",
            "REDIS_CONNECT_TIMEOUT_S": "0.25",
            "REDIS_DEADLINE_S": "2",
            "REDIS_BACKOFF_BASE_S": "0.01",
            "REDIS_BACKOFF_CAP_S": "0.1",
            "REDIS_CONNECTION_MAX_AGE_S": "600",
            "REDIS_SLOW_CALL_S": "0.05",
            "REDIS_TLS": "true",
            "REDIS_TLS_CA_FILE": str(pem),
            "REDIS_TLS_CERT_FILE": str(pem),
            "REDIS_TLS_KEY_FILE": str(pem),
        }
    ) == Config(
        host="cache.example",
        port=7000,
        username="bot",
        password=SECRET,
        db=3,
        pool_size=50,
        connect_timeout_s=0.25,
        deadline_s=2.0,
        backoff_base_s=0.01,
        backoff_cap_s=0.1,
        connection_max_age_s=600.0,
        slow_call_s=0.05,
        tls=True,
        tls_ca_file=pem,
        tls_cert_file=pem,
        tls_key_file=pem,
    )


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://cache", {"host": "cache"}),
        ("redis://cache:7000/2", {"host": "cache", "port": 7000, "db": 2}),
        ("rediss://cache", {"host": "cache", "tls": True}),
        ("redis://bot:pw-of-bot@cache", {"host": "cache", "username": "bot", "password": "pw-of-bot"}),
        ("redis://:pw@cache", {"host": "cache", "password": "pw"}),
        ("redis://:p%2Fw%23%3F%40%3A%25@cache", {"host": "cache", "password": "p/w#?@:%"}),
        ("redis://[::1]:7000/0", {"host": "::1", "port": 7000}),
        ("redis://cache?pool_size=3&deadline_s=0.5", {"host": "cache", "pool_size": 3, "deadline_s": 0.5}),
        ("redis://cache?connection_max_age_s=60&slow_call_s=1", {"host": "cache", "connection_max_age_s": 60.0, "slow_call_s": 1.0}),
        ("redis://cache/0?connect_timeout_s=2", {"host": "cache", "connect_timeout_s": 2.0}),
    ],
)
def test_url(url: str, expected: dict[str, Any]) -> None:
    assert Config.from_env({"REDIS_URL": url}) == Config(**expected)


@pytest.mark.parametrize(
    ("host", "kept", "endpoint"),
    [
        ("redis", "redis", "redis:6379/0"),
        ("redis.svc.cluster.local.", "redis.svc.cluster.local.", "redis.svc.cluster.local.:6379/0"),
        ("my_redis-1", "my_redis-1", "my_redis-1:6379/0"),
        ("10.0.0.7", "10.0.0.7", "10.0.0.7:6379/0"),
        ("::1", "::1", "[::1]:6379/0"),
        ("[::1]", "::1", "[::1]:6379/0"),
        ("[2001:DB8::1]", "2001:db8::1", "[2001:db8::1]:6379/0"),
        ("fe80::1%eth0", "fe80::1%eth0", "[fe80::1%eth0]:6379/0"),
    ],
)
def test_host(host: str, kept: str, endpoint: str) -> None:
    config = Config.from_env({"REDIS_HOST": host})
    assert (config.host, config.endpoint) == (kept, endpoint)


@pytest.mark.parametrize(("word", "value"), [("true", True), ("TRUE", True), ("1", True), ("false", False), ("False", False), ("0", False)])
def test_switch(word: str, value: bool) -> None:
    assert Config.from_env({"REDIS_TLS": word}).tls is value


@pytest.mark.parametrize("name", ["REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "REDIS_USERNAME", "REDIS_URL", "REDIS_TLS_CA_FILE"])
def test_empty_optional_variable_is_unset(name: str) -> None:
    """Compose passes `REDIS_PASSWORD=${REDIS_PASSWORD:-}` as an empty text."""
    assert Config.from_env({name: ""}) == Config()


@pytest.mark.parametrize(
    ("content", "password"),
    [
        (b"pw", "pw"),
        (b"pw\n", "pw"),
        (b"pw\r\n", "pw"),
        (b"pw\n\n", "pw\n"),
        (b" p w \n", " p w "),
        ("pässwörd\n".encode(), "pässwörd"),
    ],
    ids=repr,
)
def test_password_file_is_read_without_its_last_line_end(content: bytes, password: str, tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    assert Config.from_env({"REDIS_PASSWORD_FILE": str(path)}).password.reveal() == password


# --- what is refused ---

REFUSED = [
    *(("REDIS_PORT", value) for value in ("0", "65536", "-1", "abc", "1e3", " 7 ", "7\n", "1_000", "0x10", "6379.0", "9" * 30)),
    *(("REDIS_DB", value) for value in ("-1", "00x1", "zero", "1.5", "2147483648")),
    *(("REDIS_POOL_SIZE", value) for value in ("0", "1000000", "-3", "ten")),
    *(
        (name, value)
        for name in (
            "REDIS_CONNECT_TIMEOUT_S",
            "REDIS_DEADLINE_S",
            "REDIS_BACKOFF_BASE_S",
            "REDIS_BACKOFF_CAP_S",
            "REDIS_CONNECTION_MAX_AGE_S",
            "REDIS_SLOW_CALL_S",
        )
        for value in ("0", "0.0", "-1", "nan", "inf", "1e3", " 1", "1s", "3601", "٣")
    ),
    *(
        ("REDIS_HOST", value)
        for value in (
            "a\nb",
            "redis\n",
            "a b",
            " redis",
            "redis ",
            "a\tb",
            "redis://cache:6379",
            "cache:6379",
            "[cache]",
            "-cache",
            "fe80::1%a b",
            "fe80::1%a\nb",
            "a,b",
            # Python's resolver raises UnicodeError on these, at each call.
            "a..b",
            "a" * 64,
            "é" * 3,
        )
    ),
    *(("REDIS_HOST", value) for value in ("[::1", "::1]")),
    *(("REDIS_TLS", value) for value in ("yes", "on", "2", " true")),
    ("REDIS_USERNAME", "bo\nt"),
    ("REDIS_TLS_CA_FILE", "/nowhere/ca.pem"),
    ("REDIS_TLS_KEY_FILE", "/"),
]


@pytest.mark.parametrize(("name", "value"), REFUSED)
def test_refusal_names_the_variable_what_it_got_and_what_it_takes(name: str, value: str) -> None:
    problem = only_problem({name: value})
    assert problem.startswith(f"{name}: got {value!r}; takes ")
    assert "\n" not in problem


@pytest.mark.parametrize("name", ["REDIS_HOST", "REDIS_PORT", "REDIS_DB", "REDIS_POOL_SIZE", "REDIS_DEADLINE_S", "REDIS_TLS"])
def test_empty_variable_that_has_a_default_is_refused(name: str) -> None:
    assert only_problem({name: ""}).startswith(f"{name}: got nothing (unset it for the default); takes ")


def test_refused_value_is_shortened() -> None:
    assert len(only_problem({"REDIS_PORT": "x" * 10_000})) < 200


def test_url_given_as_host_is_refused_without_its_password() -> None:
    problem = only_problem({"REDIS_HOST": f"redis://:{SECRET}@cache:6379"})
    assert problem.startswith("REDIS_HOST: got a value that is not shown; takes a host name")
    assert SECRET not in problem


@pytest.mark.parametrize(
    ("url", "needles"),
    [
        ("http://cache", ["scheme", "takes redis://"]),
        ("cache:6379", ["scheme", "takes redis://"]),
        ("unix:///run/redis.sock", ["scheme", "host"]),
        ("redis://", ["no host"]),
        ("redis://:6379/0", ["no host"]),
        ("redis://cache/abc", ["(db)", "'abc'", "whole number from 0"]),
        ("redis://cache/-1", ["(db)", "'-1'", "whole number from 0"]),
        ("redis://cache/0/1", ["(db)", "'0/1'"]),
        ("redis://cache:0", ["(port)", "'0'", "1 to 65535"]),
        ("redis://a,b", ["(host)", "'a,b'"]),
        ("redis://cache:65536", ["can't be taken apart", "takes redis://"]),
        ("redis://cache:abc", ["can't be taken apart", "takes redis://"]),
        ("redis://[::1", ["can't be taken apart", "takes redis://"]),
        ("redis://cache\n", ["blank or a control character"]),
        ("redis://ca che", ["blank or a control character"]),
        ("redis://cache?db=5", ["unknown option 'db'", "takes pool_size", "the db goes into the path"]),
        ("redis://cache?socket_timeout=5", ["unknown option 'socket_timeout'", "takes pool_size"]),
        ("redis://cache?ssl_cert_reqs=none", ["unknown option 'ssl_cert_reqs'"]),
        ("redis://cache?pool_size=1&pool_size=2", ["pool_size twice"]),
        ("redis://cache?deadline_s=nan", ["DEADLINE_S in REDIS_URL", "'nan'", "seconds"]),
        ("redis://cache?pool_size=", ["POOL_SIZE in REDIS_URL", "nothing"]),
        *((f"redis://:S3cr3t{character}hunter2@cache", ["can't be taken apart", "%2F %23 %3F"]) for character in "/#?"),
    ],
)
def test_refused_url(url: str, needles: list[str]) -> None:
    problems = refusal({"REDIS_URL": url}).problems
    assert all(problem.count("REDIS_URL") for problem in problems)
    text = "\n".join(problems)
    assert [needle for needle in needles if needle not in text] == []
    assert not re.search("S3cr3t|hunter2", text)


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.touch(), "it is empty"),
        (lambda path: path.write_bytes(b"\n"), "it is empty"),
        (lambda path: path.write_bytes(b"\xff\xfe"), "can't decode"),
    ],
    ids=["missing", "directory", "empty", "one line end", "not UTF-8"],
)
def test_unusable_password_file_is_refused(make: Callable[[Path], object], reason: str, tmp_path: Path) -> None:
    path = tmp_path / "password"
    make(path)
    problem = only_problem({"REDIS_PASSWORD_FILE": str(path)})
    assert problem.startswith(f"REDIS_PASSWORD_FILE: got {str(path)!r}, ")
    assert reason in problem
    assert problem.endswith("takes a file that holds the password")


@pytest.mark.parametrize(
    ("environ", "named"),
    [
        ({"REDIS_URL": "redis://cache", "REDIS_HOST": "cache"}, ["REDIS_URL", "REDIS_HOST"]),
        ({"REDIS_URL": "redis://cache", "REDIS_PORT": "6379", "REDIS_DB": "0"}, ["REDIS_URL", "REDIS_PORT", "REDIS_DB"]),
        ({"REDIS_URL": "redis://cache", "REDIS_PASSWORD": SECRET}, ["REDIS_URL", "REDIS_PASSWORD"]),
        ({"REDIS_URL": "redis://cache?pool_size=3", "REDIS_POOL_SIZE": "4"}, ["REDIS_URL", "REDIS_POOL_SIZE"]),
        ({"REDIS_PASSWORD": SECRET, "REDIS_PASSWORD_FILE": "/run/secrets/redis"}, ["REDIS_PASSWORD and REDIS_PASSWORD_FILE"]),
        ({"REDIS_BACKOFF_BASE_S": "0.5", "REDIS_BACKOFF_CAP_S": "0.1"}, ["REDIS_BACKOFF_CAP_S", "REDIS_BACKOFF_BASE_S"]),
        ({"REDIS_TLS": "1", "REDIS_TLS_CERT_FILE": __file__}, ["REDIS_TLS_CERT_FILE", "REDIS_TLS_KEY_FILE"]),
        ({"REDIS_TLS_CA_FILE": __file__}, ["REDIS_TLS_CA_FILE", "set REDIS_TLS to true"]),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, dict) else "",
)
def test_contradiction_is_refused_and_names_both_sides(environ: dict[str, str], named: list[str]) -> None:
    problem = only_problem(environ)
    assert [name for name in named if name not in problem] == []
    assert SECRET not in problem


def test_behaviour_may_stand_beside_a_url() -> None:
    assert Config.from_env({"REDIS_URL": "redis://cache", "REDIS_POOL_SIZE": "3"}) == Config(host="cache", pool_size=3)


def test_all_problems_come_in_one_error() -> None:
    error = refusal(
        {
            "REDIS_PORT": "0",
            "REDIS_DB": "-1",
            "REDIS_POOL_SIZE": "",
            "REDIS_DEADLINE_S": "nan",
            "REDIS_HOST": "a b",
            "REDIS_PASSWORD": SECRET,
            "REDIS_PASSWORD_FILE": "/run/secrets/redis",
            "REDIS_PROT": "6379",
        }
    )
    text = str(error)
    assert len(error.problems) == 7
    assert text.startswith("7 problems in the Redis configuration:")
    for name in (
        "REDIS_PORT",
        "REDIS_DB",
        "REDIS_POOL_SIZE",
        "REDIS_DEADLINE_S",
        "REDIS_HOST",
        "REDIS_PASSWORD_FILE",
        "REDIS_PROT",
    ):
        assert name in text


def test_a_contradiction_is_reported_beside_an_invalid_value() -> None:
    text = str(refusal({"REDIS_PORT": "0", "REDIS_BACKOFF_BASE_S": "0.5", "REDIS_BACKOFF_CAP_S": "0.1"}))
    assert "REDIS_PORT" in text
    assert "REDIS_BACKOFF_CAP_S" in text


def test_problems_of_a_url_and_of_variables_come_in_one_error() -> None:
    text = str(refusal({"REDIS_URL": "http://:0/abc?db=5", "REDIS_DEADLINE_S": "inf"}))
    assert [needle for needle in ("scheme", "no host", "(port)", "(db)", "option 'db'", "REDIS_DEADLINE_S") if needle not in text] == []


# --- misspelt variables ---


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("REDIS_PORTT", "REDIS_PORT"),
        ("REDIS_HHOST", "REDIS_HOST"),
        ("REDIS_XDB", "REDIS_DB"),
        ("REDIS_PRT", "REDIS_PORT"),
        ("REDIS_PASWORD", "REDIS_PASSWORD"),
        ("REDIS_DEADLINE_", "REDIS_DEADLINE_S"),
        ("REDIS_PORD", "REDIS_PORT"),
        ("REDIS_URI", "REDIS_URL"),
        ("REDIS_POOL-SIZE", "REDIS_POOL_SIZE"),
        ("REDIS_PROT", "REDIS_PORT"),
        ("REDIS_PASSWROD_FILE", "REDIS_PASSWORD_FILE"),
        ("REDIS_BD", "REDIS_DB"),
    ],
)
def test_misspelt_variable_is_refused_with_the_name_that_was_meant(misspelt: str, meant: str) -> None:
    problem = only_problem({misspelt: SECRET})
    assert misspelt in problem
    assert problem.endswith(f"did you mean {meant}?")
    assert SECRET not in problem


def test_any_single_slip_is_noticed() -> None:
    for known in KNOWN:
        for at in range(len("REDIS_"), len(known)):
            head, tail = known[:at], known[at:]
            for slip in (f"{head}X{tail}", head + tail[1:], f"{head}X{tail[1:]}", head + tail[1::-1] + tail[2:], f"{known}X"):
                if slip not in KNOWN:
                    assert known in str(refusal({slip: "x"})), slip


@pytest.mark.parametrize(
    "name",
    ["REDIS_SERVER", "REDIS_VERSION", "REDIS_SERVICE_HOST", "REDIS_PORT_6379_TCP", "REDISCLI_AUTH", "MY_REDIS_PORTT", "PATH"],
)
def test_unrelated_variable_is_ignored(name: str) -> None:
    assert Config.from_env({name: "anything"}) == Config()


# --- direct construction ---


def test_config_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Config().port = 7000  # type: ignore[misc]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("host", None),
        ("host", b"redis"),
        ("host", 7),
        ("host", "a b"),
        ("port", 0),
        ("port", 65536),
        ("port", True),
        ("port", 6379.0),
        ("port", None),
        ("db", -1),
        ("username", ""),
        ("username", 5),
        ("pool_size", 0),
        ("pool_size", 1_000_000),
        ("connect_timeout_s", 0),
        ("deadline_s", float("nan")),
        ("deadline_s", float("inf")),
        ("deadline_s", True),
        ("deadline_s", None),
        ("tls", "yes"),
        ("tls_ca_file", "/nowhere"),
    ],
)
def test_direct_construction_refuses_too(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^1 problem in the Redis configuration:\n  - {field}: got .*; takes "):
        Config(**{field: value})


@pytest.mark.parametrize("build", [connect, connect_async])
def test_client_of_something_else_than_a_config_is_refused(build: Callable[..., Any]) -> None:
    with pytest.raises(TypeError, match=r"takes a Config, got a str: .* reads a URL"):
        build("redis://:hunter2@localhost")


@pytest.mark.parametrize("password", [SECRET.encode(), Secret(""), 123456, [SECRET], "hunter2-\udcff"])
def test_password_of_a_wrong_kind_is_refused_unseen(password: Any) -> None:
    """The last is what `os.environ` makes of bytes that are no UTF-8."""
    with pytest.raises(ConfigError, match="password: got a value that is not shown; takes a password"):
        Config(password=password)


def test_direct_construction_reports_all_problems_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Config(port=0, db=-1, pool_size=0)
    assert [problem.split(":")[0] for problem in caught.value.problems] == ["port", "db", "pool_size"]


def test_values_given_as_text_are_parsed() -> None:
    assert Config(port="7000", deadline_s="0.5", tls="true") == Config(port=7000, deadline_s=0.5, tls=True)  # type: ignore[arg-type]


def test_a_changed_copy_is_checked_and_keeps_the_password() -> None:
    config = Config(password=SECRET)
    assert dataclasses.replace(config, port=7000).password.reveal() == SECRET
    with pytest.raises(ConfigError):
        dataclasses.replace(config, port=0)


def test_equal_configurations_are_equal_and_hash_alike() -> None:
    assert len({Config(password=SECRET), Config(password=SECRET), Config(password="another")}) == 2


# --- secrets ---


def test_password_is_masked_wherever_it_is_shown() -> None:
    config = Config(username="bot", password=SECRET)
    shown = [repr(config), str(config), f"{config.password}", f"{config.password!r:>20}", f"{config.password}", config.endpoint]
    shown += [str(dataclasses.asdict(config)), str([config.password]), str(vars(config))]
    assert [text for text in shown if SECRET in text] == []
    assert config.password.reveal() == SECRET


def _from_env(**variables: str) -> Config:
    return Config.from_env(variables)


# Every place into which a person may put a password, by mistake too.
PLACES: dict[str, Callable[[str], Config]] = {
    "variable": lambda secret: _from_env(REDIS_PASSWORD=secret, REDIS_PORT="0"),
    "variable, and nothing wrong": lambda secret: _from_env(REDIS_PASSWORD=secret),
    "variable, and a file": lambda secret: _from_env(REDIS_PASSWORD=secret, REDIS_PASSWORD_FILE="/nowhere"),
    "variable, and a URL": lambda secret: _from_env(REDIS_PASSWORD=secret, REDIS_URL="redis://cache"),
    "misspelt variable": lambda secret: _from_env(REDIS_PASSWROD=secret),
    "URL": lambda secret: _from_env(REDIS_URL=f"redis://:{quote(secret, safe='')}@cache/0"),
    "URL, and a wrong db": lambda secret: _from_env(REDIS_URL=f"redis://:{quote(secret, safe='')}@cache/abc?db=5"),
    "URL, unescaped": lambda secret: _from_env(REDIS_URL=f"redis://:{secret}@cache:6379/0"),
    "URL, unescaped, with a user": lambda secret: _from_env(REDIS_URL=f"rediss://bot:{secret}@cache?deadline_s=nan"),
    "URL, unescaped after a slash": lambda secret: _from_env(REDIS_URL=f"redis://:12/{secret}@cache"),
    "URL, unescaped after a question mark": lambda secret: _from_env(REDIS_URL=f"redis://:12?{secret}=1@cache"),
    "URL, unescaped after a hash sign": lambda secret: _from_env(REDIS_URL=f"redis://:12#{secret}@cache"),
    "URL, as an option": lambda secret: _from_env(REDIS_URL=f"redis://cache?password={quote(secret, safe='')}"),
    "URL of another scheme": lambda secret: _from_env(REDIS_URL=f"http://:{secret}@cache"),
    "host": lambda secret: _from_env(REDIS_HOST=f"redis://:{secret}@cache:6379"),
    "port": lambda secret: _from_env(REDIS_PORT=f"6379@{secret}"),
    "constructor": lambda secret: Config(password=secret, port=0),
    "constructor, wrapped": lambda secret: Config(password=Secret(secret), host="a b"),
    "constructor, as bytes": lambda secret: Config(password=secret.encode()),  # type: ignore[arg-type]
    "constructor, wrapped, as host": lambda secret: Config(host=Secret(secret)),  # type: ignore[arg-type]
}


def _all_that_is_shown(place: str, secret: str) -> str:
    shown = []
    try:
        config = PLACES[place](secret)
    except ConfigError as error:
        shown += [str(error), repr(error), *error.problems, *traceback.format_exception(error)]
    else:
        shown += [repr(config), str(config), config.endpoint]
    return "\n".join(shown)


@pytest.mark.parametrize("place", PLACES)
@given(secret=st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=6, max_size=24))
def test_no_part_of_a_password_is_ever_shown(place: str, secret: str) -> None:
    windows = {secret[at : at + 4] for at in range(len(secret) - 3)}
    # Not a leak: what the messages say without this secret as well.
    harmless = "".join(_all_that_is_shown(place, other) for other in ("\x7f" * 6, "Q" * 6, "Q/" * 3))
    shown = _all_that_is_shown(place, secret)
    assert {window for window in windows if window in shown and window not in harmless} == set()


@given(secret=st.text(st.characters(codec="utf-8", exclude_characters="\r\n\0"), min_size=6))
def test_password_survives_its_way_through_url_and_variable(secret: str) -> None:
    by_url = Config.from_env({"REDIS_URL": f"redis://bot:{quote(secret, safe='')}@cache"})
    assert by_url == Config.from_env({"REDIS_HOST": "cache", "REDIS_USERNAME": "bot", "REDIS_PASSWORD": secret})
    assert by_url.password.reveal() == secret
