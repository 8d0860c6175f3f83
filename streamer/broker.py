"""A connection to a Redis server that is made again whenever it is lost, and the names of things in it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

MAX_ENTRIES = 10_000  # that the broker keeps, or a little more
BATCH_ENTRIES = 100  # few enough that no viewer's mailbox overflows before it is emptied
BLOCK_MILLISECONDS = 5000  # less than the broker may take to answer
ANSWER_SECONDS = 10.0  # without an answer the broker counts as away
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 2.0
EXAMPLE = "redis://broker.example.org:6379/0#main-hall"

log = logging.getLogger("asr_stream")


class BrokerError(Exception):
    """A broker cannot be used; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Topic:
    """Where captions are published: a broker's URL, and the key of a stream there."""

    url: str
    key: str

    @property
    def place(self) -> str:
        """The broker as it may be shown: without a password."""
        parts = urlsplit(self.url)
        return parts.path if parts.scheme == "unix" else parts.netloc.rpartition("@")[2]


def parse(address: str) -> Topic:
    """A topic from redis://HOST:PORT/DB#NAME (rediss: with TLS; unix:///PATH#NAME); BrokerError."""
    url, _, name = address.partition("#")
    try:
        parts = urlsplit(url)
        complete = parts.path if parts.scheme == "unix" else parts.hostname and parts.port != 0
    except ValueError:  # a port that is no number
        complete = None
    if parts.scheme not in ("redis", "rediss", "unix") or not complete:
        shown = address.rpartition("@")[2]  # without a password
        raise BrokerError(f"{shown!r} is not the address of a Redis server: write it like {EXAMPLE}")
    try:
        import redis
    except ImportError:
        raise BrokerError("redis is not installed: type  pip install 'asr-stream[redis]'") from None
    try:
        redis.Redis.from_url(url).connection_pool.make_connection()  # does not connect yet
    except (ValueError, TypeError) as error:
        raise BrokerError(f"the address of the Redis server has a part that it cannot have: {error}") from None
    return Topic(url, f"asr-stream:{name or 'captions'}")


class TakenOver(Exception):
    """Somebody else has appended to the stream after us."""


class Stream:
    """A topic over one connection: entries with a number, in runs that are numbered too."""

    def __init__(self, redis: Any, key: str) -> None:
        self._redis, self._key = redis, key

    async def ping(self) -> None:
        """Ask whether the broker is there."""
        await _answer(self._redis.execute_command("PING"))

    async def newest(self) -> tuple[int, int]:
        """Run and number of the last entry; zeros when there is none."""
        entries = await _answer(self._redis.xrevrange(self._key, count=1))
        return _split(entries[0][0]) if entries else (0, 0)

    async def append(self, run: int, number: int, fields: dict[str, str]) -> None:
        """Add an entry at the end; TakenOver when its place is not the end."""
        from redis.exceptions import ResponseError

        try:
            name = f"{run}-{number}"
            await _answer(self._redis.xadd(self._key, fields, name, maxlen=MAX_ENTRIES, approximate=True))
        except ResponseError as error:
            if "equal or smaller" in str(error):
                raise TakenOver from None
            raise

    async def read(self, after: tuple[int, int], wait: bool) -> list[tuple[tuple[int, int], dict[bytes, bytes]]]:
        """The next entries, each with its run and number; with `wait` it takes a while to find none."""
        block = BLOCK_MILLISECONDS if wait else None
        reading = self._redis.xread({self._key: f"{after[0]}-{after[1]}"}, count=BATCH_ENTRIES, block=block)
        answer = await _answer(reading)
        return [(_split(name), fields) for name, fields in answer[0][1]] if answer else []


async def check(topic: Topic) -> None:
    """Find out whether the broker answers; BrokerError."""
    from redis.exceptions import RedisError

    try:
        async with _connection(topic) as stream:
            await stream.ping()
    except (RedisError, OSError, ValueError) as error:
        raise BrokerError(f"the broker at {topic.place} does not answer ({error}): is Redis running there?") from None


async def stay_connected(topic: Topic, talk: Callable[[Stream], Awaitable[None]]) -> None:
    """Run `talk` with a connection until it returns, and again, after growing waits, whenever that is lost."""
    from redis.exceptions import RedisError

    seconds, away = FIRST_WAIT_SECONDS, False
    while True:
        connected = asyncio.get_running_loop().time()
        try:
            async with _connection(topic) as stream:
                await stream.ping()
                if away:
                    log.info("the broker at %s is back", topic.place)
                away = False
                return await talk(stream)
        except (RedisError, OSError, ValueError) as error:
            if not away:
                log.warning("the broker at %s is away (%s): trying again", topic.place, error)
            away = True
        steady = asyncio.get_running_loop().time() - connected > LONGEST_WAIT_SECONDS
        seconds = FIRST_WAIT_SECONDS if steady else min(LONGEST_WAIT_SECONDS, seconds * 1.7)
        await asyncio.sleep(seconds)


@asynccontextmanager
async def _connection(topic: Topic) -> AsyncIterator[Stream]:
    """One connection, never replaced behind our backs by one to a broker that has forgotten everything."""
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    client = Redis.from_url(
        topic.url,
        single_connection_client=True,
        retry=Retry(NoBackoff(), 0),
        socket_timeout=None,
        socket_connect_timeout=ANSWER_SECONDS,
        protocol=2,
    )
    try:
        yield Stream(client, topic.key)  # whose first command connects
    finally:
        await client.aclose()


async def _answer(command: Awaitable[Any]) -> Any:
    """What the broker says; TimeoutError.

    redis-py's own `socket_timeout` loses a cancellation that comes while a command is being sent: it is made with
    asyncio.wait_for, which did so before Python 3.12.
    """
    async with asyncio.timeout(ANSWER_SECONDS):
        return await command


def _split(name: bytes) -> tuple[int, int]:
    run, number = name.split(b"-")
    return int(run), int(number)
