from __future__ import annotations

import copy
import pickle
import re

import pytest

from langchain_sgd import errors
from langchain_sgd.errors import (
    DependencyFailedError,
    InvalidInputError,
    NodeDecodeError,
    PlannerError,
    RunDeadlineError,
    SkeletonError,
    SkeletonGraphError,
)
from tests.support.skeletons import skeleton

NODE = skeleton("3").nodes[0]
EVERY: list[SkeletonGraphError] = [
    SkeletonGraphError("x"),
    InvalidInputError("x"),
    SkeletonError("x"),
    PlannerError("x"),
    NodeDecodeError(NODE, "large", "TimeoutError"),
    NodeDecodeError(None, "large", "TimeoutError"),
    DependencyFailedError(NODE, "1"),
    RunDeadlineError("x"),
]


def defined() -> dict[str, type[BaseException]]:
    return {
        name: value
        for name, value in vars(errors).items()
        if isinstance(value, type)
        and issubclass(value, BaseException)
        and value.__module__ == errors.__name__
    }


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    drawn = re.findall(r"\+-- (\w+)(?: +\(also (\w+)\))?", errors.__doc__ or "")
    assert {name for name, _ in drawn} == set(defined()) - {"SkeletonGraphError"}
    for name, also in drawn:
        error = defined()[name]
        assert error.__bases__[0] is SkeletonGraphError
        assert [base.__name__ for base in error.__bases__[1:]] == ([also] if also else [])


def test_every_error_is_tried_here() -> None:
    assert {type(error) for error in EVERY} == set(defined().values())


@pytest.mark.parametrize("error", EVERY, ids=lambda error: type(error).__name__)
def test_errors_can_be_copied_and_sent_to_another_process(error: SkeletonGraphError) -> None:
    for twin in (copy.copy(error), pickle.loads(pickle.dumps(error))):  # noqa: S301 - our own bytes
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


def test_messages_name_the_node_the_tier_and_the_reason() -> None:
    assert str(NodeDecodeError(NODE, "large", "TimeoutError: slow")) == (
        "Node 3 ('Heading 3') failed on the 'large' tier: TimeoutError: slow"
    )
    assert str(NodeDecodeError(None, "large", "slow")) == (
        "Plain decoding failed on the 'large' tier: slow"
    )
    assert str(DependencyFailedError(NODE, "1")) == (
        "Node 3 ('Heading 3') was not decoded: its dependency 1 failed"
    )


def test_misuse_can_be_caught_as_value_error() -> None:
    assert issubclass(InvalidInputError, ValueError)
    assert issubclass(SkeletonError, ValueError)
    assert not issubclass(NodeDecodeError, ValueError)
