"""The command line inside a test's process, leaving the process as it was."""

from __future__ import annotations

import logging
from typing import Any

from click.testing import CliRunner

from keras_transfer import progress
from keras_transfer.cli import cli


def call(*arguments: Any, code: int | tuple[int, ...] = 0) -> tuple[str, str]:
    """Run ``keras-transfer ARGUMENTS``; returns what it printed on standard output and on standard error.

    The command line sets up the package's logger for its own process; here it is put back.

    Args:
        arguments: the verb and what follows it; each is turned into text.
        code: the exit code that is expected, or those that are.

    Raises:
        AssertionError: another exit code, an exception that is no message, or a traceback.
    """
    logger = logging.getLogger("keras_transfer")
    kept = (logger.handlers, logger.level, logger.propagate, progress.enabled())
    try:
        result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    finally:
        logger.handlers, logger.propagate = kept[0], kept[2]
        logger.setLevel(kept[1])
        progress.enable(kept[3])
    shown = (result.stdout, result.stderr)
    expected = code if isinstance(code, tuple) else (code,)
    assert result.exit_code in expected, (shown, result.exception)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    assert "Traceback" not in result.stderr
    return shown
