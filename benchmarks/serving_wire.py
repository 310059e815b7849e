"""`serving.wire`: what a tensor costs on its way, in our codec and through our servers.

Rows, by their fields: `dataset` is the array; `metric`:

- "encode and decode" (ms) of one array in memory, as bytes and back to numpy. Sides: "link.proto"
  (a task with the array as its part), "Open Inference Protocol" (one raw tensor), `json` and
  `orjson` (the array as nested lists), and the floor "bytes": the elements copied once;
- "round trip" (ms) of one request with the array over loopback, client and server in separate
  processes. "REST" and "gRPC" ask a model that gives its array back, with a key and the audit
  on; "REST echo" (Starlette) and "gRPC echo" (grpc.aio) send the same bytes back unread;
- "one after another" (ms): the same, the mean of ten requests without a pause. Our servers
  hash an input for the audit once the answer is out: between paused requests that is free,
  here it is not.

Intervals are quartiles over rounds in which every side runs once in turn. `vs_json` and
`vs_orjson` are the peer's time over link.proto's (larger is better), `rest_vs_echo` and
`grpc_vs_echo` ours over the echo's (smaller is better): medians of the rounds' ratios.
"""

from __future__ import annotations

import http.client
import json
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.interleaved import interleave, ratio, spread
from benchmarks.suite import Outcome, Role, Row
from benchmarks.wire_servers import SIDES, WireServer
from common.protocol.messages.link_message import message_from_bytes, message_to_bytes
from common.protocol.open_inference.grpc_form import request_to_message, response_from_message
from common.protocol.open_inference.http_form import (
    HEADER_LENGTH,
    request_from_http,
    request_to_http,
    response_from_http,
)
from common.protocol.open_inference.inference import InferRequest, tensor_of
from common.task import Array, Image, Task

__all__ = ["wire"]

_CONFIG = Path(__file__).parent / "configs" / "serving.wire.json"
# The bound of each headline, and whether larger is better.
_TARGETS = {
    "vs_json": (500.0, True),
    "vs_orjson": (50.0, True),
    "rest_vs_echo": (1.5, False),
    "grpc_vs_echo": (1.5, False),
}
_IN_A_ROW = 10
_INFER = "/inference.GRPCInferenceService/ModelInfer"
Seconds = dict[str, list[float]]


def wire(_data: Path | None, *, quick: bool) -> Outcome:
    """Measures `serving.wire`.

    Args:
        _data: Not used; the array is drawn here.
        quick: Fewer rounds.
    """
    config = json.loads(_CONFIG.read_text(encoding="utf-8"))
    if quick:
        config |= config["quick"]
    random = np.random.default_rng(config["seed"])
    array = random.random(config["shape"]).astype(config["dtype"])
    of = f"{'x'.join(map(str, array.shape))} {array.dtype}"
    codec = interleave(_codecs(array), rounds=config["json_rounds"], warm_up=1)
    trips, rows_of_ten = _round_trips(array, config)
    headlines: dict[str, float | None] = {
        "vs_json": ratio(codec["json"], codec["link.proto"]).value,
        "vs_orjson": ratio(codec["orjson"], codec["link.proto"]).value,
        "rest_vs_echo": ratio(trips["REST"], trips["REST echo"]).value,
        "grpc_vs_echo": ratio(trips["gRPC"], trips["gRPC echo"]).value,
    }
    rows = [_row(side, of, "encode and decode", times) for side, times in codec.items()]
    rows += [_row(side, of, "round trip", times) for side, times in trips.items()]
    rows += [_row(side, of, "one after another", times) for side, times in rows_of_ten.items()]
    missed = [key for key in _TARGETS if not _is_met(key, headlines[key])]
    note = f"Targets missed: {', '.join(missed)}." if missed else "Every target is met."
    verdict = "not shown" if missed else "exceeded"
    return Outcome(rows, headlines, verdict, note, config=config, seeds=[config["seed"]])  # type: ignore[arg-type]  # one of its words


def _codecs(array: Array) -> dict[str, Callable[[], object]]:
    """Returns the codecs, each proven to give the array back."""
    import orjson

    task = Task({"image": Image(array)})
    request = InferRequest("m", (tensor_of("image", array),))

    def link() -> Array:
        _, read = message_from_bytes(message_to_bytes(task))
        image = read.parts["image"] if isinstance(read, Task) else None
        if not isinstance(image, Image):
            raise TypeError("link.proto gave something else back")
        return image.pixels

    def inference() -> Array:
        body, json_bytes = request_to_http(request)
        read, _ = request_from_http(body, model_name="m", json_bytes=json_bytes)
        return read.inputs[0].data

    def stdlib() -> Array:
        return np.asarray(json.loads(json.dumps(array.tolist())), array.dtype)

    def faster() -> Array:
        written = orjson.dumps(array, option=orjson.OPT_SERIALIZE_NUMPY)
        return np.asarray(orjson.loads(written), array.dtype)

    def plain() -> Array:
        return np.frombuffer(array.tobytes(), array.dtype).reshape(array.shape)

    sides: dict[str, Callable[[], Array]] = {
        "link.proto": link,
        "Open Inference Protocol": inference,
        "json": stdlib,
        "orjson": faster,
        "bytes": plain,
    }
    for name, side in sides.items():
        _require_same(name, side(), array)
    return dict(sides)


def _round_trips(array: Array, config: Mapping[str, Any]) -> tuple[Seconds, Seconds]:
    """Times requests by themselves, and ten in a row."""
    request = InferRequest("same", (tensor_of("tensor", array),), outputs=("same",))
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        servers = {
            side: stack.enter_context(WireServer(side, folder / side.replace(" ", "-")))
            for side in SIDES
        }
        sides = {
            "REST": stack.enter_context(_rest(servers["rest"], request)),
            "REST echo": stack.enter_context(_rest_echo(servers["rest echo"], request)),
            "gRPC": stack.enter_context(_grpc(servers["grpc"], _INFER, request)),
            "gRPC echo": stack.enter_context(_grpc(servers["grpc echo"], "/bench/Echo", request)),
        }
        head, body = sides["REST"]()
        told = response_from_http(body, json_bytes=int(head[HEADER_LENGTH]))
        _require_same("REST", told.outputs[0].data[0], array)
        told = response_from_message(sides["gRPC"]())
        _require_same("gRPC", told.outputs[0].data[0], array)
        rounds, warm_up = config["wire_rounds"], config["warm_up"]
        single = interleave(sides, rounds=rounds, warm_up=warm_up, pause_s=config["pause_s"])
        tens = {name: partial(_ten_times, call) for name, call in sides.items()}
        several = interleave(tens, rounds=max(1, rounds // _IN_A_ROW), pause_s=config["pause_s"])
        return single, {name: [x / _IN_A_ROW for x in times] for name, times in several.items()}


def _ten_times(call: Callable[[], object]) -> None:
    for _ in range(_IN_A_ROW):
        call()


@contextmanager
def _rest(server: WireServer, request: InferRequest) -> Iterator[Callable[[], Any]]:
    body, json_bytes = request_to_http(request)
    headers = {"Authorization": f"Bearer {server.key}", HEADER_LENGTH: str(json_bytes)}
    with _posting(server.port, "/v2/models/same/infer", body, headers) as post:
        yield post


@contextmanager
def _rest_echo(server: WireServer, request: InferRequest) -> Iterator[Callable[[], Any]]:
    body, _ = request_to_http(request)
    with _posting(server.port, "/echo", body, {}) as post:
        yield post


@contextmanager
def _posting(
    port: int, path: str, body: bytes, headers: Mapping[str, str]
) -> Iterator[Callable[[], Any]]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.connect()

    def post() -> tuple[http.client.HTTPMessage, bytes]:
        connection.request("POST", path, body, dict(headers))
        answer = connection.getresponse()
        content = answer.read()
        if answer.status != http.HTTPStatus.OK:
            raise ConnectionError(f"status {answer.status}")
        return answer.headers, content

    yield post
    connection.close()


@contextmanager
def _grpc(server: WireServer, method: str, request: InferRequest) -> Iterator[Callable[[], Any]]:
    import grpc

    message = request_to_message(request)
    metadata = (("authorization", f"Bearer {server.key}"),)
    options = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
    with grpc.insecure_channel(f"127.0.0.1:{server.port}", options) as channel:
        call: Callable[..., Any] = channel.unary_unary(method)
        yield lambda: call(message, metadata=metadata, timeout=60)


def _require_same(side: str, found: Array, wanted: Array) -> None:
    if found.dtype != wanted.dtype or not np.array_equal(found, wanted):
        raise ValueError(f"{side} gave another array back")


def _row(side: str, dataset: str, metric: str, times: list[float]) -> Row:
    floors = {"bytes", "REST echo", "gRPC echo"}
    role: Role = "floor" if side in floors else "peer" if "json" in side else "ours"
    found = spread(times)
    return Row(side, dataset, metric, found.value, found.low, found.high, "ms", role)


def _is_met(key: str, value: float | None) -> bool:
    bound, larger = _TARGETS[key]
    return value is not None and (value >= bound if larger else value <= bound)
