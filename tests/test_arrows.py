"""Who may import whom, read from every file: arrows point down only (CONTRIBUTING.md has the table)."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "keras_transfer"
ROOMS = (
    *(
        "errors",
        "quiet",
        "wording",
        "paths",
        "hashing",
        "progress",
        "options",
        "setting_values",
        "settings",
        "device_choice",
        "engine_choice",
        "outputs",
    ),
    *(
        "catalog",
        "discovery",
        "backbone_specs",
        "decoding",
        "preprocessing",
        "records",
        "normalization",
        "litert_model",
        "litert",
    ),
    *("backbones", "heads", "freezing", "freeze_plan", "data", "inference", "features", "run"),
    *("evaluation", "training", "checking", "picking", "export", "tasks", "workflow", "cli", "testing"),
)
"""From the ground up: a room imports only those before it. ``keras_transfer`` itself is below all."""
EXCEPTIONS = {
    ("keras_transfer", "quiet"): "the environment is set before any module imports TensorFlow",
    (
        "keras_transfer.cli.plugins",
        "testing",
    ): "`plugins check` runs the kit, and the kit runs the command line",
    ("keras_transfer.__main__", "cli"): "python -m keras_transfer",
}
FOR_PLUGINS = "keras_transfer.cli.kit"
"""What plugins may use of the command line."""


def sources() -> dict[str, Path]:
    """Module -> file, of the core."""
    files = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports(module: str, path: Path) -> list[tuple[str, str]]:
    """What a file imports anywhere in it, for type checkers too: ``(module, name)``; no name where it is the module."""
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(alias.name, "") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*above, *(node.module or "").split(".")]).strip(".")
            found += [(source, alias.name) for alias in node.names]
    return found


def room(module: str, name: str = "") -> str:
    """The part of the house a module is in; empty for the package itself."""
    parts = module.split(".")
    if len(parts) == 1:
        return name if name in ROOMS else ""
    return parts[1]


@pytest.mark.parametrize("module", sources())
def test_arrows_point_down(module):
    own = room(module)
    for source, name in imports(module, sources()[module]):
        if source.split(".")[0] != "keras_transfer":
            continue
        other = room(source, name)
        if other in ("", own) or (module, other) in EXCEPTIONS:
            continue
        assert own, f"{module} is below everything and imports {source}"
        assert ROOMS.index(other) < ROOMS.index(own), (
            f"{module} imports {source} ({name}): {other} is above {own}"
        )


def test_the_table_in_contributing_has_the_rooms_in_this_order():
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`.*?) \|", text, re.MULTILINE)
    assert tuple(re.findall(r"`(\w+)`", " ".join(rows))) == ROOMS


def test_every_room_has_its_place_and_every_exception_is_needed():
    found = {room(module) for module in sources()} - {"", "__main__"}
    assert found == set(ROOMS)
    for module, other in EXCEPTIONS:
        assert other in {room(*one) for one in imports(module, sources()[module])}


@pytest.mark.parametrize("module", sources())
def test_no_file_takes_a_private_name_of_another_room(module):
    for source, name in imports(module, sources()[module]):
        if source.split(".")[0] == "keras_transfer" and room(source, name) != room(module):
            private = [part for part in (*source.split("."), name) if part.startswith("_")]
            assert private in ([], ["__version__"]), f"{module} imports {source}.{name}"


def test_a_plugin_uses_the_public_part_of_the_command_line_alone():
    files = [*ROOT.glob("plugins/*/src/**/*.py"), *ROOT.glob("examples/**/*.py")]
    assert len(files) > 50
    for path in files:
        for source, name in imports(path.stem, path):
            if source.split(".")[0] != "keras_transfer":
                continue
            assert not [part for part in (*source.split("."), name) if part.startswith("_")], (path, source)
            if source.startswith("keras_transfer.cli") or (source, name) == ("keras_transfer", "cli"):
                assert source == FOR_PLUGINS or (source, name) == ("keras_transfer.cli", "kit"), (
                    path,
                    source,
                )
