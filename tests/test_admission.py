from __future__ import annotations

import contextlib

import pytest

from streamer.admission import IDLE_SECONDS, SHARE, Admission


def test_before_anything_was_measured_the_given_number_is_the_limit() -> None:
    admission = Admission(max_sessions=2)
    assert (admission.cost, admission.places) == (None, 2)
    with admission.place("a"), admission.place("b"):
        assert admission.refusal("c") == "The places for sessions are all taken (2): try again later."
    assert admission.refusal("c") is None
    assert admission.sessions == 0


@pytest.mark.parametrize(("cost", "places"), [(0.01, 90), (0.1, 9), (0.5, 1), (3.0, 1), (0.0001, 500)])
def test_places_follow_from_what_a_second_of_audio_costs(cost: float, places: int) -> None:
    admission = Admission()
    admission.ran(cost * 0.16, 0.16)
    assert admission.places == places


def test_what_the_process_does_besides_the_model_counts_except_what_it_did_while_nobody_spoke() -> None:
    used, now = 7.0, 100.0
    admission = Admission(cpu=lambda: used, clock=lambda: now)
    admission.ran(0.001, 0.1)
    assert admission.cost == pytest.approx(0.01)
    used, now = used + 0.003, now + 0.1
    admission.ran(0.001, 0.1)  # the rest is the network's
    assert admission.cost == pytest.approx(0.02, rel=0.01)
    used, now = used + 50, now + IDLE_SECONDS  # captions for others
    admission.ran(0.001, 0.1)
    assert admission.cost == pytest.approx(0.05 / 3, rel=0.01)
    assert admission.places == int(SHARE / admission.cost)


def test_what_was_measured_long_ago_is_forgotten() -> None:
    admission = Admission(cpu=lambda: 0.0)
    admission.ran(100, 10)
    for _ in range(6000):
        admission.ran(0.01, 1)
    assert admission.cost == pytest.approx(0.01, rel=0.01)


def test_a_step_without_audio_is_not_counted() -> None:
    admission = Admission()
    admission.ran(1.0, 0.0)
    assert admission.cost is None


def test_above_its_measured_capacity_the_next_session_is_refused_and_places_come_back() -> None:
    admission = Admission(cpu=lambda: 0.0)
    admission.ran(0.4, 1)
    with contextlib.ExitStack() as sessions:
        for number in range(2):
            assert admission.refusal(f"address {number}") is None
            sessions.enter_context(admission.place(f"address {number}"))
        assert admission.refusal("address 3") == "The places for sessions are all taken (2): try again later."
        admission.ran(1, 1000)  # it has become cheaper
        assert admission.refusal("address 3") is None


def test_one_address_may_not_take_all_places() -> None:
    admission = Admission(per_address=1)
    with admission.place("10.0.0.7"):
        assert "10.0.0.7 has as many sessions as it may have (1)" in str(admission.refusal("10.0.0.7"))
        assert admission.refusal("10.0.0.8") is None
    assert admission.refusal("10.0.0.7") is None


def test_a_place_is_given_back_when_its_session_fails() -> None:
    admission = Admission()
    with pytest.raises(OSError, match="gone"), admission.place("a"):
        raise OSError("gone")
    assert admission.sessions == 0


def test_nobody_is_let_in_while_the_server_shuts_down() -> None:
    admission = Admission()
    admission.closed = True
    assert admission.refusal("a") == "The server is shutting down: try again later."
