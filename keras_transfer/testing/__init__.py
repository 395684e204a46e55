"""The conformance kit: what the core promises of every plugin, tried on a small set of real images.

In a plugin's tests:

    from keras_transfer.testing import conformance

    @conformance("novelty")
    def test_the_task_keeps_its_promises(check):
        check()

On the command line: ``keras-transfer plugins check novelty``. A name may be that of a task, a backbone, weights, a
verb or a target, or of several of them: each has checks of its own.
"""

from __future__ import annotations

import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from keras_transfer.backbone_specs import BACKBONES, WEIGHTS
from keras_transfer.cli.commands import COMMANDS
from keras_transfer.discovery import entries
from keras_transfer.errors import KerasTransferError, UsageError, unknown_name
from keras_transfer.export.targets.specs import TARGETS
from keras_transfer.tasks.specs import TASKS
from keras_transfer.testing.backbones import BACKBONE_CHECKS, BackboneTrial
from keras_transfer.testing.checks import CHECKS
from keras_transfer.testing.commands import COMMAND_CHECKS, CommandTrial
from keras_transfer.testing.promises import Broken
from keras_transfer.testing.targets import TARGET_CHECKS, TargetTrial
from keras_transfer.testing.trial import Trial
from keras_transfer.testing.weights import WEIGHTS_CHECKS, WeightsTrial

__all__ = ["CHECKS", "CHECKS_OF", "Broken", "CheckResult", "Kit", "conformance"]

KINDS = {point.kind: point for point in (TASKS, BACKBONES, WEIGHTS, COMMANDS, TARGETS)}
"""What a name may be."""
CHECKS_OF: Mapping[str, Mapping[str, Callable[[Any], None]]] = {
    "task": CHECKS,
    "backbone": BACKBONE_CHECKS,
    "weights": WEIGHTS_CHECKS,
    "command": COMMAND_CHECKS,
    "target": TARGET_CHECKS,
}
"""The checks by the kind of plugin, each by name, in the order they run. No name is there twice."""


@dataclass(frozen=True)
class CheckResult:
    """What became of one check: ``state`` is ``passed``, ``failed`` or ``expected`` (to fail, and it did).

    ``traceback``: of an exception that is none of this package's, where it is the first with its reason; else "".
    """

    check: str
    state: str
    reason: str = ""
    kind: str = "task"
    traceback: str = ""

    def to_dict(self) -> dict[str, str]:
        """JSON-able."""
        return asdict(self)


class Kit:
    """The checks of one plugin. What they share (a trained run, a network) is made once, when it is first needed.

    Args:
        name: of an installed task, backbone, verb, target, or the backbone that weights are for; of several, all are
            checked.
        data: of a task: makes a small data set in the (empty) folder it is given and returns what ``train`` takes; by
            default the sample that the task's spec names.
        options: an instance of the task's options; by default its defaults.
        settings: settings of ``train`` by name, over the kit's own (64 px, one epoch, batches of 8).
        expected_failures: ``{check: reason}``, for promises that knowingly are not kept. One that is kept after
            all counts as failed, until its name is removed.
        kind: check it only as this kind: ``task``, ``backbone``, ``weights``, ``command`` or ``target``.

    Attributes:
        kinds: what the name is.
        checks: name of a check to the kind it is of, in the order they run.
        trials: kind to what its checks share.

    Raises:
        UsageError, PluginError: no such plugin, or a broken one; an unknown check; data, options or settings for what
            is no task.
    """

    def __init__(
        self,
        name: str,
        *,
        data: Callable[[Path], Any] | None = None,
        options: Any = None,
        settings: Mapping[str, Any] | None = None,
        expected_failures: Mapping[str, str] | None = None,
        kind: str | None = None,
    ) -> None:
        self.kinds = kinds_of(name, kind)
        if not self.kinds:
            points = KINDS.values() if kind is None else [KINDS[kind]]
            known = {entry.name for point in points for entry in entries(point)}
            raise unknown_name("plugin" if kind is None else kind, name, known)
        given = [
            what for what, one in {"data": data, "options": options, "settings": settings}.items() if one
        ]
        if given and "task" not in self.kinds:
            raise UsageError(
                f"{' and '.join(given)}: {name!r} is no task ({', '.join(self.kinds)}). Leave it out."
            )
        self.checks = {check: each for each in self.kinds for check in CHECKS_OF[each]}
        self.expected_failures = dict(expected_failures or {})
        _require_checks(self.expected_failures, self.checks)
        self._temporary = tempfile.TemporaryDirectory(prefix="keras_transfer_kit_")
        folder = Path(self._temporary.name)
        make: dict[str, Callable[[], Any]] = {
            "task": lambda: Trial(name, folder, data, options, dict(settings or {})),
            "backbone": lambda: BackboneTrial(name, folder),
            "weights": lambda: WeightsTrial(name, folder),
            "command": lambda: CommandTrial(name, folder),
            "target": lambda: TargetTrial(name, folder),
        }
        self.trials = {each: make[each]() for each in self.kinds}
        self._known: dict[str, str] = {}
        """Reasons that were given, and the check that gave each first."""

    def check(self, name: str) -> None:
        """Run one check. Raises :class:`Broken` with a sentence when the promise is broken."""
        _require_checks([name], self.checks)
        kind = self.checks[name]
        try:
            CHECKS_OF[kind][name](self.trials[kind])
        except Broken:
            raise
        except KerasTransferError as error:
            raise Broken(f"{error}{_place(error)}") from error
        except Exception as error:
            raise Broken(f"{type(error).__name__}: {error}{_place(error)}") from error

    def results(self) -> Iterator[CheckResult]:
        """What becomes of every check, in their order, each as soon as it is known."""
        return map(self._result, self.checks)

    def _result(self, name: str) -> CheckResult:
        expected, kind = self.expected_failures.get(name), self.checks[name]
        try:
            self.check(name)
        except Broken as error:
            first = self._known.setdefault(str(error), name)
            reason = str(error) if first == name else f"for the same reason as {first}."
            state = "failed" if expected is None else "expected"
            where = _traceback(error) if first == name and expected is None else ""
            return CheckResult(name, state, expected or reason, kind, where)
        if expected is None:
            return CheckResult(name, "passed", kind=kind)
        reason = f"it was expected to fail ({expected}), and passed: remove its name."
        return CheckResult(name, "failed", reason, kind)


def kinds_of(name: str, kind: str | None = None) -> list[str]:
    """What an installed plugin of this name is: ``task``, ``backbone``, ``weights``, ``command``, ``target`` (or more).

    Nothing is imported. ``kind``: only whether it is that.
    """
    if kind is not None and kind not in CHECKS_OF:
        raise unknown_name("kind of plugin", kind, CHECKS_OF)
    asked = CHECKS_OF if kind is None else [kind]
    return [each for each in asked if name in [entry.name for entry in entries(KINDS[each])]]


def _require_checks(names: Iterable[str], checks: Mapping[str, Any]) -> None:
    for name in names:
        if name not in checks:
            raise unknown_name("check", name, checks)


def _traceback(broken: Broken) -> str:
    """Of the exception behind a broken promise; "" for errors of ours, whose sentence is enough."""
    cause = broken.__cause__
    if cause is None or isinstance(cause, KerasTransferError):
        return ""
    return "".join(traceback.format_exception(cause))


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


def conformance(
    name: str, *, kind: str | None = None, **arguments: Any
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorate one test function with one parameter ``check``: it runs once a check, and calls it.

    What the name is (a task, a backbone, weights, a verb, a target) is looked up when tests are collected; where
    nothing of this name is installed, the checks of a task say so.

    Args:
        name, kind, arguments: see :class:`Kit`. Expected failures become strict ``xfail`` marks.
    """
    import pytest

    checks = [check for each in kinds_of(name, kind) or [kind or "task"] for check in CHECKS_OF[each]]
    expected = arguments.get("expected_failures") or {}
    _require_checks(expected, dict.fromkeys(checks))
    kits: list[Kit] = []

    def check(one: str) -> None:
        if not kits:  # made when the first check runs: collecting tests imports no plugin
            kits.append(Kit(name, kind=kind, **arguments))
        kits[0].check(one)

    cases = [
        pytest.param(
            partial(check, one),
            id=one,
            marks=[pytest.mark.xfail(strict=True, raises=Broken, reason=expected[one])]
            if one in expected
            else [],
        )
        for one in checks
    ]
    return pytest.mark.parametrize("check", cases)
