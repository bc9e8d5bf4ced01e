"""A run's progress as lines to read, for clients that show a model's reasoning."""

from __future__ import annotations

from langchain_sgd.events import PLAIN_ID, Discarded, Ended, PlainChosen, Planned, Started
from langchain_sgd.proxy.engine import Piece


def told(piece: Piece) -> str:
    """The line that a piece is worth; empty for most."""
    match piece:
        case Planned(node):
            needs = f" (after {', '.join(node.dependencies)})" if node.dependencies else ""
            return f"{node.id}. {node.heading}{needs}\n"
        case PlainChosen(reason):
            return f"Answered in one piece: {reason}.\n"
        case Started(node_id, tier, attempt) if node_id != PLAIN_ID:
            again = f", attempt {attempt}" if attempt > 1 else ""
            return f"Part {node_id}: begun by {tier}{again}\n"
        case Discarded(node_id, reason):
            return f"Part {node_id}: begun again, {reason}\n"
        case Ended(node_id, status) if node_id != PLAIN_ID:
            return f"Part {node_id}: {status}\n"
        case _:
            return ""
