"""tritonclient's gRPC client against a real server on a loopback port."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading

import grpc
import ml_dtypes
import numpy as np
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from common.errors import SettingsError
from common.protocol.open_inference import open_inference_pb2 as pb2
from common.serving.audit_chain import audit_files
from common.serving.inference_grpc import SERVICE, GrpcListener, open_inference_server
from tests.common.serving.inference_server import running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("grpc")) as running:
        yield running


@pytest.fixture
def client(server):
    found = triton.InferenceServerClient(server.grpc)
    yield found
    found.close()


def tensor(name: str, array, datatype: str) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array)
    return given


def refusal(call) -> str:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status().removeprefix("StatusCode.")


def raw_call(server, method: str, message: bytes, **headers: str):
    with grpc.insecure_channel(server.grpc) as channel:
        call = channel.unary_unary(f"/{method}")
        return call(message, metadata=tuple(headers.items()), timeout=10)


class TestListing:
    def test_the_server_says_that_it_lives_without_a_key(self, client, server):
        assert client.is_server_live()
        assert client.is_server_ready()
        assert raw_call(server, "grpc.health.v1.Health/Check", b"") == b"\x08\x01"

    def test_metadata_and_index_need_a_key(self, client, server):
        assert refusal(client.get_server_metadata) == "UNAUTHENTICATED"
        assert client.get_server_metadata(server.headers()).name == "tandem"
        index = client.get_model_repository_index(server.headers()).models
        assert {one.name: one.state for one in index}["spare"] == "UNAVAILABLE"

    def test_a_model_s_metadata_name_its_inputs(self, client, server):
        found = client.get_model_metadata("words", headers=server.headers())
        assert [(one.name, one.datatype, list(one.shape)) for one in found.inputs] == [
            ("text", "BYTES", [-1])
        ]
        assert client.is_model_ready("words", headers=server.headers())
        assert not client.is_model_ready("spare", headers=server.headers())


class TestInference:
    @pytest.mark.parametrize(
        ("datatype", "dtype"),
        [
            ("BOOL", np.bool_),
            ("INT16", np.int16),
            ("UINT8", np.uint8),
            ("FP16", np.float16),
            ("FP32", np.float32),
            ("BF16", ml_dtypes.bfloat16),
        ],
    )
    def test_raw_tensors_keep_their_type(self, client, server, datatype, dtype):
        array = np.array([[0, 1], [1, 0]]).astype(dtype)
        given = tensor("tensor", array, datatype)
        found = client.infer("echo", [given], headers=server.headers()).as_numpy("same")
        assert found.dtype == array.dtype
        assert np.array_equal(found[0], array)

    def test_texts_are_rows_and_outputs_are_chosen(self, client, server):
        texts = np.array([b"one two", b"three"], dtype=np.object_)
        result = client.infer(
            "words",
            [tensor("text", texts, "BYTES")],
            outputs=[triton.InferRequestedOutput("words")],
            request_id="7",
            headers=server.headers(),
        )
        response = result.get_response()
        assert result.as_numpy("words").tolist() == [2, 1]
        assert [one.name for one in response.outputs] == ["words"]
        assert response.id == "7"

    def test_parameters_reach_the_model_and_provenance_comes_back(self, client, server):
        result = client.infer(
            "echo",
            [tensor("tensor", np.ones(2), "FP64")],
            headers=server.headers(),
            parameters={"horizon": 3, "name": "x", "flag": True},
        )
        told = result.get_response().parameters
        given = json.loads(result.as_numpy("values")[0])["parameters"]
        assert given == {"horizon": 3, "name": "x", "flag": True}
        assert told["model_digest"].string_param == "e" * 64
        assert len(told["trace_id"].string_param) == 32

    def test_compressed_messages_are_read(self, client, server):
        array = np.zeros(100_000, dtype=np.float32)
        result = client.infer(
            "echo",
            [tensor("tensor", array, "FP32")],
            headers=server.headers(),
            compression_algorithm="gzip",
        )
        assert np.array_equal(result.as_numpy("same")[0], array)

    def test_the_key_may_stand_in_its_own_header(self, client, server):
        key = {"x-api-key": server.keys["analyst"]}
        client.infer("echo", [tensor("tensor", np.ones(1), "FP64")], headers=key)


class TestRepository:
    def test_only_an_administrator_loads_and_unloads(self, client, server):
        load = lambda role: client.load_model("spare", headers=server.headers(role))  # noqa: E731  # one line says it
        assert refusal(lambda: load("analyst")) == "PERMISSION_DENIED"
        load("admin")
        assert client.is_model_ready("spare", headers=server.headers())
        client.unload_model("spare", headers=server.headers("admin"))
        column = [tensor("a", np.ones(1), "FP64")]
        call = lambda: client.infer("spare", column, headers=server.headers())  # noqa: E731  # as above
        assert refusal(call) == "FAILED_PRECONDITION"

    def test_files_and_other_repositories_are_not_taken(self, client, server):
        admin = server.headers("admin")
        assert refusal(lambda: client.load_model("spare", headers=admin, config="{}")) == (
            "INVALID_ARGUMENT"
        )
        assert refusal(lambda: client.load_model("nobody", headers=admin)) == "NOT_FOUND"


class TestRefusals:
    def test_wrong_keys_models_and_inputs(self, client, server):
        given = [tensor("tensor", np.ones(1), "FP64")]
        wrong = {"authorization": "Bearer tandem.nobody.x"}
        assert refusal(lambda: client.infer("echo", given, headers=wrong)) == "UNAUTHENTICATED"
        ours = server.headers()
        assert refusal(lambda: client.infer("nobody", given, headers=ours)) == "NOT_FOUND"
        assert refusal(lambda: client.infer("words", given, headers=ours)) == "INVALID_ARGUMENT"

    def test_truncated_tensors_and_malformed_messages(self, server):
        request = pb2.ModelInferRequest(model_name="echo", raw_input_contents=[bytes(15)])
        request.inputs.add(name="tensor", datatype="FP32", shape=[4])
        for message in (request.SerializeToString(), b"\xff\xff\xff", b""):
            with pytest.raises(grpc.RpcError) as caught:
                raw_call(server, f"{SERVICE}/ModelInfer", message, **server.headers())
            assert caught.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            trailing = dict(caught.value.trailing_metadata())
            assert len(trailing["trace-id"]) == 32

    def test_oversize_messages(self, client, server):
        given = [tensor("tensor", np.ones(1000), "FP64")]
        small = server.headers("small")
        assert refusal(lambda: client.infer("echo", given, headers=small)) == "RESOURCE_EXHAUSTED"

    def test_streams_are_refused_by_name(self, client, server):
        told: list[InferenceServerException] = []
        answered = threading.Event()

        def callback(result, error):
            told.append(error)
            answered.set()

        client.start_stream(callback, headers=server.headers())
        assert answered.wait(10)
        client.stop_stream(cancel_requests=True)
        assert told[0].status() == "StatusCode.UNIMPLEMENTED"
        assert "ModelInfer" in told[0].message()

    def test_other_methods_are_unknown(self, client, server):
        assert refusal(lambda: client.get_model_config("echo", headers=server.headers())) == (
            "UNIMPLEMENTED"
        )
        with pytest.raises(grpc.RpcError) as caught:
            raw_call(server, "grpc.health.v1.Health/Check", b"\n\x05other")
        assert caught.value.code() == grpc.StatusCode.NOT_FOUND


class TestWaiting:
    """A text "wait" is answered when nobody waits any more."""

    def request(self) -> bytes:
        message = pb2.ModelInferRequest(model_name="words")
        message.inputs.add(name="text", datatype="BYTES", shape=[1])
        message.inputs[0].contents.bytes_contents.append(b"wait")
        return message.SerializeToString()

    def fresh(self, server):
        server.models.load("words")
        return server.words[-1]

    def test_the_caller_s_deadline_reaches_the_model(self, server):
        words = self.fresh(server)
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            with pytest.raises(grpc.RpcError) as caught:
                call(self.request(), metadata=tuple(server.headers().items()), timeout=0.3)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert words.ended.wait(10)

    def test_a_caller_who_leaves_ends_the_work(self, server):
        words = self.fresh(server)
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            pending = call.future(self.request(), metadata=tuple(server.headers().items()))
            assert words.begun.wait(10)
            pending.cancel()
            assert words.ended.wait(10)

    def test_a_model_taken_out_meanwhile_still_answers(self, server):
        words = self.fresh(server)
        with grpc.insecure_channel(server.grpc) as channel:
            call = channel.unary_unary(f"/{SERVICE}/ModelInfer")
            pending = call.future(self.request(), metadata=tuple(server.headers().items()))
            assert words.begun.wait(10)
            server.models.unload("words")
            words.ended.set()
            answer = pb2.ModelInferResponse.FromString(pending.result(10))
        server.models.load("words")
        assert answer.model_name == "words"


def test_every_call_is_in_the_audit_when_the_server_has_ended(tmp_path):
    with running_server(tmp_path) as running:
        client = triton.InferenceServerClient(running.grpc)
        texts = tensor("text", np.array([b"Jane Doe"], dtype=np.object_), "BYTES")
        for _ in range(5):
            client.infer("words", [texts], headers=running.headers())
        refusal(lambda: client.infer("nobody", [texts], headers=running.headers()))
        client.close()
    written = [path.read_text() for path in audit_files(tmp_path / "audit")]
    records = [json.loads(line) for text in written for line in text.splitlines()]
    asked = [one for one in records if one["action"] == f"gRPC {SERVICE}/ModelInfer"]
    assert sorted(one["status"] for one in asked) == ["NOT_FOUND", *["OK"] * 5]
    good = [one for one in asked if one["status"] == "OK"]
    assert all(len(one["input_digest"]) == 64 and one["models"] for one in good)
    assert "Jane" not in "".join(written)


def test_a_draining_server_turns_calls_away(tmp_path):
    with running_server(tmp_path) as running:
        client = triton.InferenceServerClient(running.grpc)
        running.drain.begin()
        assert client.is_server_live()
        assert not client.is_server_ready()
        assert refusal(lambda: client.get_server_metadata(running.headers())) == "UNAVAILABLE"
        client.close()


class OneEcho:
    """The least service: one method that gives its message back."""

    def handlers(self):
        async def echo(message, _):
            return message

        method = grpc.unary_unary_rpc_method_handler(echo)
        return [grpc.method_handlers_generic_handler("test", {"Echo": method})]

    async def settle(self):
        return None


def echoed(listener: GrpcListener, message: bytes, *, trusted=None, pair=None, **options):
    """Opens a server for one call from a thread, and returns what the call did."""

    def call(port: int) -> bytes:
        address = f"localhost:{port}"
        if trusted is None:
            channel = grpc.insecure_channel(address)
        else:
            key, chain = pair or (None, None)
            secure = grpc.ssl_channel_credentials(trusted, key, chain)
            channel = grpc.secure_channel(address, secure)
        with channel:
            return channel.unary_unary("/test/Echo")(message, timeout=20, **options)

    async def serve() -> bytes:
        async with open_inference_server(OneEcho(), listener) as port:
            return await asyncio.to_thread(call, port)

    return asyncio.run(serve())


def test_a_compressed_message_is_not_inflated_beyond_the_bound():
    """50 MB of zeros are 50 kB on the wire."""
    listener = GrpcListener(port=0, message_bytes=1 << 20)
    gzip = grpc.Compression.Gzip
    assert len(echoed(listener, bytes(1000), compression=gzip)) == 1000
    with pytest.raises(grpc.RpcError) as caught:
        echoed(listener, bytes(50 << 20), compression=gzip)
    assert caught.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.fixture(scope="module")
def pair(tmp_path_factory, debian_tool):
    """A certificate for localhost that signs itself, and its key."""
    folder = tmp_path_factory.mktemp("tls")
    chain, key = folder / "chain.pem", folder / "key.pem"
    subprocess.run(
        [
            *(debian_tool("openssl"), "req", "-x509", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
            *("-out", str(chain), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
    )
    return chain, key


class TestTls:
    def test_a_client_that_trusts_the_certificate_is_answered(self, pair):
        chain, key = pair
        listener = GrpcListener(host="localhost", port=0, tls_certificate=chain, tls_key=key)
        assert echoed(listener, b"hello", trusted=chain.read_bytes()) == b"hello"
        with pytest.raises(grpc.RpcError) as caught:
            echoed(listener, b"hello")  # in plain text
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

    def test_where_client_certificates_are_asked_for_others_are_turned_away(self, pair):
        chain, key = pair
        listener = GrpcListener(
            host="localhost", port=0, tls_certificate=chain, tls_key=key, tls_client_ca=chain
        )
        trusted = chain.read_bytes()
        own = (key.read_bytes(), trusted)
        assert echoed(listener, b"hello", trusted=trusted, pair=own) == b"hello"
        with pytest.raises(grpc.RpcError) as caught:
            echoed(listener, b"hello", trusted=trusted)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

    def test_files_that_are_no_certificate_are_an_error(self, tmp_path):
        absent = tmp_path / "absent.pem"
        listener = GrpcListener(port=0, tls_certificate=absent, tls_key=absent)
        with pytest.raises(SettingsError, match="PEM"):
            echoed(listener, b"hello")


def test_a_taken_port_is_an_error(server):
    port = int(server.grpc.rpartition(":")[2])
    with pytest.raises(SettingsError, match="a free port"):
        echoed(GrpcListener(port=port), b"hello")
