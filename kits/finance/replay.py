"""Makes an assessment again from its provenance record: the same bytes, or what differs.

    outcome = replay(Path("out/record.json"))
    outcome.identical  # every file came out byte for byte, times taken from the record

Inputs are found by content: where they lay, in the archive, or among files given. The text
model reads every passage anew. Its scores may differ from the recorded ones by the rounding
of the processor (batches of another size, another machine); where each is within
`SCORE_TOLERANCE` the recorded score is used, and the largest difference is told.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common.errors import AdapterError, BackboneError, TandemError
from common.routing.cache import ResultCache
from common.task import Result, Task, Text
from kits.finance.disclosures.filing import read_disclosure
from kits.finance.governance.archive import Archive, file_sha256
from kits.finance.governance.lineage import leaves, value_at
from kits.finance.governance.record import (
    RECORD_NAME,
    InputFile,
    ProvenanceRecord,
    read_record,
)
from kits.finance.governance.surroundings import (
    code_digests,
    current_settings,
    current_software,
)
from kits.finance.pipeline import assess
from kits.finance.tasks import LINKAGE_FILE, open_router, text_model_of

if TYPE_CHECKING:
    from common.models.text import TunedTextModel
    from common.routing.router import ModelRouter

__all__ = ["SCORE_TOLERANCE", "Difference", "Kind", "Replay", "replay"]

SCORE_TOLERANCE = 1e-5
"""Largest difference of a passage's score that counts as rounding; scores have 6 decimals."""

Kind = Literal["input", "model", "coefficients", "settings", "software", "code", "scores", "output"]
_STOPS: frozenset[Kind] = frozenset({"input", "model", "coefficients"})  # nothing to run, then
_SHOWN = 8  # differing figures named for one file

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Difference:
    """One thing that is not as the record says.

    Args:
        kind: What kind of thing.
        name: Which one.
        recorded: As it was.
        found: As it is now.
    """

    kind: Kind
    name: str
    recorded: str
    found: str

    def __str__(self) -> str:
        """Returns the difference in one line."""
        return f"{self.kind} {self.name}: recorded {self.recorded}; found {self.found}"


@dataclass(frozen=True)
class Replay:
    """What came of a replay.

    Args:
        identical: Whether every file came out byte for byte.
        ran: Whether the assessment could be made again at all.
        differences: What is not as the record says; other software or settings stand here
            too where the files came out the same.
        score_difference: The largest difference of a passage's score from the recorded one;
            None where the text model was not asked.
    """

    identical: bool
    ran: bool
    differences: tuple[Difference, ...]
    score_difference: float | None = None


def replay(
    record: Path,
    *,
    inputs: Sequence[Path] = (),
    archive: Archive | None = None,
    router: ModelRouter | None = None,
    out: Path | None = None,
    progress: Progress | None = None,
) -> Replay:
    """Makes the assessment of a record again and compares every file with it.

    Args:
        record: record.json, or the folder that it lies in; its neighbours are checked too.
        inputs: Files and folders to look for inputs that no longer lie where they lay.
        archive: Where copies were kept; that of TANDEM_HOME by default.
        router: Models for text, such as an earlier adapter's; the kit's own by default.
        out: Folder for the files that come out; without it they are only compared.
        progress: Called with the name of each step as it begins.

    Raises:
        MissingInputError: There is no such record.
        StoreError: The record was edited, or is of a later format.
    """
    step = progress or (lambda _: None)
    recorded = read_record(record)
    folder = record if record.is_dir() else record.parent
    step("Finding the inputs by their content")
    files, differences = _find_inputs(recorded, inputs, archive or Archive.from_settings())
    step("Comparing models, coefficients, settings and software")
    routes, foreign = _models(recorded, router)
    differences += [*foreign, *_surroundings(recorded), *_neighbours(recorded, folder)]
    try:
        if routes is None or any(one.kind in _STOPS for one in differences):
            return Replay(identical=False, ran=False, differences=tuple(differences))
        return _run(recorded, files, routes, folder, tuple(differences), out=out, step=step)
    finally:
        if routes is not None and router is None:
            routes.close()


def _run(
    recorded: ProvenanceRecord,
    files: Mapping[str, Path],
    routes: ModelRouter,
    folder: Path,
    known: Sequence[Difference],
    *,
    out: Path | None,
    step: Progress,
) -> Replay:
    differences = list(known)
    with tempfile.TemporaryDirectory(prefix="tandem-replay-") as scratch:
        made, cache = Path(scratch) / "out", ResultCache(Path(scratch) / "scores")
        try:
            step("Reading every passage anew")
            largest = _check_scores(recorded, files["document"], text_model_of(routes), cache)
            if largest > SCORE_TOLERANCE:
                differences.append(_other_scores(largest))
            step("Assessing again")
            differences += _assess_again(recorded, files, _with_cache(routes, cache), made)
        finally:
            cache.close()
        differences += _compare(recorded, made, folder)
        if out is not None and made.is_dir():
            shutil.copytree(made, out, dirs_exist_ok=True)
        complete = made.is_dir()
    same = complete and not any(one.kind == "output" for one in differences)
    return Replay(same, complete, tuple(differences), largest)


def _find_inputs(
    recorded: ProvenanceRecord, inputs: Sequence[Path], archive: Archive
) -> tuple[dict[str, Path], list[Difference]]:
    given = [
        path for one in inputs for path in ([one] if one.is_file() else sorted(one.rglob("*")))
    ]
    files: dict[str, Path] = {}
    differences = []
    for wanted in recorded.inputs:
        kept = archive.find(wanted.sha256)
        places = [Path(wanted.path), *([] if kept is None else [kept]), *given]
        there = (path for path in places if path.is_file())
        found = next((path for path in there if file_sha256(path) == wanted.sha256), None)
        if found is None:
            differences.append(_absent(wanted))
        else:
            files[wanted.role] = found
    return files, differences


def _absent(wanted: InputFile) -> Difference:
    place = Path(wanted.path)
    found = "no file with that content"
    if place.is_file():
        found = f"a changed file at its place, sha256 {file_sha256(place)}"
    return Difference("input", wanted.role, f"{wanted.name}, sha256 {wanted.sha256}", found)


def _models(
    recorded: ProvenanceRecord, router: ModelRouter | None
) -> tuple[ModelRouter | None, list[Difference]]:
    was = recorded.models[0]
    named = f"{was['adapter']} on {was['model']}, adapter {was['adapter_digest']}"
    try:
        routes = router or open_router(cache=None)
    except (AdapterError, BackboneError) as error:
        return None, [Difference("model", "text", named, f"none ({error})")]
    profile = text_model_of(routes).profile
    now = {"model_digest": profile.digest, "adapter_digest": profile.adapter_digest}
    return routes, [
        Difference("model", f"text, {name}", str(was[name]), str(value))
        for name, value in now.items()
        if was[name] != value
    ]


def _surroundings(recorded: ProvenanceRecord) -> list[Difference]:
    coefficients = {LINKAGE_FILE.name: _digest_or_absent(LINKAGE_FILE)}
    now: dict[Kind, tuple[Mapping[str, Any], Mapping[str, Any]]] = {
        "coefficients": (recorded.coefficients, coefficients),
        "settings": (dict(leaves(recorded.settings)), dict(leaves(current_settings()))),
        "software": (recorded.software, current_software()),
        "code": (recorded.code, code_digests()),
    }
    return [
        Difference(kind, name, str(was.get(name, "absent")), str(found.get(name, "absent")))
        for kind, (was, found) in now.items()
        for name in sorted({*was, *found})
        if was.get(name) != found.get(name)
    ]


def _neighbours(recorded: ProvenanceRecord, folder: Path) -> list[Difference]:
    """Returns which of the files beside the record are no longer those that came out."""
    return [
        Difference("output", f"{name} beside the record", f"sha256 {digest}", "an edited file")
        for name, digest in recorded.outputs.items()
        if (folder / name).is_file() and file_sha256(folder / name) != digest
    ]


def _check_scores(
    recorded: ProvenanceRecord, document: Path, model: TunedTextModel, cache: ResultCache
) -> float:
    """Has every recorded passage read anew; keeps the recorded scores where all agree."""
    text = read_disclosure(document).document.text
    tasks = [Task({"text": Text(text[start:end])}) for start, end, _ in recorded.passage_scores]
    scores = [float(result.values["score"]) for result in model.predict(tasks)]
    was = [score for _, _, score in recorded.passage_scores]
    largest = max(abs(a - b) for a, b in zip(scores, was, strict=True))
    if largest <= SCORE_TOLERANCE:
        for task, score in zip(tasks, was, strict=True):
            cache.put(model.profile, task, Result(values={"score": score}))
    return largest


def _with_cache(routes: ModelRouter, cache: ResultCache) -> ModelRouter:
    from common.routing.router import ModelRouter

    return ModelRouter(dict(routes.models), cache=cache)


def _assess_again(
    recorded: ProvenanceRecord, files: Mapping[str, Path], routes: ModelRouter, out: Path
) -> list[Difference]:
    try:
        assess(
            files["document"],
            ticker=recorded.ticker,
            out=out,
            prices=files.get("prices"),
            as_of=_day(recorded.as_of),
            router=routes,
            replaying=recorded,
        )
    except TandemError as error:
        return [Difference("output", "assessment", "one that could be made", str(error))]
    finally:
        routes.close()
    return []


def _compare(recorded: ProvenanceRecord, made: Path, folder: Path) -> list[Difference]:
    if not made.is_dir():
        return []
    differences = []
    for name, digest in recorded.outputs.items():
        content = (made / name).read_bytes() if (made / name).is_file() else b""
        found = sha256(content).hexdigest()
        if found != digest:
            differences += _figures_apart(folder / name, digest, content)
            differences.append(Difference("output", name, f"sha256 {digest}", f"sha256 {found}"))
    new = {path.name for path in made.iterdir()} - {*recorded.outputs, RECORD_NAME}
    return [*differences, *(Difference("output", name, "absent", "a file") for name in sorted(new))]


def _figures_apart(original: Path, digest: str, content: bytes) -> list[Difference]:
    """Names figures that differ, where the original file still lies beside the record."""
    if original.suffix != ".json" or not original.is_file() or file_sha256(original) != digest:
        return []
    was, now = json.loads(original.read_bytes()), json.loads(content or b"{}")
    apart = []
    for pointer, value in leaves(was):
        try:
            found = value_at(now, pointer)
        except LookupError:
            found = None
        if found != value:
            name = f"{original.name} {pointer}"
            apart.append(Difference("output", name, _shown(value), _shown(found)))
    return apart[:_SHOWN]


def _shown(value: Any) -> str:
    """Returns a number as it is; of a text, which may quote the document, its length alone."""
    return f"a text of {len(value)} characters" if isinstance(value, str) else str(value)


def _other_scores(largest: float) -> Difference:
    return Difference(
        "scores",
        "passages",
        f"scores within {SCORE_TOLERANCE:g} of those of this machine",
        f"a difference of {largest:.2g}",
    )


def _digest_or_absent(path: Path) -> str:
    return file_sha256(path) if path.is_file() else "absent"


def _day(written: str | None) -> date | None:
    return None if written is None else date.fromisoformat(written)
