"""Results and leases in Redis, for several servers that share one cache.

The same promises as the SQLite store: values are the codec's bytes, never pickled; the
least recently used go beyond the size; a result is stored only by who still holds its
lease. Every change is one script, so it happens whole or not at all, and time is the
server's own: clocks of machines differ. Run Redis without persistence (`save ""`,
`appendonly no`), so that what is erased is erased, and without an eviction of its own.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from common.errors import MessageError, OverloadError, StoreError
from common.optional import require
from common.protocol.messages.codec import result_from_bytes
from common.routing.cache.store import Stored
from common.routing.cache.tables import Row, Totals

__all__ = ["RedisStore"]

_log = logging.getLogger(__name__)

# Keys, below a prefix that names the format: r:<key> a hash with content, size, model and
# adapter; `stored` and `used`, times of both by key; `bytes`, the sum of sizes; `leases`,
# "holder|model|adapter" by key, and `until`, when each runs out.
_PREFIX = "tandem:results:1:"
_SHARED = """
local p = ARGV[1]
local t = redis.call('TIME')
local now = t[1] + t[2] / 1000000
local function drop(key)
  local size = redis.call('HGET', p .. 'r:' .. key, 'size')
  if not size then return 0 end
  redis.call('DECRBY', p .. 'bytes', size)
  redis.call('ZREM', p .. 'stored', key)
  redis.call('ZREM', p .. 'used', key)
  return redis.call('DEL', p .. 'r:' .. key)
end
local function holder_of(key)
  local till = redis.call('ZSCORE', p .. 'until', key)
  if not till or tonumber(till) <= now then return nil end
  return string.match(redis.call('HGET', p .. 'leases', key), '^[^|]*')
end
local function release(key)
  redis.call('ZREM', p .. 'until', key)
  redis.call('HDEL', p .. 'leases', key)
end
"""
_FIND = """
local found = {}
for i = 2, #ARGV do
  local content = redis.call('HGET', p .. 'r:' .. ARGV[i], 'content')
  if content then
    found[#found + 1] = ARGV[i]
    found[#found + 1] = content
    found[#found + 1] = tostring(now - redis.call('ZSCORE', p .. 'stored', ARGV[i]))
    redis.call('ZADD', p .. 'used', now, ARGV[i])
  end
end
return found
"""
_WRITE = """
local holder, limit, stored = ARGV[2], tonumber(ARGV[3]), 0
for i = 4, #ARGV, 5 do
  local key, size = ARGV[i], tonumber(ARGV[i + 1])
  local held = holder == '' or holder_of(key) == holder
  if held and holder ~= '' then release(key) end
  if held and size <= limit then
    drop(key)
    redis.call('HSET', p .. 'r:' .. key, 'size', size, 'model', ARGV[i + 2],
               'adapter', ARGV[i + 3], 'content', ARGV[i + 4])
    redis.call('ZADD', p .. 'stored', now, key)
    redis.call('ZADD', p .. 'used', now, key)
    redis.call('INCRBY', p .. 'bytes', size)
    stored = stored + 1
  end
end
while tonumber(redis.call('GET', p .. 'bytes') or 0) > limit do
  drop(redis.call('ZRANGE', p .. 'used', 0, 0)[1])
end
return stored
"""
_FORGET = """
local model, adapter, gone = ARGV[2], ARGV[3], 0
local function meant(m, a)
  return (model == '' or m == model) and (adapter == '' or a == adapter)
end
for _, key in ipairs(redis.call('ZRANGE', p .. 'stored', 0, -1)) do
  local row = redis.call('HMGET', p .. 'r:' .. key, 'model', 'adapter')
  if meant(row[1], row[2]) then gone = gone + drop(key) end
end
for _, key in ipairs(redis.call('HKEYS', p .. 'leases')) do
  local m, a = string.match(redis.call('HGET', p .. 'leases', key), '^[^|]*|([^|]*)|(.*)$')
  if meant(m, a) then release(key) end
end
return gone
"""
_PURGE = """
local gone = 0
for _, key in ipairs(redis.call('ZRANGEBYSCORE', p .. 'stored', '-inf', now - ARGV[2])) do
  gone = gone + drop(key)
end
return gone
"""
_DROP = "for i = 2, #ARGV do drop(ARGV[i]) end return 0"
_TOTALS = """
local first = redis.call('ZRANGE', p .. 'stored', 0, 0, 'WITHSCORES')
local last = redis.call('ZRANGE', p .. 'stored', -1, -1, 'WITHSCORES')
return {redis.call('ZCARD', p .. 'stored'), redis.call('GET', p .. 'bytes') or '0',
        first[2] and tostring(now - first[2]) or '', last[2] and tostring(now - last[2]) or '',
        redis.call('ZCOUNT', p .. 'until', '(' .. now, '+inf')}
"""
_TAKE = """
local holder, seconds, taken = ARGV[2], ARGV[3], {}
for i = 4, #ARGV, 3 do
  if not holder_of(ARGV[i]) then
    local lease = holder .. '|' .. ARGV[i + 1] .. '|' .. ARGV[i + 2]
    redis.call('HSET', p .. 'leases', ARGV[i], lease)
    redis.call('ZADD', p .. 'until', now + seconds, ARGV[i])
    taken[#taken + 1] = ARGV[i]
  end
end
return taken
"""
_RENEW = """
for _, key in ipairs(redis.call('ZRANGE', p .. 'until', 0, -1)) do
  local holder = holder_of(key)
  if holder == ARGV[2] then redis.call('ZADD', p .. 'until', now + ARGV[3], key) end
  if not holder then release(key) end
end
return 0
"""
_RELEASE = """
for i = 3, #ARGV do
  if holder_of(ARGV[i]) == ARGV[2] then release(ARGV[i]) end
end
return 0
"""
_FREE = """
local free = {}
for i = 2, #ARGV do
  if not holder_of(ARGV[i]) then free[#free + 1] = ARGV[i] end
end
return free
"""


class RedisStore:
    """The results and leases in one Redis; any number of machines may use it.

    Args:
        url: `redis://`, or `rediss://` with TLS; a password belongs into it.
        size_bytes: Least recently used results go when they are larger together.
        lease_s: How long a lease outlives a holder that was killed.

    Raises:
        MissingExtraError: The package redis is not installed.
        StoreError: It does not answer.
    """

    def __init__(self, url: str, *, size_bytes: int, lease_s: float) -> None:
        self._redis = require("redis", extra="redis")
        self._client: Any = self._redis.Redis.from_url(
            url, socket_timeout=30.0, socket_connect_timeout=5.0
        )
        self.size_bytes = size_bytes
        self.damaged = 0
        self._lease_s = lease_s
        self._scripts: dict[str, Any] = {}
        with self._translated():
            self._client.ping()

    def find(self, keys: Iterable[str]) -> dict[str, Stored]:
        """Returns the results that are there, by key; what is no result is removed."""
        rows = self._run(_FIND, *keys)
        found, damaged = {}, []
        for key, content, age_s in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
            try:
                found[key.decode()] = Stored(result_from_bytes(content), max(0.0, float(age_s)))
            except MessageError:
                damaged.append(key)
        if damaged:
            self._run(_DROP, *damaged)
            self.damaged += len(damaged)
            _log.warning("removed %d cached values that were no results", len(damaged))
        return found

    def write(self, rows: Sequence[Row], *, holder: str | None = None) -> int:
        """Stores results as one change and gives their leases back; returns how many."""
        fields = [f for r in rows for f in (r.key, r.size, r.model, r.adapter, r.content)]
        return int(self._run(_WRITE, holder or "", self.size_bytes, *fields))

    def forget(self, model: str | None, adapter: str | None) -> int:
        """Removes the results and leases of a model, an adapter, or both together."""
        return int(self._run(_FORGET, model or "", adapter or ""))

    def purge(self, older_than_s: float) -> int:
        """Erases what was stored longer ago."""
        return int(self._run(_PURGE, older_than_s))

    def totals(self) -> Totals:
        """Returns what the store holds."""
        n, size, oldest, newest, leases = self._run(_TOTALS)
        ages = [float(age) if age else None for age in (oldest, newest)]
        return Totals(int(n), int(size), ages[0], ages[1], int(leases))

    def close(self) -> None:
        """Closes the connections."""
        self._client.close()

    def take(self, wanted: Sequence[tuple[str, str, str]], holder: str) -> list[str]:
        """Takes the leases of key, model and adapter that nobody holds; returns their keys."""
        fields = [field for one in wanted for field in one]
        return [key.decode() for key in self._run(_TAKE, holder, self._lease_s, *fields)]

    def renew(self, holder: str) -> None:
        """Lets all leases of `holder` run anew."""
        self._run(_RENEW, holder, self._lease_s)

    def release(self, keys: Collection[str], holder: str) -> None:
        """Gives back those of `keys` that `holder` has."""
        self._run(_RELEASE, holder, *keys)

    def free(self, keys: Sequence[str]) -> set[str]:
        """Returns which of `keys` nobody holds."""
        return {key.decode() for key in self._run(_FREE, *keys)}

    def _run(self, script: str, *arguments: object) -> Any:
        if script not in self._scripts:
            self._scripts[script] = self._client.register_script(_SHARED + script)
        with self._translated():
            return self._scripts[script](args=[_PREFIX, *arguments])

    @contextmanager
    def _translated(self) -> Iterator[None]:
        """Raises what the SQLite store raises; Redis' messages hold its address."""
        try:
            yield
        except self._redis.TimeoutError as error:
            raise OverloadError(
                "result store",
                expected="an answer of Redis",
                found="none in time",
                remedy="Send the request again later.",
            ) from error
        except self._redis.RedisError as error:
            raise StoreError(
                "result store",
                expected="a Redis that answers",
                found=type(error).__name__,
                remedy="Look at its log, and at TANDEM_CACHE_URL.",
            ) from error
