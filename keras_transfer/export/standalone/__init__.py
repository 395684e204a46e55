"""Files that go into a bundle as they are and run without this package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from keras_transfer.errors import PluginError

CLASSIFY = Path(__file__).with_name("classify.py")
"""What every script of a bundle may import: images to pixels, the runtime, the self-test. By itself it classifies."""


def scripts(module: str, numbers: bool, looks: bool = True) -> list[Path]:
    """The files a bundle carries, the one to run last; none where nothing fits.

    Args:
        module: ``"package.module"`` that a task brings (``TaskSpec.standalone``), or nothing. It is not imported.
        numbers: whether an output has one number per name, which is what ``classify.py`` can tell.
        looks: whether the models look at images; else the task's script is alone.

    Raises ``PluginError`` for a module that is not installed as a file, or is called like a file of a bundle.
    """
    if not module:
        return [CLASSIFY] if numbers else []
    try:
        found = importlib.util.find_spec(module)
    except ModuleNotFoundError:
        found = None
    path = Path(found.origin) if found is not None and found.has_location and found.origin else None
    if path is None or path.suffix != ".py" or path.name in (CLASSIFY.name, "__init__.py"):
        raise PluginError(
            f"The task's standalone script is {module!r}; expected a module 'package.name' in a file name.py, which is "
            f"not called {CLASSIFY.name}."
        )
    return [CLASSIFY, path] if looks else [path]
