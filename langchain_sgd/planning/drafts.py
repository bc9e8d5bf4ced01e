"""From drafts, as the planner wrote them, to nodes: one by one as they arrive, mended where needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from langchain_sgd.skeleton import (
    DEFAULT_DIFFICULTY,
    ID_PATTERN,
    MAX_DIFFICULTY,
    MIN_DIFFICULTY,
    Node,
    NodeId,
)


def clean_line(text: str) -> str:
    """One line; half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes a question mark."""
    return " ".join(text.encode(errors="replace").decode().split())


_CONCLUSION = re.compile(
    r"(?:(?:the|my|our|your|final|overall|brief|short|eine?|mein|kurzes?) )*"
    r"(?:conclusions?|recommendations?|verdict|summary|synthesis|final thoughts"
    r"|fazit|schluss(?:folgerung(?:en)?|wort)?|zusammenfassung|empfehlung(?:en)?|urteil"
    r"|recommandations?|synthèse|résumé|conclusi[oó]n(?:es)?|recomendaci[oó]n(?:es)?|veredicto|resumen"
    r"|conclusão|conclusões|recomendaç(?:ão|ões)|resumo|conclusion[ei]|raccomandazion[ei]|sintesi"
    r"|conclusies?|aanbeveling(?:en)?|samenvatting|wnios(?:ek|ki)|podsumowanie|заключение|выводы?|итоги?"
    r"|结论|总结|結論|總結|まとめ|결론)[.:]?",
    re.IGNORECASE,
)
"""Headings of parts that rest on those before them, whatever the planner says."""

ALL_EARLIER = "all"
"""A draft's dependency on every node before it."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A node as the planner wrote it, before anything was checked; ids are those of drafts."""

    id: str
    heading: str
    scope: str = ""
    dependencies: tuple[str, ...] = ()
    difficulty: int | None = None


@dataclass(slots=True)
class Repairer:
    """Turns drafts into nodes one by one, as they arrive, and says what it had to mend.

    Nothing raises: a bad reference is dropped, a bad id renumbered (references to it follow), a
    difficulty clamped, a repeated node and nodes over the limit are left out; each becomes one line in
    `warnings`. A conclusion that names nothing it rests on rests on all parts before it.
    """

    max_nodes: int
    nodes: list[Node] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    _meant: dict[str, NodeId] = field(default_factory=dict)
    """What a draft's id stands for in later drafts."""

    @property
    def full(self) -> bool:
        """Whether the limit is reached: later drafts are left out."""
        return len(self.nodes) >= self.max_nodes

    def admit(self, draft: Draft) -> Node | None:
        """The node this draft becomes; None if it is left out."""
        scope = clean_line(draft.scope)
        heading = clean_line(draft.heading) or scope[:60].strip()
        wanted = draft.id.strip()
        if self.full:
            self._warn(f"left out node {wanted!r} ({heading!r}): the limit is {self.max_nodes}")
            return None
        for node in self.nodes:
            if (node.heading.casefold(), node.scope) == (heading.casefold(), scope):
                self._warn(f"left out node {wanted!r} ({heading!r}): it repeats node {node.id}")
                self._meant.setdefault(wanted, node.id)
                return None
        node_id = self._id(wanted)
        if not draft.heading.strip():
            heading = heading or f"Part {node_id}"
            self._warn(f"node {node_id} has no heading; {heading!r} is taken")
        node = Node(
            id=node_id,
            heading=heading,
            scope=scope,
            dependencies=self._dependencies(draft, node_id, heading),
            difficulty=self._difficulty(draft, node_id),
        )
        self._meant.setdefault(wanted, node_id)
        self.nodes.append(node)
        return node

    def _id(self, wanted: str) -> NodeId:
        taken = {node.id for node in self.nodes}
        usable = re.fullmatch(ID_PATTERN, wanted) is not None
        if usable and wanted not in taken:
            return NodeId(wanted)
        node_id = next(str(n) for n in range(1, len(taken) + 2) if str(n) not in taken)
        reason = "is taken" if usable else "is no usable id"
        self._warn(f"renumbered a node to {node_id}: {wanted!r} {reason}")
        return NodeId(node_id)

    def _dependencies(self, draft: Draft, node_id: NodeId, heading: str) -> tuple[NodeId, ...]:
        known = {str(node.id): node.id for node in self.nodes} | self._meant
        dependencies: list[NodeId] = []
        for dependency in draft.dependencies:
            if dependency == draft.id.strip() and dependency not in self._meant:
                self._warn(f"dropped a dependency of node {node_id} on itself")
            elif dependency in known:
                dependencies.append(known[dependency])
            elif dependency == ALL_EARLIER:
                dependencies += [node.id for node in self.nodes]
            elif dependency != "0":  # with no node 0, it says that there is none
                self._warn(
                    f"dropped a dependency of node {node_id} on {dependency!r},"
                    " which is not an earlier node"
                )
        if not dependencies and len(self.nodes) > 1 and _CONCLUSION.fullmatch(heading):
            return tuple(node.id for node in self.nodes)
        return tuple(dict.fromkeys(dependencies))

    def _difficulty(self, draft: Draft, node_id: NodeId) -> int:
        difficulty = draft.difficulty
        if difficulty is None:
            return DEFAULT_DIFFICULTY
        clamped = min(max(difficulty, MIN_DIFFICULTY), MAX_DIFFICULTY)
        if clamped != difficulty:
            self._warn(f"node {node_id} has difficulty {difficulty}; {clamped} is taken")
        return clamped

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
