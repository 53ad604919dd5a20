"""What a new connection says first, in one write, and what the answers mean; it is the same for threads and for asyncio."""

import ssl
from typing import Any

import redis

from cachelib.config import Config
from cachelib.errors import Refused


def greeting(config: Config) -> tuple[tuple[str, ...], ...]:
    """Return the commands that open a session; each gets one answer.

    PING is the last: a server that still loads its data greets like any other.
    """
    hello: tuple[str, ...] = ("HELLO", "3")
    if config.password:
        hello += ("AUTH", config.username or "default", config.password.reveal())
    select = (("SELECT", str(config.db)),) if config.db else ()
    return (hello, *select, ("PING",))


def tls_context(config: Config) -> ssl.SSLContext:
    """Read the certificates to trust and to show; those of the system are trusted only where the configuration names no others."""
    context = ssl.create_default_context(cafile=str(config.tls_ca_file) if config.tls_ca_file else None)
    if config.tls_cert_file and config.tls_key_file:
        context.load_cert_chain(config.tls_cert_file, config.tls_key_file)
    return context


def untrusted(config: Config, error: ssl.SSLCertVerificationError) -> Refused:
    """Say that a server's certificate is not accepted, which another attempt would not change."""
    return Refused(f"the certificate of {config.endpoint} is not trusted: {error.verify_message}. Check REDIS_TLS_CA_FILE and REDIS_HOST.")


def check_answer(config: Config, command: tuple[str, ...], answer: Any) -> None:
    """Judge one answer to the greeting.

    Args:
        config: of the connection.
        command: which part of the greeting was answered.
        answer: a reply, or an error.

    Raises:
        Refused: the server refused the login or the database.
        redis.ConnectionError, redis.TimeoutError: it is not ready to serve.
    """
    if not isinstance(answer, Exception):
        return
    if isinstance(answer, redis.ConnectionError | redis.TimeoutError) and not isinstance(answer, redis.AuthenticationError):
        raise answer  # still loading, or too many clients, or none
    # A user may lack the right to PING, and a server that can't save refuses it too: both answer.
    if command[0] != "PING" or isinstance(answer, redis.AuthenticationError):
        # A server that does not know HELLO repeats its arguments, and cuts long ones. So nothing is chained, either.
        said = str(answer).rstrip(".")
        if config.password and ("WRONGPASS" in said or "invalid username-password" in said):
            said = "it does not accept this user name and password"
        elif config.password:
            said = _masked(said, config.password.reveal())
        elif isinstance(answer, redis.AuthenticationError) or "NOAUTH" in said or "HELLO AUTH" in said:
            said = "it asks for a password, and none is set"
        raise Refused(f"{config.endpoint} refused the connection: {said}. Check REDIS_USERNAME, REDIS_PASSWORD and REDIS_DB.") from None


def _masked(text: str, secret: str) -> str:
    """Hide a secret in what a server repeats of its greeting, and any beginning of it that is long enough to be one."""
    before, login, after = text.partition("AUTH")
    if not login:
        before, after = "", text
    for length in range(len(secret), min(3, len(secret) - 1), -1):
        after = after.replace(secret[:length], "***")
    return before + login + after
