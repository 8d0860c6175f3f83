from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_hub import HELLO, final, partial

from streamer.events import Event, Final, Gap, Hello, Partial
from streamer.outbox import AWAY, Entry, Outbox


def deliver(outbox: Outbox, broker: list[Entry], count: int | None = None) -> None:
    """Give the broker what it has not; at most so many."""
    while count != 0 and (entry := outbox.next()):
        broker.append(entry)
        outbox.has(entry.number)
        count = None if count is None else count - 1


def filled(*events: Event, limit: int = 1000) -> Outbox:
    outbox = Outbox(limit)
    for event in events:
        outbox.put(event)
    return outbox


@given(
    st.lists(st.sampled_from(["final", "partial", "deliver one", "deliver all", "lose the answer", "read", "forget"]))
)
def test_a_reader_hears_every_final_once_and_in_order_whatever_the_broker_forgets(steps: list[str]) -> None:
    outbox, broker, segment = filled(HELLO), list[Entry](), 0
    heard: list[Entry] = []

    def read() -> None:
        heard.extend(entry for entry in broker if not heard or entry.number > heard[-1].number)

    for step in [*steps, "reconnect", "deliver all", "read"]:
        match step:
            case "final":
                outbox.put(final(segment))
                segment += 1
            case "partial":
                outbox.put(partial(segment, "so far"))
            case "deliver one":
                deliver(outbox, broker, 1)
            case "deliver all":
                deliver(outbox, broker)
            case "lose the answer":
                if entry := outbox.next():
                    broker.append(entry)
                outbox.has(broker[-1].number if broker else 0)
            case "read":
                read()
            case "forget" | "reconnect":
                if step == "forget":
                    broker.clear()
                outbox.has(broker[-1].number if broker else 0)
    assert [entry.event for entry in heard if not isinstance(entry.event, Partial)] == [
        HELLO, *(final(number) for number in range(segment)),
    ]  # fmt: skip
    assert outbox.waiting == 0


def test_only_the_newest_partial_waits_and_none_of_a_segment_that_is_final() -> None:
    broker: list[Entry] = []
    outbox = filled(HELLO, partial(0, "on"), partial(0, "one"))
    deliver(outbox, broker)
    outbox.put(partial(0, "one t"))
    outbox.put(final(0))
    deliver(outbox, broker)
    assert [entry.event for entry in broker] == [HELLO, partial(0, "one"), final(0)]
    assert [entry.number for entry in broker] == [1, 2, 3]


def test_what_waits_for_too_long_becomes_a_gap_and_is_counted() -> None:
    broker: list[Entry] = []
    finals = [final(segment) for segment in range(10)]
    outbox = filled(HELLO, *finals, limit=4)
    assert outbox.lost == 7
    deliver(outbox, broker)
    assert [entry.event for entry in broker] == [Gap(finals[0].start, finals[6].end, AWAY), *finals[7:]]
    assert {entry.hello for entry in broker} == {HELLO}


def test_what_the_broker_has_is_forgotten_without_a_word() -> None:
    broker: list[Entry] = []
    outbox = filled(HELLO, final(0), final(1), limit=3)
    deliver(outbox, broker)
    for segment in range(2, 5):
        outbox.put(final(segment))
    assert (outbox.lost, outbox.waiting) == (0, 3)
    deliver(outbox, broker)
    assert [entry.event for entry in broker if isinstance(entry.event, Final)] == [final(n) for n in range(5)]


def test_every_entry_names_its_stream_even_if_the_hello_is_long_gone() -> None:
    other = Hello("tiny", "en", 16000, "second.wav", "b")
    outbox = filled(HELLO, final(0), other, final(0), limit=2)
    assert [(entry.hello, entry.event) for entry in outbox._kept] == [(other, other), (other, final(0))]
    with pytest.raises(ValueError, match="put a Hello before"):
        Outbox().put(final(0))
