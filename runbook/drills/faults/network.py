"""Breaks the network between clients and a Redis, at the `Proxy` between the two; named as toxiproxy's toxics where it has them.

Each fault is a context manager that heals in the end and hands out an `Impact`, which counts what it did.
"""

import contextlib
import errno
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

from runbook.drills.faults.impact import Impact
from runbook.drills.faults.link import Link, Toxic
from runbook.drills.faults.proxy import Proxy, ProxyClosed
from runbook.drills.faults.toxics import Bottleneck, Delay, Hole, TakeReply

NONE_OPEN = "no connection was open: connect before the block"
NOTHING_SENT = "nobody sent anything over a silent connection: use one inside the block"


@contextlib.contextmanager
def delayed(proxy: Proxy, delay_s: float) -> Iterator[Impact]:
    """Deliver every reply that many seconds later; the order is kept, and no connection waits for another.

    Raises:
        ValueError: the delay is not positive.
    """
    _require(delay_s > 0, f"delay_s={delay_s:g} delays nothing: give more than 0")
    impact = Impact("delayed", {"replies": "no delayed reply arrived: inside the block, send a command and wait for its reply"})
    with _poisoned(proxy, impact, Delay(impact, round(delay_s * 1e9))):
        yield impact


@contextlib.contextmanager
def bandwidth(proxy: Proxy, bytes_per_s: int) -> Iterator[Impact]:
    """Let no more than so many bytes a second of each connection's replies pass; the end of the block delivers what is held.

    Raises:
        ValueError: it is less than 1.
    """
    _require(bytes_per_s >= 1, f"bytes_per_s={bytes_per_s} lets nothing pass: give 1 or more, or use `black_hole`")
    impact = Impact("bandwidth", {"slowed_bytes": "no slowed reply arrived: inside the block, send a command and wait for its reply"})
    toxic = Bottleneck(impact, bytes_per_s)
    with _poisoned(proxy, impact, toxic, toxic.release):
        yield impact


@contextlib.contextmanager
def half_open(proxy: Proxy) -> Iterator[Impact]:
    """Silence the connections that exist, as a pulled cable does, or a NAT table that forgot them; new ones work.

    Neither side gets anything any more, no FIN or RST either, and the end of the block doesn't change that: only the client
    can end such a connection, or the proxy's `close`.
    """
    impact = Impact("half_open", {"connections": NONE_OPEN, "swallowed_bytes": NOTHING_SENT})
    with _broken(proxy, impact, lambda: _on_each(proxy, impact, lambda link: link.silence(impact.swallow))):
        yield impact


@contextlib.contextmanager
def black_hole(proxy: Proxy) -> Iterator[Impact]:
    """Silence all connections, and accept new ones to never answer them; the end of the block cuts all these."""
    impact = Impact(
        "black_hole",
        {"connections": "no connection was open, and none was made: connect before the block or in it", "swallowed_bytes": NOTHING_SENT},
    )
    hole = Hole(impact)

    def dig() -> None:
        proxy.toxics.append(hole)
        for link in _alive(proxy):
            hole.connected(link)

    def fill() -> None:
        _remove(proxy, hole)
        for link in hole.links:
            link.end()

    with _broken(proxy, impact, dig, fill):
        yield impact


@contextlib.contextmanager
def refused(proxy: Proxy) -> Iterator[Impact]:
    """Cut the connections that exist and close the port, so that new ones are refused; the end of the block opens the same port.

    An attempt of our own proves that the port refuses; whether a client tried can't be seen from here.
    """
    impact = Impact("refused", {"refused": "the port never refused a connection"})
    with _port_closed(proxy, impact):
        yield impact


@contextlib.contextmanager
def reset(proxy: Proxy) -> Iterator[Impact]:
    """End the connections that exist by RST when the block begins; new ones work."""
    impact = Impact("reset", {"connections": NONE_OPEN})
    with _broken(proxy, impact, lambda: _on_each(proxy, impact, lambda link: link.end(reset=True))):
        yield impact


@contextlib.contextmanager
def flapping(proxy: Proxy, up_s: float, down_s: float) -> Iterator[Impact]:
    """Let the port work for some seconds and be `refused` for some, in turn, until the block ends.

    Raises:
        ValueError: one of the times is not positive.
    """
    _require(up_s > 0 and down_s > 0, f"up_s={up_s:g} and down_s={down_s:g} can't flap: give more than 0 for both")
    impact = Impact("flapping", {"refused": f"the port was never closed: stay in the block for longer than up_s={up_s:g}"})
    over = threading.Event()

    def flap() -> None:
        with contextlib.suppress(ProxyClosed):
            while not over.wait(up_s):
                with _port_closed(proxy, impact):
                    over.wait(down_s)

    thread = threading.Thread(target=flap, name=f"flapping-{proxy.port}", daemon=True)
    with _broken(proxy, impact, lambda: None):
        thread.start()
        try:
            yield impact
        finally:
            over.set()
            thread.join()


@contextlib.contextmanager
def losing_replies(proxy: Proxy, word: bytes, *, times: int = 1, reset: bool = False) -> Iterator[Impact]:
    """Let the server execute a command, swallow its reply, and end the client's connection.

    The replies to earlier commands of a batch are delivered, those to later ones are not. Which reply belongs to which command
    is known by counting, so that a connection must not subscribe before.

    Args:
        proxy: what the client is connected to.
        word: in the command or its arguments, upper or lower case.
        times: how many such commands are met before all is well again.
        reset: whether the client gets an RST instead of an orderly end.

    Raises:
        ValueError: `times` is less than 1.
    """
    with _taking(proxy, Impact("losing_replies"), word, times, 0, lambda link: link.end(reset=reset)) as impact:
        yield impact


@contextlib.contextmanager
def withholding_replies(proxy: Proxy, word: bytes, *, times: int = 1) -> Iterator[Impact]:
    """Do as `losing_replies` does, but leave the client's connection open, and silent until the client ends it."""
    impact = Impact("withholding_replies")
    with _taking(proxy, impact, word, times, 0, lambda link: link.silence(impact.swallow)):
        yield impact


@contextlib.contextmanager
def cutting_replies(proxy: Proxy, word: bytes, after_bytes: int, *, times: int = 1, reset: bool = False) -> Iterator[Impact]:
    """Do as `losing_replies` does, but deliver the first bytes of the reply; one that isn't longer arrives whole and is not counted.

    Raises:
        ValueError: `times` is less than 1, or `after_bytes` less than 0.
    """
    _require(after_bytes >= 0, f"after_bytes={after_bytes} is not a length: give 0 or more")
    with _taking(proxy, Impact("cutting_replies"), word, times, after_bytes, lambda link: link.end(reset=reset)) as impact:
        yield impact


@contextlib.contextmanager
def _taking(proxy: Proxy, impact: Impact, word: bytes, times: int, after_bytes: int, then: Callable[[Link], None]) -> Iterator[Impact]:
    _require(times >= 1, f"times={times} meets no command: give 1 or more")
    impact.needed = {
        "connections": f"no command held {word!r}: send one inside the block",
        "replies": f"the server had not answered a command that held {word!r}: wait for the failure inside the block",
    }
    if after_bytes:
        impact.needed["replies"] = f"no reply to a command that held {word!r} was longer than after_bytes={after_bytes}"
    toxic = TakeReply(impact, word, times, after_bytes, then)
    with _poisoned(proxy, impact, toxic, toxic.release):
        yield impact


@contextlib.contextmanager
def _port_closed(proxy: Proxy, impact: Impact) -> Iterator[None]:
    def close() -> None:
        proxy.refuse()
        _on_each(proxy, impact, Link.end)

    with _broken(proxy, impact, close, proxy.listen):
        with socket.socket() as probe:
            probe.settimeout(1)
            error = probe.connect_ex(("127.0.0.1", proxy.port))
        if error == errno.ECONNREFUSED:
            impact.refused += 1
        else:
            impact.doubt(f"its port did not refuse a connection: {os.strerror(error) if error else 'it accepted it'}")
        yield


@contextlib.contextmanager
def _poisoned(proxy: Proxy, impact: Impact, toxic: Toxic, release: Callable[[], None] = lambda: None) -> Iterator[None]:
    def heal() -> None:
        _remove(proxy, toxic)
        release()

    with _broken(proxy, impact, lambda: proxy.toxics.append(toxic), heal):
        yield


@contextlib.contextmanager
def _broken(proxy: Proxy, impact: Impact, begin: Callable[[], None], heal: Callable[[], None] = lambda: None) -> Iterator[None]:
    try:
        proxy.call(begin)
        yield
    finally:
        # There is nothing to heal of a closed proxy.
        with contextlib.suppress(ProxyClosed):
            proxy.call(heal)
        impact.healed_ns = time.monotonic_ns()


def _alive(proxy: Proxy) -> list[Link]:
    return [link for link in proxy.links() if not link.silent]


def _on_each(proxy: Proxy, impact: Impact, act: Callable[[Link], None]) -> None:
    for link in _alive(proxy):
        impact.connections += 1
        act(link)


def _remove(proxy: Proxy, toxic: Toxic) -> None:
    if toxic in proxy.toxics:
        proxy.toxics.remove(toxic)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
