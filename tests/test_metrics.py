from __future__ import annotations

import builtins
from typing import Any

import pytest
from test_hub import GAP, HELLO, OTHER, final, hub_of, partial
from test_server import captions, fetch
from test_sessions import END, VOICES, everything, serving, speaking, spoken
from waiting import asynchronous, until
from websockets.exceptions import InvalidStatus

from streamer.admission import Admission
from streamer.hub import Hub
from streamer.model import AcousticModel, load
from streamer.server import Address, serve
from streamer.tally import Histogram, Tally


@pytest.fixture(scope="module")
def tiny(streaming: Any) -> AcousticModel:
    return load(streaming)


async def metrics(address: Address) -> dict[str, float]:
    """What /metrics says, by name with labels; it is read by the library's own parser."""
    parser = pytest.importorskip("prometheus_client.parser", reason="prometheus-client comes with the test extra")
    status, headers, page = await fetch(address, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=")
    samples = [sample for family in parser.text_string_to_metric_families(page) for sample in family.samples]
    return {
        sample.name.removeprefix("asr_stream_")
        + "".join(f"[{value}]" for value in sample.labels.values()): sample.value
        for sample in samples
    }


def test_a_histogram_counts_each_value_below_the_first_bound_that_it_does_not_exceed() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 2, 7):
        histogram.observe(value)
    assert (histogram.counts, histogram.sum) == ([2, 2, 1], 12)


@asynchronous
async def test_sessions_audio_steps_and_latencies_are_counted(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, sessions):
        before = await metrics(address)
        assert (before["audio_seconds_total"], before["sessions_open"], before["session_places"]) == (0, 0, 500)
        async with speaking(address) as client:
            heard = await spoken(client, VOICES[0])
        async with speaking(address, "/") as client:
            await client.send('{"config": {"sample_rate": 16000}}')
            await client.send(VOICES[0].tobytes())
            await client.send('{"eof": 1}')
            await everything(client)
        await until(lambda: sessions.tally.endings.total() == 2)
        after = await metrics(address)
    finals = sum(message["type"] == "final" for message in heard)
    assert after["sessions_total[recognize]"] == after["sessions_total[vosk]"] == 1
    assert after["endings_total[done]"] == 2
    assert 8 <= after["audio_seconds_total"] < 10
    assert after["batch_size_count"] == after["batch_size_bucket[1.0]"] == after["step_seconds_count"] > 40
    ends = 2  # which wait for the client, not for a turn
    assert after["lag_seconds_count"] == after["lag_seconds_bucket[+Inf]"] == after["batch_size_count"] - ends
    assert after["emission_latency_seconds_count[final]"] == 2 * finals > 0
    assert after["emission_latency_seconds_count[partial]"] > finals
    assert 0 < after["work_seconds_total"] == pytest.approx(after["step_seconds_sum"])
    assert after["work_seconds_total"] / after["audio_seconds_total"] / 2 < after["real_time_factor"] < 1
    assert after["process_open_fds"] > 0


@asynchronous
async def test_refusals_are_counted_by_reason_and_endings_by_how_they_came(tiny: AcousticModel) -> None:
    async with serving(tiny, Admission(per_address=1)) as (address, sessions):
        await fetch(address, "/", Host="evil.example")
        await fetch(address, "/", Origin="https://evil.example")
        client = await speaking(address)
        await until(lambda: sessions.admission.sessions == 1)
        with pytest.raises(InvalidStatus):
            await speaking(address)
        client.transport.abort()
        await until(lambda: sessions.admission.sessions == 0)
        async with speaking(address) as client:
            await client.send("nonsense")
            await everything(client)
        await until(lambda: sessions.admission.sessions == 0)
        async with speaking(address) as client:
            await client.send(bytes((1 << 20) + 1))
            await everything(client)
        await until(lambda: sessions.tally.endings.total() == 3)
        counted = await metrics(address)
    for name in ("refusals_total[host]", "refusals_total[origin]", "refusals_total[sessions]"):
        assert counted[name] == 1, name
    for how in ("vanished", "message", "too_large"):
        assert counted[f"endings_total[{how}]"] == 1, how


@asynchronous
async def test_partials_that_a_slow_client_never_got_are_counted() -> None:
    tally = Tally()
    hub = Hub(dropped=tally.drop_partial)
    hub.publish(HELLO)
    with hub.subscribe() as mailbox:
        for text in ("one", "two", "three"):
            hub.publish(partial(0, text))
        assert tally.dropped_partials == 2
        hub.publish(final(0))
        assert tally.dropped_partials == 3
        await mailbox.get()
        await mailbox.get()
        hub.publish(partial(1))
        await mailbox.get()
        hub.publish(final(1))
    assert tally.dropped_partials == 3
    async with serve(hub, port=0, tally=tally) as address:
        tally.lost(1.5)
        counted = await metrics(address)
    assert counted["dropped_partials_total"] == 3
    assert (counted["gaps_total"], counted["gap_seconds_total"]) == (1, 1.5)


@asynchronous
async def test_without_prometheus_client_the_answer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    imports = builtins.__import__

    def without(name: str, *more: Any) -> Any:
        if name.startswith("prometheus_client"):
            raise ImportError(name)
        return imports(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    async with serve(Hub(), port=0) as address:
        status, _, body = await fetch(address, "/metrics")
    assert (status, body) == (501, "prometheus-client is not installed: type  pip install 'asr-stream[metrics]'\n")


@asynchronous
async def test_a_server_is_ready_when_a_client_would_be_let_in(tiny: AcousticModel) -> None:
    async with serving(tiny) as (address, sessions):
        assert (await fetch(address, "/readyz"))[0] == 200
        sessions.admission.max_sessions = 1
        async with speaking(address) as client:
            await until(lambda: sessions.admission.sessions == 1)
            status, _, body = await fetch(address, "/readyz")
            assert (status, body) == (503, "The places for sessions are all taken (1): try again later.\n")
            assert (await fetch(address, "/healthz"))[0] == 200
            await client.send(END)
            await everything(client)
        await until(lambda: sessions.admission.sessions == 0)
        sessions.admission.closed = True
        assert (await fetch(address, "/readyz"))[2] == "The server is shutting down: try again later.\n"


@asynchronous
async def test_a_server_of_captions_is_ready_while_it_has_some() -> None:
    hub = Hub()
    async with serve(hub, port=0) as address:
        assert (await fetch(address, "/readyz"))[0] == 503
        for event in (HELLO, GAP, OTHER):
            hub.publish(event)
        assert (await fetch(address, "/readyz"))[0] == 200
        hub.close()
        assert (await fetch(address, "/readyz"))[2] == "The captions have ended.\n"


@asynchronous
async def test_captions_are_counted_as_clients_and_by_how_they_end() -> None:
    tally = Tally()
    async with serve(hub_of(HELLO), port=0, tally=tally) as address:
        async with captions(address) as client:
            await client.recv()
            assert (await metrics(address))["clients"] == 1
        await until(lambda: tally.endings == {"left": 1})
