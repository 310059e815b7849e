"""A caller is who its key says, may do what its role says, and as much as its limits say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.errors import AuthenticationError, OverloadError, RoleError, TooLargeError
from common.serving.keys import ROLES, KeyStore
from common.serving.security import AccessControl, Caller, RateLimiter, key_in, require_role


@pytest.mark.parametrize("held", ROLES)
@pytest.mark.parametrize("needed", ROLES)
def test_a_role_is_allowed_all_that_the_ones_below_it_are(held, needed):
    caller = Caller("desk", held)
    if ROLES.index(held) >= ROLES.index(needed):
        require_role(caller, needed)
    else:
        with pytest.raises(RoleError, match=needed):
            require_role(caller, needed)


@pytest.mark.parametrize(
    "headers",
    [
        {"authorization": "Bearer k"},
        {"authorization": "bearer  k "},
        {"x-api-key": "k"},
        {"authorization": "Bearer k", "x-api-key": "k"},
        {"authorization": "Basic abc", "x-api-key": "k"},
    ],
)
def test_a_key_is_read_from_either_header(headers):
    assert key_in(headers) == "k"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Basic k"},
        {"authorization": "Bearer"},
        {"x-api-key": " "},
        {"authorization": "Bearer one", "x-api-key": "two"},
    ],
)
def test_no_key_or_two_keys_are_refused(headers):
    with pytest.raises(AuthenticationError):
        key_in(headers)


def test_a_spent_rate_says_when_the_next_request_is_taken():
    now = [0.0]
    limiter = RateLimiter(clock=lambda: now[0])
    caller = Caller("desk", "analyst", rate_per_s=2)
    for _ in range(4):
        limiter.spend(caller)
    with pytest.raises(OverloadError) as refused:
        limiter.spend(caller)
    assert refused.value.retry_after_s == 0.5
    limiter.spend(Caller("other", "analyst", rate_per_s=2))  # a bucket of its own
    now[0] += refused.value.retry_after_s
    limiter.spend(caller)


@given(st.lists(st.floats(0, 3), max_size=60), st.floats(0.5, 20))
def test_no_more_than_burst_and_rate_are_ever_taken(pauses, rate):
    now = [0.0]
    limiter = RateLimiter(clock=lambda: now[0])
    caller = Caller("desk", "analyst", rate_per_s=rate)
    taken = 0
    for pause in pauses:
        now[0] += pause
        try:
            limiter.spend(caller)
        except OverloadError:
            continue
        taken += 1
    assert taken <= max(1.0, 2 * rate) + rate * now[0] + 1e-6


def test_headers_become_a_caller_with_the_key_s_own_limits(tmp_path):
    keys = KeyStore(tmp_path / "keys.json")
    own = keys.add("own", "admin", rate_per_s=1, body_bytes=10)
    plain = keys.add("plain", "analyst")
    access = AccessControl(keys, rate_per_s=7, body_bytes=100)
    assert access.admit({"x-api-key": own}) == Caller("own", "admin", 1, 10)
    caller = access.admit({"authorization": f"Bearer {plain}"})
    assert caller == Caller("plain", "analyst", 7, 100)
    access.check_body(caller, 100)
    with pytest.raises(TooLargeError):
        access.check_body(caller, 101)
    access.admit({"x-api-key": own})
    with pytest.raises(OverloadError):
        access.admit({"x-api-key": own})


def test_without_keys_every_request_is_the_administrator_s():
    access = AccessControl(None)
    assert {access.admit({}).role for _ in range(1000)} == {"admin"}


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1:8080", "[::1]:8080"])
def test_without_keys_a_program_of_this_machine_is_served(host):
    assert AccessControl(None).admit({"host": host}).key_id == "local"


@pytest.mark.parametrize(
    "headers",
    [
        {"host": "attacker.example:8080"},
        {"host": "localhost.attacker.example"},
        {"host": "localhost", "origin": "https://attacker.example"},
        {"host": "localhost", "origin": "null"},
    ],
)
def test_without_keys_a_web_page_is_not_served(headers):
    with pytest.raises(AuthenticationError):
        AccessControl(None).admit(headers)
