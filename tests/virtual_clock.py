"""An event loop on which hours pass in no time, so that tests of waiting neither wait nor depend on the machine."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Selector(selectors.DefaultSelector):
    loop: VirtualClock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        events = super().select(0)
        if not events:
            self.loop.now += timeout
        return events


class VirtualClock(asyncio.SelectorEventLoop):
    """Its time stands still while there is something to do, and otherwise jumps to the next timer."""

    def __init__(self) -> None:
        selector = _Selector()
        selector.loop = self
        self.now = 0.0
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    """What asyncio.run does, in virtual time, of which an hour is enough."""

    async def within_an_hour() -> T:
        return await asyncio.wait_for(coroutine, 3600)

    with asyncio.Runner(loop_factory=VirtualClock) as runner:
        return runner.run(within_an_hour())
