"""Files of other languages that a bundle carries: the same pixels, the same answers, and a self-test.

They go into a bundle as they are and read ``bundle.json``. For C++, what it says is written as ``contract.hpp``.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from keras_transfer.records.layout import CLIENTS, EXPECTED, TFLITE

SUFFIXES = (".mjs", ".java", ".hpp", ".cc", ".html", ".css")
NEEDS = {"web": "javascript"}
"""What a client uses of another."""
CONTRACT = "contract.hpp"
_ALWAYS_HORIZONTAL_FIRST = 13
"""Older versions of Pillow than this one shrink every picture across first."""


def write(folder: Path, languages: Iterable[str], info: Mapping[str, Any]) -> None:
    """Write ``clients/LANGUAGE/`` into a bundle whose models and golden images are there.

    Nothing where no ``.tflite`` is there, or the models take no images: there is nothing to run, or to prepare.

    Args:
        folder: the bundle.
        languages: folders of this package.
        info: the content of ``bundle.json``, as far as it is known before the clients are there: without ``files``.
    """
    if info.get("input") == "numbers" or not any((folder / name).is_file() for name in TFLITE.values()):
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
            (target / CONTRACT).write_text(contract_header(info, golden), encoding="utf-8")


def contract_header(info: Mapping[str, Any], golden: Mapping[str, Any]) -> str:
    """``contract.hpp``: what ``bundle.json`` and ``golden.json`` say of pixels and outputs, as constants of C++."""
    pixels = info["preprocessing"]
    tall_first = int(info["versions"]["pillow"].split(".")[0]) >= _ALWAYS_HORIZONTAL_FIRST
    height, width = pixels["size"]
    contract = (
        f"{height}, {width}, Resize::{pixels['resize']}, Filter::{pixels['interpolation']}, "
        f"{_bool(pixels['antialias'])}, {_bool(pixels.get('decode') == 'scaled')}, {_bool(tall_first)}"
    )
    images = ",\n".join(f"    {{{_golden(row)}}}" for row in golden["images"])
    return "\n".join(
        [
            "// What the models of this bundle take and give; keras_transfer wrote it from bundle.json.",
            "#ifndef KERAS_TRANSFER_CONTRACT_HPP",
            "#define KERAS_TRANSFER_CONTRACT_HPP",
            "",
            '#include "decide.hpp"',
            "",
            f"static_assert(keras_transfer::kSchema >= {info['schema']},",
            f'    "bundle.json has schema {info["schema"]}; these headers know an older one. Use the bundle\'s.");',
            "",
            "namespace keras_transfer {",
            "",
            f"inline constexpr char model[] = {_text(str((info.get('training') or {}).get('model')))};",
            f"inline constexpr Contract contract{{{contract}}};",
            "",
            *_inputs(info["artefacts"]),
            *_meaning(info["labels"], info["output"]["kind"], info["notes"]),
            *_comparison(info["notes"].get("comparison")),
            "struct Golden {",
            "  const char *image, *input;  // files in the bundle",
            "  const char* decoded = nullptr;  // of a JPEG: a PNG of it at 1/scale of its size",
            "  int scale = 1, width = 0, height = 0;",
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


def _golden(row: Mapping[str, Any]) -> str:
    told = f"{_text(row['image'])}, {_text(row['input'])}"
    if "decoded" not in row:
        return told
    height, width = row["size"]
    return f"{told}, {_text(row['decoded'])}, {row['scale']}, {width}, {height}"


def _inputs(artefacts: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = []
    for one in artefacts:
        if one["file"].endswith(".tflite"):
            taken = one["inputs"][0]
            floats, zero = _bool(taken["dtype"] == "float32"), int(taken["zero_point"])
            black, white = map(_float, one["input_range"])
            rows.append(f"    {{{_text(one['file'])}, {floats}, {black}, {white}, {zero}}},")
    return ["inline constexpr Input inputs[] = {", *rows, "};", ""]


def _meaning(labels: Sequence[str], kind: str, notes: Mapping[str, Any]) -> list[str]:
    names = ",\n".join(f"    {_text(name)}" for name in labels)
    lines = [f"inline constexpr const char* labels[] = {{\n{names},\n}};"]
    # Of labels there is one for each name; of embeddings `thresholds` are chosen for rates of false acceptance.
    chosen = notes.get("thresholds") if kind == "probabilities" else None
    if chosen:
        lines.append(_floats("thresholds", [chosen[name] for name in labels]))
    ignored = (notes.get("classes") or {}).get("ignore_index", -1)
    probabilities = _bool(kind == "probabilities")
    told = f"{probabilities}, {len(labels)}, labels, {'thresholds' if chosen else 'nullptr'}, {ignored}"
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
