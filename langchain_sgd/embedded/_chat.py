"""One request of `/v1/chat/completions`: text, or the call of a function, whole or streamed."""

from __future__ import annotations

from collections.abc import Sequence

from langchain_sgd.embedded._bodies import ChatBody, Parameters, Tool
from langchain_sgd.embedded._decoding import Output
from langchain_sgd.embedded._errors import Kind, ProtocolError
from langchain_sgd.embedded._http import Events
from langchain_sgd.embedded._model import Model
from langchain_sgd.embedded._tools import (
    Call,
    begun_call,
    free_call,
    may_be_call,
    parse_call,
    selected_tools,
    tool_schema,
)
from langchain_sgd.embedded.engine import Grammar, Token
from langchain_sgd.embedded.protocol import ChatAnswer


class Chat:
    """What a body asks of a model; made by `of`."""

    def __init__(self, model: Model, body: ChatBody, tools: Sequence[Tool], prompt: str) -> None:
        self.prompt = prompt
        self.body = body
        self._model = model
        self._tools = tools
        # TGI takes another name for an adapter and, where there is none, echoes it.
        own = body.model in (None, "tgi")
        self.answer = ChatAnswer(
            model.engine.info.model_id if own else f"{body.model}",
            logprobs=body.parameters.logprobs,
            top_n_tokens=body.parameters.top_n_tokens or 0,
        )

    @classmethod
    async def of(cls, model: Model, body: ChatBody) -> Chat:
        """The chat with its prompt.

        Raises:
            ProtocolError: The messages, the tools or the template do not go together.
        """
        if body.tools is not None and body.parameters.grammar is not None:
            msg = "Grammar and tools are mutually exclusive"
            raise ProtocolError(Kind.TOOL, msg)
        if _answered(body):
            # The model has what it asked for. Forced to name a function again it would call the same one.
            return cls(model, body, (), await model.prompt(body, (), known=body.tools or ()))
        tools = selected_tools(body.tools, body.tool_choice)
        return cls(model, body, tools, await model.prompt(body, tools))

    async def whole(self) -> tuple[Output, Call | None]:
        """The answer, and the function that it calls.

        Raises:
            ProtocolError: As in `Model.run`, or no call where one was asked for.
        """
        output = await self._model.run(self.prompt, self._parameters)
        if not self._tools:
            return output, self._free_call(output)
        call = parse_call(output.text)
        if call is not None:
            return output, call
        self.prompt = await self._model.prompt(self.body, ())
        return await self._model.run(self.prompt, self.body.parameters), None

    async def stream(self, events: Events) -> None:
        """Send the answer.

        Raises:
            ProtocolError: As in `whole`.
        """
        output = await self._stream_call(events) if self._tools else None
        if output is None:
            if self._tools:
                self.prompt = await self._model.prompt(self.body, ())
            output = await self._stream_text(events)
        if self.body.include_usage:
            await events.send(self.answer.usage(output))

    @property
    def _parameters(self) -> Parameters:
        if not self._tools:
            return self.body.parameters
        grammar = Grammar("json", tool_schema(self._tools))
        return self.body.parameters.model_copy(update={"grammar": grammar})

    def _free_call(self, output: Output) -> Call | None:
        return free_call(output.text, self.body.tools or ()) if _answered(self.body) else None

    async def _stream_text(self, events: Events) -> Output:
        held: list[Token] = []
        text = ""
        holding = _answered(self.body)

        async def on_token(token: Token) -> None:
            nonlocal text, holding
            text += "" if token.special else token.text
            held.append(token)
            holding = holding and may_be_call(text)
            while held and not holding:
                each = held.pop(0)
                await events.send(self.answer.token(each), of=each)

        output = await self._model.run(self.prompt, self.body.parameters, on_token)
        call = self._free_call(output) if holding else None
        if call is not None:
            await self._send_call(events, call)
            return output
        for token in held:
            await events.send(self.answer.token(token))
        await events.send(self.answer.last(output))
        return output

    async def _stream_call(self, events: Events) -> Output | None:
        """Send a function call once it is written; None where the model chose to write text instead."""
        output = await self._model.run(self.prompt, self._parameters)
        is_cut = output.finish_reason == "length"
        try:
            call = parse_call(output.text)
        except ProtocolError:
            if not is_cut:
                raise
            call = begun_call(output.text)
            if call is None:
                return output  # cut before it had a name
        if call is None:
            return None
        await self._send_call(events, call, is_cut=is_cut)
        return output

    async def _send_call(self, events: Events, call: Call, *, is_cut: bool = False) -> None:
        """As TGI: the name with a brace, the arguments, and at the end an empty piece, but no reason."""
        await events.send(self.answer.call(call.arguments[:1], call.name))
        await events.send(self.answer.call(call.arguments[1:]))
        if not is_cut:
            await events.send(self.answer.call(""))


def _answered(body: ChatBody) -> bool:
    """Whether the model may answer now that a function has."""
    said = bool(body.messages) and body.messages[-1]["role"] == "tool"
    return said and bool(body.tools) and body.tool_choice.mode == "auto"
