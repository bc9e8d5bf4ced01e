"""What the large model does itself for `ChatSGD`: tool calls, answers in a form, counting tokens."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

from langchain_core.language_models import BaseChatModel, LanguageModelInput, ModelProfile
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.messages.utils import count_tokens_approximately
from langchain_core.runnables import Runnable, RunnableBinding, RunnableConfig, RunnableLambda
from langchain_core.runnables.config import merge_configs
from langchain_core.tools import BaseTool
from langchain_core.utils.function_calling import convert_to_openai_tool
from pydantic import BaseModel, Field, PrivateAttr

from langchain_sgd.decoding.context import NOSTREAM
from langchain_sgd.discreet import Discreet
from langchain_sgd.errors import InvalidInputError
from langchain_sgd.report import awaits_approval
from langchain_sgd.runnable import SGDRunnable
from langchain_sgd.schema_argument import check_schema
from langchain_sgd.tiers import innermost

_log = logging.getLogger("langchain_sgd")
_TOLD = ("callbacks", "tags", "metadata")
"""What a chat model brings to each of its runs."""


class Undivided(Discreet, BaseChatModel):
    """A chat model of two sizes, as far as the large one answers for it."""

    sgd: SGDRunnable = Field(repr=False)
    """The engine."""
    split_with_tools: bool = False
    """With tools bound, offer the large model one more: it hands a long last answer to be split. Calls of
    tools and short answers stay its own."""

    _told: bool = PrivateAttr(default=False)
    """It was said that answers with tools are not split."""
    _large: tuple[dict[str, Any], BaseChatModel] | None = PrivateAttr(default=None)
    """The large model called as we are, and how it then differs."""

    def _resolve_model_profile(self) -> ModelProfile | None:
        return getattr(self.sgd.largest.model, "profile", None)

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: str | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """The large model with these tools: a tool call does not split.

        Answers are not split then either, unless `split_with_tools` is set. Or give the agent a model of
        its own and `SGDRunnable.as_tool()`.
        """
        if tool_choice is not None:
            kwargs["tool_choice"] = tool_choice
        # A call that is forced, or bound to a form, leaves nothing to decide.
        free = kwargs.get("tool_choice") in (None, "auto") and "response_format" not in kwargs
        if self.split_with_tools and tools and free:
            self._undivided(lambda model: model.bind_tools(tools, **kwargs))  # it can take them
            return cast(
                "Runnable[LanguageModelInput, AIMessage]",
                self.bind(tools=[_described(tool) for tool in tools], **kwargs),
            )
        if tools and free and not self.split_with_tools and not self._told:
            self._told = True
            _log.warning(
                "ChatSGD: with tools bound, every answer is one call of the large model;"
                " split_with_tools=True has long last answers split"
            )
        return self._undivided(lambda model: model.bind_tools(tools, **kwargs))

    def with_structured_output(
        self,
        schema: dict[str, Any] | type,
        *,
        include_raw: bool = False,
        fuse: bool = False,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, dict[str, Any] | BaseModel]:
        """Answer in the form of a schema.

        Args:
            schema: Whatever the large model takes.
            include_raw: Whether to give `raw`, `parsed` and `parsing_error`.
            fuse: Decode the answer in parallel first, then have the large model put it into the form; for
                forms that hold long texts. Without it the large model answers in the form at once.
            **kwargs: For the large model's own `with_structured_output`.

        Raises:
            InvalidInputError: The large model takes no schemas, or `schema` is none, such as `list[Item]`.
        """

        def bound(model: Any) -> Any:
            try:
                return model.with_structured_output(schema, include_raw=include_raw, **kwargs)
            except (AttributeError, TypeError, ValueError):
                if schema is not None:
                    check_schema(schema)  # in words of our own
                raise

        structured = self._undivided(bound)
        if not fuse:
            return structured
        # Nobody sees this answer grow, so nobody waits for an opening.
        sgd = self.sgd.model_copy(update={"opening": False})
        unseen = self.model_copy(update={"sgd": sgd}).with_config(tags=[NOSTREAM])

        def fused(messages: list[BaseMessage], answer: AIMessage) -> list[BaseMessage]:
            if awaits_approval(answer.response_metadata):
                msg = (
                    "The skeleton awaits approval, so there is no answer to put into the form. Approve it"
                    " with the SGDRunnable itself, or put this into a node of a LangGraph graph that has"
                    " a checkpointer: the graph waits there, and is resumed there"
                )
                raise InvalidInputError(msg)
            return self.sgd.prompts.for_fusing(messages, answer.text)

        def decode(input: Any, config: RunnableConfig) -> list[BaseMessage]:
            messages = self._convert_input(input).to_messages()
            return fused(messages, unseen.invoke(messages, config))

        async def adecode(input: Any, config: RunnableConfig) -> list[BaseMessage]:
            messages = self._convert_input(input).to_messages()
            return fused(messages, await unseen.ainvoke(messages, config))

        return RunnableLambda(decode, afunc=adecode, name="decode") | structured

    def _said(self, name: str) -> Any:
        """Our callbacks, tags or metadata as the caller gave them."""
        value = getattr(self, name)
        if name != "metadata":
            return value
        return {key: item for key, item in (value or {}).items() if key != "lc_versions"}

    # -- tokens, as the large model counts them

    def get_token_ids(self, text: str) -> list[int]:
        """As the large model's.

        Raises:
            NotImplementedError: It has no tokenizer at hand.
        """
        if self.custom_get_token_ids is not None:
            return self.custom_get_token_ids(text)
        large = innermost(self.sgd.largest.model)
        if not _counts(large):
            msg = f"The large model, a {type(large).__name__}, has no tokenizer at hand"
            raise NotImplementedError(msg)
        ids: list[int] = large.get_token_ids(text)
        return ids

    def get_num_tokens(self, text: str) -> int:
        """As the large model counts, or about so where it has no tokenizer at hand."""
        if self.custom_get_token_ids is not None:
            return len(self.custom_get_token_ids(text))
        large = innermost(self.sgd.largest.model)
        if _counts(large):
            return int(large.get_num_tokens(text))
        return count_tokens_approximately([text], extra_tokens_per_message=0, count_name=False)

    def get_num_tokens_from_messages(
        self, messages: list[BaseMessage], tools: Sequence[Any] | None = None
    ) -> int:
        """As the large model counts, or about so where it has no tokenizer at hand."""
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens_from_messages(messages, tools)
        large = innermost(self.sgd.largest.model)
        try:
            if _counts(large):
                return int(large.get_num_tokens_from_messages(messages, tools))
        except NotImplementedError:  # of a model whose name its class does not know
            pass
        return count_tokens_approximately(messages)

    # -- what is called in our place

    def _undivided(
        self, made_of: Callable[[Any], Any], *, inside: bool = False
    ) -> Runnable[LanguageModelInput, Any]:
        """What is made of the large model itself, called as we are.

        It has our callbacks, tags and metadata beside its own, and our cache and rate limiter where it has
        none.

        Args:
            made_of: Makes it.
            inside: It is called in a run of ours, which has all of that.
        """
        large: Any = self.sgd.largest.model
        bound: dict[str, Any] = {}
        config = RunnableConfig()
        while isinstance(large, RunnableBinding):
            bound = {**large.kwargs, **bound}
            config = merge_configs(large.config, config)
            large = large.bound
        if not hasattr(large, "bind_tools"):
            msg = (
                f"Tools and schemas go to the largest tier, but that is a {type(large).__name__}, no chat"
                " model"
            )
            raise InvalidInputError(msg)
        ours: dict[str, Any] = {}
        if isinstance(large, BaseChatModel) and not inside:
            ours = {
                name: value
                for name in ("cache", "rate_limiter")
                if (value := getattr(self, name)) is not None and getattr(large, name) is None
            }
            told = {name: getattr(large, name) for name in _TOLD if getattr(large, name)}
            own = {name: value for name in _TOLD if (value := self._said(name))}
            ours |= (
                merge_configs(cast("RunnableConfig", told), cast("RunnableConfig", own))
                if own
                else {}
            )
            if ours and (self._large is None or self._large[0] != ours):
                # Kept: an agent binds its tools before every call, and a copy may connect for itself.
                self._large = ours, large.model_copy(update=ours)
            large = self._large[1] if ours and self._large is not None else large
        made: Runnable[LanguageModelInput, Any] = made_of(large)
        if bound:
            made = made.bind(**bound)
        return made.with_config(config) if config else made


def _counts(model: Any) -> bool:
    """Whether a model has a way of its own to count tokens; LangChain's loads a library and a tokenizer."""
    if not isinstance(model, BaseChatModel):
        return False
    own = ("get_token_ids", "get_num_tokens", "get_num_tokens_from_messages")
    return model.custom_get_token_ids is not None or any(
        getattr(type(model), name) is not getattr(BaseChatModel, name) for name in own
    )


def _described(tool: Any) -> dict[str, Any]:
    """A tool as every chat model takes it; a provider's own stays as it is."""
    return tool if isinstance(tool, dict) else convert_to_openai_tool(tool)
