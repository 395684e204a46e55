#!/usr/bin/env bash
# pillow 13.0.0 against 12.0.0: Image.resize gives other pixels for an image that loses more of its height than of its
# width, and the same pixels for any other.
#
# A resize is two passes with a rounding to whole numbers between them. Up to 12 the pass across comes first. 13.0.0 goes
# down first where the height shrinks much more than the width, which is faster, and the rounding falls on other numbers:
# a fifth to a third of the values of noise differ, by 1 of 255 with BILINEAR and by up to 6 with LANCZOS, whose overshoot
# is cut off at 0 and 255 between the passes. Nothing in the call or in its result tells which order was taken. Features of
# tall photos that were computed before an upgrade, and golden pixels, are no longer equal byte for byte.
#
# Seen (height x width, share of values that differ, largest difference of 255):
#   300x100 -> 50x80   BILINEAR 0.19 1   LANCZOS 0.30 6
#   100x300 -> 80x50   BILINEAR 0.00 0   LANCZOS 0.00 0
#   200x200 -> 64x64   BILINEAR 0.00 0   LANCZOS 0.00 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/resize.py" <<'PY'
import sys

import numpy as np
from PIL import Image

random = np.random.default_rng(0)
found = {}
for name, (h, w), (height, width) in (
    ("tall", (300, 100), (50, 80)), ("wide", (100, 300), (80, 50)), ("square", (200, 200), (64, 64)),
):
    picture = Image.fromarray(random.integers(0, 256, (h, w, 3), dtype=np.uint8))
    for rule in ("BILINEAR", "LANCZOS"):
        found[f"{name}_{rule}"] = np.asarray(picture.resize((width, height), Image.Resampling[rule]))
np.savez(sys.argv[1], **found)
PY
for version in 12.0.0 13.0.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install --quiet --disable-pip-version-check "pillow==$version" numpy==2.4.6
  "$folder/$version/bin/python" "$folder/resize.py" "$folder/$version.npz"
done
"$folder/13.0.0/bin/python" - "$folder" <<'PY'
import sys

import numpy as np

old, new = (np.load(f"{sys.argv[1]}/{version}.npz") for version in ("12.0.0", "13.0.0"))
for name in old:
    apart = np.abs(old[name].astype(int) - new[name].astype(int))
    print(f"{name:16} {np.mean(apart > 0):.2f} {apart.max()}")
    if name.startswith("tall"):
        assert np.mean(apart > 0) > 0.1, "changed: tall images are resized as by 12.0.0"
        assert apart.max() == (1 if name.endswith("BILINEAR") else 6), "changed: the difference is another one"
    else:
        assert not apart.any(), "changed: other images are resized in another way, too"
PY
echo "as described"
