#!/usr/bin/env bash
# label-studio-sdk 2.1.2: LabelInterface.validate_task cannot validate a task that has predictions or annotations.
#
# A task with "data" alone is validated. With "predictions" (pre-annotations, as an import file has them) or
# "annotations" (as an export has them) the call raises TypeError: validate_task asks the class, not the object, to
# validate the parts, so one argument is missing. The parts given to validate_prediction and validate_annotation of the
# object are valid. Whoever writes import files has to validate the parts one by one.
#
# Seen:
#   data alone          True
#   the prediction      True
#   the annotation      True
#   with predictions    TypeError: LabelInterface.validate_prediction() missing 1 required positional argument: 'prediction'
#   with annotations    TypeError: LabelInterface.validate_annotation() missing 1 required positional argument: 'annotation'
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet --disable-pip-version-check label-studio-sdk==2.1.2
"$folder/venv/bin/python" - <<'PY'
from label_studio_sdk.label_interface import LabelInterface

face = LabelInterface(
    '<View><Image name="image" value="$image"/><Choices name="choice" toName="image">'
    '<Choice value="whole"/><Choice value="cracked"/></Choices></View>'
)
result = [{"from_name": "choice", "to_name": "image", "type": "choices", "value": {"choices": ["whole"]}}]
data = {"image": "/data/local-files/?d=cell.png"}
prediction = {"model_version": "first", "score": 0.5, "result": result}
annotation = {"result": result}


def tried(call, value):
    try:
        return str(call(value))
    except TypeError as error:
        return f"TypeError: {error}"


seen = {
    "data alone": tried(face.validate_task, {"data": data}),
    "the prediction": tried(face.validate_prediction, prediction),
    "the annotation": tried(face.validate_annotation, annotation),
    "with predictions": tried(face.validate_task, {"data": data, "predictions": [prediction]}),
    "with annotations": tried(face.validate_task, {"data": data, "annotations": [annotation]}),
}
for name, told in seen.items():
    print(f"{name:<19} {told}")
parts = [seen[name] for name in ("data alone", "the prediction", "the annotation")]
assert parts == ["True"] * 3, "changed: a part is no longer valid by itself"
whole = [seen[name] for name in ("with predictions", "with annotations")]
assert all("missing 1 required positional argument" in told for told in whole), "changed: whole tasks are validated"
PY
echo "as described"
