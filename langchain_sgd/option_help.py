"""What people see of the options: in `help`, in notebooks, in an editor."""

from __future__ import annotations

import inspect
import re
import textwrap

from langchain_sgd.options import Options

_FIRST_SENTENCE = re.compile(r".*?\.(?= [A-Z`]|$)|.*")


def readable(signature: inspect.Signature) -> inspect.Signature:
    """Options and their defaults, for `help` and notebooks; with pydantic's types it fills a screen."""
    options = [
        each.replace(annotation=each.empty)
        for each in signature.parameters.values()
        if each.kind is each.KEYWORD_ONLY
    ]
    return signature.replace(parameters=options, return_annotation=signature.empty)


def with_meanings(options: type[Options]) -> str | None:
    """A class's docstring and, under `Args:`, what each of its options means: a sentence of its field.

    Without the indentation of the source, which only older Pythons leave in docstrings. None where Python was
    told to leave docstrings out.
    """
    if options.__doc__ is None:
        return None
    meanings = [
        f"{name}: {_FIRST_SENTENCE.match(' '.join(field.description.split()))[0]}"  # type: ignore[index]
        for name, field in options.model_fields.items()
        if field.description
    ]
    lines = [
        textwrap.fill(each, 100, initial_indent=" " * 4, subsequent_indent=" " * 8)
        for each in meanings
    ]
    return "\n".join([f"{inspect.cleandoc(options.__doc__)}\n", "Args:", *lines])
