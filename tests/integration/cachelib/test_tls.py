"""Both clients over TLS: as good as any other connection, and to nobody who is not trusted."""

import asyncio
import socket
import time
from pathlib import Path
from typing import Any

import pytest

from cachelib import OutcomeUnknown, Refused, Unavailable, connect_async, deadline
from runbook.targets.base import TargetError
from runbook.targets.embedded import Embedded

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def tls_server(certificate: tuple[Path, Path], start_server: Any) -> tuple[Embedded, int]:
    """A server, and the port on which it speaks TLS."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    pem, key = map(str, certificate)
    try:
        server = start_server("--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", key, "--tls-auth-clients", "no")
    except TargetError:
        pytest.skip("this server was built without TLS")
    return server, port


def test_tls_connection_is_as_good_as_any(
    tls_server: tuple[Embedded, int], certificate: tuple[Path, Path], connect_to: Any, paused: Any
) -> None:
    server, port = tls_server
    client = connect_to(server, port=port, tls=True, tls_ca_file=certificate[0], deadline_s=5.0)
    assert len({client.client_id() for _ in range(5)}) == 1
    assert client.set("k", "v" * 100_000)
    assert len(client.get("k")) == 100_000
    assert client.pipeline().incr("n").incr("n").execute() == [1, 2]
    with paused(server), deadline(0.3), pytest.raises(OutcomeUnknown):
        client.incr("n")
    server.kill()
    server.start()
    assert client.incr("n") == 1


def test_server_whose_certificate_is_not_trusted_is_not_used(tls_server: tuple[Embedded, int], connect_to: Any) -> None:
    server, port = tls_server
    client = connect_to(server, port=port, tls=True, deadline_s=30.0)
    started_s = time.monotonic()
    with pytest.raises(Refused, match=r"is not trusted: self-signed certificate\. Check REDIS_TLS_CA_FILE"):
        client.incr("n")

    async def ask() -> None:
        async with connect_async(client.connection_pool.config) as other:
            for call in (other.incr("n"), other.pipeline().incr("n").execute()):
                with pytest.raises(Refused, match="is not trusted"):
                    await call

    asyncio.run(ask())
    assert time.monotonic() - started_s < 15.0  # at once, not at the deadline


def test_asyncio_client_speaks_tls(tls_server: tuple[Embedded, int], certificate: tuple[Path, Path], connect_to: Any) -> None:
    server, port = tls_server
    config = connect_to(server, port=port, tls=True, tls_ca_file=certificate[0], deadline_s=5.0).connection_pool.config

    async def ask() -> None:
        async with connect_async(config) as client:
            assert await client.set("k", "v" * 1_000_000)
            assert len(await client.get("k")) == 1_000_000
            assert await client.pipeline().incr("n").incr("n").execute() == [1, 2]
            assert sorted(await asyncio.gather(*(client.incr("n") for _ in range(500)))) == list(range(3, 503))
            async with client.client() as single:
                await single.ping()
                server.kill()
                await asyncio.to_thread(server.start)
                assert await single.get("missing") is None
                assert await client.pipeline().get("missing").execute() == [None]

    asyncio.run(ask())


def test_tls_handshake_ends_at_the_deadline(server: Embedded, connect_to: Any, paused: Any) -> None:
    client = connect_to(server, tls=True, deadline_s=0.2)
    started_s = time.monotonic()
    with paused(server), pytest.raises(Unavailable):
        client.incr("n")
    assert 0.18 <= time.monotonic() - started_s < 1.2  # reading the system's certificates takes a busy host long
