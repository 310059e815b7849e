"""A listener has a whole pair of TLS files, or none. tests/kits/test_service.py runs servers."""

from __future__ import annotations

import pytest

from common.errors import SettingsError
from common.serving.server import Listener


def test_without_files_it_speaks_http():
    assert Listener().scheme == "http"


def test_with_both_files_it_speaks_https(tmp_path):
    for name in ("chain", "key", "authorities"):
        (tmp_path / name).touch()
    chain, key, authorities = (tmp_path / name for name in ("chain", "key", "authorities"))
    listener = Listener(tls_certificate=chain, tls_key=key, tls_client_ca=authorities)
    assert listener.scheme == "https"


@pytest.mark.parametrize(
    "given", [("chain",), ("key",), ("chain", "absent"), ("authorities",), ("chain", "authorities")]
)
def test_half_a_pair_or_an_absent_file_is_refused(tmp_path, given):
    for name in ("chain", "key", "authorities"):
        (tmp_path / name).touch()
    fields = {
        "chain": "tls_certificate",
        "key": "tls_key",
        "absent": "tls_key",
        "authorities": "tls_client_ca",
    }
    with pytest.raises(SettingsError, match="TLS"):
        Listener(**{fields[name]: tmp_path / name for name in given})
