"""How this process starts Ray, or joins a cluster, and leaves it again.

Ray started here is for this process alone: every port on loopback, a token of its own,
no dashboard, its files in a folder that only its user can read and that goes with it. It
sends nothing to anybody: usage statistics are off.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import BinaryIO

from common.errors import SettingsError
from common.optional import require
from common.routing.ray_engine.process_tree import ProcessWatch, children_of

__all__ = ["RaySession", "remove_abandoned"]

_log = logging.getLogger(__name__)

_LOOPBACK = "127.0.0.1"
_PREFIX, _LOCK = "tandem-ray-", "lock"
_REACH_S = 5.0
_END_S = 10.0
_ENABLE_CLUSTER = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"  # 0: Ray 2.60 keeps to loopback
_STORE_BYTES = 512 << 20
# Ray reads these when it is first imported. It prints deaths of workers to standard output,
# where commands write their JSON; the keepers log them.
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "token",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
    "RAY_SCHEDULER_EVENTS": "0",
}


class RaySession:
    """One connection of this process to Ray.

    Args:
        address: Host and port of a cluster's head; without one, Ray is started here.
        cpus: Of a Ray started here: how many it gives to replicas.
        resources: Of a Ray started here: its custom resources.

    Raises:
        MissingExtraError: Ray is not installed.
        SettingsError: This process is connected already, the cluster cannot be reached, or
            this process has no token for it.
    """

    def __init__(
        self, address: str | None = None, *, cpus: float = 0, resources: dict[str, float]
    ) -> None:
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        if address is None:
            os.environ[_ENABLE_CLUSTER] = "0"
            os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
        else:
            _require_answer(address)
        self.ray: ModuleType = require("ray", extra="ray")
        if self.ray.is_initialized():
            raise _twice()
        self.folder: Path | None = None
        self._lock: BinaryIO | None = None
        self._processes: set[int] = set()
        with _own_signal_handler():
            if address is None:
                self._start(cpus, resources)
            else:
                self._join(address)

    def close(self) -> None:
        """Disconnects; ends what was started here, and returns when it has ended."""
        watch = ProcessWatch(self._processes)
        self.ray.shutdown(wait_for_processes=True)
        if killed := watch.end(wait_s=_END_S):
            _log.warning("%d processes of Ray had to be killed", killed)
        if self.folder is not None:
            shutil.rmtree(self.folder, ignore_errors=True)
        if self._lock is not None:
            self._lock.close()

    def _start(self, cpus: float, resources: dict[str, float]) -> None:
        # Ray opens the folder that it is given to everybody, so it gets one inside of ours.
        remove_abandoned(Path(_short_folder()))
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_short_folder()))
        self._lock = (self.folder / _LOCK).open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        before = children_of(os.getpid())
        self.ray.init(
            address="local",
            num_cpus=max(os.cpu_count() or 1, -int(-cpus // 1)),
            resources=resources,
            object_store_memory=_STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="ERROR",
            _node_ip_address=_LOOPBACK,
            _temp_dir=str(self.folder / "r"),
        )
        self._processes = children_of(os.getpid()) - before
        if self.ray.util.get_node_ip_address() != _LOOPBACK:
            self.close()
            raise SettingsError(
                "Ray on this machine",
                expected="that it listens on loopback only",
                found="that it was imported before with other settings",
                remedy="Open the engine before anything else imports ray.",
            )

    def _join(self, address: str) -> None:
        try:
            self.ray.init(address=address, log_to_driver=False, logging_level="ERROR")
        except self.ray.exceptions.AuthenticationError as error:
            raise SettingsError(
                "Ray cluster",
                expected="a token that it takes",
                found="none, or another one",
                remedy="Copy ~/.ray/auth_token from the head (ray get-auth-token --generate "
                "makes it), or set RAY_AUTH_MODE=disabled for one that asks for none.",
            ) from error
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise _no_cluster(type(error).__name__) from error


def remove_abandoned(parent: Path) -> None:
    """Removes what processes that were killed have left: inputs may be among it."""
    for folder in parent.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # somebody else's, or the lock of one that lives
            if folder.stat().st_uid == os.getuid():
                with (folder / _LOCK).open("rb+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(folder, ignore_errors=True)


def _short_folder() -> str:
    """Returns where temporary files go, or /tmp where that name is long.

    Ray adds 87 characters for its sockets, whose names may have 107 (unix(7)).
    """
    usual = tempfile.gettempdir()
    return usual if len(usual) <= 20 else "/tmp"  # noqa: S108  # a folder of our own in it


@contextmanager
def _own_signal_handler() -> Iterator[None]:
    """Keeps what this process does at SIGTERM: ray.init would put its own exit there."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _require_answer(address: str) -> None:
    """Looks whether anybody answers: Ray itself would try for minutes."""
    if os.environ.get(_ENABLE_CLUSTER) == "0":
        raise SettingsError(
            "Ray",
            expected="a process that has not started Ray for itself",
            found="one that has, on loopback",
            remedy="Join the cluster from a new process.",
        )
    host, _, port = address.rpartition(":")
    if not (host and port.isdecimal()) or "/" in host:
        raise _no_cluster("no host and port")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACH_S).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(type(error).__name__) from error


def _no_cluster(found: str) -> SettingsError:
    return SettingsError(
        "Ray cluster",
        expected="one that answers at ray_address, a host and port",
        found=found,
        remedy="Start it with ray start --head, give every machine its token, or leave "
        "ray_address empty.",
    )


def _twice() -> SettingsError:
    return SettingsError(
        "Ray",
        expected="one engine in a process",
        found="that this process is connected already",
        remedy="Close the other engine first; one serves any number of models.",
    )
