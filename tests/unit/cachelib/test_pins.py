"""What we use of redis-py that it does not promise: each name, and why nothing public would do."""

import inspect

import pytest
import redis
import redis.asyncio
from redis.asyncio.client import Pipeline as AsyncPipeline
from redis.asyncio.client import PubSub as AsyncPubSub
from redis.asyncio.connection import ConnectionPool as AsyncConnectionPool
from redis.asyncio.connection import SSLConnection as AsyncSSLConnection
from redis.client import EMPTY_RESPONSE, NEVER_DECODE, Pipeline, PubSub
from redis.connection import Connection, ConnectionPool, DefaultParser, HiredisRespSerializer, SSLConnection

SYNC, ASYNC = redis.Redis(), redis.asyncio.Redis()

USED = [
    (Connection, "_connect", "to wrap the socket, which has to look at the clock before each send and receive"),
    (Connection(), "_sock", "to send a command without redis-py's steps around it"),
    (Connection(), "_parser", "to read a reply as an object, errors included"),
    (Connection(), "_socket_connect_timeout", "to bound an attempt by the deadline of the call"),
    (SSLConnection, "_wrap_socket_with_ssl", "to bound the handshake, and to say that a certificate is not trusted"),
    (AsyncSSLConnection, "_connection_arguments", "to trust no authority that the configuration does not name"),
    (Connection, "connect_check_health", "which calls our greeting, and the connect callbacks after it"),
    (Connection, "mark_for_reconnect", "to give a connection up once the batch under way is read"),
    (ConnectionPool(), "_available_connections", "to keep the books where `disconnect` and `close` look for them"),
    (ConnectionPool(), "_in_use_connections", "the same"),
    (ConnectionPool(), "_created_connections", "the same"),
    (ConnectionPool(), "_lock", "the same"),
    (ConnectionPool, "_checkpid", "to be fork-safe as redis-py is"),
    (AsyncConnectionPool(), "_available_connections", "to count the idle ones"),
    (AsyncConnectionPool(), "_in_use_connections", "to know whose connection is given back"),
    (AsyncConnectionPool(), "_lock", "to renew it for another event loop"),
    (AsyncConnectionPool, "get_available_connection", "to take one without connecting it"),
    (redis.asyncio.Connection, "connect_check_health", "to connect without a PING"),
    (redis.asyncio.Connection, "mark_for_reconnect", "to give a connection up once the batch under way is read"),
    (redis.asyncio.Connection(), "_parser", "to tell it of the new connection, in the place of redis-py's greeting"),
    (redis.asyncio.Connection(), "_writer", "to see that an idle connection was reset"),
    (redis.Redis, "_execute_command", "to repeat it, where `execute_command` has to be ours"),
    (redis.asyncio.Redis, "_send_command_parse_response", "to reconnect under the lock by which tasks share one connection"),
    (Pipeline, "_disconnect_raise_on_watching", "to keep it from inviting a second run of a transaction"),
    (Pipeline, "_disconnect_reset_raise_on_watching", "the same"),
    (AsyncPipeline, "_disconnect_raise_on_watching", "the same"),
    (AsyncPipeline, "_disconnect_reset_raise_on_watching", "the same"),
    (PubSub, "_execute", "to reconnect a subscription behind the prober"),
    (AsyncPubSub, "_execute", "the same"),
    (SYNC, "_event_dispatcher", "to hand it to a subscription, as redis-py does"),
    (ASYNC, "_event_dispatcher", "the same"),
    *((SYNC.pipeline(), name, "to run a batch again") for name in ("command_stack", "scripts", "explicit_transaction", "watching")),
    *((ASYNC.pipeline(), name, "to run a batch again") for name in ("command_stack", "scripts", "explicit_transaction", "watching")),
    (ASYNC.pipeline(), "is_transaction", "to know that nothing blocks inside it"),
    (DefaultParser, "parse_error", "to make of an error reply the exception that redis-py makes"),
    (HiredisRespSerializer, "pack", "to pack what hiredis alone does not take, such as a memoryview"),
]


def test_the_release_is_the_one_that_was_read() -> None:
    assert redis.__version__.startswith("8.1.")


@pytest.mark.parametrize(("owner", "name", "why"), USED, ids=[f"{name} {number}: {why}" for number, (_, name, why) in enumerate(USED)])
def test_what_we_use_is_there(owner: object, name: str, why: str) -> None:
    assert hasattr(owner, name), f"redis-py has changed; it was used {why}"


def test_options_of_a_command_have_the_names_that_redis_py_gives_them() -> None:
    assert (NEVER_DECODE, EMPTY_RESPONSE) == ("NEVER_DECODE", "EMPTY_RESPONSE")


def test_response_callbacks_are_kept_in_upper_case() -> None:
    """`wire.parse` looks them up past the dictionary's own method, which upper-cases the name at each call."""
    for client in (SYNC, ASYNC):
        client.set_response_callback("foo.bar", str)
        assert dict.get(client.response_callbacks, "FOO.BAR") is str


def test_pipeline_of_threads_covers_the_method_transaction_with_a_flag() -> None:
    assert vars(SYNC.pipeline(transaction=True))["transaction"] is True


def test_connections_take_the_arguments_that_we_pass() -> None:
    assert "nowait" in inspect.signature(redis.asyncio.Connection.disconnect).parameters
    assert "disable_decoding" in inspect.signature(DefaultParser.read_response).parameters
    assert "check_health" in inspect.signature(redis.asyncio.Connection.connect_check_health).parameters
    assert isinstance(inspect.getattr_static(Connection(), "socket_connect_timeout"), property)  # which ours replaces


def test_methods_pass_their_keys_as_an_option_that_no_callback_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    """`wire.parse` leaves it out, as redis-py does."""
    passed: dict[str, object] = {}
    monkeypatch.setattr(redis.Redis, "execute_command", lambda client, *args, **options: passed.update(options))
    SYNC.get("k")
    assert passed == {"keys": ["k"]}


def test_refusal_of_a_whole_transaction_shows_as_the_context_of_its_first_error() -> None:
    """It is raised while the `ExecAbortError` is handled."""
    for kind in (Pipeline, AsyncPipeline):
        source = inspect.getsource(kind._execute_transaction)
        aborted = source[source.index("except ExecAbortError") :]
        assert "raise errors[0][1]" in aborted[:120]


def test_what_a_subscription_calls_takes_the_arguments_that_ours_takes() -> None:
    for kind in (PubSub, AsyncPubSub):
        assert list(inspect.signature(kind._execute).parameters)[:3] == ["self", "conn", "command"]
