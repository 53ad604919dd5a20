"""The asyncio client with the interface of the threaded one, so that one test serves both."""

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable, Iterator
from typing import Any

import redis.asyncio
from redis.asyncio.client import Monitor, PubSub
from redis.asyncio.lock import Lock
from redis.commands.core import AsyncScript

import cachelib

WRAPPED = (redis.asyncio.Redis, PubSub, Monitor, Lock, AsyncScript)


class EventLoopThread:
    """An event loop in a thread; a call made in it has the deadline of the thread that makes it, whose context it inherits."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._thread = threading.Thread(target=loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, function: Callable[..., Any], *args: Any, **options: Any) -> Any:
        """Call a function in the loop; return what it returned, or what its coroutine did."""

        async def call() -> Any:
            outcome = function(*args, **options)
            if inspect.isasyncgen(outcome):
                return [item async for item in outcome]
            return await outcome if inspect.iscoroutine(outcome) or isinstance(outcome, asyncio.Future) else outcome

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Bridged:
    """One of redis-py's asyncio objects; each of its methods runs in the loop, and its caller waits for the result.

    A callable given to `transaction` is called in a thread, with the pipeline bridged as well.
    """

    def __init__(self, target: Any, thread: EventLoopThread) -> None:
        self._target, self._thread = target, thread

    def __repr__(self) -> str:
        return repr(self._target)

    def __len__(self) -> int:
        return len(self._target)

    def __enter__(self) -> Any:
        return self._wrap(self._thread.run(self._target.__aenter__))

    def __exit__(self, *error: object) -> None:
        self._thread.run(self._target.__aexit__, *error)

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._target, {"close": "aclose"}.get(name, name))
        return self._method(value) if inspect.isroutine(value) else value

    def __call__(self, *args: Any, **options: Any) -> Any:
        return self._method(self._target)(*args, **options)

    def transaction(self, change: Callable[[Any], Any], *watched: Any, **options: Any) -> Any:
        async def changed(pipe: Any) -> Any:
            return await asyncio.to_thread(change, self._wrap(pipe))

        return self._thread.run(self._target.transaction, changed, *watched, **options)

    def _method(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            given = {name: _unwrapped(value) for name, value in options.items()}
            return self._wrap(self._thread.run(method, *map(_unwrapped, args), **given))

        return call

    def _wrap(self, outcome: Any) -> Any:
        if outcome is self._target:
            return self
        return Bridged(outcome, self._thread) if isinstance(outcome, WRAPPED) else outcome


def _unwrapped(value: Any) -> Any:
    return value._target if isinstance(value, Bridged) else value


@contextlib.contextmanager
def bridged(connect: Callable[[], Any], new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop) -> Iterator[Any]:
    """Make an asyncio client, and use it from threads; it and its loop end with the block."""
    thread = EventLoopThread(new_loop())
    try:
        client = thread.run(connect)
        try:
            yield Bridged(client, thread)
        finally:
            thread.run(client.aclose)
    finally:
        thread.close()


def check(client: Any, *, timeout_s: float = 1.0) -> cachelib.HealthReport:
    """Check a client of either kind."""
    if isinstance(client, Bridged):
        report: cachelib.HealthReport = client._thread.run(cachelib.check_async, client._target, timeout_s=timeout_s)
        return report
    return cachelib.check(client, timeout_s=timeout_s)
