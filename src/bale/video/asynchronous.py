"""How does a stream run under an event loop, which it never blocks?"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Generator, Iterable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

_END: Any = object()


async def async_results(
    items: Iterable[Item] | AsyncIterable[Item],
    results_of: Callable[[Iterable[Item]], Generator[Result, None, None]],
) -> AsyncGenerator[Result, None]:
    """Yield what `results_of` makes of the items, each when it is asked for; that runs in a thread of its own."""
    loop = asyncio.get_running_loop()
    source = _Awaited(items, loop) if isinstance(items, AsyncIterable) else None
    results = results_of(items if source is None else source)  # pyright: ignore[reportArgumentType]
    pool = ThreadPoolExecutor(1, thread_name_prefix="bale stream")
    try:
        while (result := await loop.run_in_executor(pool, next, results, _END)) is not _END:
            yield result
    finally:
        if source is not None:
            source.stop()  # the thread may be waiting for it
        try:
            # After the step under way, as the pool has one thread; it goes on if waiting for it is cancelled too.
            await asyncio.shield(loop.run_in_executor(pool, results.close))
        finally:
            pool.shutdown(wait=False)


class _Awaited(Iterator[Item]):
    """Items that come asynchronously, for a thread that may wait for them while the event loop runs elsewhere."""

    def __init__(self, items: AsyncIterable[Item], loop: asyncio.AbstractEventLoop) -> None:
        self._items = aiter(items)
        self._loop = loop
        self._stopped = False
        self._coming: Future[Item] | None = None

    def __next__(self) -> Item:
        coming = self._coming = asyncio.run_coroutine_threadsafe(self._next(), self._loop)
        if self._stopped:  # perhaps between that line and this one
            coming.cancel()
        try:
            item = coming.result()
        except CancelledError:
            if self._stopped:
                raise StopIteration from None
            raise
        if item is _END:
            raise StopIteration
        return item

    def stop(self) -> None:
        """Let a thread that waits, or would wait, find the end instead; called on the event loop."""
        self._stopped = True
        if self._coming is not None:
            self._coming.cancel()

    async def _next(self) -> Item:
        return await anext(self._items, _END)
