"""Both clients over TLS: as good as any other connection, and to nobody who is not trusted."""

import re
from pathlib import Path
from typing import Any

import pytest

from cachelib import OutcomeUnknown, Refused, Unavailable, deadline
from runbook.targets.base import TargetError
from runbook.targets.embedded import Embedded
from runbook.targets.port import free_port
from tests.integration.cachelib.background import Task, results
from tests.integration.conftest import make_certificate
from tests.timing import end_of

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def tls_server(certificate: tuple[Path, Path], start_server: Any) -> tuple[Embedded, int]:
    """A server, and the port on which it speaks TLS."""
    port = free_port()
    pem, key = map(str, certificate)
    try:
        server = start_server("--tls-port", str(port), "--tls-cert-file", pem, "--tls-key-file", key, "--tls-auth-clients", "no")
    except TargetError:
        pytest.skip("this server was built without TLS")
    return server, port


@pytest.fixture(scope="session")
def other_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another self-signed certificate."""
    return make_certificate(tmp_path_factory.mktemp("other-tls"))[0]


def test_tls_connection_is_as_good_as_any(
    tls_server: tuple[Embedded, int], certificate: tuple[Path, Path], open_client: Any, paused: Any
) -> None:
    server, port = tls_server
    client = open_client(server, port=port, tls=True, tls_ca_file=certificate[0], deadline_s=5.0)
    assert client.set("k", "v" * 1_000_000)
    assert len(client.get("k")) == 1_000_000
    assert client.pipeline().incr("n").incr("n").execute() == [1, 2]
    assert sorted(results([Task(lambda: client.incr("n")) for _ in range(50)])) == list(range(3, 53))
    with paused(server), deadline(0.3), pytest.raises(OutcomeUnknown):
        client.incr("n")
    with client.client() as single:
        single.ping()
        server.kill()
        server.start()
        assert single.get("missing") is None
        assert client.pipeline().incr("again").execute() == [1]


def test_server_whose_certificate_is_not_trusted_is_not_used(tls_server: tuple[Embedded, int], open_client: Any) -> None:
    server, port = tls_server
    client = open_client(server, port=port, tls=True, deadline_s=30.0)
    for use in (lambda: client.incr("n"), lambda: client.pipeline().incr("n").execute()):
        end = end_of(use)
        assert end.kind is Refused
        assert re.search(r"is not trusted: self-signed certificate\. Check REDIS_TLS_CA_FILE", str(end.outcome))
        assert end.took_s < 15.0  # at once, not at the deadline


@pytest.mark.parametrize(
    "use", [lambda client: client.ping(), lambda client: client.pipeline().get("k").execute()], ids=["GET", "pipeline"]
)
def test_authorities_of_the_system_are_not_trusted_where_others_are_named(
    use: Any,
    tls_server: tuple[Embedded, int],
    certificate: tuple[Path, Path],
    other_certificate: Path,
    open_client: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The server's certificate is among those of the system, and not among those that the configuration names."""
    server, port = tls_server
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate[0]))
    use(open_client(server, port=port, tls=True))
    with pytest.raises(Refused, match="is not trusted"):
        use(open_client(server, port=port, tls=True, tls_ca_file=other_certificate))


def test_tls_handshake_ends_at_the_deadline(server: Embedded, certificate: tuple[Path, Path], open_client: Any, paused: Any) -> None:
    """With one certificate to trust, since it takes long to read those of the system."""
    client = open_client(server, tls=True, tls_ca_file=certificate[0], deadline_s=0.3)
    with paused(server):
        end = end_of(lambda: client.incr("n"))
    assert (end.kind, end.is_at(0.3)) == (Unavailable, True)
