"""The tree of errors, and what their texts say."""

import pickle

import pytest
import redis

from cachelib import CacheError, ConfigError, OutcomeUnknown, PoolExhausted, Refused, Unavailable, errors

TREE = {
    CacheError: redis.RedisError,
    ConfigError: ValueError,
    Unavailable: redis.ConnectionError,
    PoolExhausted: Unavailable,
    Refused: redis.AuthenticationError,
    OutcomeUnknown: CacheError,
}


@pytest.mark.parametrize("error", TREE, ids=lambda error: error.__name__)
def test_every_error_is_a_cache_error_and_a_redis_error(error: type[Exception]) -> None:
    assert issubclass(error, CacheError)
    assert issubclass(error, redis.RedisError)


@pytest.mark.parametrize(("error", "parent"), TREE.items(), ids=lambda error: error.__name__)
def test_error_stands_for_the_redis_error_of_its_kind(error: type[Exception], parent: type[Exception]) -> None:
    assert issubclass(error, parent)


def test_unavailable_is_caught_as_either_of_redis_pys_connection_errors() -> None:
    assert issubclass(Unavailable, redis.ConnectionError)
    assert issubclass(Unavailable, redis.TimeoutError)


@pytest.mark.parametrize("retried", [redis.ConnectionError, redis.TimeoutError, OSError], ids=lambda error: error.__name__)
def test_outcome_unknown_escapes_a_wrapper_that_retries_on(retried: type[Exception]) -> None:
    assert not issubclass(OutcomeUnknown, retried)


def test_the_module_docstring_draws_every_error_of_the_module() -> None:
    defined = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert defined == {error.__name__ for error in TREE}
    assert all(f"{name} " in errors.__doc__ or f"{name}\n" in errors.__doc__ for name in defined)


@pytest.mark.parametrize(
    ("problems", "text"),
    [
        (["a is wrong"], "1 problem in the Redis configuration:\n  - a is wrong"),
        (["a is wrong", "b too"], "2 problems in the Redis configuration:\n  - a is wrong\n  - b too"),
    ],
)
def test_config_error_lists_every_problem(problems: list[str], text: str) -> None:
    error = ConfigError(problems)
    assert (str(error), error.problems) == (text, tuple(problems))


@pytest.mark.parametrize(
    "error",
    [ConfigError(["a is wrong", "b too"]), *(kind("why") for kind in TREE if kind is not ConfigError)],
    ids=lambda e: type(e).__name__,
)
def test_error_crosses_a_process_border_unchanged(error: CacheError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), getattr(copy, "problems", None)) == (type(error), str(error), getattr(error, "problems", None))
