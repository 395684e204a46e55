"""Files of other languages that a bundle carries: the same pixels, the same answers, and a self-test.

They go into a bundle as they are and read ``bundle.json``. For C++, what it says is written as ``contract.hpp``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import PIL

from keras_transfer.export.parity import Judge
from keras_transfer.preprocessing import Preprocessing
from keras_transfer.records.layout import CLIENTS, EXPECTED, TFLITE

SUFFIXES = (".mjs", ".java", ".hpp", ".cc", ".html", ".css")
NEEDS = {"web": "javascript"}
"""What a client uses of another."""
CONTRACT = "contract.hpp"
_ALWAYS_HORIZONTAL_FIRST = 13
"""Older versions of Pillow than this one shrink every picture across first."""


def write(folder: Path, languages: Iterable[str], judge: Judge, preprocessing: Preprocessing) -> None:
    """Write ``clients/LANGUAGE/`` into a bundle whose models and golden images are there.

    Nothing where no ``.tflite`` is there, or the models take no images: there is nothing to run, or to prepare.
    """
    if judge.draw is not None or not any((folder / name).is_file() for name in TFLITE.values()):
        return
    wanted = list(languages)
    for language in dict.fromkeys([*wanted, *(NEEDS[one] for one in wanted if one in NEEDS)]):
        target = folder / CLIENTS / language
        target.mkdir(parents=True)
        for path in sorted(Path(__file__).with_name(language).iterdir()):
            if path.suffix in SUFFIXES:
                shutil.copyfile(path, target / path.name)
        if language == "cpp":
            golden = json.loads((folder / EXPECTED).read_text(encoding="utf-8"))
            (target / CONTRACT).write_text(contract_header(judge, preprocessing, golden), encoding="utf-8")


def contract_header(judge: Judge, preprocessing: Preprocessing, golden: Mapping[str, Any]) -> str:
    """``contract.hpp``: what ``bundle.json`` says of pixels and outputs, as constants of C++."""
    pixels = preprocessing.to_dict()
    tall_first = int(PIL.__version__.split(".")[0]) >= _ALWAYS_HORIZONTAL_FIRST
    height, width = pixels["size"]
    contract = (
        f"{height}, {width}, Resize::{pixels['resize']}, Filter::{pixels['interpolation']}, "
        f"{_bool(pixels['antialias'])}, {_bool(pixels.get('decode') == 'scaled')}, {_bool(tall_first)}"
    )
    images = ",\n".join(f"    {{{_text(row['image'])}, {_text(row['input'])}}}" for row in golden["images"])
    return "\n".join(
        [
            "// What the models of this bundle take and give; keras_transfer wrote it from bundle.json.",
            "#ifndef KERAS_TRANSFER_CONTRACT_HPP",
            "#define KERAS_TRANSFER_CONTRACT_HPP",
            "",
            '#include "decide.hpp"',
            "",
            "namespace keras_transfer {",
            "",
            f"inline constexpr Contract contract{{{contract}}};",
            "",
            *_meaning(judge),
            *_comparison(judge.notes.get("comparison")),
            "struct Golden {",
            "  const char *image, *input;  // files in the bundle",
            "};",
            f"inline constexpr Golden golden_images[] = {{\n{images},\n}};",
            f"inline constexpr int pixel_tolerance = {golden['pixel_tolerance']};",
            "",
            "}  // namespace keras_transfer",
            "",
            "#endif",
            "",
        ]
    )


def _meaning(judge: Judge) -> list[str]:
    names = ",\n".join(f"    {_text(name)}" for name in judge.names)
    lines = [f"inline constexpr const char* labels[] = {{\n{names},\n}};"]
    # Of labels there is one for each name; of embeddings `thresholds` are chosen for rates of false acceptance.
    chosen = judge.notes.get("thresholds") if judge.kind == "probabilities" else None
    if chosen:
        lines.append(_floats("thresholds", [chosen[name] for name in judge.names]))
    ignored = (judge.notes.get("classes") or {}).get("ignore_index", -1)
    probabilities = _bool(judge.kind == "probabilities")
    told = f"{probabilities}, {len(judge.names)}, labels, {'thresholds' if chosen else 'nullptr'}, {ignored}"
    return [*lines, f"inline constexpr Meaning meaning{{{told}}};", ""]


def _comparison(rule: Mapping[str, Any] | None) -> list[str]:
    if rule is None:
        return []
    weights = rule.get("weights")
    threshold = rule.get("threshold")
    least = "std::numeric_limits<float>::quiet_NaN()" if threshold is None else _float(threshold)
    told = f"Comparison::Kind::{rule['kind']}, {'weights' if weights else 'nullptr'}, {float(rule.get('bias') or 0)!r}"
    lines = [_floats("weights", weights)] if weights else []
    return [*lines, f"inline constexpr Comparison comparison{{{told}, {least}}};", ""]


def _floats(name: str, values: Sequence[float]) -> str:
    return f"inline constexpr float {name}[] = {{{', '.join(_float(value) for value in values)}}};"


def _float(value: float) -> str:
    return f"{float(value)!r}f"


def _bool(value: bool) -> str:
    return "true" if value else "false"


def _text(value: str) -> str:
    """A string constant; every byte that is not plain ASCII as three octal digits, which end where they end."""
    plain = (
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}"
        for byte in value.encode()
    )
    return f'"{"".join(plain)}"'
