"""Captions through a real Redis server: killed, empty, back again; and viewers who hear every final once."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import soundfile
from redis_server import MISSING, Redis, redis_server
from test_cli import PROGRAM, address, fails
from test_hub import GAP, HELLO, OTHER, final, partial, rest
from tiny_model import babble
from waiting import asynchronous, until
from websockets.sync.client import connect

from streamer.broker import BrokerError, Topic, parse
from streamer.events import Event, Final, Partial, Word, to_json
from streamer.hub import Hub, Mailbox
from streamer.parting import cancel
from streamer.publish import publishing
from streamer.relay import Subscription

pytestmark = pytest.mark.skipif(MISSING is not None, reason=str(MISSING))


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[Redis]:
    with redis_server(tmp_path) as server:
        yield server


@asynccontextmanager
async def following(topic: Topic, hub: Hub | None = None) -> AsyncIterator[tuple[Mailbox, list[Event]]]:
    """A mailbox of a relay's hub, and a list of what came out of it but partials, which grows."""
    hub = hub or Hub()
    heard: list[Event] = []
    subscription = Subscription(topic, hub)
    reading = asyncio.create_task(subscription.follow())
    await subscription.caught_up.wait()

    async def collect(mailbox: Mailbox) -> None:
        async for message in mailbox:
            if not isinstance(message.event, Partial):
                heard.append(message.event)

    with hub.subscribe() as mailbox:
        collecting = asyncio.create_task(collect(mailbox))
        try:
            yield mailbox, heard
        finally:
            await cancel(reading, collecting)


async def heard_by_a_new_viewer(topic: Topic, last: Event) -> list[Event]:
    """What somebody hears who comes to a relay that has just been started, when that has read up to an event."""
    hub = Hub()
    async with following(topic, hub) as (_, heard):
        await until(lambda: last in heard)
        return await rest(hub.subscribe())


@asynchronous
async def test_what_is_published_here_is_heard_there_and_late_comers_hear_the_last_of_it(redis: Redis) -> None:
    topic, hub = parse(redis.url), Hub()
    async with following(topic) as (mailbox, heard), publishing(hub, topic):
        for event in (HELLO, final(0), GAP, final(1), OTHER, partial(0, "and so")):
            hub.publish(event)
        await until(lambda: len(heard) == 5)
        assert heard == [HELLO, final(0), GAP, final(1), OTHER]
        events = await heard_by_a_new_viewer(topic, OTHER)
        assert events[:5] == heard
        hub.publish(final(0))
        hub.close()
        await until(lambda: len(heard) == 6)
        assert mailbox.closed.is_set() is False


@asynchronous
async def test_a_broker_that_dies_and_forgets_everything_costs_no_final_and_doubles_none(redis: Redis) -> None:
    topic, hub = parse(redis.url), Hub()
    async with following(topic) as (_, heard), publishing(hub, topic):
        hub.publish(HELLO)
        for segment in range(0, 12, 3):
            hub.publish(final(segment))
            await until(lambda: final(segment) in heard)  # noqa: B023
            redis.kill()
            hub.publish(final(segment + 1))
            redis.start()
            hub.publish(final(segment + 2))
        await until(lambda: final(11) in heard)
        assert heard == [HELLO, *map(final, range(12))]
        assert await heard_by_a_new_viewer(topic, final(11)) == [HELLO, *map(final, range(12))]
        hub.close()


@asynchronous
async def test_what_a_relay_had_not_read_when_the_broker_died_it_hears_from_the_next_one(redis: Redis) -> None:
    topic, hub = parse(redis.url), Hub()
    async with publishing(hub, topic):
        for event in (HELLO, final(0), final(1)):
            hub.publish(event)
        await heard_by_a_new_viewer(topic, final(1))
        redis.kill()
        redis.start()
        async with following(topic) as (_, heard):
            hub.publish(final(2))
            await until(lambda: final(2) in heard)
            assert heard == [HELLO, final(0), final(1), final(2)]
        hub.close()


@asynchronous
async def test_without_a_broker_captions_go_on_and_it_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redis, hub = Redis(tmp_path), Hub()
    topic = parse(redis.url)
    with caplog.at_level(logging.INFO, "asr_stream"), contextlib.ExitStack() as stack:
        stack.callback(redis.kill)
        async with publishing(hub, topic):
            mailbox = hub.subscribe()
            for event in (HELLO, final(0)):
                hub.publish(event)
                assert (await mailbox.get()).event == event  # type: ignore[union-attr]
            await until(lambda: caplog.messages)
            redis.start()
            assert await heard_by_a_new_viewer(topic, final(0)) == [HELLO, final(0)]
            redis.kill()
            await until(lambda: len(caplog.messages) == 3)
            hub.publish(final(1))
            hub.close()
    away, back, gone, undelivered = caplog.messages
    assert away.startswith(f"the broker at {redis.socket} is away (")
    assert back == f"the broker at {redis.socket} is back"
    assert gone.startswith(f"the broker at {redis.socket} is away (")
    assert undelivered == f"1 captions did not reach the broker at {redis.socket}"


@asynchronous
async def test_who_follows_a_topic_can_be_stopped_in_whatever_it_does(redis: Redis) -> None:
    """Python before 3.12 forgot it where redis-py waited with a timeout for a command to be sent."""
    for turns in range(40):
        for waits in (False, True):
            subscription = Subscription(parse(redis.url), Hub())
            following = asyncio.create_task(subscription.follow())
            if waits:
                await subscription.caught_up.wait()
            for _ in range(turns):
                await asyncio.sleep(0)
            following.cancel()
            await until(following.done)


@asynchronous
async def test_a_later_publisher_of_the_same_name_wins_and_the_first_one_says_so(
    redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    topic, first, second = parse(redis.url), Hub(), Hub()
    async with following(topic) as (_, heard), publishing(first, topic):
        first.publish(HELLO)
        await until(lambda: HELLO in heard)
        async with publishing(second, topic):
            second.publish(OTHER)
            await until(lambda: OTHER in heard)
            first.publish(final(0))
            await until(lambda: "give each a name of its own" in caplog.text)
            second.publish(final(1))
            await until(lambda: final(1) in heard)
            second.close()
        first.close()
    assert final(0) not in heard
    assert parse(redis.url + "#other").key != topic.key


@asynchronous
async def test_what_is_no_caption_is_left_out(redis: Redis, caplog: pytest.LogCaptureFixture) -> None:
    import redis as client

    topic, hub = parse(redis.url), Hub()
    hello = json.dumps(to_json(HELLO, 8000))
    said = json.dumps(to_json(Final(0, 0, 8, "a", (Word("a", 0, 8, 0.5),)), 8000))
    nonsense = [
        {"song": "la"},
        {"hello": "[]", "event": "{}"},
        {"hello": b"\xff", "event": '{"type":"gap"}'},
        {"hello": hello, "event": '{"type":"partial","segment":"x","start":0,"end":1,"text":"a","stable":0}'},
        {"hello": hello, "event": '{"type":"gap","start":0,"end":Infinity,"reason":"a"}'},
        {"hello": hello, "event": said.replace("0.5", "NaN")},  # which no browser would read
        {"hello": hello, "event": said.replace("0.5", "1.5")},
        {"hello": "[" * 100_000, "event": "{}"},
        {"hello": hello.replace("8000", "1" + "0" * 400), "event": '{"type":"gap","start":0,"end":1,"reason":"a"}'},
        {"hello": hello, "event": r'{"type":"gap","start":0,"end":1,"reason":"\ud800"}'},
    ]
    with client.Redis.from_url(redis.url) as broker:
        for fields in nonsense:
            broker.xadd(topic.key, fields)  # type: ignore[arg-type]
    async with following(topic) as (_, heard), publishing(hub, topic):
        hub.publish(HELLO)
        await until(lambda: heard == [HELLO])
        hub.close()
    assert caplog.text.count("is no caption: it is left out") == len(nonsense)


def start(*args: object) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen([*map(str, args)], **pipes, text=True)  # type: ignore[call-overload,no-any-return]


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@contextlib.contextmanager
def running(redis: Redis, streaming: Path) -> Iterator[tuple[list[subprocess.Popen[str]], str, list[object]]]:
    """A publisher that hears its standard input, a relay, a viewer of that; the relay's address and command."""
    command: list[object] = [*PROGRAM, "relay", "--subscribe", redis.url]
    relay = start(*command, "--port", 0)
    where = address(relay)
    client = [PROGRAM[0], "-u", str(Path(__file__).parent.parent / "clients" / "terminal.py"), f"ws://{where}"]
    heard_here = [*PROGRAM, "-", "--rate", "16000", "--model", str(streaming), "--port", "0", "--publish", redis.url]
    processes = [start(*heard_here), relay, start(*client)]
    try:
        yield processes, where, [*command, "--port", where.rsplit(":", 1)[1]]
    finally:
        for process in processes:
            process.kill()
            with process:  # closes its pipes
                pass


def test_a_viewer_of_a_relay_sees_every_caption_once_whoever_is_killed(redis: Redis, streaming: Path) -> None:
    samples = (babble(16000 * 60) * 32767).astype("<i2").tobytes()
    steps = [samples[at : at + 32000 * 6] for at in range(0, len(samples), 32000 * 6)]
    with running(redis, streaming) as (processes, _, command), contextlib.ExitStack() as stack:
        publisher, relay, viewer = processes
        local = stack.enter_context(connect(f"ws://{address(publisher)}/captions"))
        spoken, shown = [], []
        for number, step in enumerate(steps):
            if number in (2, 8):
                redis.kill()
            if number in (5, 8):
                relay.kill()
                relay.communicate()
            assert publisher.stdin is not None
            publisher.stdin.buffer.write(step)
            publisher.stdin.flush()
            spoken.append(line(publisher))
            while json.loads(local.recv())["type"] != "final":
                pass
            if number in (3, 8):
                redis.start()
            if number in (6, 9):
                relay = processes[1] = start(*command)
            if number in (1, 4, 7, 9):
                shown += [line(viewer) for _ in range(len(spoken) - len(shown))]
        publisher.stdin.close()
        assert publisher.stdout is not None
        spoken += publisher.stdout
        shown += [line(viewer) for _ in range(len(spoken) - len(shown))]
        assert publisher.wait(timeout=30) == 0
        viewer.send_signal(signal.SIGINT)
        rest_of_it, _ = viewer.communicate(timeout=30)
        relay.send_signal(signal.SIGTERM)
        relay.communicate(timeout=30)
    assert shown == spoken
    assert rest_of_it == ""
    assert len(spoken) >= len(steps)
    assert relay.returncode == 0


def test_a_relay_may_have_workers_who_all_tell_the_same(redis: Redis, streaming: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "talk.wav", babble(16000 * 8), 16000)
    relay = start(*PROGRAM, "relay", "--subscribe", redis.url, "--port", 0, "--workers", 2)
    try:
        url = f"ws://{address(relay)}/captions"
        assert relay.stderr is not None
        assert relay.stderr.readline() == "asr-stream: worker 2 is ready\n"
        with connect(url) as first, connect(url) as second:
            talk = [str(tmp_path / "talk.wav"), "--model", str(streaming), "--no-server", "--publish", redis.url]
            out = subprocess.run([*PROGRAM, *talk], capture_output=True, text=True, check=True, timeout=60).stdout
            for viewer in (first, second):
                shown: list[str] = []
                while len(shown) < out.count("\n"):
                    message = json.loads(viewer.recv())
                    shown += [message["text"] + "\n"] if message["type"] == "final" else []
                assert "".join(shown) == out
        relay.send_signal(signal.SIGTERM)
        relay.communicate(timeout=30)
        assert relay.returncode == 0
    finally:
        relay.kill()
        relay.communicate()


def test_what_cannot_work_is_one_sentence(tmp_path: Path, streaming: Path) -> None:
    nobody = f"unix://{tmp_path}/nobody.sock"
    assert "write it like redis://" in fails("relay", "--subscribe", "broker.example.org")
    told = fails("sample", "--publish", "redis://:secret@host:port")
    assert "'host:port' is not the address of a Redis server: write it like redis://" in told
    assert "secret" not in told
    assert "has a part that it cannot have" in fails("relay", "--subscribe", "redis://broker?color=red")
    told = fails("relay", "--subscribe", nobody)
    assert "does not answer" in told
    assert "is Redis running there?" in told
    assert "--publish tells what is heard here" in fails("--serve", "--publish", nobody)
    assert "Missing option '--subscribe'" in fails("relay")


def test_without_the_redis_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "redis", None)
    with pytest.raises(BrokerError, match=r"pip install 'asr-stream\[redis\]'"):
        parse("redis://broker.example.org")


def test_passwords_are_not_shown() -> None:
    assert parse("redis://name:secret@broker:6379/0#hall").place == "broker:6379"


def test_a_file_called_relay_is_a_file(streaming: Path, tmp_path: Path) -> None:
    soundfile.write(tmp_path / "relay", babble(16000 * 4), 16000, format="WAV")
    command = [*PROGRAM, "--model", str(streaming), "--no-server"]
    for name in ("./relay", "relay"):
        done = subprocess.run([*command, name], cwd=tmp_path, capture_output=True, timeout=60)
        assert done.returncode == 0, done.stderr
        assert done.stdout
