"""Sessions: each is one client's audio on its way to its own events."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from streamer.admission import Admission
from streamer.endpoint import Endpointing
from streamer.events import Event, Final, Hello, Partial
from streamer.intake import Intake
from streamer.model import ModelError
from streamer.parting import Farewell
from streamer.recognizer import Recognizer
from streamer.scheduler import Scheduler, Stream
from streamer.session_config import Config, ConfigError, Pcm
from streamer.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class Limits:
    """How long a session waits, in seconds: for its client to send something or to read, and for its end when the
    server stops. `vosk_rate` is the sample rate of clients of vosk-server's protocol that do not give one."""

    idle_seconds: float = 60.0
    patience_seconds: float = 30.0
    grace_seconds: float = 5.0
    vosk_rate: int = 8000


class Session:
    """One client's audio: `begin`, `hear` any bytes, `finish`; its events are told as they come."""

    def __init__(self, scheduler: Scheduler, tell: Callable[[Event], None]) -> None:
        self.listening: asyncio.Task[None] | None = None
        self._scheduler, self._tell = scheduler, tell
        self._config = Config()
        self._stream: Stream | None = None

    @property
    def begun(self) -> bool:
        """Whether its configuration is settled."""
        return self._stream is not None

    def begin(self, config: Config) -> None:
        """Settle the configuration; ConfigError when its hotwords cannot be listened for."""
        model = self._scheduler.model
        rate = model.spec.features.sample_rate
        try:
            decoder = model.listening_for(config.hotwords)
        except ModelError as error:
            raise ConfigError(str(error)) from None
        limits = Endpointing(pause_seconds=config.pause_seconds)
        recognizer = Recognizer(model.spec, model.initial_state, limits, decoder)
        self._config = config
        self._pcm, self._intake = Pcm(config.format, config.channels), Intake("a session", config.sample_rate, rate)
        self._stream = self._scheduler.open(recognizer, self._pass_on)

    async def hear(self, data: bytes) -> None:
        """Take audio; waits while a second of it has not been decoded."""
        if self._stream is None:
            self.begin(Config())
        assert self._stream is not None
        for samples in self._pcm.push(data):
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

    def close(self) -> None:
        """The client has left."""
        if self._stream is not None:
            self._stream.close()

    def _pass_on(self, event: Event) -> None:
        if isinstance(event, Final) and not self._config.words:
            self._tell(replace(event, words=()))
        elif self._config.partials or not isinstance(event, Partial):
            self._tell(event)


class Sessions:
    """All sessions of a server: what they share, who may come in, and their end in good order."""

    def __init__(self, scheduler: Scheduler, admission: Admission, limits: Limits | None = None) -> None:
        self.admission = admission
        self.limits = limits or Limits()
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

    def hello(self) -> Hello:
        """The first event of a session."""
        return Hello(self.spec.name, self.spec.language, self.sample_rate, "session", secrets.token_hex(4))

    def spelled(self, words: Collection[str]) -> tuple[str, ...]:
        """Those of these words that can be listened for."""
        model = self._scheduler.model
        return tuple(word for word in words if model.weighs_words and model.spells(word))

    @contextmanager
    def enter(self, address: str, tell: Callable[[Event], None]) -> Iterator[Session]:
        """A session while the block runs, for the task that runs it; Full when there is no place."""
        if refusal := self.admission.refusal(address):
            raise Full(refusal)
        session = Session(self._scheduler, tell)
        task = asyncio.current_task()
        assert task is not None
        with self.admission.place(address):
            self._open[session] = task
            try:
                yield session
            finally:
                session.close()
                del self._open[session]

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
