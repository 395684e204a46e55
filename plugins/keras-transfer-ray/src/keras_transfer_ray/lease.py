"""Who writes a folder: one driver at a time, known by a file that it renews, so that a crash leaves nothing stuck.

The lease keeps two drivers from doing the work twice. It does not keep results right: what is written under a name is
the same whoever writes it.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from typing import Any

from keras_transfer.errors import UsageError
from keras_transfer_ray.store import Store

LEASE = "lease.json"
RENEWED = 10.0
"""Seconds between two renewals."""
LASTS = 60.0
"""Seconds without a renewal after which its driver is taken for dead; on its own machine its process tells at once."""


@contextlib.contextmanager
def leased(store: Store) -> Iterator[None]:
    """Hold the lease of a folder.

    Raises:
        UsageError: another driver holds it.
    """
    me = {"host": socket.gethostname(), "pid": os.getpid(), "token": uuid.uuid4().hex}
    for _ in range(3):
        if store.create(LEASE, _written(me)):
            break
        other = _read(store)
        if other is not None and _alive(other):
            raise UsageError(
                f"{store.shown} is being written by process {other['pid']} on {other['host']}. Wait for it, or choose "
                f"another --output. (If it is gone, this is known {LASTS:.0f} seconds after its last sign of life.)"
            )
        store.remove(LEASE)
    else:
        raise UsageError(f"{store.shown} is being written by others at this moment. Try again later.")
    stop = threading.Event()
    renewing = threading.Thread(target=_renew, args=(store, me, stop), daemon=True)
    renewing.start()
    try:
        yield
    finally:
        stop.set()
        renewing.join()
        held = _read(store)
        if held is not None and held.get("token") == me["token"]:
            with contextlib.suppress(OSError):
                store.remove(LEASE)


def _renew(store: Store, me: dict[str, Any], stop: threading.Event) -> None:
    while not stop.wait(RENEWED):
        with contextlib.suppress(Exception):  # a full disk or a lost line: the next time
            store.write(LEASE, _written(me))


def _written(me: dict[str, Any]) -> bytes:
    return json.dumps({**me, "seen": time.time()}).encode()


def _read(store: Store) -> dict[str, Any] | None:
    """The lease that is there; None where there is none, or one that a crash cut off."""
    try:
        found = json.loads(store.read(LEASE))
        return {"host": str(found["host"]), "pid": int(found["pid"]), **found}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _alive(lease: dict[str, Any]) -> bool:
    if lease["host"] == socket.gethostname():
        try:
            os.kill(lease["pid"], 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            pass
    seen = lease.get("seen")
    return isinstance(seen, (int, float)) and time.time() - seen < LASTS
