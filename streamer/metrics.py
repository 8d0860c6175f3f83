"""The tally in the format that Prometheus reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from streamer.tally import Histogram, Tally

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric


def expose(tally: Tally, gauges: dict[str, tuple[str, float]]) -> tuple[bytes, str]:
    """The page and its content type; `gauges` are current values by name, with what they mean. ImportError."""
    from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
    from prometheus_client.exposition import CONTENT_TYPE_LATEST

    registry = CollectorRegistry()
    registry.register(_Collector(tally, gauges))
    ProcessCollector(registry=registry)
    return generate_latest(registry), CONTENT_TYPE_LATEST


class _Collector:
    """What prometheus-client asks for the numbers."""

    def __init__(self, tally: Tally, gauges: dict[str, tuple[str, float]]) -> None:
        self._tally, self._gauges = tally, gauges

    def describe(self) -> Iterable[Metric]:
        return ()

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import GaugeMetricFamily

        for name, (meaning, value) in self._gauges.items():
            yield GaugeMetricFamily(f"asr_stream_{name}", meaning, value)
        yield from _counters(self._tally)
        yield from _labelled(self._tally)
        yield from _histograms(self._tally)


def _counters(tally: Tally) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    for name, meaning, count in (
        ("audio_seconds", "Audio that was recognised.", tally.audio_seconds),
        ("work_seconds", "Time that the recogniser's thread was busy.", tally.work_seconds),
        ("gaps", "Stretches of audio that were lost.", tally.gaps),
        ("gap_seconds", "Audio that was lost.", tally.gap_seconds),
        ("dropped_partials", "Partials that were replaced before a slow client got them.", tally.dropped_partials),
    ):
        yield CounterMetricFamily(f"asr_stream_{name}", meaning, count)


def _labelled(tally: Tally) -> Iterator[Metric]:
    from prometheus_client.core import CounterMetricFamily

    for name, meaning, label, counts in (
        ("sessions", "Sessions that have begun.", "protocol", tally.sessions),
        ("refusals", "Requests that were not let in.", "reason", tally.refusals),
        ("endings", "WebSockets and Wyoming's connections that have ended.", "how", tally.endings),
    ):
        family = CounterMetricFamily(f"asr_stream_{name}", meaning, labels=[label])
        for value, count in counts.items():
            family.add_metric([value], count)
        yield family


def _histograms(tally: Tally) -> Iterator[Metric]:
    from prometheus_client.core import HistogramMetricFamily

    for name, meaning, histogram in (
        ("batch_size", "Chunks in a step of the model.", tally.batches),
        ("step_seconds", "How long a step of the model took.", tally.steps),
        ("lag_seconds", "How long a chunk waited for its events.", tally.lag),
    ):
        yield HistogramMetricFamily(f"asr_stream_{name}", meaning, *_shape(histogram))
    latency = HistogramMetricFamily(
        "asr_stream_emission_latency_seconds",
        "From the arrival of the last audio of an event to its being sent to a session's client.",
        labels=["type"],
    )
    for kind, histogram in tally.latency.items():
        latency.add_metric([kind], *_shape(histogram))
    yield latency


def _shape(histogram: Histogram) -> tuple[list[tuple[str, float]], float]:
    """Counts that add up, each with its bound, and the sum of the values."""
    bounds = [*(str(float(bound)) for bound in histogram.bounds), "+Inf"]
    return list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.sum
