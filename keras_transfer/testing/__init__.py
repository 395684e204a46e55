"""The conformance kit: what the core promises of every task, tried on a small set of real images.

In a plugin's tests:

    from keras_transfer.testing import conformance

    @conformance("novelty")
    def test_the_task_keeps_its_promises(check):
        check()

On the command line: ``keras-transfer plugins check novelty``.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from keras_transfer.errors import unknown_name
from keras_transfer.testing.checks import CHECKS, Broken
from keras_transfer.testing.trial import Trial

__all__ = ["CHECKS", "Broken", "CheckResult", "Kit", "conformance"]


@dataclass(frozen=True)
class CheckResult:
    """What became of one check: ``state`` is ``passed``, ``failed`` or ``expected`` (to fail, and it did)."""

    check: str
    state: str
    reason: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON-able."""
        return {"check": self.check, "state": self.state, "reason": self.reason}


class Kit:
    """The checks of one task. What they share (a trained run) is made once, when it is first needed.

    Args:
        task: name of an installed task.
        data: makes a small data set in the (empty) folder it is given and returns what ``train`` takes; by default
            the sample that the task's spec names.
        options: an instance of the task's options; by default its defaults.
        settings: settings of ``train`` by name, over the kit's own (64 px, one epoch, batches of 8).
        expected_failures: ``{check: reason}``, for promises a task knowingly does not keep. One that is kept after
            all counts as failed, until its name is removed.

    Raises:
        UsageError, PluginError: no such task, or a broken one; an unknown check; no data.
    """

    def __init__(
        self,
        task: str,
        *,
        data: Callable[[Path], Any] | None = None,
        options: Any = None,
        settings: Mapping[str, Any] | None = None,
        expected_failures: Mapping[str, str] | None = None,
    ) -> None:
        self.expected_failures = dict(expected_failures or {})
        for name in self.expected_failures:
            if name not in CHECKS:
                raise unknown_name("check", name, CHECKS)
        self._temporary = tempfile.TemporaryDirectory(prefix="keras_transfer_kit_")
        self._trial = Trial(task, Path(self._temporary.name), data, options, dict(settings or {}))
        self._known: dict[str, str] = {}
        """Reasons that were given, and the check that gave each first."""

    def check(self, name: str) -> None:
        """Run one check. Raises :class:`Broken` with a sentence when the promise is broken."""
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
        try:
            CHECKS[name](self._trial)
        except Broken:
            raise
        except Exception as error:
            raise Broken(f"{type(error).__name__}: {error}{_place(error)}") from error

    def results(self) -> Iterator[CheckResult]:
        """What becomes of every check, in their order, each as soon as it is known."""
        return map(self._result, CHECKS)

    def _result(self, name: str) -> CheckResult:
        expected = self.expected_failures.get(name)
        try:
            self.check(name)
        except Broken as error:
            first = self._known.setdefault(str(error), name)
            reason = str(error) if first == name else f"for the same reason as {first}."
            return CheckResult(name, "failed" if expected is None else "expected", expected or reason)
        if expected is None:
            return CheckResult(name, "passed")
        return CheckResult(
            name, "failed", f"it was expected to fail ({expected}), and passed: remove its name."
        )


def _place(error: Exception) -> str:
    """Where in the task's own code an exception was raised: file, line and function; "" where it was not there."""
    own = str(Path(__file__).parents[1])
    frames = [
        frame
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith((own, "<")) and "site-packages" not in frame.filename
    ]
    return (
        f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno}, in {frames[-1].name})"
        if frames
        else ""
    )


def conformance(task: str, **arguments: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate one test function with one parameter ``check``: it runs once a check, and calls it.

    Args:
        task, arguments: see :class:`Kit`. Expected failures become strict ``xfail`` marks.
    """
    import pytest

    expected = arguments.get("expected_failures") or {}
    for name in expected:
        if name not in CHECKS:
            raise unknown_name("check", name, CHECKS)
    kits: list[Kit] = []

    def check(name: str) -> None:
        if not kits:  # made when the first check runs: collecting tests imports no plugin
            kits.append(Kit(task, **arguments))
        kits[0].check(name)

    cases = [
        pytest.param(
            partial(check, name),
            id=name,
            marks=[pytest.mark.xfail(strict=True, raises=Broken, reason=expected[name])]
            if name in expected
            else [],
        )
        for name in CHECKS
    ]
    return pytest.mark.parametrize("check", cases)
