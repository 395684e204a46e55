"""Hand-made distributions that offer plugins."""

import textwrap


def distribution(site, dist, name, source, *, value=None, version="1.0", group="keras_transfer.tasks"):
    """Write a module and the metadata of a distribution that offers it, by default as a task."""
    module = dist.replace("-", "_")
    (site / f"{module}.py").write_text(textwrap.dedent(source))
    info = site / f"{module}-{version}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {dist}\nVersion: {version}\n")
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {value or module + ':SPEC'}\n")


def as_installed(site, facts):
    """The metadata of a distribution whose sources are found otherwise: ``facts`` is its pyproject's ``project``."""
    info = site / f"{facts['name'].replace('-', '_')}-{facts['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {facts['name']}\nVersion: {facts['version']}\n"
    )
    lines = [
        f"[{group}]\n" + "".join(f"{name} = {one}\n" for name, one in them.items())
        for group, them in facts["entry-points"].items()
    ]
    (info / "entry_points.txt").write_text("".join(lines))
