"""tritonclient's HTTP client and raw requests against a real server on a loopback port."""

from __future__ import annotations

import gzip
import json

import httpx
import ml_dtypes
import numpy as np
import pytest
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

from common.serving.audit_chain import audit_files
from tests.common.serving.inference_server import Running, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with running_server(tmp_path_factory.mktemp("rest")) as running:
        yield running


@pytest.fixture
def client(server):
    found = triton.InferenceServerClient(server.rest)
    yield found
    found.close()


def tensor(name: str, array, datatype: str, *, binary: bool = True) -> triton.InferInput:
    given = triton.InferInput(name, list(array.shape), datatype)
    given.set_data_from_numpy(array, binary_data=binary)
    return given


def refusal(call) -> tuple[str, str]:
    with pytest.raises(InferenceServerException) as caught:
        call()
    return caught.value.status(), caught.value.message()


def post(server: Running, path: str, content: bytes, key: str = "analyst", **headers: str):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.post(
        f"http://{server.rest}{path}", content=content, headers=server.headers(key) | named
    )


class TestListing:
    def test_the_server_says_that_it_lives_without_a_key(self, client):
        assert client.is_server_live()
        assert client.is_server_ready()

    def test_metadata_and_index_need_a_key(self, client, server):
        assert refusal(client.get_server_metadata)[0] == "401"
        extensions = client.get_server_metadata(server.headers())["extensions"]
        assert extensions == ["binary_tensor_data", "model_repository"]
        index = client.get_model_repository_index(server.headers())
        states = {one["name"]: one["state"] for one in index}
        assert states["echo"] == "READY"
        assert states["spare"] == "UNAVAILABLE"
        ready = post(server, "/v2/repository/index", b'{"ready": true}').json()
        assert "spare" not in {one["name"] for one in ready}
        assert post(server, "/v2/repository/index", b'{"ready": 1}').status_code == 422

    def test_a_model_s_metadata_name_its_inputs(self, client, server):
        found = client.get_model_metadata("words", headers=server.headers())
        assert found["platform"] == "tandem_text"
        assert found["inputs"] == [{"name": "text", "datatype": "BYTES", "shape": [-1]}]
        same = client.get_model_metadata("words", "1", headers=server.headers())
        assert same["versions"] == ["1"]

    def test_readiness_is_that_of_the_model(self, client, server):
        assert client.is_model_ready("words", headers=server.headers())
        assert client.is_model_ready("words", "1", headers=server.headers())
        assert not client.is_model_ready("spare", headers=server.headers())
        assert not client.is_model_ready("nobody", headers=server.headers())


class TestInference:
    @pytest.mark.parametrize(
        ("datatype", "dtype"),
        [
            ("BOOL", np.bool_),
            ("INT8", np.int8),
            ("UINT64", np.uint64),
            ("FP16", np.float16),
            ("FP32", np.float32),
            ("FP64", np.float64),
            ("BF16", ml_dtypes.bfloat16),
        ],
    )
    def test_raw_tensors_keep_their_type(self, client, server, datatype, dtype):
        array = np.array([[0, 1], [1, 0]]).astype(dtype)
        given = tensor("tensor", array, datatype)
        found = client.infer("echo", [given], headers=server.headers()).as_numpy("same")
        assert found.dtype == array.dtype
        assert np.array_equal(found[0], array)

    def test_json_tensors_are_answered_in_json(self, client, server):
        array = np.array([[1.5, 2.5]], np.float32)
        given = tensor("tensor", array, "FP32", binary=False)
        wanted = [triton.InferRequestedOutput("same", binary_data=False)]
        result = client.infer("echo", [given], outputs=wanted, headers=server.headers())
        assert result.get_output("same")["data"] == [1.5, 2.5]
        assert [one["name"] for one in result.get_response()["outputs"]] == ["same"]

    def test_texts_are_rows(self, client, server):
        texts = np.array([b"one two", "größer".encode()], dtype=np.object_)
        result = client.infer("words", [tensor("text", texts, "BYTES")], headers=server.headers())
        assert result.as_numpy("words").tolist() == [2, 1]
        assert result.as_numpy("share").tolist() == [0.25, 0.125]
        assert result.as_numpy("first").tolist() == [b"one", "größer".encode()]
        assert json.loads(result.as_numpy("values")[1])["words"] == 1

    def test_a_table_is_sent_column_by_column(self, client, server):
        columns = [
            tensor("close", np.array([1.0, 3.0]), "FP64"),
            tensor("day", np.array([b"Mon", b"Tue"], dtype=np.object_), "BYTES"),
        ]
        result = client.infer("mean", columns, headers=server.headers())
        assert result.as_numpy("close").tolist() == [2.0]

    def test_parameters_reach_the_model_and_id_and_provenance_come_back(self, client, server):
        result = client.infer(
            "echo",
            [tensor("tensor", np.ones(2), "FP64")],
            request_id="7",
            headers=server.headers(),
            parameters={"horizon": 3},
            timeout=20_000_000,
        )
        response = result.get_response()
        assert json.loads(result.as_numpy("values")[0])["parameters"] == {"horizon": 3}
        assert (response["id"], response["model_version"]) == ("7", "1")
        told = response["parameters"]
        assert told["model_digest"] == "e" * 64
        assert told["adapter_digest"] == "a" * 64
        assert len(told["trace_id"]) == 32

    @pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
    def test_compressed_bodies_are_inflated(self, client, server, algorithm):
        array = np.arange(100_000, dtype=np.float32)
        result = client.infer(
            "echo",
            [tensor("tensor", array, "FP32")],
            headers=server.headers(),
            request_compression_algorithm=algorithm,
        )
        assert np.array_equal(result.as_numpy("same")[0], array)

    def test_the_key_may_stand_in_its_own_header(self, client, server):
        key = {"x-api-key": server.keys["analyst"]}
        client.infer("echo", [tensor("tensor", np.ones(1), "FP64")], headers=key)


class TestRepository:
    def test_only_an_administrator_loads_and_unloads(self, client, server):
        assert refusal(lambda: client.load_model("spare", headers=server.headers()))[0] == "403"
        assert refusal(lambda: client.unload_model("echo", headers=server.headers()))[0] == "403"
        client.load_model("spare", headers=server.headers("admin"))
        assert client.is_model_ready("spare", headers=server.headers())
        client.unload_model("spare", headers=server.headers("admin"))
        assert not client.is_model_ready("spare", headers=server.headers())
        column = tensor("a", np.ones(1), "FP64")
        status, told = refusal(lambda: client.infer("spare", [column], headers=server.headers()))
        assert status == "422"
        assert "loaded" in told

    def test_files_are_not_taken_from_a_request(self, client, server):
        def load():
            client.load_model("spare", headers=server.headers("admin"), config="{}")

        assert refusal(load)[0] == "422"
        unknown = refusal(lambda: client.load_model("nobody", headers=server.headers("admin")))
        assert unknown[0] == "404"


class TestRefusals:
    def test_a_wrong_key(self, client):
        key = {"authorization": "Bearer tandem.nobody.x"}
        status, told = refusal(lambda: client.get_model_metadata("echo", headers=key))
        assert status == "401"
        assert "key" in told

    def test_an_unknown_model_version_or_output(self, client, server):
        given = [tensor("tensor", np.ones(1), "FP64")]

        def infer(model="echo", version="", outputs=None):
            return refusal(
                lambda: client.infer(
                    model, given, model_version=version, outputs=outputs, headers=server.headers()
                )
            )

        assert infer("nobody")[0] == "404"
        assert infer("echo", "9")[0] == "404"
        assert infer(outputs=[triton.InferRequestedOutput("nothing")])[0] == "422"
        assert infer("words")[0] == "422"

    def test_a_truncated_tensor(self, server):
        body = b'{"inputs":[{"name":"tensor","datatype":"FP32","shape":[4],"parameters":'
        body += b'{"binary_data_size":16}}],"parameters":{"binary_data_output":true}}'
        headers = {"inference_header_content_length": str(len(body))}
        found = post(server, "/v2/models/echo/infer", body + bytes(15), **headers)
        assert found.status_code == 422
        assert found.headers["content-type"] == "application/problem+json"
        assert "binary_data_size" in found.json()["error"]
        whole = post(server, "/v2/models/echo/infer", body + bytes(16), **headers)
        assert whole.status_code == 200
        assert int(whole.headers["inference-header-content-length"]) < len(whole.content)

    def test_an_oversize_body_or_one_that_inflates_too_far(self, server):
        path = "/v2/models/echo/infer"
        assert post(server, path, bytes(3000), "small").status_code == 413
        bomb = gzip.compress(bytes(1 << 20))
        assert len(bomb) < 2048
        assert post(server, path, bomb, "small", content_encoding="gzip").status_code == 413

    @pytest.mark.parametrize(
        "content", [b"", b"{", b"[]", b'{"inputs":[]}', b'{"inputs":[{}]}', b"\xff" * 10]
    )
    def test_bodies_that_are_no_request(self, server, content):
        assert post(server, "/v2/models/echo/infer", content).status_code == 422

    def test_path_tricks(self, server):
        for name in ("..%2f..%2fetc", "a%2fb", "%00", "." * 300, "echo%0a"):
            assert post(server, f"/v2/models/{name}/infer", b"{}").status_code in {404, 422}

    def test_a_late_answer(self, client, server):
        text = tensor("text", np.array([b"wait"], dtype=np.object_), "BYTES")
        call = lambda: client.infer("words", [text], headers=server.headers(), timeout=50_000)  # noqa: E731  # as the client is called
        assert refusal(call)[0] == "504"
        assert server.words[-1].ended.wait(10)  # the model has learned it, too


def test_the_audit_holds_no_input(server, client):
    text = tensor("text", np.array([b"Jane Doe"], dtype=np.object_), "BYTES")
    client.infer("words", [text], headers=server.headers())
    client.is_model_ready("words", headers=server.headers())
    written = "".join(path.read_text() for path in audit_files(server.audit))
    assert "Jane" not in written
