"""Feeds the codec bytes that nobody would write: each gives a value or a TandemError.

Run with: python tests/fuzz/codec_fuzz.py --seconds 600 [--seed N] [--engine atheris]

A value that comes out is written again in both forms and read back equal. Memory is limited,
so that room taken on the word of a header shows itself. The engine "mutation" needs nothing
more: it changes bytes of valid messages, fields of them, and values of their JSON. The engine
"atheris" (pip install atheris) is guided by the codec's own branches. The first fault ends
the run; its bytes are printed as hexadecimal digits.
"""

from __future__ import annotations

import argparse
import copy
import json
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import numpy as np

from common.errors import InputError
from common.protocol.messages import link_pb2
from common.protocol.messages.codec import result_from_bytes, task_from_dict
from common.protocol.messages.envelope import (
    Envelope,
    GradientFrame,
    LinkedAnswer,
    PartAnswer,
    SessionDelta,
    TransactionRecord,
)
from common.protocol.messages.json_reader import read_json
from common.task import (
    Image,
    ImageRequest,
    Provenance,
    Result,
    Series,
    Table,
    Task,
    Tensor,
    Text,
    Volume,
)
from tests.common.protocol.made_messages import same

ARTICLE_FORM = {
    "type": "multimodal",
    "text_prompt": "two words",
    "image": [[1, 2], [3, 4]],
    "image_params": {"resolution": 16, "seed": 1},
    "series": [1.0, 2.0],
    "parameters": {"n": 1},
}
MAX_BYTES = 1 << 20
ROOM_BYTES = 3 << 30  # of address space beyond what the process has when it starts
INTERESTING = [0, 1, -1, 2, 7, 64, 127, 128, 255, 1 << 16, (1 << 31) - 1, 1 << 31, 1 << 32]
INTERESTING += [(1 << 63) - 1, 1 << 63, (1 << 64) - 1, 10**400, 0.5, -0.0, 1e308]
ODD_VALUES = [None, True, False, "", "a" * 5000, "../x", "\ud800", "\0", [], {}, [[]], {"": None}]
DTYPES = ["float32", "float16", "bfloat16", "bool", "str", "int64", "object", "<f4", ""]
TOKENS = [b"NaN", b"Infinity", b"1e999", b"\\ud800", b"[" * 80, b'"', b"{}", b"null", b"\xff"]


def seeds() -> list[Envelope]:
    """Returns an envelope of every kind, with arrays of many types."""
    numbers = Result(
        {"score": 0.5, "names": ["a", "é"], "none": None},
        {"p": np.array([0.1, np.nan], np.float16), "m": np.eye(3, dtype=bool)},
    )
    task = Task(
        {
            "text": Text("words", "de"),
            "image": Image(np.arange(12, dtype=np.uint8).reshape(2, 2, 3)),
            "make": ImageRequest(64, seed=-5),
            "volume": Volume(np.zeros((1, 2, 2), np.int16), (2.0, 0.7, 0.7)),
            "series": Series(np.arange(3.0)),
            "table": Table({"day": np.array(["mo", "tu"]), "close": np.array([1.0, 2.0])}),
            "tensor": Tensor(np.float32(3).reshape(())),
            "empty": Tensor(np.zeros((0, 2), np.int64)),
        },
        {"horizon": 5, "levels": [0.1, 0.9], "inner": {"on": True}},
    )
    provenance = Provenance("m", "a" * 64, "b" * 64, adapter="x", software={"numpy": "2"})
    answer = LinkedAnswer("c" * 64, {"text": PartAnswer(numbers, provenance, "only", ("no",))})
    payloads = [
        task,
        Task({"text": Text("")}),
        numbers,
        Result(),
        answer,
        SessionDelta("s1", 3, {"a": [1, {"b": None}], "r": numbers}, ("old",), author="m"),
        TransactionRecord("t1", "charge", "begun", "t1/charge", 1.7e9),
        GradientFrame(2, "site-1", 100, {"w.lora_A": np.ones((2, 2), np.float32)}),
    ]
    return [Envelope(one, id="m1", trace_id="1" * 32, deadline_ms=250) for one in payloads]


def check(data: bytes) -> str:
    """Reads `data` in every way; returns what came of it, for the count.

    Raises:
        Exception: Anything but InputError is a fault of the codec.
    """
    outcome = "refused"
    for read in (Envelope.from_bytes, Envelope.from_text):
        try:
            value = read(data, max_bytes=MAX_BYTES)
        except InputError:
            continue
        outcome = f"read as {value.kind}"
        if not same(Envelope.from_bytes(value.to_bytes()), value):
            raise ValueError("Protobuf gave another value back")
        if not same(Envelope.from_text(value.to_text()), value):
            raise ValueError("JSON gave another value back")
        if isinstance(value.payload, Task) and len(value.payload.digest()) != 64:
            raise ValueError("a digest that is none")
    with suppress(InputError):
        result_from_bytes(data)
    with suppress(InputError):
        form = read_json(data, subject="task", max_bytes=MAX_BYTES)
        if isinstance(form, dict):
            task_from_dict(form).digest()
            outcome = "read in the article's form"
    return outcome


class Mutation:
    """Makes bytes from seeds; the same number gives the same bytes.

    Args:
        seed: The number.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._messages = [one.to_bytes() for one in seeds()]
        self._forms = [ARTICLE_FORM, *(one.to_json() for one in seeds())]

    def next(self) -> bytes:
        """Returns the next input."""
        way = self._random.randrange(6)
        if way == 0:
            return self._random.randbytes(self._random.randrange(64))
        if way in {1, 2}:
            source = self._random.choice(self._messages)
            return self._changed_bytes(source)
        if way == 3:
            return self._changed_message()
        form = json.loads(json.dumps(self._random.choice(self._forms)))
        for _ in range(self._random.choice([1, 1, 2, 4])):
            self._change_form(form)
        text = json.dumps(form).encode()
        return self._changed_bytes(text) if self._random.random() < 0.3 else text

    def _changed_bytes(self, data: bytes) -> bytes:
        found = bytearray(data)
        for _ in range(self._random.choice([1, 1, 1, 2, 3, 8])):
            at = self._random.randrange(len(found) + 1)
            way = self._random.randrange(6)
            if way == 0 and at < len(found):
                found[at] ^= 1 << self._random.randrange(8)
            elif way == 1:
                del found[at:]
            elif way == 2:
                del found[at : at + self._random.randrange(1, 9)]
            elif way == 3:
                found[at:at] = self._random.choice(TOKENS)
            elif way == 4 and at < len(found):
                found[at] = self._random.choice([0, 1, 0x7F, 0x80, 0xFF])
            else:
                other = self._random.choice(self._messages)
                start = self._random.randrange(len(other))
                found[at:at] = other[start : start + self._random.randrange(1, 40)]
        return bytes(found)

    def _changed_message(self) -> bytes:
        """Changes fields of a message by what its description says there may be."""
        message = link_pb2.Envelope.FromString(self._random.choice(self._messages))
        for _ in range(self._random.choice([1, 1, 2, 4])):
            self._change_fields(message)
        return bytes(message.SerializePartialToString())

    def _change_fields(self, message: Any) -> None:
        fields = [field for field, _ in message.ListFields()]
        if not fields or self._random.random() < 0.3:
            fields = list(message.DESCRIPTOR.fields)
        field = self._random.choice(fields)
        value = getattr(message, field.name)
        repeated, is_message = field.is_repeated, field.message_type is not None
        if self._random.random() < 0.1:
            message.ClearField(field.name)
        elif repeated and is_message:
            if len(value) and self._random.random() < 0.7:
                self._change_fields(self._random.choice(value))
            else:
                one = value.add()
                if len(value) > 1:
                    one.CopyFrom(value[0])
        elif is_message:
            value.SetInParent()
            self._change_fields(value)
        else:
            self._set_scalar(message, field, repeated)

    def _set_scalar(self, message: Any, field: Any, repeated: bool) -> None:
        candidates = [
            *INTERESTING,
            *ODD_VALUES[:7],
            *DTYPES,
            b"",
            self._random.randbytes(self._random.randrange(20)),
        ]
        for value in self._random.sample(candidates, len(candidates)):
            try:
                if repeated:
                    getattr(message, field.name).append(value)
                else:
                    setattr(message, field.name, value)
            except (TypeError, ValueError, OverflowError):
                continue  # of another type than the field's
            return

    def _change_form(self, form: Any) -> None:
        """Puts an odd value somewhere into a JSON value."""
        holder: Any = form
        while True:
            keys = list(holder) if isinstance(holder, dict) else range(len(holder))
            if not keys:
                return
            key = self._random.choice(list(keys))
            inner = holder[key]
            if not isinstance(inner, dict | list) or self._random.random() < 0.15:
                break
            holder = inner
        way = self._random.random()
        if way < 0.15:
            del holder[key]
        elif way < 0.3 and isinstance(holder, dict):
            name = self._random.choice(["extra", "dtype", "texts", "\ud800"])
            holder[name] = copy.deepcopy(inner)
        else:
            odd = self._random.choice([*INTERESTING, *ODD_VALUES, *DTYPES])
            holder[key] = copy.deepcopy(odd)  # the next change may be made inside it


def run_mutation(seconds: float, seed: int) -> int:
    """Runs until the time is over or a fault is found; returns the exit status."""
    source, outcomes, n = Mutation(seed), Counter[str](), 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        data = source.next()
        n += 1
        try:
            outcomes[check(data)] += 1
        except BaseException:  # noqa: BLE001  # whatever it is, it is what is looked for
            traceback.print_exc()
            sys.stdout.write(f"input {n} of seed {seed}: {data.hex()}\n")
            return 1
    counts = ", ".join(f"{n_of} {outcome}" for outcome, n_of in outcomes.most_common())
    sys.stdout.write(f"{n} inputs in {seconds:g} s, seed {seed}, no fault: {counts}\n")
    return 0


def run_atheris(seconds: float, seed: int) -> None:
    """Hands over to libFuzzer, which ends the process: with status 0 where it found nothing."""
    import atheris

    atheris.instrument_all()
    with tempfile.TemporaryDirectory() as corpus:
        for i, one in enumerate(seeds()):
            (Path(corpus) / f"{i}.message").write_bytes(one.to_bytes())
            (Path(corpus) / f"{i}.text").write_bytes(one.to_text())
        (Path(corpus) / "article").write_text(json.dumps(ARTICLE_FORM))
        options = [f"-max_total_time={seconds:g}", f"-seed={seed}", "-max_len=4096"]
        options += ["-rss_limit_mb=3000", f"-artifact_prefix={tempfile.gettempdir()}/codec-"]
        atheris.Setup([sys.argv[0], *options, corpus], check)
        atheris.Fuzz()


def main() -> int:
    """Runs the fuzzer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--engine", choices=["mutation", "atheris"], default="mutation")
    chosen = parser.parse_args()
    if chosen.engine == "atheris":
        run_atheris(chosen.seconds, chosen.seed)
        return 0
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    room = pages * resource.getpagesize() + ROOM_BYTES
    resource.setrlimit(resource.RLIMIT_AS, (room, room))
    return run_mutation(chosen.seconds, chosen.seed)


if __name__ == "__main__":
    sys.exit(main())
