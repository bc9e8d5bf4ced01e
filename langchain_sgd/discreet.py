"""Option objects whose validation errors show no input."""

from __future__ import annotations

from typing import Any, cast, get_args

from pydantic import BaseModel, ConfigDict, GetCoreSchemaHandler, ValidationError
from pydantic_core import ErrorDetails, InitErrorDetails, PydanticCustomError, core_schema
from pydantic_core.core_schema import ErrorType


def _hiding(given: Any, handler: core_schema.ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(given)
    except ValidationError as error:
        hidden = without_inputs(error)
    raise hidden  # outside of the block: no context that has the inputs


def without_inputs(error: ValidationError) -> ValidationError:
    """The same error; of its inputs, numbers are left, and of others the type."""
    lines = [_without_input(line) for line in error.errors(include_url=False)]
    return ValidationError.from_exception_data(error.title, lines, hide_input=True)


def _without_input(line: ErrorDetails) -> InitErrorDetails:
    value = line["input"]
    shown = value is None or isinstance(value, bool | int | float)
    kind: Any = line["type"]
    hidden: dict[str, Any] = {"loc": line["loc"], "input": value if shown else type(value).__name__}
    if kind not in get_args(ErrorType):  # a validator's own
        return cast("InitErrorDetails", {**hidden, "type": PydanticCustomError(kind, line["msg"])})
    ctx = {"ctx": line["ctx"]} if "ctx" in line else {}
    return cast("InitErrorDetails", {**hidden, "type": kind, **ctx})


class Discreet(BaseModel):
    """A model whose errors show no input, however they are read: it may be a secret in the wrong place."""

    model_config = ConfigDict(hide_input_in_errors=True)

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: Any, handler: GetCoreSchemaHandler, /
    ) -> core_schema.CoreSchema:
        # Around all validators, those of subclasses included.
        return core_schema.no_info_wrap_validator_function(_hiding, handler(source))

    def __setattr__(self, name: str, value: Any) -> None:
        try:
            return super().__setattr__(name, value)
        except ValidationError as error:
            hidden = without_inputs(error)
        raise hidden
