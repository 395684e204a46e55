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
