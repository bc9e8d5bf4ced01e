"""Counters of one served model in Prometheus' text format, under TGI's names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from langchain_sgd.embedded._decoding import Output


class Metrics:
    """What a model has done since it is served."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._failures: Counter[str] = Counter()
        self._seconds = 0.0
        self.in_flight = 0
        """Requests that hold a place now."""

    def requested(self) -> None:
        """A request was read."""
        self._counts["tgi_request_count"] += 1

    def failed(self, error_type: str) -> None:
        """A request ended with an error."""
        self._failures[error_type.partition("_")[0]] += 1

    def finished(self, output: Output, seconds: float) -> None:
        """A request was answered."""
        self._counts["tgi_request_success"] += 1
        self._counts["langchain_sgd_prompt_tokens"] += output.prompt_tokens
        self._counts["langchain_sgd_cached_prompt_tokens"] += output.cached_tokens
        self._counts["generated_tokens"] += len(output.tokens)
        self._seconds += seconds

    def render(self, model_id: str) -> str:
        """The text that `/metrics` answers."""
        return "".join(f"{line}\n" for line in self._lines(_escaped(model_id)))

    def _lines(self, model: str) -> Iterable[str]:
        label = f'{{model="{model}"}}'
        counters = (
            "tgi_request_count",
            "tgi_request_success",
            "langchain_sgd_prompt_tokens",
            "langchain_sgd_cached_prompt_tokens",
        )
        for name in counters:
            yield f"# TYPE {name} counter"
            yield f"{name}{label} {self._counts[name]}"
        yield "# TYPE tgi_request_failure counter"
        for kind, count in sorted(self._failures.items()):
            yield f'tgi_request_failure{{model="{model}",err="{kind}"}} {count}'
        sums = {
            "tgi_request_duration": self._seconds,
            "tgi_request_input_length": self._counts["langchain_sgd_prompt_tokens"],
            "tgi_request_generated_tokens": self._counts["generated_tokens"],
        }
        for name, total in sums.items():
            yield f"# TYPE {name} summary"
            yield f"{name}_sum{label} {total}"
            yield f"{name}_count{label} {self._counts['tgi_request_success']}"
        yield "# TYPE tgi_batch_current_size gauge"
        yield f"tgi_batch_current_size{label} {self.in_flight}"


def _escaped(text: str) -> str:
    return text.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
