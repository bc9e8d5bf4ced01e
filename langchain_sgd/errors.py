"""Everything this package raises.

    SkeletonGraphError
    +-- InvalidInputError        (also ValueError)    what the caller passed cannot be used
    +-- SkeletonError            (also ValueError)    nodes that make no skeleton
    +-- PlannerError                                  the planner's model failed
    +-- NodeDecodeError                               a node's model failed on every tier it may use
    +-- DependencyFailedError                         a node could not start: a dependency has no answer
    +-- RunDeadlineError                              the run's deadline passed

Errors of endpoints are `langchain_sgd.tgi.TGIError`s; they arrive here as the cause.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from langchain_sgd.report import Report
    from langchain_sgd.skeleton import Node


class SkeletonGraphError(Exception):
    """Root of every error that this package raises on its own account."""

    report: Report | None = None
    """Of a run that ended with it, as far as it came: the texts of the parts that have ended, their calls and
    tokens. None where nothing had been asked, or where parts had not ended."""


class InvalidInputError(SkeletonGraphError, ValueError):
    """What the caller passed cannot be used; the message says what was given and what is taken."""


class SkeletonError(SkeletonGraphError, ValueError):
    """Nodes that do not make a skeleton; the message names the node and the field."""


class PlannerError(SkeletonGraphError):
    """The planner's model failed; its own error is the cause."""


class NodeDecodeError(SkeletonGraphError):
    """No tier gave an answer; the last error is the cause. `node` is None in a plain run."""

    def __init__(self, node: Node | None, tier: str, reason: str) -> None:
        what = f"Node {node.id} ({node.heading!r})" if node else "Plain decoding"
        where = f" on the {tier!r} tier" if tier else ""  # none was asked
        super().__init__(f"{what} failed{where}: {reason}")
        self.node = node
        self.tier = tier
        self.reason = reason

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.node, self.tier, self.reason), self.__dict__


class DependencyFailedError(SkeletonGraphError):
    """A node could not start because a node it depends on has no answer."""

    def __init__(self, node: Node, dependency: str) -> None:
        super().__init__(
            f"Node {node.id} ({node.heading!r}) was not decoded: its dependency {dependency} failed"
        )
        self.node = node
        self.dependency = dependency

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.node, self.dependency), self.__dict__


class RunDeadlineError(SkeletonGraphError):
    """The run's deadline passed before every node had an answer."""
