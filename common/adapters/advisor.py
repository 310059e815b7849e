"""Which tuning method to take for so many samples, this latency, this memory.

The rules of the source article are priors: they decide where nothing was measured. Where
`evidence.json` has figures for the question they come first, and the recommendation names
the rule that they contradict. The order of methods never depends on the memory; of that
order the first that fits is taken, so that less memory never leads to a larger method.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from common.adapters.anatomy import Anatomy
from common.adapters.comparison import (
    best_of,
    nearest_rows,
    rows_about,
    served_latency,
    sizes_alike,
)
from common.adapters.evidence import EVIDENCE, EvidenceRow, read_evidence
from common.adapters.memory import MemoryEstimate, estimate_memory
from common.adapters.methods import Method
from common.adapters.rules import RULES, STARTING_POINTS, Claim, Question, Rule

__all__ = ["Recommendation", "recommend"]

_SAME_SIZE = 1.25  # how far the base of a measured latency may be from the one asked about
_CLAIMS: Mapping[Claim, str] = {
    "accuracy": "accuracy",
    "latency": "latency",
    "shift": "accuracy after a shift of domain",
}


@dataclass(frozen=True)
class Recommendation:
    """What to do, and why.

    Args:
        method: The method with its settings, for `Trainer(method=...)`.
        settings: Further arguments of `Trainer`: `learning_rate`, `gradient_checkpointing`.
        merge: Whether to serve it merged into the weights (`merge_adapter`).
        reasons: Sentences, in the order in which the choice was made.
        evidence: The measured rows that decided, each with its file.
        contradictions: Where our measurements disagree with the article's rules.
        not_measured: What the choice rests on without a measurement of ours.
        memory: What a training run needs by estimate; None without an anatomy.
    """

    method: Method
    settings: Mapping[str, Any]
    merge: bool
    reasons: tuple[str, ...]
    evidence: tuple[EvidenceRow, ...]
    contradictions: tuple[str, ...]
    not_measured: tuple[str, ...]
    memory: MemoryEstimate | None


def recommend(
    n_samples: int,
    *,
    latency_budget_ms: float | None = None,
    memory_gib: float | None = None,
    domain_shift: bool = False,
    realtime: bool = False,
    causal_lm: bool = False,
    anatomy: Anatomy | None = None,
    n_tokens: int = 2048,
    device: str | None = None,
    precision: Literal["fp32", "bf16"] = "fp32",
    evidence: Path = EVIDENCE,
) -> Recommendation:
    """Recommends a tuning method, its settings, and says what the advice rests on.

    Args:
        n_samples: Labelled rows at hand.
        latency_budget_ms: Most time for a batch. The slowest batch measured on the same
            device and a base of about the same size is held against it; the reasons name
            the batch.
        memory_gib: Memory for training; needs `anatomy`. If nothing fits, the method that
            needs least is returned and the reasons say so.
        domain_shift: Whether the texts differ from those that the model will meet.
        realtime: Whether latency matters more than anything else.
        causal_lm: Whether a language model is trained on texts without labels; what was
            measured on labelled texts does not count then.
        anatomy: The base (`anatomy_of`); methods that it refuses are never recommended.
        n_tokens: Tokens in one forward pass, rows times padded length, for the memory.
        device: "cpu" or an accelerator's short name; all that were measured without it.
        precision: In which training computes, for the memory.
        evidence: The measured rows.

    Raises:
        InputError: A number is not one that can be used.
        AdapterError: The evidence file is broken.
    """
    question = Question(
        n_samples,
        latency_budget_ms,
        memory_gib,
        domain_shift=domain_shift,
        realtime=realtime,
        causal_lm=causal_lm,
        anatomy=anatomy,
        n_tokens=n_tokens,
        device=device,
        precision=precision,
    )
    rows = [row for row in read_evidence(evidence) if _bears_on(question, row)]
    advice = _Advice(question, rows)
    order = advice.rank(advice.allowed())
    kind, checkpointing = advice.fit(advice.within_latency(order))
    return advice.recommendation(kind, checkpointing=checkpointing)


def _bears_on(question: Question, row: EvidenceRow) -> bool:
    """Returns whether a row is of the settings recommended, and of this device and task.

    Accuracy does not depend on the device; time and memory have no task.
    """
    if row.setting != STARTING_POINTS[row.method].measured_as:
        return False
    return not question.causal_lm if row.task else question.device in {None, row.device}


@dataclass
class _Advice:
    """An answer while it is worked out."""

    question: Question
    rows: Sequence[EvidenceRow]
    reasons: list[str] = field(default_factory=list)
    evidence: list[EvidenceRow] = field(default_factory=list)
    contradictions: list[str] = field(default_factory=list)
    not_measured: list[str] = field(default_factory=list)

    @property
    def _size(self) -> int | None:
        return self.question.anatomy.n_parameters if self.question.anatomy else None

    def allowed(self) -> list[str]:
        """Returns the methods that the base takes; full tuning is always one of them."""
        anatomy, kinds = self.question.anatomy, []
        for kind, start in STARTING_POINTS.items():
            refusal = None if anatomy is None else start.method.refusal(anatomy)
            if anatomy is not None and refusal is not None:
                self.reasons.append(f"{anatomy.family} takes no {kind}: {refusal.reason}.")
            else:
                kinds.append(kind)
        return kinds

    def rank(self, kinds: Sequence[str]) -> list[str]:
        """Returns the methods, best first: by the article's rule, then by what was measured."""
        rule = next(rule for rule in RULES if rule.applies(self.question))
        self.reasons.append(rule.sentence)
        measured = rows_about(rule.claim, self.rows, self.question.n_samples)
        left = sorted(kinds, key=lambda kind: kind != rule.kind)
        order: list[str] = []
        while left:
            head, shown = best_of(left, measured, rule.claim)
            if not order and rule.kind in kinds:
                self._note(rule, head, shown or measured)
            order.append(head)
            left.remove(head)
        return order

    def _note(self, rule: Rule, head: str, rows: Sequence[EvidenceRow]) -> None:
        """Notes whether measured rows speak against a rule, do not, or do not exist."""
        about = [row for row in rows if rule.kind in {row.method, row.against}]
        if head != rule.kind:
            shown = "; ".join(str(row) for row in rows)
            self.contradictions.append(f"{rule.sentence} We measured {head} to be better: {shown}.")
            self.reasons.append(f"Our measurements put {head} first.")
            self.evidence += rows
        elif about:
            self.evidence += about
            self.reasons.append("Our measurements show no other method to be better.")
        else:
            self.not_measured.append(
                f"The {_CLAIMS[rule.claim]} of {rule.kind} beside the other methods in such a "
                "case: the rule is followed unchecked."
            )

    def within_latency(self, order: Sequence[str]) -> list[str]:
        """Returns the methods whose measured latency keeps the budget, or is not known."""
        budget = self.question.latency_budget_ms
        if budget is None:
            return list(order)
        latency = {kind: row for kind in order if (row := self._latency(kind)) is not None}
        for kind in order:
            if kind not in latency:
                self.not_measured.append(f"The latency of {kind} on such a base and device.")
        over = {kind: row for kind, row in latency.items() if row.value > budget}
        self.evidence += latency.values()
        self.reasons += [f"{row} is over the budget of {budget:g} ms." for row in over.values()]
        within = [kind for kind in order if kind not in over]
        if within:
            return within
        fastest = min(order, key=lambda kind: latency[kind].value)
        self.reasons.append(f"No method keeps the budget; {fastest} is the fastest.")
        return [fastest]

    def _latency(self, kind: str) -> EvidenceRow | None:
        """Returns the slowest latency measured on bases of about this size."""
        found = [
            row
            for row in self.rows
            if row.method == kind
            and row.metric == served_latency(kind, "ms")
            and sizes_alike(row.n_parameters, self._size, factor=_SAME_SIZE)
        ]
        return max(found, key=lambda row: row.value, default=None)

    def fit(self, order: Sequence[str]) -> tuple[str, bool]:
        """Returns the first method that fits the memory, and whether to checkpoint."""
        room, anatomy = self.question.memory_gib, self.question.anatomy
        if room is None:
            return order[0], False
        if anatomy is None:
            self.not_measured.append("The memory: pass anatomy= to have it estimated.")
            return order[0], False
        choices = [(kind, checkpointing) for kind in order for checkpointing in (False, True)]
        needs = {choice: self._memory(*choice).total_gib for choice in choices}
        chosen = next((choice for choice in choices if needs[choice] <= room), None)
        if chosen is None:
            chosen = min(choices, key=lambda choice: needs[choice])
            self.reasons.append(
                f"By estimate nothing fits {room:g} GiB; {chosen[0]} needs least. Fewer tokens "
                "at once (micro_batch_size=) need less."
            )
        else:
            self._explain_memory(choices[: choices.index(chosen)], needs)
        return chosen

    def _explain_memory(
        self, passed_over: Sequence[tuple[str, bool]], needs: Mapping[tuple[str, bool], float]
    ) -> None:
        for kind, checkpointing in passed_over:
            how = " with gradient checkpointing" if checkpointing else ""
            self.reasons.append(
                f"{kind}{how} needs {needs[kind, checkpointing]:.1f} GiB by estimate, more than "
                f"{self.question.memory_gib:g}."
            )

    def _memory(self, kind: str, checkpointing: bool) -> MemoryEstimate:
        question = self.question
        if question.anatomy is None:
            raise TypeError("the memory is estimated from an anatomy")
        return estimate_memory(
            STARTING_POINTS[kind].method,
            question.anatomy,
            n_tokens=question.n_tokens,
            precision=question.precision,
            gradient_checkpointing=checkpointing,
        )

    def recommendation(self, kind: str, *, checkpointing: bool) -> Recommendation:
        """Returns the answer for the method chosen."""
        start, question = STARTING_POINTS[kind], self.question
        rate = self._learning_rate(kind)
        merge = kind == "lora" and (question.realtime or question.latency_budget_ms is not None)
        return Recommendation(
            method=start.method,
            settings={"learning_rate": rate, "gradient_checkpointing": checkpointing},
            merge=merge,
            reasons=tuple(self.reasons),
            evidence=tuple(dict.fromkeys(self.evidence)),
            contradictions=tuple(self.contradictions),
            not_measured=tuple(self.not_measured),
            memory=self._memory(kind, checkpointing) if question.anatomy else None,
        )

    def _learning_rate(self, kind: str) -> float:
        """Returns the smallest rate that was best on a base of about this size, or the prior."""
        measured = [
            row
            for row in nearest_rows("learning_rate", self.rows, self.question.n_samples)
            if row.method == kind and sizes_alike(row.n_parameters, self._size)
        ]
        if measured:
            row = min(measured, key=lambda row: row.value)
            self.evidence.append(row)
            self.reasons.append(f"Its learning rate was chosen on development rows: {row}.")
            return row.value
        start = STARTING_POINTS[kind]
        self.reasons.append(f"Its settings are priors: {start.source}.")
        self.not_measured.append(f"The learning rate of {kind} for so many rows of such a base.")
        return start.lm_learning_rate if self.question.causal_lm else start.learning_rate
