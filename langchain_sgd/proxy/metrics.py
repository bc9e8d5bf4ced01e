"""What Prometheus is told."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from langchain_sgd.proxy.history import Record
from langchain_sgd.report import Report, Usage

_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, 120, 300, 600)


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._answers = Counter(
            "sgd_answers",
            "Questions, by what became of them",
            ("model", "status"),
            registry=self._registry,
        )
        self._errors = Counter(
            "sgd_errors",
            "Requests that got an error, by its HTTP status",
            ("status",),
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "sgd_answers_in_flight", "Questions being answered now", registry=self._registry
        )
        self._wall = Histogram(
            "sgd_answer_seconds",
            "Seconds from the request to the end of its answer",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._first = Histogram(
            "sgd_first_text_seconds",
            "Seconds from the request to the first text of its answer",
            ("model",),
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._tokens = Counter(
            "sgd_tokens",
            "Tokens as the model servers counted them",
            ("tier", "kind"),
            registry=self._registry,
        )
        self._nodes = Counter(
            "sgd_nodes", "Parts of answers", ("tier", "status"), registry=self._registry
        )

    def failed(self, status: int) -> None:
        """A request got an error."""
        self._errors.labels(str(status)).inc()

    def first_text(self, model: str, seconds: float) -> None:
        """The first text of an answer came."""
        self._first.labels(model).observe(seconds)

    def ended(self, record: Record, usage: Usage | None) -> None:
        """A run ended, well or not."""
        self._answers.labels(record.model, record.status).inc()
        if record.wall_s is not None:
            self._wall.labels(record.model).observe(record.wall_s)
        if record.report is not None:
            self._count(record.report)
        elif usage is not None:
            self._count_tokens("undivided", usage)

    def _count(self, report: Report) -> None:
        for tier, usage in report.usage.items():
            self._count_tokens(tier, usage)
        for node in report.nodes:
            self._nodes.labels(node.tier, node.status).inc()

    def _count_tokens(self, tier: str, usage: Usage) -> None:
        kinds = {
            "input": usage.input_tokens,
            "cached": usage.cached_tokens,
            "output": usage.output_tokens,
        }
        for kind, count in kinds.items():
            self._tokens.labels(tier, kind).inc(count)

    def render(self) -> bytes:
        """The text of `/metrics`."""
        return generate_latest(self._registry)
