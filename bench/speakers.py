"""Clients of a server under load: each plays recordings in real time and notes how long answers take.

    python bench/speakers.py URL PROTOCOL CLIENTS SECONDS WARM_UP_SECONDS FOLDER SEED

PROTOCOL is `vosk` (an answer to every packet) or `recognize`. FOLDER holds clips as 16-bit samples at 16 kHz (*.raw)
and beside each (*.json) what a server with nothing else to do tells of it: events, after how many samples, and the
texts of all finals. Clients begin one after the other during most of the warm-up. The last line printed is JSON: delays
in seconds, what was refused, failed or heard otherwise, how late packets were sent.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import InvalidStatus, WebSocketException

RATE = 16000
PACKET_SECONDS = (0.02, 0.1)


@dataclass(slots=True)
class Clip:
    """A recording, for each event that it causes after how many samples, and the texts of its finals."""

    samples: bytes
    events: list[tuple[int, str]]
    finals: list[str]


@dataclass(slots=True)
class Heard:
    """What all clients of this process measured; delays count from `since` on, in seconds."""

    since: float
    answers: list[float] = field(default_factory=list)
    finals: list[float] = field(default_factory=list)
    late: float = 0.0
    sessions: int = 0
    refused: int = 0
    failed: int = 0
    unexpected: int = 0
    checked: int = 0
    wrong: int = 0
    audio_seconds: float = 0.0

    def note(self, delays: list[float], sent: float) -> None:
        """A delay of something sent at that time that has just been answered."""
        if sent >= self.since:
            delays.append(time.perf_counter() - sent)


@dataclass(slots=True)
class Sent:
    """What one session has sent so far: samples and time of every packet."""

    until: list[int] = field(default_factory=list)
    at: list[float] = field(default_factory=list)
    end: float = 0.0

    def when(self, samples: int) -> float | None:
        """When the packet that completed so many samples was sent."""
        return next((at for until, at in zip(self.until, self.at, strict=True) if until >= samples), None)


async def send_clip(socket: ClientConnection, clip: Clip, sent: Sent, heard: Heard, rng: random.Random) -> None:
    """Send packets of random sizes, each when its last sample would have been spoken."""
    began, position, total = time.perf_counter(), 0, len(clip.samples) // 2
    while position < total:
        size = round(rng.uniform(*PACKET_SECONDS) * RATE)
        packet = clip.samples[2 * position : 2 * (position + size)]
        position += len(packet) // 2
        await asyncio.sleep(began + position / RATE - time.perf_counter())
        sent.until.append(position)
        sent.at.append(time.perf_counter())
        heard.late = max(heard.late, sent.at[-1] - began - position / RATE)
        await socket.send(packet)
    heard.audio_seconds += total / RATE
    sent.end = time.perf_counter()


async def speak_vosk(socket: ClientConnection, clip: Clip, heard: Heard, rng: random.Random) -> None:
    """One session of vosk-server's protocol; the answer to a packet is the delay."""
    sent = Sent()

    async def listen() -> None:
        answered = 0
        async for _ in socket:
            if answered < len(sent.at):
                heard.note(heard.answers, sent.at[answered])
            else:
                heard.note(heard.finals, sent.end)
                return
            answered += 1

    await socket.send('{"config": {"sample_rate": 16000}}')
    async with asyncio.TaskGroup() as both:
        both.create_task(listen())
        await send_clip(socket, clip, sent, heard, rng)
        await socket.send('{"eof": 1}')


async def speak_recognize(socket: ClientConnection, clip: Clip, heard: Heard, rng: random.Random) -> None:
    """One session of /recognize; the delay is from the samples that cause an event to the event."""
    sent, expected = Sent(), dict[str, list[int]]()
    for samples, text in clip.events:
        expected.setdefault(text, []).append(samples)

    async def listen() -> None:
        last, finals = 0.0, []
        async for message in socket:
            event = json.loads(message)
            if event["type"] not in ("partial", "final"):
                continue
            last = time.perf_counter()
            if event["type"] == "final":
                finals.append(event["text"])
            causes = expected.get(f"{event['type']} {event['text']}")
            at = sent.when(causes.pop(0)) if causes else None
            if at is None:
                heard.unexpected += not sent.end  # what the end of the audio brings is timed as a final
            else:
                heard.note(heard.answers, at)
        heard.checked += 1
        heard.wrong += finals != clip.finals
        if last > sent.end:
            heard.finals.append(last - sent.end) if sent.end >= heard.since else None

    await socket.send(json.dumps({"type": "config", "sample_rate": RATE, "words": False}))
    async with asyncio.TaskGroup() as both:
        both.create_task(listen())
        await send_clip(socket, clip, sent, heard, rng)
        await socket.send('{"type": "end"}')


async def speaker(
    url: str, protocol: str, clips: list[Clip], begin: float, until: float, heard: Heard, rng: random.Random
) -> None:
    """One client: session after session until the time is up."""
    speak = {"vosk": speak_vosk, "recognize": speak_recognize}[protocol]
    await asyncio.sleep(begin)
    while time.perf_counter() < until:
        try:
            async with connect(url, compression=None, ping_interval=None, open_timeout=30) as socket:
                heard.sessions += 1
                await speak(socket, rng.choice(clips), heard, rng)
        except* InvalidStatus:
            heard.refused += 1
            await asyncio.sleep(1)
        except* (OSError, WebSocketException):
            heard.failed += 1
            await asyncio.sleep(1)


async def run(url: str, protocol: str, clients: int, seconds: float, warm_up: float, folder: Path, seed: int) -> Heard:
    """All clients of this process."""
    clips = []
    for path in sorted(folder.glob("*.raw")):
        told = json.loads(path.with_suffix(".json").read_text())
        clips.append(Clip(path.read_bytes(), told["events"], told["finals"]))
    began = time.perf_counter()
    heard = Heard(began + warm_up)
    speakers = []
    for n in range(clients):
        rng = random.Random(f"{seed}/{n}")
        begin = rng.uniform(0, 0.8 * warm_up)  # people do not begin all at once
        speakers.append(speaker(url, protocol, clips, begin, began + seconds, heard, rng))
    await asyncio.gather(*speakers)
    return heard


def main() -> None:
    """Speak and print what was heard."""
    url, protocol, clients, seconds, warm_up, folder, seed = sys.argv[1:]
    heard = asyncio.run(run(url, protocol, int(clients), float(seconds), float(warm_up), Path(folder), int(seed)))
    print(json.dumps({name: getattr(heard, name) for name in Heard.__slots__ if name != "since"}))


if __name__ == "__main__":
    main()
