"""A Ray cluster for a while: started on this machine and stopped, or one that is there, joined and left.

Ray's own messages are kept down, it is not told who uses it, and a cluster that is started here listens on the
loopback address alone. That takes variables that are read when Ray is imported, so nothing else imports it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import socket
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

from keras_transfer.data.threads import default_threads
from keras_transfer.errors import KerasTransferError, PluginError, UsageError
from keras_transfer.quiet import captured_output
from keras_transfer_ray.settings import ClusterSettings

ANSWERS_WITHIN = 10.0
"""Seconds in which a cluster's address must take a connection."""
JOINED_WITHIN = 60.0
"""Seconds in which joining it must have come to an end."""
_STORE_BYTES = 256 << 20  # lists of files are all that Ray holds; what is computed goes to the output
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DATA_DISABLE_PROGRESS_BARS": "1",
}
_LOOPBACK = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
"""``0``: Ray takes 127.0.0.1 for its own address. Told ``_node_ip_address="127.0.0.1"`` it replaces that by an address
that others reach, and listens everywhere."""


def import_ray(address: str = "local") -> Any:
    """The module ``ray``, silenced. Raises ``PluginError`` where it cannot be imported."""
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    if address == "local":
        os.environ[_LOOPBACK] = "0"
    try:
        import ray
        import ray.data
    except Exception as error:
        raise PluginError(
            f"Ray cannot be imported ({type(error).__name__}: {error}). Install it again: pip install "
            "--force-reinstall 'ray[data]'"
        ) from error
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    return ray


@contextlib.contextmanager
def joined(settings: ClusterSettings) -> Iterator[int]:
    """A cluster, and how many workers there are to be; it is left, or stopped, whatever happens meanwhile.

    Raises:
        UsageError: nothing answers at the address, or there are fewer CPUs than are asked for.
        PluginError: Ray cannot be imported.
        KerasTransferError: Ray cannot be started, or joined.
    """
    _require_answer(settings.address)
    ray = import_ray(settings.address)
    if ray.is_initialized():  # by whoever calls this from Python: theirs
        yield _workers(ray, settings)
        return
    with contextlib.ExitStack() as stack:
        stack.callback(_leave, ray)
        if settings.address == "local":
            folder = _short_folder()
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
            stack.callback(_leave, ray)  # before its folder goes
            cpus = (settings.workers or max(1, default_threads() // settings.cpus_per_worker)) * (
                settings.cpus_per_worker
            )
            _init(
                ray,
                "local",
                num_cpus=cpus,
                include_dashboard=False,
                object_store_memory=_STORE_BYTES,
                _temp_dir=folder,
            )
        else:
            _init(ray, settings.address)
        yield _workers(ray, settings)


def _init(ray: Any, address: str, **values: Any) -> None:
    """``ray.init``, but no longer than we wait: where something else takes the connection it tries for minutes."""
    failed: list[BaseException] = []

    def init() -> None:
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **values)
        except BaseException as error:  # noqa: BLE001 (handed to the thread that waits)
            failed.append(error)

    with captured_output():  # what Ray's own code says while it tries
        if address == "local":
            init()
        else:
            waiting = threading.Thread(target=init, daemon=True)
            waiting.start()
            waiting.join(JOINED_WITHIN)
    if address != "local" and waiting.is_alive():
        raise UsageError(
            f"--address {address}: something answers there, and no Ray cluster within {JOINED_WITHIN:.0f} seconds. "
            "Check the address and the port (of `ray start --head`: 6379; of a Ray client: 10001)."
        )
    if not failed:
        return
    error, reason = failed[0], _first_line(failed[0])
    if isinstance(error, KeyboardInterrupt) or (address == "local" and isinstance(error, SystemExit)):
        raise error
    if address == "local":
        raise KerasTransferError(f"Ray cannot be started on this machine: {reason}") from error
    if isinstance(error, ConnectionError) or address == "auto":
        raise UsageError(
            f"--address {address}: there is no Ray cluster ({reason}). Start one with `ray start --head`, or leave "
            "--address out."
        ) from error
    raise KerasTransferError(f"The Ray cluster at {address} cannot be joined: {reason}") from error


def _require_answer(address: str) -> None:
    """``UsageError`` for what is no address, or where nothing takes a connection."""
    if address in ("local", "auto"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or "/" in host or not port.isdigit():
        raise UsageError(
            f"--address {address}: local, auto, HOST:PORT or ray://HOST:PORT is expected, such as 10.0.0.1:6379."
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=ANSWERS_WITHIN).close()
    except (OSError, OverflowError) as error:
        raise UsageError(
            f"--address {address}: nothing answers there ({error}). Check the address, and that the cluster runs "
            "(`ray status`)."
        ) from error


def _workers(ray: Any, settings: ClusterSettings) -> int:
    """How many workers the cluster has CPUs for, or as many as were asked for."""
    free = [int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"]]
    room = sum(cpus // settings.cpus_per_worker for cpus in free)
    wanted = settings.workers or room
    if wanted > room or not wanted:
        told = " + ".join(map(str, free)) or "0"
        raise UsageError(
            f"{wanted or 1} workers of {settings.cpus_per_worker} CPUs were asked for; the cluster's machines have "
            f"{told} CPUs, which is room for {room}. Lower --workers or --cpus-per-worker."
        )
    return wanted


def _leave(ray: Any) -> None:
    with contextlib.suppress(Exception):
        ray.shutdown()


def _short_folder() -> str:
    """Where Ray keeps its sockets and logs: their paths must stay under 108 bytes."""
    folder = tempfile.gettempdir()
    return tempfile.mkdtemp(prefix="ktr", dir=folder if len(folder) < 24 else "/tmp")


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines[0] if lines else type(error).__name__)[:300]
