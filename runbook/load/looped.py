"""A client of asyncio for a load of threads: each call runs in one event loop, and its thread waits for it."""

import asyncio
import contextlib
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from redis.commands import CoreCommands

from cachelib import AsyncClient, Config, connect_async
from cachelib.events import Observer


class Looped(CoreCommands):
    """redis-py's commands, sent by an asyncio client; a call's deadline comes along, since its task inherits the thread's context.

    Args:
        client: sends them.
        loop: runs in a thread of its own.
    """

    _event_dispatcher: Any = None  # which redis-py's commands declare to need

    def __init__(self, client: AsyncClient, loop: asyncio.AbstractEventLoop) -> None:
        self._client, self._loop = client, loop

    def execute_command(self, *args: Any, **options: Any) -> Any:
        """Send one command and return its reply."""
        return asyncio.run_coroutine_threadsafe(self._client.execute_command(*args, **options), self._loop).result()


@contextlib.contextmanager
def looped(config: Config, observers: Sequence[Observer]) -> Iterator[Looped]:
    """Connect a client of asyncio in an event loop of its own; both end with the block.

    Args:
        config: where to.
        observers: are told what happens to the client, in the loop's thread.
    """
    client = connect_async(config, observers=observers)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield Looped(client, loop)
    finally:
        try:
            asyncio.run_coroutine_threadsafe(client.aclose(), loop).result()
        finally:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()
