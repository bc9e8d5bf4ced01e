"""One answer as OpenAI's chat completions have it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from langchain_sgd.events import PlainChosen, PlanEnded
from langchain_sgd.proxy.engine import Finished, Piece, Text, ToolCalls
from langchain_sgd.proxy.errors import ProxyError
from langchain_sgd.proxy.history import Record
from langchain_sgd.proxy.progress import told
from langchain_sgd.proxy.replying import Reply
from langchain_sgd.proxy.wire import ChatRequest, Completion, Progress, sse, tool_call_json


class Chat(Reply):
    """The answer to one request.

    Args:
        asked: The request.
        record: The run.
        undivided: Why the large model is asked directly, if it is.
        progress: Where the run's progress goes.
    """

    def __init__(
        self, asked: ChatRequest, record: Record, undivided: str | None, progress: Progress
    ) -> None:
        super().__init__(asked, record, undivided)
        self._progress = progress
        self._completion = Completion(asked, record.id, int(record.created))
        self._thinking = False
        self._begun = False
        self._is_answering = False
        """Text was sent: thoughts that come later have no place in it."""
        self._held: list[str] | None = [] if progress == "think" and undivided is None else None
        """Text that waits for the plan, which stands before it; None if it need not wait."""

    # -- whole

    def _whole(self, finished: Finished, before: Sequence[Piece]) -> dict[str, Any]:
        thoughts = "" if self._progress == "off" else "".join(map(told, before))
        return self._completion.whole(
            self._message(finished, thoughts),
            finished.finish,
            finished.usage,
            self._told(finished),
        )

    def _message(self, finished: Finished, thoughts: str) -> dict[str, Any]:
        text = finished.text
        message: dict[str, Any] = {"content": text or None}
        if finished.tool_calls:
            calls = [tool_call_json(call) for call in finished.tool_calls]
            message["tool_calls"] = [{k: v for k, v in c.items() if k != "index"} for c in calls]
        if thoughts and self._progress == "think":
            message["content"] = f"<think>\n{thoughts}</think>\n\n{text}"
        elif thoughts:
            message["reasoning_content"] = thoughts
        return message

    # -- streamed

    def _piece(self, piece: Piece) -> Sequence[bytes]:
        return self._deltas(self._contents(piece))

    def _deltas(self, each: Iterable[dict[str, Any]]) -> list[bytes]:
        """Pieces of the stream; its first one says the role."""
        deltas = list(each)
        if deltas and not self._begun:
            self._begun = True
            deltas[0] = {"role": "assistant", **deltas[0]}
        return [sse(self._completion.chunk(delta)) for delta in deltas]

    def _contents(self, piece: Piece) -> Iterator[dict[str, Any]]:
        match piece:
            case Text(text) if self._held is not None:
                self._held.append(text)
            case Text(text):
                closing = "</think>\n\n" if self._thinking else ""
                self._thinking = False
                self._is_answering = True
                yield {"content": closing + text}
            case ToolCalls(chunks):
                yield {"tool_calls": [tool_call_json(chunk) for chunk in chunks]}
            case _:
                line = told(piece) if self._progress != "off" else ""
                if line and self._progress == "reasoning":
                    yield {"reasoning_content": line}
                elif line and not self._is_answering:
                    opening = "" if self._thinking else "<think>\n"
                    self._thinking = True
                    yield {"content": opening + line}
                if isinstance(piece, PlanEnded | PlainChosen):
                    yield from self._release()

    def _release(self) -> Iterator[dict[str, Any]]:
        """What waited for the plan."""
        held, self._held = self._held, None
        if held:
            yield from self._contents(Text("".join(held)))

    def _last(self, finished: Finished) -> Sequence[bytes]:
        chunks = [self._completion.chunk(delta) for delta in self._release()]
        chunks.append(self._completion.last_chunk(finished.finish, self._told(finished)))
        if not self._begun:
            chunks.insert(0, self._completion.chunk({"role": "assistant", "content": ""}))
        if self._asked.wants_usage:
            chunks.append(self._completion.usage_chunk(finished.usage))
        return [*map(sse, chunks), sse("[DONE]")]

    def _broken(self, error: ProxyError) -> Sequence[bytes]:
        # What waits for a plan that will not come is told all the same.
        return [*self._deltas(self._release()), sse(error.body()), sse("[DONE]")]
