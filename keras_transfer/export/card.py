"""``README.md`` of a bundle: a model card with the front matter that model hubs read.

The sections are those of Mitchell et al. 2019, "Model Cards for Model Reporting", as far as an export knows them.
Front matter is YAML; every value is written as JSON, which YAML contains.
"""

from __future__ import annotations

import json
from typing import Any

from keras_transfer.export.parity import EMBEDDINGS
from keras_transfer.records.export_options import CALIBRATED
from keras_transfer.records.layout import TARGETS
from keras_transfer.wording import percent, score

TAGS = {"classification": "image-classification", "multilabel": "image-classification"}
"""By task: what model hubs call it."""
OUTPUTS = {"classification": "one probability per class", "multilabel": "one probability per label"}


def card(bundle: dict[str, Any]) -> str:
    """The card of a bundle, from the content of its ``bundle.json``."""
    measured, metric = bundle["measured"], bundle["output"]["metric"]
    best = next(
        (row for row in bundle["artefacts"] if row["file"].endswith(".tflite")), bundle["artefacts"][0]
    )
    sections = [
        _front_matter(bundle, best),
        f"# {_line(bundle['title'])}\n",
        f"{_what(bundle)}, exported by keras_transfer {bundle['keras_transfer']}.\n",
        _training(bundle),
        "## Measured\n",
        f"On {measured['images']} {measured['split']} images, every file in its own runtime. "
        f"Keras: {_name(metric)} {score(metric, measured['keras'][metric])}.\n",
        _table(bundle),
        _targets(bundle),
        _calibration(measured["calibration"], [row["precision"] for row in bundle["artefacts"]]),
        "## How to run\n",
        _how_to_run(bundle),
        "## Intended use and limits\n",
        _limits(bundle),
        f"Licence of the pretrained weights: {_line(bundle['licences']['weights'] or 'unknown')}. "
        f"Of the images: {_line(bundle['licences']['data'] or 'unknown')}. "
        f"{'' if _generates(bundle) else '`golden/` holds some of them.'}\n",
    ]
    return "\n".join(section for section in sections if section)


def _front_matter(bundle: dict[str, Any], best: dict[str, Any]) -> str:
    measured, metric = bundle["measured"], bundle["output"]["metric"]
    tag = TAGS.get(bundle["task"], "other")
    result = {
        "task": {"type": tag},
        "dataset": {"type": "custom", "name": measured["split"], "split": measured["split"]},
        "metrics": [{"type": metric, "value": best[metric], "name": f"{_name(metric)} of {best['file']}"}],
    }
    fields = {
        "license": "other",
        "license_name": bundle["licences"]["weights"] or "unknown",
        "library_name": "keras",
        "pipeline_tag": tag,
        "tags": [tag, "keras", "tflite", "litert", "keras-transfer"],
        "metrics": [metric],
        "model-index": [{"name": bundle["title"], "results": [result]}],
    }
    lines = [f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in fields.items()]
    return "\n".join(["---", *lines, "---", ""])


def _training(bundle: dict[str, Any]) -> str:
    training = bundle["training"]
    if not training:
        return ""
    facts = {
        "Backbone": training.get("backbone"),
        "Strategy": training.get("strategy"),
        "Images it learned from": training.get("images"),
        "Fingerprint of the data": training.get("data"),
    }
    return "".join(f"- {name}: {_line(str(value))}\n" for name, value in facts.items() if value is not None)


def _table(bundle: dict[str, Any]) -> str:
    metric = bundle["output"]["metric"]
    embeds = bundle["output"]["kind"] == EMBEDDINGS
    alike = "cosine to Keras" if embeds else "agreement with Keras"
    lines = [
        f"| file | precision | bytes | {_name(metric)} | {alike} | largest difference |",
        "|---|---|---|---|---|---|",
    ]
    for row in bundle["artefacts"]:
        agreement = percent(row["agreement"])
        if embeds and "cosine" in row["metrics"]:
            agreement = f"{row['metrics']['cosine']:.5f}"
        difference = "not finite" if row["max_difference"] is None else f"{row['max_difference']:.1e}"
        lines.append(
            f"| `{row['file']}` | {row['precision']} | {row['bytes']:,} | {score(metric, row[metric])} "
            f"| {agreement} | {difference}{'' if row['passed'] else ' (beyond its tolerance)'} |"
        )
    notes = [f"`{row['file']}`: {row['note']}" for row in bundle["artefacts"] if row.get("note")]
    return "\n".join(lines) + "\n" + "".join(f"\n{note}\n" for note in notes)


def _targets(bundle: dict[str, Any]) -> str:
    """What was made for other runtimes, and where it was proven."""
    rows = [row for row in bundle.get(TARGETS, []) if not row["refused"]]
    if not rows:
        return ""
    lines = [
        "Also made and proven for",
        "",
        "| target | from | file | runtime | largest difference, golden images |",
        "|---|---|---|---|---|",
    ]
    for row in rows:
        file = row["model"] or (f"{TARGETS}/{row['target']}/" if row["files"] else row["source"])
        difference = f"{row['difference']:.1e}" if row["difference"] else "none"
        lines.append(f"| {row['target']} | `{row['source']}` | `{file}` | {row['runtime']} | {difference} |")
    return "\n".join(lines) + "\n"


def _calibration(calibration: dict[str, Any] | None, precisions: list[str]) -> str:
    if calibration is None or set(precisions).isdisjoint(CALIBRATED):
        return ""
    return f"Quantization was calibrated on {calibration['images']} training images.\n"


def _generates(bundle: dict[str, Any]) -> bool:
    """Whether its models make images from numbers."""
    return bundle.get("input") == "numbers"


def _limits(bundle: dict[str, Any]) -> str:
    if _generates(bundle):
        return (
            "It makes images like those it was trained on, and nothing says that what one shows was ever there: "
            "its images "
            "are marked as synthetic in their metadata, and whoever passes them on should say so. They may resemble "
            "images it learned from. Add here what it is for and what its images must not be used for.\n"
        )
    return (
        "Images like those it was trained and measured on. On other cameras, other light or other classes the numbers "
        "above do not hold: measure it there (`keras-transfer verify . PHOTOS`). It always answers, also for an "
        "image of something else. Add here what it is for and what it must not decide.\n"
    )


def _scaling(bundle: dict[str, Any]) -> str:
    """What is done to pixels before a model takes them."""
    rows = [row for row in bundle["artefacts"] if row.get("input_range", [0, 255]) != [0, 255]]
    if not rows:
        return "no other scaling"
    (low, high), files = rows[0]["input_range"], ", ".join(f"`{row['file']}`" for row in rows)
    return f"{files} take them scaled to {low:g} to {high:g}"


def _how_to_run(bundle: dict[str, Any]) -> str:
    height, width = bundle["preprocessing"]["size"]
    given = (
        "Input: float32 numbers, as `bundle.json` says under `notes`. Output: an image, "
        f"{' x '.join(map(str, bundle['output']['shape']))} numbers from 0 to 255."
        if _generates(bundle)
        else f"Input: RGB pixels from 0 to 255, {height} high and {width} wide, as `bundle.json` says under "
        f"`preprocessing`; {_scaling(bundle)}. Output: {OUTPUTS.get(bundle['task'], bundle['output']['kind'])}, in the "
        "order of `labels.txt`."
    )
    lines = [
        "    pip install ai-edge-litert numpy pillow",
        f"    python {bundle['script']} --self-test",
        f"    python {bundle['script']} {'--output DIR' if _generates(bundle) else 'IMAGE...'}",
        "",
        given,
    ]
    if bundle["script"] is None:
        lines = lines[4:]
    if any(row["file"].endswith(".tflite") for row in bundle["artefacts"]):
        lines += [
            "",
            "A `.tflite` is written for a batch of one; LiteRT takes any batch after `resize_tensor_input`.",
        ]
    return "\n".join(lines) + "\n"


def _what(bundle: dict[str, Any]) -> str:
    count = len(bundle["labels"])
    if bundle["task"] == "classification":
        return f"An image classifier with {count} classes"
    if _generates(bundle):
        return f"A generator of images for the task {_line(bundle['task'])}"
    return f"A model of images for the task {_line(bundle['task'])} ({count} output{'s' * (count > 1)})"


def _name(metric: str) -> str:
    return metric.replace("_", " ")


def _line(text: str) -> str:
    return " ".join(text.split())
