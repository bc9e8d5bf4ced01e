"""From drafts, as the planner wrote them, to nodes: one by one as they arrive, mended where needed."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from typing import Final

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


def shortened(text: str, most: int) -> str:
    """The text, cut between two words, with a sign for what is missing, if it is longer than that."""
    return _parted(text, most)[0]


def _parted(text: str, most: int) -> tuple[str, str]:
    """What fits, and the rest, with signs where they are cut: between two words if there is such a place."""
    if len(text) <= most:
        return text, ""
    at = text.rfind(" ", most // 2, most - 1)
    if at < 0:
        at = most - 2
        while at > 1 and unicodedata.category(text[at]).startswith("M"):
            at -= 1
    return f"{text[:at].rstrip()} {_ELLIPSIS}", f"{_ELLIPSIS} {text[at:].lstrip()}"


def _said_once(heading: str) -> str:
    """`Safety` for `Safety and safety`."""
    words = heading.split()
    middle = len(words) // 2
    first, last = (" ".join(part) for part in (words[:middle], words[middle + 1 :]))
    if not first or first.casefold() != last.casefold():
        return heading
    return first if re.fullmatch(_AND, words[middle].casefold()) else heading


def _concludes(heading: str) -> bool:
    """Whether a part of this heading rests on those before it, whatever the planner says."""
    text = unicodedata.normalize("NFC", heading).casefold().rstrip(".:： ")  # noqa: RUF001
    return all(_QUALIFIERS.sub("", part, 1) in _CONCLUSIONS for part in _JOINED.split(text))


MAX_HEADING: Final = 100
"""Characters of a heading; what goes beyond them is scope."""
_MAX_STAND_IN: Final = 60
"""The same where its scope stands for it."""
_ELLIPSIS: Final = "…"

_AND = r"and|und|et|y|e|en|i|og|och|ve|dan|và|и|و|और|&|\+"
_JOINED = re.compile(rf"\s+(?:{_AND})\s+|\s+و|\s*/\s*|[和與与及、]")
_QUALIFIERS = re.compile(
    r"(?:(?:the|my|our|your|an?|final|overall|brief|short|personal|general|eine?|mein|kurzes?"
    r"|mi|la|el|le|ma) )+"
)
_CONCLUSIONS: Final = frozenset(
    unicodedata.normalize("NFC", phrase).casefold()
    for language in (
        "conclusion|conclusions|recommendation|recommendations|verdict|summary|synthesis|final thoughts",
        "fazit|schluss|schlussfolgerung|schlussfolgerungen|schlusswort|zusammenfassung|empfehlung|empfehlungen|urteil",
        "recommandation|recommandations|synthèse|résumé|bilan",
        "conclusión|conclusion|conclusiones|recomendación|recomendacion|recomendaciones|veredicto|resumen",
        "conclusão|conclusões|recomendação|recomendações|resumo",
        "conclusione|conclusioni|raccomandazione|raccomandazioni|sintesi|riepilogo",
        "conclusie|conclusies|aanbeveling|aanbevelingen|samenvatting",
        "slutsats|slutsatser|sammanfattning|rekommendation|rekommendationer",
        "konklusjon|konklusion|oppsummering|opsummering|sammendrag|anbefaling|anbefalinger",
        "johtopäätös|johtopäätökset|yhteenveto|suositus|suositukset",
        "wniosek|wnioski|podsumowanie|rekomendacja|rekomendacje",
        "závěr|závěry|shrnutí|doporučení|záver|zhrnutie|odporúčanie|odporúčania",
        "következtetés|következtetések|összegzés|összefoglalás|ajánlás|ajánlások",
        "concluzie|concluzii|rezumat|recomandare|recomandări",
        "заключение|вывод|выводы|итог|итоги|резюме|рекомендация|рекомендации",
        "висновок|висновки|підсумок|підсумки|рекомендація|рекомендації",
        "συμπέρασμα|συμπεράσματα|σύνοψη|σύσταση|συστάσεις",
        "sonuç|sonuçlar|özet|öneri|öneriler|tavsiye|tavsiyeler",
        "خاتمة|الخاتمة|خلاصة|الخلاصة|ملخص|الملخص|استنتاج|الاستنتاج|توصية|التوصية|توصيات|التوصيات",
        "نتیجه‌گیری|جمع‌بندی|خلاصه|توصیه‌ها",  # noqa: RUF001
        "סיכום|מסקנה|מסקנות|המלצה|המלצות",
        "निष्कर्ष|सारांश|सिफारिश|सिफारिशें|सिफ़ारिश|सिफ़ारिशें|अनुशंसा|अनुशंसाएँ",
        "উপসংহার|সারাংশ|সুপারিশ",
        "kết luận|tóm tắt|tổng kết|khuyến nghị|đề xuất",
        "kesimpulan|ringkasan|rangkuman|rekomendasi|simpulan",
        "สรุป|บทสรุป|ข้อสรุป|ข้อเสนอแนะ",
        "结论|总结|小结|结语|建议|推荐|結論|總結|建議|推薦|まとめ|要約|提言|결론|요약|권고",
    )
    for phrase in language.split("|")
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
        heading = _said_once(clean_line(draft.heading)) or shortened(scope, _MAX_STAND_IN)
        heading, beyond = _parted(heading, MAX_HEADING)
        scope = f"{beyond} {scope}".strip()
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
        if not dependencies and len(self.nodes) > 1 and _concludes(heading):
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
