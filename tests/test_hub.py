from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from waiting import asynchronous

from streamer.events import Event, Final, Gap, Hello, Partial, Word
from streamer.hub import Hub, Mailbox

HELLO = Hello("tiny", "en", 8000, "microphone")
OTHER = Hello("tiny", "en", 16000, "second.wav")
GAP = Gap(8000, 16000, "overload")


def partial(segment: int, text: str = "so far") -> Partial:
    return Partial(segment, segment * 8000, segment * 8000 + 4000, text, 0)


def final(segment: int, text: str = "done") -> Final:
    start = segment * 8000
    return Final(segment, start, start + 4000, text, (Word(text, start, start + 4000, 0.5),))


def hub_of(*events: Event, limit: int = 1000, replay: int = 20) -> Hub:
    hub = Hub(limit, replay)
    for event in events:
        hub.publish(event)
    return hub


async def rest(mailbox: Mailbox) -> list[Event]:
    """Everything that can be read without waiting."""
    mailbox.close()
    return [message.event async for message in mailbox]


@asynchronous
async def test_a_subscriber_reads_events_in_the_order_they_were_published() -> None:
    hub = hub_of(HELLO)
    mailbox = hub.subscribe()
    for event in (final(0), GAP, final(1), partial(2)):
        hub.publish(event)
    assert await rest(mailbox) == [HELLO, final(0), GAP, final(1), partial(2)]


@asynchronous
async def test_partials_of_a_segment_are_conflated_to_the_newest() -> None:
    hub = hub_of(HELLO)
    mailbox = hub.subscribe()
    for text in ("a", "a b", "a b c"):
        hub.publish(partial(0, text))
    assert await rest(mailbox) == [HELLO, partial(0, "a b c")]


@asynchronous
async def test_a_final_removes_the_waiting_partial_of_its_segment_only() -> None:
    hub = hub_of(HELLO)
    behind, apart = hub.subscribe(), hub.subscribe()
    hub.publish(partial(4))
    hub.publish(final(4))
    assert await rest(behind) == [HELLO, final(4)]
    hub.publish(partial(6))
    hub.publish(final(5))
    assert await rest(apart) == [HELLO, final(4), final(5), partial(6)]


@asynchronous
async def test_a_new_stream_removes_the_waiting_partial_of_the_old_one() -> None:
    hub = hub_of(HELLO, partial(7))
    mailbox = hub.subscribe()
    hub.publish(OTHER)
    assert await rest(mailbox) == [HELLO, OTHER]
    assert await rest(hub.subscribe()) == [OTHER]


@given(st.lists(st.sampled_from(["partial", "final", "gap", "read"]), max_size=60))
def test_however_slowly_a_subscriber_reads_it_gets_every_final_and_no_outdated_partial(actions: list[str]) -> None:
    async def story() -> None:
        hub = hub_of(HELLO)
        mailbox = hub.subscribe()
        published: list[Event] = [HELLO]
        read: list[Event] = []
        segment = 0
        for number, action in enumerate(actions):
            if action == "read":
                if len(mailbox._queue) or mailbox._partial:
                    message = await mailbox.get()
                    assert message
                    read.append(message.event)
                continue
            event: Event = partial(segment, f"text {number}")
            if action == "final":
                event, segment = final(segment), segment + 1
            elif action == "gap":
                event = Gap(number, number + 1, "overload")
            published.append(event)
            hub.publish(event)
        read += await rest(mailbox)
        kept = [event for event in read if not isinstance(event, Partial)]
        assert kept == [event for event in published if not isinstance(event, Partial)]
        for at, event in enumerate(read):
            if isinstance(event, Partial):
                assert final(event.segment) not in read[:at]
        newest = [event for event in published if isinstance(event, Partial) and event.segment == segment][-1:]
        assert [event for event in read if isinstance(event, Partial) and event.segment == segment][-1:] == newest

    asyncio.run(story())


@asynchronous
async def test_a_subscriber_that_falls_too_far_behind_is_closed_and_told_while_the_others_go_on() -> None:
    hub = hub_of(HELLO, limit=5)
    slow, fast = hub.subscribe(), hub.subscribe()
    assert await fast.get()
    for segment in range(5):
        hub.publish(final(segment))
        message = await fast.get()
        assert message
        assert message.event == final(segment)
    assert slow.overflowed
    assert slow.closed.is_set()
    assert await slow.get() is None
    assert not fast.overflowed
    assert hub.subscribers == 1


@asynchronous
async def test_partials_never_make_a_mailbox_overflow() -> None:
    hub = hub_of(HELLO, limit=1)
    mailbox = hub.subscribe()
    for number in range(100):
        hub.publish(partial(0, str(number)))
    assert await rest(mailbox) == [HELLO, partial(0, "99")]
    assert not mailbox.overflowed


@asynchronous
async def test_a_late_joiner_hears_the_hello_the_last_finals_and_gaps_and_the_open_partial() -> None:
    hub = hub_of(HELLO, *(final(segment) for segment in range(10)), GAP, partial(10, "a"), partial(10, "b"), replay=3)
    assert await rest(hub.subscribe()) == [HELLO, final(8), final(9), GAP, partial(10, "b")]


@asynchronous
async def test_a_late_joiner_is_not_shown_a_partial_that_became_final() -> None:
    assert await rest(hub_of(HELLO, partial(0), final(0)).subscribe()) == [HELLO, final(0)]


@asynchronous
async def test_the_replay_tells_finals_of_an_earlier_stream_under_that_streams_hello() -> None:
    hub = hub_of(HELLO, final(0), final(1), OTHER, final(0, "other"), replay=2)
    assert await rest(hub.subscribe()) == [HELLO, final(1), OTHER, final(0, "other")]


@asynchronous
async def test_the_replay_never_overflows_a_mailbox() -> None:
    hub = hub_of(*(event for number in range(9) for event in (HELLO, final(number))), limit=4, replay=20)
    mailbox = hub.subscribe()
    assert not mailbox.overflowed
    assert (await rest(mailbox))[-1] == final(8)


@asynchronous
async def test_times_are_in_seconds_at_the_sample_rate_of_the_latest_hello() -> None:
    hub = hub_of(HELLO, final(1), OTHER, final(1))
    starts = [json.loads(message.data).get("start") async for message in _closed(hub)]
    assert starts == [None, 1.0, None, 0.5]


@asynchronous
async def test_a_stream_keeps_its_name_in_every_replay_and_never_shares_it() -> None:
    hub = hub_of(HELLO, final(0), HELLO)
    names = [
        json.loads(message.data)["stream"]
        for _ in range(2)
        async for message in _closed(hub)
        if isinstance(message.event, Hello)
    ]
    assert names[:2] == names[2:]
    assert names[0] != names[1]


@asynchronous
async def test_an_event_is_encoded_once_for_all_subscribers() -> None:
    hub = hub_of(HELLO)
    first, second = hub.subscribe(), hub.subscribe()
    assert await first.get() is await second.get()


@asynchronous
async def test_iteration_waits_for_news_and_ends_when_the_hub_closes() -> None:
    hub = hub_of(HELLO)
    read: list[Event] = []

    async def reader() -> None:
        async for message in hub.subscribe():
            read.append(message.event)
            caught_up.set()

    caught_up = asyncio.Event()
    task = asyncio.create_task(reader())
    await caught_up.wait()
    hub.publish(final(0))
    hub.close()
    await task
    assert read == [HELLO, final(0)]
    assert hub.subscribers == 0


@asynchronous
async def test_a_closed_hub_takes_no_more_events_but_still_replays() -> None:
    hub = hub_of(HELLO, final(0))
    hub.close()
    hub.publish(final(1))
    assert [message.event async for message in hub.subscribe()] == [HELLO, final(0)]


@asynchronous
async def test_leaving_the_with_block_unsubscribes() -> None:
    hub = hub_of(HELLO)
    with hub.subscribe() as mailbox:
        assert hub.subscribers == 1
    assert hub.subscribers == 0
    assert await mailbox.get() is None


def test_an_event_before_the_first_hello_is_refused() -> None:
    with pytest.raises(ValueError, match="Hello before Final"):
        Hub().publish(final(0))


@asynchronous
async def test_the_examples_in_the_protocol_document_have_exactly_the_fields_that_are_sent() -> None:
    text = Path(__file__).parent.parent.joinpath("docs", "protocol.md").read_text("utf-8")
    examples = [json.loads(block) for block in re.findall(r"```json\n(.*?)```", text, re.DOTALL)]
    documented = {example["type"]: list(example) for example in examples if example["type"] != "error"}
    hub = hub_of(HELLO, GAP, final(0), partial(1))
    sent = [json.loads(message.data) async for message in _closed(hub)]
    assert {message["type"]: list(message) for message in sent} == documented
    (words,) = [example["words"] for example in examples if "words" in example]
    assert list(words[0]) == list(sent[2]["words"][0])


def _closed(hub: Hub) -> Mailbox:
    mailbox = hub.subscribe()
    mailbox.close()
    return mailbox
