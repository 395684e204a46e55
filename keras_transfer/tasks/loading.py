"""From the name of a task to an object that does its work."""

from __future__ import annotations

from typing import Any

from keras_transfer import options as option_tools
from keras_transfer import plugins
from keras_transfer.errors import UsageError
from keras_transfer.tasks.base import Task, TaskSpec


def load_task(name: str, task_options: Any = None) -> tuple[TaskSpec, Task]:
    """Import a task and give it its options, checked.

    Raises:
        UsageError: unknown task, or an option out of range.
        PluginError: the plugin is broken; the message says why.
    """
    spec = plugins.task_spec(name)
    if task_options is None:
        task_options = spec.options()
    if not isinstance(task_options, spec.options):
        raise UsageError(
            f"The task {name!r} takes {spec.options.__name__}, not {type(task_options).__name__}."
        )
    option_tools.check(task_options)
    factory, reason = plugins.guarded(lambda: plugins.import_object(spec.factory))
    if reason:
        raise plugins.PluginError(f"The task {name!r} cannot be loaded from {spec.factory}: {reason}")
    task, reason = plugins.guarded(lambda: factory(task_options))
    if reason:
        raise plugins.PluginError(f"The task {name!r} cannot be made by {spec.factory}: {reason}")
    return spec, task
