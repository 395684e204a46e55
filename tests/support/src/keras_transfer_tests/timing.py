"""The time of a test run: the longest files first, and at its end where it went, seconds and tests by folder."""

from __future__ import annotations

from collections import Counter

import pytest

LONGEST = (
    "test_installs.py",
    "test_readme.py",
    "test_pages.py",
    "test_demo.py",
    "test_training_document.py",
    "test_train.py",
    "test_trust.py",
    "test_export_formats.py",
    "test_segmentation_task.py",
    "test_gan_task.py",
    "test_siamese_task.py",
)
"""Begun first: a worker that began one of them last would leave the other without work (`make` forbids xdist's order,
which is by the number of tests)."""


SELDOM = ("answers_alike_in_a_fresh_process", "same_seed_same_result", "reloads_with_keras_alone")
"""Checks of the conformance kit that cost a process or a second training: in ``make nightly``."""


@pytest.hookimpl(tryfirst=True)
def pytest_itemcollected(item):
    """Marks those checks before tests are selected by their marks."""
    if item.name.endswith(tuple(f"[{name}]" for name in SELDOM)):
        item.add_marker(pytest.mark.nightly)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    """The longest files first, the others in their order."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def folder_of(nodeid: str) -> str:
    """``tests/export`` of ``tests/export/test_bundle.py::test_x``; a plugin's tests are one folder."""
    parts = nodeid.split("::")[0].split("/")[:-1]
    return "/".join(parts[:2]) or "."


def pytest_terminal_summary(terminalreporter):
    """A table of the folders, the costliest first."""
    seconds: Counter[str] = Counter()
    set_up: Counter[str] = Counter()
    tests: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if not hasattr(report, "when") or not hasattr(report, "duration"):
                continue
            folder = folder_of(report.nodeid)
            seconds[folder] += report.duration
            set_up[folder] += report.duration if report.when != "call" else 0.0
            tests[folder] += report.when == "call"
    if len(seconds) < 2:
        return
    terminalreporter.section("seconds by folder")
    terminalreporter.write_line(f"{'seconds':>9} {'set-ups':>9} {'tests':>7}  folder")
    for folder, spent in seconds.most_common():
        terminalreporter.write_line(f"{spent:9.1f} {set_up[folder]:9.1f} {tests[folder]:7d}  {folder}")
    total = (sum(seconds.values()), sum(set_up.values()), sum(tests.values()))
    terminalreporter.write_line(f"{total[0]:9.1f} {total[1]:9.1f} {total[2]:7d}  all, over all workers")
