"""What NumPy, TensorFlow and child processes read when they start: the network guard, threads that fit, a cache.

Imported before anything heavy.
"""

from __future__ import annotations

import importlib.util
import os
import signal
import sys
import tempfile
from pathlib import Path

GUARD = Path(__file__).parent / "guard"
sys.path.insert(0, str(GUARD))
# Activates the guard in this process; another sitecustomize may shadow it.
if not hasattr(importlib.import_module("sitecustomize"), "OutsideConnection"):
    _spec = importlib.util.spec_from_file_location("_network_guard", GUARD / "sitecustomize.py")
    _spec.loader.exec_module(importlib.util.module_from_spec(_spec))

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a shell's background job; children would ignore Ctrl-C too
    signal.signal(signal.SIGINT, signal.default_int_handler)
os.environ["KERAS_TRANSFER_OFFLINE"] = "1"
# Fixtures that live longer than a test share this one; each test gets its own below.
_SESSION_CACHE = tempfile.TemporaryDirectory(prefix="keras_transfer_tests_")
os.environ["KERAS_TRANSFER_CACHE"] = _SESSION_CACHE.name
os.environ["PYTHONPATH"] = os.pathsep.join([str(GUARD), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def threads() -> int:
    """Cores for each worker."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1")))


# Read when TensorFlow is imported, here and in children. A worker is told anew: it inherits what the controller has.
for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = str(threads())
