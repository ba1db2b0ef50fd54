"""Measurements for Prometheus."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from showo_turbo.serving.worker import Worker

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120, 300)
_SHARES = (0.0625, 0.125, 0.25, 0.375, 0.5, 0.625, 0.75, 0.875, 1.0)
_TOKENS = (1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32)


class Metrics:
    """Count and time requests, in a registry of its own."""

    def __init__(self, max_sequences: int) -> None:
        """Declare all families."""
        self.registry, self.max_sequences = CollectorRegistry(), max_sequences
        own: dict[str, Any] = {"registry": self.registry, "namespace": "showo_turbo"}
        self.requests = Counter("requests", "Requests by route and status.", ["route", "status"], **own)
        self.errors = Counter("errors", "Errors by code.", ["code"], **own)
        self.seconds = Histogram(
            "stage_seconds",
            "Seconds of a request by stage: read, prepare, queue, generate, report (pixels, text), encode (files).",
            ["model", "stage"],
            buckets=_SECONDS,
            **own,
        )
        self.step_seconds = Histogram("step_seconds", "Seconds of an engine step.", ["model"], buckets=_SECONDS, **own)
        self.occupancy = Histogram(
            "batch_occupancy", "Share of the places that a step fills.", ["model"], buckets=_SHARES, **own
        )
        self.tokens_per_pass = Histogram(
            "tokens_per_pass", "Tokens of an answer per forward pass.", ["model"], buckets=_TOKENS, **own
        )
        self.tokens = Counter("generated_tokens", "Tokens of answers.", ["model"], **own)
        self.images = Counter("generated_images", "Finished images.", ["model"], **own)
        self.passes = Counter("forward_passes", "Forward passes of finished requests.", ["model"], **own)

    def watch(self, worker: Worker) -> None:
        """Report the queue, and the caches of dialogues, of a worker when metrics are read."""
        self.registry.register(_WorkerCollector(worker))

    def text(self) -> tuple[bytes, str]:
        """Return all metrics as Prometheus reads them, and their content type."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST

    def stage(self, model: str, stage: str, begin: float) -> None:
        """Record the time of a stage that began at `begin`, of `time.monotonic`."""
        self.seconds.labels(model, stage).observe(time.monotonic() - begin)

    def answered(self, model: str, tokens: int, passes: int) -> None:
        """Record an answer; its end of text counts as a token."""
        self.tokens.labels(model).inc(tokens)
        self.tokens_per_pass.labels(model).observe((tokens + 1) / max(passes, 1))

    def prepared(self, model: str, seconds: float) -> None:
        """See `worker.Observer`."""
        self.seconds.labels(model, "prepare").observe(seconds)

    def started(self, model: str, seconds: float) -> None:
        """See `worker.Observer`."""
        self.seconds.labels(model, "queue").observe(seconds)

    def stepped(self, model: str, requests: int, sequences: int, seconds: float) -> None:
        """See `worker.Observer`."""
        self.step_seconds.labels(model).observe(seconds)
        self.occupancy.labels(model).observe(sequences / self.max_sequences)

    def reported(self, model: str, seconds: float) -> None:
        """See `worker.Observer`."""
        self.seconds.labels(model, "report").observe(seconds)

    def finished(self, model: str, seconds: float, passes: int) -> None:
        """See `worker.Observer`."""
        self.seconds.labels(model, "generate").observe(seconds)
        self.passes.labels(model).inc(passes)


class _WorkerCollector:
    """Read gauges of a worker."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def describe(self) -> list:
        """Return no families, so that none is read when this is registered."""
        return []

    def collect(self) -> Iterable:
        """Yield the families."""
        waiting, pending = self.worker.waiting, self.worker.pending
        yield GaugeMetricFamily("showo_turbo_requests_waiting", "Requests that wait for a place.", waiting)
        yield GaugeMetricFamily("showo_turbo_requests_running", "Requests that run.", max(pending - waiting, 0))
        yield GaugeMetricFamily("showo_turbo_draining", "Whether new requests are refused.", int(self.worker.draining))
        yield from _cache_families(
            "prefix_cache",
            self.worker.caches,
            {
                "lookups": "Dialogues that were looked up in the cache.",
                "hits": "Dialogues that continued a stored one.",
                "prompt_tokens": "Tokens of the prompts of dialogues.",
                "cached_tokens": "Tokens of them that were found in the cache.",
            },
            "Size of the cache.",
        )
        yield from _cache_families(
            "shared_prefix",
            self.worker.stores,
            {
                "lookups": "Pictures whose KV cache was looked up.",
                "hits": "Pictures whose KV cache was found.",
                "cached_tokens": "Tokens of them.",
            },
            "Size of these KV caches.",
        )


def _cache_families(title: str, caches: Mapping[str, Any], counts: Mapping[str, str], size: str) -> Iterable:
    """Yield the counts, with their descriptions, and the size of the caches of one kind by model."""
    for name, text in counts.items():
        family = CounterMetricFamily(f"showo_turbo_{title}_{name}", text, labels=["model"])
        for model, cache in caches.items():
            family.add_metric([model], getattr(cache, name))
        yield family
    stored = GaugeMetricFamily(f"showo_turbo_{title}_bytes", size, labels=["model"])
    for model, cache in caches.items():
        stored.add_metric([model], cache.stored_bytes)
    yield stored
