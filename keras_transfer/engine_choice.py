"""Whether an engine can be had here, told without importing it."""

from __future__ import annotations

import re
from importlib.metadata import PackageNotFoundError, version

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.settings import ENGINE_PRECISIONS, ENGINES, EngineSettings

OLDEST_OPENVINO = (2026, 0)
"""The oldest version that was tried; the extra ``openvino`` says the same."""


def openvino_is_missing() -> str:
    """Why OpenVINO cannot be used, with the command that installs it; empty where it can."""
    wanted = ".".join(map(str, OLDEST_OPENVINO))
    try:
        found = version("openvino")
    except PackageNotFoundError:
        return "openvino is not installed: pip install 'keras-transfer[openvino]'"
    if tuple(int(part) for part in re.findall(r"\d+", found)[:2]) < OLDEST_OPENVINO:
        return (
            f"openvino {found} is too old; {wanted} or newer is expected: pip install -U 'openvino>={wanted}'"
        )
    return ""


def require_engine(asked: EngineSettings) -> None:
    """Refuse an engine that there is not, or not here.

    Raises:
        UsageError: an unknown name, a precision that the engine does not have, or a package that is missing or too old.
    """
    engine, precision = asked.engine, asked.engine_precision
    if engine not in ENGINES:
        raise unknown_name("engine", str(engine), ENGINES)
    if precision not in ENGINE_PRECISIONS:
        raise unknown_name("engine precision", str(precision), ENGINE_PRECISIONS)
    if engine != "openvino" and precision != "float32":
        raise UsageError(
            f"--engine-precision {precision} was given with --engine {engine}; only openvino computes in {precision}. "
            "Pass --engine openvino, or leave the precision out."
        )
    if engine == "openvino" and (why := openvino_is_missing()):
        raise UsageError(f"--engine openvino: {why}. Or leave it out: --engine auto takes what is there.")
