"""What a plain function takes and gives, read from its parameters and annotations."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, get_type_hints

from common.errors import TaskError
from common.routing.kinds import Kind

__all__ = ["Signature", "signature_of"]

_RETURN = "return"


@dataclass(frozen=True)
class Signature:
    """What a step takes and gives.

    Args:
        takes: Parameter to the source that fills it and the kind that it must have.
        gives: Kind of the outcome.
    """

    takes: Mapping[str, tuple[str, Kind]]
    gives: Kind


def signature_of(
    function: Callable[..., Any],
    *,
    known: Collection[str],
    sources: Mapping[str, str],
    types: Mapping[str, Any],
) -> Signature:
    """Returns what `function` takes and gives in a graph.

    Args:
        function: Any callable whose parameters can be read.
        known: Names that a source may have; a parameter with a default and without such a
            source keeps its default.
        sources: Parameter to its source, where that is not the parameter's own name.
        types: Parameter, or "return", to its type, where the function does not say it.

    Raises:
        TaskError: Its parameters cannot be read, or a type is not said.
    """
    try:
        parameters = inspect.signature(function).parameters
        hints = {**_hints(function), **types}
        takes = {}
        for name, parameter in parameters.items():
            source = sources.get(name, name)
            optional = parameter.default is not parameter.empty
            if not optional or source.partition(".")[0] in known:
                takes[name] = (source, _kind(hints, name))
        gives = _kind(hints, _RETURN)
    except (TypeError, ValueError, NameError, KeyError) as error:
        raise TaskError(
            "step",
            expected="a function with named parameters and a type for each and for the outcome",
            found=f"none that can be read so: {error}",
            remedy="Annotate the function, or give the step's `types`.",
        ) from error
    if any(
        p.kind in {p.VAR_POSITIONAL, p.VAR_KEYWORD, p.POSITIONAL_ONLY} for p in parameters.values()
    ):
        raise TaskError(
            "step",
            expected="parameters that can be given by name",
            found="a parameter that cannot",
            remedy="Wrap the function in one with named parameters.",
        )
    return Signature(takes, gives)


def _kind(hints: Mapping[str, Any], name: str) -> Kind:
    if name not in hints:
        raise KeyError(f"no type of {name}")
    return Kind.of_hint(hints[name])


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    """Returns the annotations; those of a class are its construction's, and it gives itself."""
    while isinstance(function, partial):
        function = function.func
    if inspect.isclass(function):
        return {**get_type_hints(function.__init__, include_extras=True), _RETURN: function}
    if not inspect.isroutine(function):
        function = type(function).__call__
    return get_type_hints(function, include_extras=True)
