"""Compilers of vendors: run as a process, their words kept where they fail; and who computes what beside an NPU."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_transfer.errors import ExportError
from keras_transfer.export.inspection import FileFacts, OperatorFacts

PATIENCE = 1800
"""Seconds after which a compiler is given up."""
SHOWN = 4
LAST = 5


def run_compiler(name: str, command: Sequence[str]) -> str:
    """Run a compiler; what it printed on both streams.

    Raises ``ExportError`` when it fails: with its last lines, and the file in which all of them are kept.
    """
    try:
        done = subprocess.run(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            check=False,
            timeout=PATIENCE,
        )
        code, said = f"exit code {done.returncode}" if done.returncode else "", done.stdout
    except subprocess.TimeoutExpired as late:
        heard = late.stdout or ""
        code, said = (
            f"{PATIENCE} s passed",
            heard if isinstance(heard, str) else heard.decode("utf-8", "replace"),
        )
    except OSError as error:
        raise ExportError(f"{name} cannot be started: {error}.") from error
    if not code:
        return said
    place, log = tempfile.mkstemp(prefix=f"keras_transfer-{name}-", suffix=".log")
    os.close(place)
    Path(log).write_text(said, encoding="utf-8")
    last = "\n  ".join([line for line in said.splitlines() if line.strip()][-LAST:]) or "It said nothing."
    raise ExportError(f"{name} failed ({code}). All it said is in {log}. Its last words:\n  {last}")


def on_cpu(facts: FileFacts, reasons: Mapping[int, str]) -> list[dict[str, str]]:
    """JSON-able: the operators that run on the CPU, with their layers. ``reasons`` by their places in ``facts``."""
    return [
        {
            "operator": facts.operators[place].name,
            "layer": facts.layer(facts.operators[place]),
            "reason": reason,
        }
        for place, reason in sorted(reasons.items())
    ]


def require_placed(target: str, found: Sequence[Mapping[str, Any]], everything: int) -> None:
    """Raise ``ExportError`` that names operators that run on the CPU, where there are any."""
    if not found:
        return
    named = "; ".join(f"{one['operator']} (layer {one['layer']}): {one['reason']}" for one in found[:SHOWN])
    more = f"; and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    raise ExportError(
        f"{target}: {len(found)} of {everything} operators would run on the CPU, and --require-full-placement was "
        f"given. {named}{more}. An all-integer model (--quantize all-integer) has no float layers."
    )


def place_of(facts: FileFacts, tensor: str) -> int | None:
    """Where the operator is whose result has this name; None where there is none."""
    named: Iterable[tuple[int, OperatorFacts]] = enumerate(facts.operators)
    return next(
        (place for place, one in named if tensor in [facts.tensors[index].name for index in one.outputs]),
        None,
    )
