"""Which models can answer a part of a task in time, in which order, and why not the others.

The order of what is looked at: modality, shape, length and language of the part; the
bounds of the policy; the time left; then cost and accuracy, or what was learned from
outcomes in place of the accuracy. Whether a model is healthy is asked last, when it is
about to be called (`common.routing.health`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from common.errors import DeadlineError, InputError, RoutingError, SettingsError
from common.models.base import Model, ModelProfile, Shape
from common.routing.kinds import fits, shape_of
from common.routing.latency import Latencies
from common.routing.preference import Context, LearnedPreference
from common.task import Part, Text

__all__ = ["Candidates", "Demand", "Policy", "choose"]

_SPECIAL_TOKENS = 8  # more than any tokenizer puts around a text


@dataclass(frozen=True)
class Policy:
    """What is wanted of a model beyond that it can take the part.

    Args:
        first: Whether the cheapest model comes first, or the most accurate; the other one
            of the two decides among equals, then the order in which models were given.
        max_cost: Highest cost of a model that may be used.
        min_accuracy: Lowest measured accuracy; a model whose accuracy is unknown is then
            not used.

    Raises:
        SettingsError: A bound is no number, or neither cost nor accuracy comes first.
    """

    first: Literal["cost", "accuracy"] = "cost"
    max_cost: float | None = None
    min_accuracy: float | None = None

    def __post_init__(self) -> None:
        bounds = (self.max_cost, self.min_accuracy)
        unusable = any(bound is not None and math.isnan(bound) for bound in bounds)
        if self.first not in {"cost", "accuracy"} or unusable:
            raise SettingsError(
                "policy",
                expected="'cost' or 'accuracy' first, and numbers as bounds",
                found=repr(self),
                remedy="Leave out what need not differ from the default.",
            )


@dataclass(frozen=True)
class Demand:
    """What the tasks of one call ask of a model.

    Args:
        part_name: The part's name in the tasks, for the messages.
        parts: The part of each task, all of one modality; at least one.
        remaining_s: Seconds until the deadline; infinite without one.
    """

    part_name: str
    parts: tuple[Part, ...]
    remaining_s: float = math.inf

    @property
    def modality(self) -> str:
        """The modality of the parts."""
        return self.parts[0].modality

    @cached_property
    def context(self) -> Context:
        """What a learned preference looks at: of several tasks, the longest."""
        longest = max(self.parts, key=_length)
        language = longest.language if isinstance(longest, Text) else None
        return Context(self.modality, _length(longest), language)


@dataclass(frozen=True)
class Candidates:
    """Models for one part, best first, with the reason and what was rejected.

    Args:
        models: At least one model, in the order in which they are tried.
        reason: Why the first one is first.
        rejected: One sentence for each model that cannot take the part.
    """

    models: tuple[Model, ...]
    reason: str
    rejected: tuple[str, ...]


def choose(
    demand: Demand,
    models: Sequence[Model],
    *,
    policy: Policy | None = None,
    latencies: Latencies | None = None,
    preference: LearnedPreference | None = None,
) -> Candidates:
    """Returns the models that can answer, the best first; among equals, in the order given.

    Args:
        demand: What is asked.
        models: The models of the part's slot, the preferred one first.
        policy: Bounds, and whether cost or accuracy comes first.
        latencies: What was measured; without it the profiles' figures count.
        preference: What was learned; without it, or switched off, accuracy counts.

    Raises:
        RoutingError: No model can take the part.
        DeadlineError: A model could, but none within the time left.
    """
    policy, latencies = policy or _ANY, latencies or _UNMEASURED
    able: list[Model] = []
    rejected: list[str] = []
    late = 0
    for model in models:
        fault = _fault(demand, model, policy)
        if fault is None and (fault := _lateness(demand, model.profile, latencies)):
            late += 1
        if fault is None:
            able.append(model)
        else:
            rejected.append(f"{model.profile.name} {fault}")
    if not able:
        raise _nobody(demand, rejected, late=late > 0)
    if len(able) == 1:
        reason = f"{able[0].profile.name} is the only model that takes {demand.modality}"
    else:
        able, reason = _ranked(demand, able, policy, preference)
    return Candidates(tuple(able), reason, tuple(rejected))


def _fault(demand: Demand, model: Model, policy: Policy) -> str | None:
    """Returns why the model cannot take the parts or is out of the policy's bounds."""
    profile = model.profile
    if profile.modality != demand.modality:
        return f"takes {profile.modality}, not {demand.modality}"
    return (
        (_wrong_shape(demand, profile) if profile.shapes else None)
        or (_too_long(demand, model) if profile.max_length is not None else None)
        or (_wrong_language(demand, profile) if profile.languages else None)
        or _out_of_bounds(profile, policy)
    )


def _wrong_shape(demand: Demand, profile: ModelProfile) -> str | None:
    for shape in {shape for part in demand.parts if (shape := shape_of(part)) is not None}:
        if not any(fits(shape, wanted) for wanted in profile.shapes):
            return f"takes shape {' or '.join(map(_shown, profile.shapes))}, not {_shown(shape)}"
    return None


def _too_long(demand: Demand, model: Model) -> str | None:
    limit, unit = model.profile.max_length or 0, "steps"
    longest = max(_length(part) for part in demand.parts)
    if demand.modality == "text":
        if longest + _SPECIAL_TOKENS <= limit:
            return None  # a text has no more tokens than characters
        try:
            longest, unit = _tokens(demand, model), "tokens"
        except InputError:
            raise
        except Exception as error:  # noqa: BLE001  # any model's failure leads to the next
            return f"failed to count the tokens ({type(error).__name__})"
    return f"takes {limit} {unit}, not {longest}" if longest > limit else None


def _tokens(demand: Demand, model: Model) -> int:
    """Returns the tokens of the longest text; of a model that cannot count, its words."""
    texts = [part.text for part in demand.parts if isinstance(part, Text)]
    count: Callable[[Sequence[str]], Sequence[int]] | None = getattr(model, "count_tokens", None)
    if count is not None:
        return max(count(texts))
    return max(len(text.split()) for text in texts)


def _wrong_language(demand: Demand, profile: ModelProfile) -> str | None:
    """Matches language ranges as RFC 4647, section 3.3.1."""
    for language in {part.language for part in demand.parts if isinstance(part, Text)}:
        tag = language.lower()
        if not any(tag == x.lower() or tag.startswith(f"{x.lower()}-") for x in profile.languages):
            return f"reads {', '.join(profile.languages)}, not {language}"
    return None


def _out_of_bounds(profile: ModelProfile, policy: Policy) -> str | None:
    if policy.max_cost is not None and profile.cost > policy.max_cost:
        return f"costs {profile.cost:g}, more than {policy.max_cost:g}"
    if policy.min_accuracy is not None and (profile.accuracy or 0.0) < policy.min_accuracy:
        known = "unknown" if profile.accuracy is None else f"{profile.accuracy:g}"
        return f"has accuracy {known}, less than {policy.min_accuracy:g}"
    return None


def _lateness(demand: Demand, profile: ModelProfile, latencies: Latencies) -> str | None:
    if demand.remaining_s == math.inf:
        return None
    expected_s = latencies.expected_s(profile, len(demand.parts))
    if expected_s is None or expected_s <= demand.remaining_s:
        return None
    return f"needs about {1000 * expected_s:.3g} ms of the {1000 * demand.remaining_s:.3g} ms left"


def _nobody(demand: Demand, rejected: Sequence[str], *, late: bool) -> RoutingError | DeadlineError:
    found = "; ".join(rejected) or "no model for this part"
    if late:
        return DeadlineError(
            f"part {demand.part_name!r}",
            expected="a model that answers in the time left",
            found=found,
            remedy="Allow more time, or send less at once.",
        )
    return RoutingError(
        f"part {demand.part_name!r}",
        expected=f"a model that takes {demand.modality}",
        found=found,
        remedy=f"Give ModelRouter a model that takes it under {demand.part_name!r}.",
    )


def _ranked(
    demand: Demand,
    able: Sequence[Model],
    policy: Policy,
    preference: LearnedPreference | None,
) -> tuple[list[Model], str]:
    """Returns the models in order, and what set the first before the second."""
    learned = preference if preference is not None and preference.enabled else None
    estimates = {
        id(model): learned.estimate(model.profile, demand.context) for model in able if learned
    }

    def quality(model: Model) -> float:
        if estimates:
            return estimates[id(model)].score
        return -1.0 if model.profile.accuracy is None else model.profile.accuracy

    def key(model: Model) -> tuple[float, float]:
        cost = model.profile.cost
        return (cost, -quality(model)) if policy.first == "cost" else (-quality(model), cost)

    ordered = sorted(able, key=key)
    best, other = ordered[0].profile, ordered[1].profile
    among = f"of {len(able)} models that take {demand.modality}"
    by_quality = quality(ordered[0]) != quality(ordered[1])
    by_cost = best.cost != other.cost
    if by_cost and (policy.first == "cost" or not by_quality):
        reason = f"the cheapest {among} (cost {best.cost:g} against {other.cost:g})"
    elif by_quality and estimates:
        mine, theirs = (estimates[id(model)] for model in ordered[:2])
        reason = f"the preferred {among}: {mine.against(theirs, other.name)}"
    elif by_quality:
        against = "an unknown one" if other.accuracy is None else f"{other.accuracy:g}"
        reason = f"the most accurate {among} ({best.accuracy:g} against {against})"
    else:
        reason = f"the first {among}"
    return ordered, f"{best.name} is {reason}"


def _length(part: Part) -> int:
    """Returns characters of a text, steps of a series, else the number of array elements."""
    if isinstance(part, Text):
        return len(part.text)
    shape = shape_of(part) or ()
    return shape[0] if part.modality == "series" else math.prod(shape)


def _shown(shape: Shape) -> str:
    return "(" + ", ".join("any" if size is None else str(size) for size in shape) + ")"


_ANY = Policy()
_UNMEASURED = Latencies()
