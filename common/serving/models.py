"""Models that callers find by name and version: what is ready, what each takes, what it answers.

    models = ServedModels(lambda one: ModelRouter(models=one, engine=engine, cache=cache))
    models.add("minilm", lambda: TextEncoder(load_backbone("minilm")))

Each version has a router of its own, so that deadlines, cache, health and provenance are those
of `common.routing`. Any number of threads may call; what is under way ends with the model that
it began with, also where that is unloaded or loaded anew meanwhile.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from common.errors import (
    InputError,
    MessageError,
    ModelError,
    RoutingError,
    TandemError,
    UnknownNameError,
)
from common.models.base import Model, ModelProfile
from common.protocol.open_inference.inference import InferRequest, InferResponse, InferTensor
from common.protocol.open_inference.results import VALUES, outputs_of, select_outputs
from common.protocol.open_inference.tasks import INPUTS, tasks_of
from common.request import RequestContext, current_request, serving
from common.routing.router import Answer, ModelRouter
from common.task import Provenance, digest_of

__all__ = ["Inference", "ModelMetadata", "ModelState", "ServedModels", "TensorMetadata"]

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
Loader = Callable[[], Model]


@dataclass(frozen=True)
class TensorMetadata:
    """An input or output: its name, a usual datatype, its shape with -1 for any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class ModelMetadata:
    """What the protocol tells of a model.

    Args:
        name: Its name.
        versions: Its versions that are ready.
        platform: "tandem_" and the modality that it takes.
        inputs: Its inputs; none where any may be given (the columns of a table).
        outputs: Its outputs, as its profile says and its answers so far have shown.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


@dataclass(frozen=True)
class ModelState:
    """One line of the repository's index; `state` is READY or UNAVAILABLE."""

    name: str
    version: str
    state: str
    reason: str = ""


@dataclass(frozen=True)
class Inference:
    """A response, and for the audit where it comes from.

    Args:
        response: What the caller gets.
        answers: Of each row.
    """

    response: InferResponse
    answers: tuple[Answer, ...]

    @property
    def cached(self) -> bool:
        """Whether every row was answered before."""
        return all(answer.cached for answer in self.answers)

    @cached_property
    def provenance(self) -> tuple[Provenance, ...]:
        """Of each row; hashes the input where nothing did yet, so ask after answering."""
        return tuple(answer.provenance for answer in self.answers)

    @cached_property
    def input_digest(self) -> str:
        """The sha256 of the task, or over those of all rows; hashes likewise."""
        digests = [found.input_digest for found in self.provenance]
        return digests[0] if len(digests) == 1 else digest_of(*map(str.encode, digests))


@dataclass(frozen=True)
class _Ready:
    """A model that can be asked."""

    model: Model
    profile: ModelProfile
    router: ModelRouter


class _Version:
    """One version of a model; `ready` is None while it is not loaded."""

    def __init__(self, version: str, loader: Loader) -> None:
        self.version = version
        self.loader = loader
        self.changing = threading.Lock()
        self.ready: _Ready | None = None
        self.reason = "never loaded"
        self.seen: dict[str, TensorMetadata] = {}


class ServedModels:
    """The models of one server.

    Args:
        route: Makes the router of a model, given under its modality; routers share an
            engine, a cache and what is known of the models' health.
    """

    def __init__(self, route: Callable[[Mapping[str, Model]], ModelRouter]) -> None:
        self._route = route
        self._lock = threading.Lock()
        self._models: dict[str, dict[str, _Version]] = {}

    def add(self, name: str, loader: Loader, *, version: str = "1", load: bool = True) -> None:
        """Takes a version of a model in; the latest added is the one that is meant without one.

        Args:
            name: Letters, digits, dots, dashes and underscores.
            loader: Returns the model; called again by each `load`. Where the model has a
                method `close`, unloading calls it.
            version: Likewise letters, digits, dots, dashes and underscores.
            load: Whether to load it now.

        Raises:
            InputError: Name or version is none, or is taken.
            TandemError: The loader failed.
        """
        if not (_NAME.fullmatch(name) and _NAME.fullmatch(version)):
            raise InputError(
                "served model",
                expected="a name and a version of letters, digits, dots, dashes, underscores",
                found="others",
                remedy="Leave out slashes and other signs.",
            )
        one = _Version(version, loader)
        with self._lock:
            versions = self._models.setdefault(name, {})
            if version in versions:
                raise InputError(
                    "served model",
                    expected="a version that is new",
                    found=f"{version!r} of {name!r} again",
                    remedy="Give each version of a model a name of its own.",
                )
            versions[version] = one
        if load:
            self._load(one)

    def add_router(self, router: ModelRouter) -> None:
        """Takes in every model of a router, under the name in its profile.

        Signs that a name here cannot have become dashes ("org/base" is served as "org-base").
        """
        for model in _unique(model for slot in router.models.values() for model in slot):
            plain = re.sub(r"[^A-Za-z0-9._-]", "-", model.profile.name).lstrip(".-")
            self.add(plain, lambda model=model: model)  # type: ignore[misc]  # mypy reads the default as part of the signature

    def index(self, *, ready: bool = False) -> list[ModelState]:
        """Returns all models and versions, or those that are ready."""
        listed = []
        for name, versions in sorted(self._snapshot().items()):
            for one in versions:
                state = "UNAVAILABLE" if one.ready is None else "READY"
                if state == "READY" or not ready:
                    listed.append(ModelState(name, one.version, state, one.reason))
        return listed

    def is_ready(self, name: str, version: str = "") -> bool:
        """Returns whether it can be asked.

        Raises:
            UnknownNameError: There is no such model or version.
        """
        return any(one.ready is not None for one in self._versions(name, version))

    def metadata(self, name: str, version: str = "") -> ModelMetadata:
        """Returns what the protocol tells of a model.

        Raises:
            UnknownNameError: There is no such model or version.
            RoutingError: It is not loaded.
        """
        one, ready = self._ready(name, version)
        versions = [v.version for v in self._versions(name, "") if v.ready is not None]
        return ModelMetadata(
            name=name,
            versions=tuple(versions),
            platform=f"tandem_{ready.profile.modality}",
            inputs=_inputs(ready.profile),
            outputs=tuple({**_outputs(ready.profile), **one.seen}.values()),
        )

    def load(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Loads every version of a model, or loads it again.

        Args:
            name: The model's name.
            parameters: Of the request; files and configurations are not taken from it.

        Raises:
            UnknownNameError: There is no such model.
            MessageError: There are parameters.
            TandemError: A loader failed; what was ready before still is.
        """
        _require_no_parameters(parameters)
        for one in self._versions(name, ""):
            self._load(one)

    def unload(self, name: str, parameters: Mapping[str, Any] | None = None) -> None:
        """Takes every version of a model out of service; requests under way finish.

        Raises:
            UnknownNameError: There is no such model.
            MessageError: There are parameters.
        """
        _require_no_parameters(parameters)
        for one in self._versions(name, ""):
            with one.changing:
                before, one.ready, one.reason = one.ready, None, "unloaded"
                _close(before)

    def infer(self, request: InferRequest) -> Inference:
        """Answers a request; blocks until the model has.

        Raises:
            UnknownNameError: There is no such model or version.
            RoutingError: It is not loaded.
            MessageError: The inputs are not those of the model, or an output is unknown.
            TaskError: The model cannot use the input.
            ModelError: The model failed.
            OverloadError: There is no room for the call.
            DeadlineError: The deadline passed, or the caller gave up.
        """
        one, ready = self._ready(request.model_name, request.model_version)
        modality = ready.profile.modality
        tasks = tasks_of(request, modality)
        with serving(_with_timeout(current_request(), request.parameters.get("timeout"))) as now:
            answers = [found[modality] for found in ready.router.execute_many(tasks)]
        outputs = outputs_of([answer.result for answer in answers])
        one.seen = one.seen | {tensor.name: _seen(tensor) for tensor in outputs}
        response = InferResponse(
            model_name=request.model_name,
            model_version=one.version,
            outputs=select_outputs(outputs, request.outputs),
            id=request.id,
            parameters={"trace_id": now.trace_id, **_told(answers)},
        )
        return Inference(response, tuple(answers))

    def close(self) -> None:
        """Unloads all models."""
        for name in self._snapshot():
            self.unload(name)

    def _load(self, one: _Version) -> None:
        with one.changing:
            try:
                model = one.loader()
                profile = model.profile
                fresh = _Ready(model, profile, self._route({profile.modality: model}))
            except Exception as error:
                one.reason = f"loading failed ({type(error).__name__})"
                if isinstance(error, TandemError):
                    raise
                raise ModelError(
                    "served model",
                    expected="a model that can be loaded",
                    found=type(error).__name__,
                    remedy="See the server's log, and load it again.",
                ) from error
            one.ready, one.reason, one.seen = fresh, "", {}

    def _snapshot(self) -> dict[str, list[_Version]]:
        with self._lock:
            return {name: list(versions.values()) for name, versions in self._models.items()}

    def _versions(self, name: str, version: str) -> list[_Version]:
        with self._lock:
            known = self._models.get(name, {})
            found = [one for one in known.values() if version in {"", one.version}]
        if not found:
            raise UnknownNameError(
                "model",
                expected="the name, and the version if one is given, of a model served here",
                found="another",
                remedy="List them with POST /v2/repository/index or RepositoryIndex.",
            )
        return found

    def _ready(self, name: str, version: str) -> tuple[_Version, _Ready]:
        for one in reversed(self._versions(name, version)):
            ready = one.ready
            if ready is not None:
                return one, ready
        raise RoutingError(
            "model",
            expected="one that is loaded",
            found="one that is not",
            remedy="Load it with the role admin: POST /v2/repository/models/NAME/load.",
        )


def _unique(models: Iterable[Model]) -> list[Model]:
    return list({id(model): model for model in models}.values())


def _close(before: _Ready | None) -> None:
    close = getattr(before.model, "close", None) if before is not None else None
    if callable(close):
        close()


def _require_no_parameters(parameters: Mapping[str, Any] | None) -> None:
    if parameters:
        raise MessageError(
            "parameters of loading or unloading",
            expected="none",
            found=f"{len(parameters)}",
            remedy="Models come from the server's own configuration, never from a request.",
        )


def _with_timeout(request: RequestContext, timeout_us: Any) -> RequestContext:
    """Returns the request, with an earlier deadline where Triton's `timeout` asks for one."""
    if timeout_us in {None, 0}:
        return request
    if type(timeout_us) is not int or timeout_us < 0:
        raise MessageError(
            "parameter timeout",
            expected="microseconds as a whole number",
            found="another value",
            remedy="Leave it out for the server's own limit.",
        )
    deadline_s = min(request.deadline_s, time.monotonic() + timeout_us / 1e6)
    return replace(request, deadline_s=deadline_s)


def _inputs(profile: ModelProfile) -> tuple[TensorMetadata, ...]:
    inputs = [TensorMetadata(*one) for one in INPUTS[profile.modality]]
    if len(profile.shapes) == 1 and profile.modality != "text":
        shape = tuple(-1 if length is None else length for length in profile.shapes[0])
        inputs = [replace(one, shape=shape) for one in inputs]
    return tuple(inputs)


def _outputs(profile: ModelProfile) -> dict[str, TensorMetadata]:
    outputs = {VALUES: TensorMetadata(VALUES, "BYTES", (-1,))}
    for name, shape in profile.gives.items():
        lengths = (-1, *(-1 if length is None else length for length in shape))
        outputs[name] = TensorMetadata(name, "FP32", lengths)
    return outputs


def _seen(tensor: InferTensor) -> TensorMetadata:
    return TensorMetadata(tensor.name, tensor.datatype, (-1,) * len(tensor.shape))


def _told(answers: Sequence[Answer]) -> dict[str, str | bool]:
    profile = answers[0].profile
    facts = {
        "model": profile.name,
        "model_digest": profile.digest,
        "adapter": profile.adapter,
        "adapter_digest": profile.adapter_digest,
    }
    told: dict[str, str | bool] = {key: text for key, text in facts.items() if text is not None}
    return {**told, "cached": all(answer.cached for answer in answers)}
