"""``run.json``: what was asked, what was found, what was chosen, what was measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from keras_transfer.errors import UsageError
from keras_transfer.records.contract import ModelContract, Origin, options_of
from keras_transfer.records.fields import DamagedError, Fields
from keras_transfer.settings import TrainSettings

KIND = "keras-transfer run"
_BEFORE: dict[str, Any] = {"refit": False, "decode": "full"}
"""Settings that came later: how runs whose record does not name them were trained."""
_RENAMED = {"labels": "label_mode"}
"""Settings by the names that older records have, and what they are called now."""


@dataclass(frozen=True)
class TrainingRequest:
    """Everything that decides a run.

    Attributes:
        source: where the data are, an absolute path or ``tfds:NAME``; None where they were given from Python.
        task: its name.
        options: of the task, JSON-able.
        settings: everything else that was asked for.
        version: of keras_transfer.
        files: SHA-256 of the user's files that the run learned from besides the data, by what they are.
    """

    source: str | None
    task: str
    options: Mapping[str, Any]
    settings: TrainSettings
    version: str
    files: Mapping[str, str]

    @classmethod
    def parse(cls, fields: Fields) -> TrainingRequest:
        """From the field ``request``. Raises :class:`~keras_transfer.records.fields.DamagedError`."""
        asked = fields.mapping("settings")
        try:
            settings = TrainSettings.of(**_as_today(asked))
        except (UsageError, TypeError, ValueError) as error:
            raise DamagedError(f"'request.settings' cannot be used: {error}") from None
        return cls(
            fields.maybe_text("source"),
            fields.text("task"),
            options_of(fields.mapping("options")),
            settings,
            fields.text("version", default=""),
            fields.mapping("files", default={}),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {
            "source": self.source,
            "task": self.task,
            "options": dict(self.options),
            "settings": self.settings.flat(),
            "version": self.version,
            "files": dict(self.files),
        }


@dataclass(frozen=True)
class BackboneRecord:
    """The pretrained network of a run.

    Attributes:
        name: in the catalog, or ``path:FILE``.
        weights: ``auto``, ``imagenet``, ``none`` or the path of a file.
        hash: of the network, as the feature cache knows it.
        feature_dim: channels of its last feature map.
        image_size: ``(H, W)`` in pixels.
        paper: where it was published, None for a network of the user's.
        licence: of its weights.
    """

    name: str
    weights: str
    hash: str
    feature_dim: int
    image_size: tuple[int, ...]
    paper: str | None
    licence: str | None

    @classmethod
    def parse(cls, fields: Fields) -> BackboneRecord:
        """From the field ``backbone``. Raises :class:`~keras_transfer.records.fields.DamagedError`."""
        return cls(
            fields.text("name"),
            fields.text("weights"),
            fields.text("hash"),
            fields.whole("feature_dim"),
            fields.wholes("image_size"),
            fields.maybe_text("paper"),
            fields.maybe_text("licence"),
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**asdict(self), "image_size": list(self.image_size)}

    @property
    def catalogued(self) -> bool:
        """Whether its weights are those that the catalog names."""
        return self.weights in ("auto", "imagenet")


@dataclass(frozen=True)
class DataRecord:
    """The images of a run.

    Attributes:
        source: as a table names it.
        fingerprint: of all images, labels and splits.
        summary: counts and classes, JSON-able, as ``ImageTable.summary`` gives them.
    """

    source: str
    fingerprint: str
    summary: Mapping[str, Any]

    @classmethod
    def parse(cls, fields: Fields) -> DataRecord:
        """From the field ``data``. Raises :class:`~keras_transfer.records.fields.DamagedError`."""
        rest = {name: value for name, value in fields.values.items() if name not in ("source", "fingerprint")}
        for split in fields.inner("splits").values:
            fields.inner("splits").inner(split).whole("images")
        return cls(fields.text("source"), fields.text("fingerprint"), rest)

    def images(self, split: str) -> int:
        """How many images a split has."""
        return self.summary["splits"].get(split, {"images": 0})["images"]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {"source": self.source, "fingerprint": self.fingerprint, **self.summary}


@dataclass(frozen=True)
class RunRecord:
    """A finished training.

    Attributes:
        request: what decided it.
        started: ISO 8601, UTC.
        seconds: of each stage.
        resumed: whether an interrupted attempt was taken up.
        plugin: the distribution the task came from; None where it is not known.
        versions: of the software.
        determinism: what equal requests promise.
        data: the images.
        backbone: the pretrained network, None where there was none.
        contract: of the trained model; its ``notes`` are what the training decided and found.
        metrics: {split: {metric: value}}.
    """

    request: TrainingRequest
    started: str
    seconds: Mapping[str, float]
    resumed: bool
    plugin: Origin | None
    versions: Mapping[str, str]
    determinism: str
    data: DataRecord
    backbone: BackboneRecord | None
    contract: ModelContract
    metrics: Mapping[str, Mapping[str, Any]]

    @classmethod
    def parse(cls, info: Any) -> RunRecord:
        """From the content of ``run.json``.

        Raises :class:`~keras_transfer.records.fields.DamagedError`; the text names the field.
        """
        fields = Fields(info)
        request = TrainingRequest.parse(fields.inner("request"))
        output = fields.inner("output")
        metrics = fields.inner("metrics")
        return cls(
            request=request,
            started=fields.text("started", default=""),
            seconds=fields.mapping("seconds", default={}),
            resumed=fields.get("resumed", bool, default=False),
            plugin=Origin.parse(fields, "plugin"),
            versions=fields.mapping("versions", default={}),
            determinism=fields.text("determinism", default=""),
            data=DataRecord.parse(fields.inner("data")),
            backbone=BackboneRecord.parse(fields.inner("backbone")) if fields.mapping("backbone") else None,
            contract=ModelContract(
                task=request.task,
                options=request.options,
                notes=fields.mapping("training"),
                kind=output.text("kind"),
                shape=output.wholes("shape"),
                names=output.texts("names"),
                pixels=fields.mapping("preprocessing"),
            ),
            metrics={split: metrics.mapping(split) for split in metrics.values},
        )

    def to_dict(self) -> dict[str, Any]:
        """The content of ``run.json``, but for its schema and its list of files."""
        contract = self.contract
        return {
            "kind": KIND,
            "request": self.request.to_dict(),
            "started": self.started,
            "seconds": dict(self.seconds),
            "resumed": self.resumed,
            "plugin": self.plugin.to_dict() if self.plugin else None,
            "versions": dict(self.versions),
            "determinism": self.determinism,
            "data": self.data.to_dict(),
            "backbone": self.backbone.to_dict() if self.backbone else {},
            "preprocessing": dict(contract.pixels),
            "output": {"kind": contract.kind, "shape": list(contract.shape), "names": list(contract.names)},
            "training": dict(contract.notes),
            "metrics": {split: dict(values) for split, values in self.metrics.items()},
        }


def _as_today(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a record of any age, by the names they have today."""
    return {**_BEFORE, **{_RENAMED.get(name, name): value for name, value in settings.items()}}
