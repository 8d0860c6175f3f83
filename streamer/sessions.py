"""Sessions: each is one client's audio on its way to its own events."""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from websockets.frames import CloseCode

from streamer.admission import Admission
from streamer.endpoint import Endpointing
from streamer.events import Event, Final, Hello, Partial
from streamer.intake import Intake
from streamer.journal import current_session
from streamer.model import ModelError
from streamer.pace import Pace
from streamer.parting import Farewell, Silent
from streamer.scheduler import RecogniserError, Scheduler, Stream
from streamer.session_config import Config, ConfigError, Pcm
from streamer.spec import ModelSpec

log = logging.getLogger("asr_stream")


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session waits, in seconds: for any sign of life, for a message, for its client to read, and for its
    end when the server stops. `max_speed` is how many times real time its audio is taken, `vosk_rate` the sample rate
    of clients of vosk-server's protocol that do not give one."""

    idle_seconds: float = 60.0
    mute_seconds: float = 3600.0
    patience_seconds: float = 30.0
    grace_seconds: float = 5.0
    max_speed: float = math.inf
    vosk_rate: int = 8000


class Session:
    """One client's audio: `begin`, `hear` any bytes, `finish`; its events are told as they come.

    `name` is its own, in the log and in its hello.
    """

    def __init__(self, scheduler: Scheduler, tell: Callable[[Event], None], max_speed: float, log_text: bool) -> None:
        self.name = secrets.token_hex(4)
        self.listening: asyncio.Task[None] | None = None
        self.audio_seconds = 0.0
        self._scheduler, self._tell = scheduler, tell
        self._pace, self._log_text = Pace(max_speed), log_text
        self._config = Config()
        self._stream: Stream | None = None

    @property
    def begun(self) -> bool:
        """Whether its configuration is settled."""
        return self._stream is not None

    @property
    def arrived(self) -> float | None:
        """When the audio was here from which the event that is told now is known, in the scheduler's time."""
        return self._stream.arrived if self._stream else None

    @property
    def lag_seconds(self) -> float:
        """How long its events took at most since their audio was here, unless that waited for its end."""
        return self._stream.largest_lag_seconds if self._stream else 0.0

    def begin(self, config: Config) -> None:
        """Settle the configuration; ConfigError when its hotwords cannot be listened for."""
        model = self._scheduler.model
        rate = model.spec.features.sample_rate
        try:
            decoder = model.listening_for(config.hotwords)
        except ModelError as error:
            raise ConfigError(str(error)) from None
        recognizer = model.recognizer(Endpointing(pause_seconds=config.pause_seconds), decoder)
        self._config = config
        self._pcm = Pcm(config.format, config.channels)
        self._intake = Intake(f"session {self.name}", config.sample_rate, rate)
        self._stream = self._scheduler.open(recognizer, self._pass_on)

    async def hear(self, data: bytes) -> None:
        """Take audio; waits while a second of it has not been decoded, or while it comes faster than it may."""
        if self._stream is None:
            self.begin(Config())
        assert self._stream is not None
        for samples in self._pcm.push(data):
            seconds = len(samples) / self._config.sample_rate
            self.audio_seconds += seconds
            if wait_seconds := self._pace.wait_seconds(seconds, asyncio.get_running_loop().time()):
                await asyncio.sleep(wait_seconds)
            for block in self._intake.push(samples):
                await self._stream.push(block)

    async def caught_up(self) -> None:
        """Wait until all has been decoded that can be."""
        if self._stream is not None:
            await self._stream.caught_up()

    async def finish(self) -> None:
        """Decode what is left and close the open segment; then it may go on."""
        if self._stream is not None:
            for block in self._intake.flush():
                await self._stream.push(block)
            await self._stream.finish()

    def listen(self, conversation: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Run what listens to the client as a task, which is cancelled when the server stops."""
        self.listening = asyncio.create_task(conversation)
        return self.listening

    def sent(self, event: Event, arrived: float | None) -> None:
        """An event has gone to the client; count how long that took since its audio was here."""
        if arrived is not None and isinstance(event, Partial | Final):
            kind = "final" if isinstance(event, Final) else "partial"
            self._scheduler.tally.latency[kind].observe(self._scheduler.clock() - arrived)

    def close(self) -> None:
        """The client has left."""
        if self._stream is not None:
            self._stream.close()

    def _pass_on(self, event: Event) -> None:
        if self._log_text and isinstance(event, Final):
            log.info("session %s: %s", self.name, event.text, extra={"session": self.name, "text": event.text})
        if isinstance(event, Final) and not self._config.words:
            self._tell(replace(event, words=()))
        elif self._config.partials or not isinstance(event, Partial):
            self._tell(event)


class Sessions:
    """All sessions of a server: what they share, who may come in, and their end in good order."""

    def __init__(
        self, scheduler: Scheduler, admission: Admission, limits: Limits | None = None, log_text: bool = False
    ) -> None:
        import soxr  # noqa: F401  # not first by a session, when there may be no file descriptor left to load it

        self.admission, self.tally = admission, scheduler.tally
        self.limits = limits or Limits()
        self._log_text = log_text
        self._scheduler = scheduler
        self._open: dict[Session, asyncio.Task[Farewell]] = {}

    @property
    def spec(self) -> ModelSpec:
        """The description of the model that listens."""
        return self._scheduler.model.spec

    @property
    def sample_rate(self) -> int:
        """What the model hears, in Hz."""
        return self.spec.features.sample_rate

    def hello(self, name: str = "") -> Hello:
        """The first event of a session of this name."""
        return Hello(self.spec.name, self.spec.language, self.sample_rate, "session", name)

    def spelled(self, words: Collection[str]) -> tuple[str, ...]:
        """Those of these words that can be listened for."""
        model = self._scheduler.model
        return tuple(word for word in words if model.weighs_words and model.spells(word))

    @contextmanager
    def enter(self, address: str, tell: Callable[[Event], None], protocol: str = "recognize") -> Iterator[Session]:
        """A session while the block runs, for the task that runs it; Full when there is no place."""
        if refusal := self.admission.refusal(address):
            self.tally.refusals["sessions"] += 1
            raise Full(refusal)
        session = Session(self._scheduler, tell, self.limits.max_speed, self._log_text)
        current_session.set(session.name)
        self.tally.sessions[protocol] += 1
        log.info("session %s of %s begins", session.name, address, extra={"address": address, "protocol": protocol})
        task = asyncio.current_task()
        assert task is not None
        with self.admission.place(address):
            self._open[session] = task
            try:
                yield session
            except RecogniserError:
                log.exception("the recogniser of session %s has failed", session.name)
                raise
            finally:
                session.close()
                del self._open[session]
                heard, late = round(session.audio_seconds, 3), round(session.lag_seconds, 3)
                told = "session %s ends after %g s of audio, at most %g s late"
                log.info(told, session.name, heard, late, extra={"audio_seconds": heard, "lag_seconds": late})

    async def drain(self) -> None:
        """Let nobody in any more; sessions get `grace_seconds` to hear their last events."""
        self.admission.closed = True
        for session in self._open:
            if session.listening is not None:
                session.listening.cancel()
        if self._open:
            await asyncio.wait(self._open.values(), timeout=self.limits.grace_seconds)


class Full(Exception):
    """There is no place for a session; the message is one sentence."""


RECOGNISER_FAILED = Farewell(CloseCode.INTERNAL_ERROR, "the recogniser has failed: see the server's log", "recogniser")


def refused(error: ConfigError | Silent) -> Farewell:
    """The farewell to a client that sends what it should not, or nothing."""
    return Farewell(CloseCode.POLICY_VIOLATION, str(error), "silent" if isinstance(error, Silent) else "message")
