"""Counters of one served model in Prometheus' text format, under TGI's names."""

from __future__ import annotations

import json
from collections import Counter

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
        self._counts["count"] += 1

    def failed(self, error_type: str) -> None:
        """A request ended with an error."""
        self._failures[error_type.partition("_")[0]] += 1

    def finished(self, output: Output, seconds: float) -> None:
        """A request was answered."""
        self._counts["success"] += 1
        self._counts["prompt"] += output.prompt_tokens
        self._counts["cached"] += output.cached_tokens
        self._counts["generated"] += len(output.tokens)
        self._seconds += seconds

    def render(self, model_id: str) -> str:
        """The text that `/metrics` answers."""
        model = f"model={json.dumps(model_id, ensure_ascii=False)}"
        counts = self._counts
        lines = [
            f"tgi_request_count{{{model}}} {counts['count']}",
            f"tgi_request_success{{{model}}} {counts['success']}",
            f"langchain_sgd_prompt_tokens{{{model}}} {counts['prompt']}",
            f"langchain_sgd_cached_prompt_tokens{{{model}}} {counts['cached']}",
            f"tgi_batch_current_size{{{model}}} {self.in_flight}",
        ]
        for kind, count in sorted(self._failures.items()):
            lines.append(f'tgi_request_failure{{{model},err="{kind}"}} {count}')
        sums = {"duration": self._seconds, "input_length": counts["prompt"]}
        for name, total in {**sums, "generated_tokens": counts["generated"]}.items():
            lines.append(f"tgi_request_{name}_sum{{{model}}} {total}")
            lines.append(f"tgi_request_{name}_count{{{model}}} {counts['success']}")
        return "".join(f"{line}\n" for line in lines)
