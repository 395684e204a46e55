"""placeholder"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from .errors import unknown_name


@dataclass(frozen=True)
class BackboneSpec:
    name: str
    constructor: str
    family: str
    feature_dim: int
    params: int
    default_size: int
    min_size: int
    input_mode: str
    pyramid: tuple[str, str, str, str]
    weights_file: str | None
    paper: str
    licence: str


CATALOG: Mapping[str, BackboneSpec] = MappingProxyType(
    {
        "efficientnet_lite0": BackboneSpec(
            "efficientnet_lite0",
            "keras_transfer.backbones.efficientnet_lite:efficientnet_lite0",
            "efficientnet_lite",
            1280,
            3413024,
            224,
            32,
            "lite",
            ("block2b_add", "block3b_add", "block5c_add", "top_activation"),
            None,
            "Tan and Le 2019, EfficientNet: Rethinking Model Scaling for Convolutional Neural Networks, arXiv:1905.11946",
            "Apache-2.0",
        ),
    }
)


def _key(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.lower())


def get_spec(name: str) -> BackboneSpec:
    found = {_key(known): spec for known, spec in CATALOG.items()}.get(_key(name))
    if found is None:
        raise unknown_name("backbone", name, CATALOG)
    return found
