"""Asking a judge: every pair in both orders, some at a time, so that a killed run can go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import Runnable

from langchain_sgd.errors import InvalidInputError, SkeletonGraphError
from langchain_sgd.files import Row
from langchain_sgd.judging.asked import Asked, Cost, shown
from langchain_sgd.judging.pairs import Pair
from langchain_sgd.judging.people import Shown, read_sheet, sheet
from langchain_sgd.judging.prompts import JudgePrompts
from langchain_sgd.judging.tally import Judged
from langchain_sgd.judging.verdict_file import VerdictFile
from langchain_sgd.judging.verdicts import Outcome, Verdict, outcome_of, parse_verdict
from langchain_sgd.portal import run_sync
from langchain_sgd.redaction import describe
from langchain_sgd.streams import all_of

_REPLY_TAIL: Final = 400
"""Characters of an unusable reply that the judge sees again, so that asking again fits where it did."""


class JudgeError(SkeletonGraphError):
    """The judge's model failed; its own error is the cause. Verdicts given before are kept."""


class Judging:
    """Pairs and the judge that compares them.

    Every pair is shown in both orders, and a side wins only if both prefer it. Answers that are the same
    text are a tie and a missing answer loses, without a call.

    Example:
        >>> judging = Judging(pairs, ChatTGI(base_url=url, max_tokens=512))  # doctest: +SKIP
        >>> print(judging.cost.calls)  # doctest: +SKIP
        >>> tally(judging.run()).rates.net  # doctest: +SKIP

    Args:
        pairs: What is to be compared.
        model: Messages in, a message or text out: a chat model, or a chain.
        name: Who judges, told in the verdicts; a kept verdict counts only for the same name.
        prompts: What the judge is told.
        path: A JSONL file to which verdicts are appended, and from which those already given are taken.
        concurrency: Most calls in flight.
        reply_tokens: Most tokens that the model writes, where it has such a limit; for the cost.

    Raises:
        InvalidInputError: There is nothing to compare, or the file holds something else.
    """

    def __init__(
        self,
        pairs: Sequence[Pair],
        model: Runnable[Any, Any],
        *,
        name: str | None = None,
        prompts: JudgePrompts | None = None,
        path: Path | None = None,
        concurrency: int = 8,
        reply_tokens: int | None = None,
    ) -> None:
        if not pairs:
            msg = "there are no pairs to judge"
            raise InvalidInputError(msg)
        if concurrency < 1:
            msg = f"concurrency must be 1 or more, not {concurrency}"
            raise InvalidInputError(msg)
        self.name = name or model.get_name()
        self._model = model
        self._prompts = prompts or JudgePrompts()
        self._file = VerdictFile(path)
        self._path = path
        self._concurrency = concurrency
        self._reply_tokens = reply_tokens
        self._asked = [(pair, self._orders(pair)) for pair in pairs]

    # -- what will be asked

    def _orders(self, pair: Pair) -> tuple[Asked, Asked] | None:
        if not pair.answer or not pair.other or pair.answer == pair.other:
            return None
        return self._order(pair, method_first=True), self._order(pair, method_first=False)

    def _order(self, pair: Pair, *, method_first: bool) -> Asked:
        messages = self._prompts.messages(
            pair.question, *shown(pair, method_first=method_first), pair.reference
        )
        words = [self.name, self._prompts.again, *((m.type, m.text) for m in messages)]
        digest = hashlib.sha256(json.dumps(words).encode()).hexdigest()[:24]
        return Asked(pair, method_first, tuple(messages), digest)

    def _calls(self) -> list[Asked]:
        """What was not asked yet; pairs of the same texts share their verdicts."""
        calls = {each.digest: each for _, orders in self._asked for each in orders or ()}
        return [each for digest, each in calls.items() if self._file.get(digest) is None]

    @property
    def cost(self) -> Cost:
        """What is still to be paid."""
        calls = self._calls()
        digests = {each.digest for _, orders in self._asked for each in orders or ()}
        return Cost.of(calls, kept=len(digests) - len(calls), reply_tokens=self._reply_tokens)

    # -- asking

    def run(self, on_verdict: Callable[[Row], None] | None = None) -> list[Judged]:
        """`arun`, waited for."""
        return run_sync(lambda: self.arun(on_verdict))

    async def arun(self, on_verdict: Callable[[Row], None] | None = None) -> list[Judged]:
        """Ask what was not asked yet, and give what became of every pair, in the order of the pairs.

        Args:
            on_verdict: Called after every call, with what is kept of it.

        Raises:
            JudgeError: The model failed. Calls in flight were cancelled; a further run asks the rest.
            OSError: A verdict cannot be written.
        """
        calls = self._calls()
        rest = iter(calls)

        def work(_: int) -> Coroutine[Any, Any, None]:
            return self._work(rest, on_verdict)

        await all_of(work, min(self._concurrency, len(calls)), return_exceptions=False)
        return self.judged()

    async def _work(self, calls: Iterator[Asked], on_verdict: Callable[[Row], None] | None) -> None:
        for call in calls:
            row = await self._judge(call)
            self._file.add(row)
            if on_verdict is not None:
                on_verdict(row)

    async def _judge(self, call: Asked) -> Row:
        pair = call.pair
        said: list[str] = []
        usage = [0, 0]
        verdict: Verdict | None = None
        problem: str | None = None
        try:
            for messages in self._attempts(call, said):
                reply = await self._reply(messages, call)
                said.append(reply.text)
                if counted := reply.usage_metadata:
                    usage = [
                        usage[0] + counted["input_tokens"],
                        usage[1] + counted["output_tokens"],
                    ]
                if (verdict := parse_verdict(reply.text)) is not None:
                    break
            else:
                problem = "no verdict"
        except ContextOverflowError:
            problem = "too long for the judge"
        except Exception as error:
            kept = (
                f"verdicts so far are kept in {self._path}, and a further run goes on after them"
                if self._path
                else "nothing was kept, since no file was named for it"
            )
            msg = (
                f"the judge {self.name!r} failed on question {pair.question_id!r}:"
                f" {describe(error)} ({kept})"
            )
            raise JudgeError(msg) from error
        return self._row(call, verdict, problem, said, usage)

    def _row(
        self,
        call: Asked,
        verdict: Verdict | None,
        problem: str | None,
        said: list[str],
        usage: list[int],
    ) -> Row:
        pair = call.pair
        first, second = pair.method, pair.against
        if not call.method_first:
            first, second = second, first
        return {
            "asked": call.digest,
            "judge": self.name,
            "question_id": pair.question_id,
            "category": pair.category,
            "a": first,
            "b": second,
            "verdict": verdict,
            "problem": problem,
            "replies": said,
            "tokens": usage,
        }

    def _attempts(self, call: Asked, said: Sequence[str]) -> Iterator[list[BaseMessage]]:
        yield [*call.messages]
        tail = said[-1][-_REPLY_TAIL:]
        # Servers do not take an empty message; a judge that said nothing hears the same again.
        again = (
            [AIMessage(tail), HumanMessage(self._prompts.again.format())] if tail.strip() else []
        )
        yield [*call.messages, *again]

    async def _reply(self, messages: list[BaseMessage], call: Asked) -> AIMessage:
        metadata = {"sgd_question_id": call.pair.question_id}
        reply = await self._model.ainvoke(messages, {"run_name": "judge", "metadata": metadata})
        if isinstance(reply, AIMessage):
            return reply
        if isinstance(reply, BaseMessage | str):
            return AIMessage(reply if isinstance(reply, str) else reply.text)
        msg = f"a judge must give a message or text, not {type(reply).__name__}"
        raise InvalidInputError(msg)

    # -- people as judges

    def sheet(self) -> str:
        """What was not judged yet, for people to read: blind, each pair in both orders."""
        return sheet(
            [
                Shown(
                    each.digest,
                    each.pair.question,
                    *each.shown,
                    each.pair.reference,
                )
                for each in self._calls()
            ]
        )

    def take(self, text: str) -> list[str]:
        """Keep the verdicts of a sheet that was filled in; give what could not be taken, a line each.

        A verdict that is there already stays.
        """
        asked = {each.digest: each for _, orders in self._asked for each in orders or ()}
        found, unclear = read_sheet(text)
        for read in found:
            if (call := asked.get(read.mark)) is None:
                unclear.append(
                    f"mark {read.mark} is of no pair here: the answers, methods or reader are others"
                )
            elif self._file.get(read.mark) is None:
                self._file.add(self._row(call, read.verdict, None, [read.why], [0, 0]))
        return unclear

    @property
    def remarks(self) -> list[dict[str, str]]:
        """What people said of the answers that they did not prefer."""
        found: list[dict[str, str]] = []
        for _, orders in self._asked:
            for each in orders or ():
                row = self._file.get(each.digest)
                if row is None or not (why := " ".join(row.get("replies", []))):
                    continue
                loser = {"A": row["b"], "B": row["a"]}.get(row["verdict"], "")
                found.append({"question_id": row["question_id"], "disliked": loser, "why": why})
        return found

    # -- what came of it

    def judged(self) -> list[Judged]:
        """What became of the pairs whose verdicts are there."""
        found = (self._outcome(pair, orders) for pair, orders in self._asked)
        return [each for each in found if each is not None]

    @property
    def open_pairs(self) -> tuple[int, int]:
        """Pairs without any verdict, and pairs judged in one order only: neither counts yet."""
        given = [
            sum(self._file.get(each.digest) is not None for each in orders)
            for _, orders in self._asked
            if orders is not None
        ]
        return given.count(0), given.count(1)

    @property
    def warnings(self) -> list[str]:
        """Verdicts that could not be used and count as ties, a line each."""
        found: list[str] = []
        for pair, orders in self._asked:
            for each in orders or ():
                row = self._file.get(each.digest)
                if row is not None and row["verdict"] is None:
                    place = "first" if each.method_first else "second"
                    found.append(
                        f"question {pair.question_id}, {pair.method!r} shown {place}:"
                        f" {row.get('problem') or 'no verdict'}; counted as a tie"
                    )
        return found

    def _outcome(self, pair: Pair, orders: tuple[Asked, Asked] | None) -> Judged | None:
        common = (pair.method, pair.against, pair.question_id, pair.category)
        if orders is None:
            if pair.answer and pair.other:
                return Judged(*common, "tie", decided_by="identity", length_ratio=1.0)
            missing: Outcome = "win" if pair.answer else "lose" if pair.other else "tie"
            return Judged(*common, missing, decided_by="failure")
        first, second = (self._file.get(each.digest) for each in orders)
        if first is None or second is None:
            return None
        verdicts = (first["verdict"], second["verdict"])
        return Judged(
            *common,
            outcome_of(*verdicts),
            length_ratio=len(pair.answer) / len(pair.other),
            verdicts=verdicts,
        )
