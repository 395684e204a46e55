"""What an export can be told: one frozen dataclass, one line an option, checked where it is made. Light."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from keras_transfer.errors import UsageError, unknown_name
from keras_transfer.options import Spelling, check, from_dict, option
from keras_transfer.records.layout import ALL_INTEGER, TFLITE

FORMATS = ("keras", "saved-model", "tflite")
PRECISIONS = tuple(TFLITE)
CLIENTS = ("javascript", "java", "cpp", "web")
CALIBRATED = ("int8", "int16x8", ALL_INTEGER)
UNQUANTIZED = {"none": "float32"}
"""What people answer to "quantize?" besides the name of the precision."""
EDGES = ("uint8", "int8")
ACCELERATORS = (
    "ethos-u55-32",
    "ethos-u55-64",
    "ethos-u55-128",
    "ethos-u55-256",
    "ethos-u65-256",
    "ethos-u65-512",
    "ethos-u85-128",
    "ethos-u85-256",
    "ethos-u85-512",
    "ethos-u85-1024",
    "ethos-u85-2048",
)
"""Arm's NPUs, by the names of Vela 5."""
ACCELERATOR = "ethos-u55-128"
FALLBACK = ("int8", "int16x8", "float16")
INPUT_RANGES = {"0..255": (0.0, 255.0), "0..1": (0.0, 1.0), "-1..1": (-1.0, 1.0)}
"""What black and white are in a model's input."""
PIXELS = "0..255"

_QUANTIZE = (PRECISIONS[0], *UNQUANTIZED, *PRECISIONS[1:])
_SWITCH = Spelling(negatable=False)


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and how. Give it as ``options=``, or single options by name.

    Attributes:
        formats: ``keras``, ``saved-model``, ``tflite``.
        precisions: of the TFLite files: ``float32`` (or ``none``), ``float16``, ``dynamic``, ``int8``, ``int16x8``,
            ``all-integer`` (int8 without a float: for microcontrollers and NPUs; a file beside int8's).
        uint8_input: every TFLite file takes uint8 pixels; without it only the integer ones do.
        all_integer: ``model_int8.tflite`` is all-integer, too, where just that one is wanted.
        input_range: what black and white are in the input of the TFLite files: ``0..255``, ``0..1`` or ``-1..1``. Files
            of another range than the first take float32, also the integer ones; the first step in them makes pixels of
            it again. Of an all-integer file it is the input's scale that says so, and ``-1..1`` has none.
        keep_float: so many layers of int8 stay in float, those that eight bits hurt most
            (:class:`keras_transfer.export.doctor.QuantizationDoctor`).
        calibration_size: training images for int8 and int16x8, stratified.
        accuracy_budget: points of accuracy that may be lost, 0 to 100. The first precision of ``fallback`` that loses
            no more is delivered, besides ``precisions``; the others are reported.
        fallback: precisions in the order they are wanted, with ``accuracy_budget``; None: int8, int16x8, float16.
        allow_parity_failure: keep artefacts that do not answer like the model.
        clients: languages of the code in ``clients/``: ``javascript``, ``java``, ``cpp``, and ``web``, a page that
            brings ``javascript`` with it; none where it is empty.
        title: what the model is called in its card; None: the name of the run's folder, or what ``about`` says.
        data_licence: of the images, for the card: some of them travel with the bundle. None: what ``about`` says.
        targets: runtimes that files are made for, too, and proven in: ``microcontroller`` (``keras-transfer targets``
            lists them). A target that takes all-integer int8 alone brings that precision with it.
        arena_limit: bytes of memory that the model may need on a microcontroller; None: any.
        edges: number type of the input and output of an all-integer model: ``uint8`` (pixels as they are), or ``int8``.
        batch: for the target ``litert``: images at a time; every shape in its file is static then. None: the file is
            for one image, and can be resized.
        accelerator: for the target ``ethos-u``: the NPU, by Vela's name; None: ``ethos-u55-128``.
        require_full_placement: for the targets ``ethos-u`` and ``edgetpu``: refuse a model of which an operator would
            run on the CPU.

    Raises ``UsageError`` for an unknown format or precision, an impossible value, and options that do not go together.
    """

    formats: tuple[str, ...] = option(
        FORMATS,
        "Repeatable; default: all.",
        spelling=Spelling("--format", metavar=f"[{'|'.join(FORMATS)}]", show_default=False),
    )
    precisions: tuple[str, ...] = option(
        ("float32",),
        "Precision of the TFLite files; repeatable; default: float32 (none means the same).",
        spelling=Spelling("--quantize", metavar=f"[{'|'.join(_QUANTIZE)}]", show_default=False),
    )
    uint8_input: bool = option(
        False, "Every TFLite file takes uint8 pixels, not only the integer ones.", spelling=_SWITCH
    )
    all_integer: bool = option(
        False, "int8: no float in it, as --quantize all-integer, under int8's name.", spelling=_SWITCH
    )
    input_range: str = option(
        PIXELS,
        "What black and white are in the input of the TFLite files.",
        spelling=Spelling(metavar=f"[{'|'.join(INPUT_RANGES)}]"),
    )
    keep_float: int = option(
        0,
        "int8: keep the N layers with the largest error in float (see doctor).",
        spelling=Spelling(show_default=False),
    )
    calibration_size: int = option(100, "How many images calibrate the integer precisions.")
    accuracy_budget: float | None = option(
        None,
        "Also deliver the first precision of --fallback that loses at most POINTS.",
        spelling=Spelling(metavar="POINTS"),
    )
    fallback: tuple[str, ...] | None = option(
        None,
        f"Precisions in order of preference (default: {','.join(FALLBACK)}).",
        spelling=Spelling(metavar="A,B,...", commas=True),
    )
    allow_parity_failure: bool = option(
        False, "Keep artefacts that differ too much from the model.", spelling=_SWITCH
    )
    clients: tuple[str, ...] = option(
        CLIENTS,
        "Language of the code in clients/; repeatable; default: all.",
        spelling=Spelling("--client", metavar=f"[{'|'.join(CLIENTS)}]", show_default=False),
    )
    title: str | None = option(None, "What the model is called (default: the run's name).")
    data_licence: str | None = option(None, "Licence of the images: the bundle contains a few.")
    targets: tuple[str, ...] = option(
        (),
        "Also make what this runtime needs, and prove it there (see targets); repeatable.",
        spelling=Spelling("--target", metavar="NAME"),
    )
    arena_limit: int | None = option(
        None,
        "--target microcontroller: refuse a model that needs more memory.",
        spelling=Spelling(metavar="BYTES"),
    )

    edges: str = option(
        EDGES[0],
        "Input and output of an all-integer model.",
        choices=EDGES,
    )
    batch: int | None = option(
        None,
        "--target litert: a file for N images at a time, every shape static.",
        spelling=Spelling(metavar="N"),
    )
    accelerator: str | None = option(
        None,
        f"--target ethos-u: the NPU (default: {ACCELERATOR}).",
        choices=ACCELERATORS,
    )
    require_full_placement: bool = option(
        False, "--target ethos-u, edgetpu: refuse a model that partly runs on the CPU.", spelling=_SWITCH
    )

    def __post_init__(self) -> None:
        budget = self.accuracy_budget
        # Before the types: nan is refused with this sentence, too.
        if isinstance(budget, (int, float)) and not 0 <= budget <= 100:
            raise UsageError(
                f"accuracy_budget is {budget}; points of accuracy from 0 to 100 are expected, such as 1."
            )
        check(self)
        check_calibration_size(self.calibration_size)
        _require_known("format", self.formats, FORMATS)
        _require_known("precision", self.asked, PRECISIONS)
        if self.clients:
            _require_known("client", self.clients, CLIENTS)
        if "tflite" not in self.formats and self.asked != ("float32",):
            raise UsageError(
                f"Precision {', '.join(self.asked)} is for the format 'tflite', which was not asked for."
            )
        self._check_fallback()
        self._check_integers()
        if self.batch is not None and self.batch < 1:
            raise UsageError(f"batch is {self.batch}; 1 image or more at a time is expected.")
        self._check_range()
        if self.arena_limit is not None and self.arena_limit < 1:
            raise UsageError(
                f"arena_limit is {self.arena_limit}; bytes of memory are expected, such as 262144."
            )

    @classmethod
    def of(cls, **values: Any) -> ExportOptions:
        """Options by name, lists taken for tuples: ``ExportOptions.of(precisions=["int8"], keep_float=2)``.

        Raises ``UsageError`` for an unknown name; for values see the class.
        """
        return from_dict(cls, values)

    @classmethod
    def given(cls, options: ExportOptions | None, values: Mapping[str, Any]) -> ExportOptions:
        """What a caller gave: ``options=``, or single ``values`` by name; the defaults where neither was given.

        Raises ``UsageError`` for both, for ``options`` of another type, and as :meth:`of`.
        """
        if options is None:
            return cls.of(**values)
        if values:
            raise UsageError("Give either options= or single options by name, not both.")
        if not isinstance(options, cls):
            raise UsageError(
                f"options is {options!r}; ExportOptions is expected, or single options by name instead."
            )
        return options

    @property
    def asked(self) -> tuple[str, ...]:
        """The precisions of ``precisions``, each once, by their own names."""
        return distinct(self.precisions)

    @property
    def candidates(self) -> tuple[str, ...]:
        """The precisions that are tried in turn, each once, by their own names; none without a budget."""
        if self.accuracy_budget is None:
            return ()
        return distinct(FALLBACK if self.fallback is None else self.fallback)

    def makes(self, *precisions: str) -> bool:
        """Whether a TFLite file of one of these precisions is made, if only to be measured."""
        return not {*self.asked, *self.candidates}.isdisjoint(precisions)

    @property
    def makes_all_integer(self) -> bool:
        """Whether a file without a float is made."""
        return self.makes(ALL_INTEGER) or (self.all_integer and self.makes("int8"))

    def _check_fallback(self) -> None:
        if self.accuracy_budget is None:
            if self.fallback is not None:
                raise UsageError("--fallback is the order for --accuracy-budget; give that, too.")
            return
        if "tflite" not in self.formats:
            raise UsageError(
                "accuracy_budget chooses among TFLite files, and the format 'tflite' was not asked for."
            )
        wanted = FALLBACK if self.fallback is None else self.fallback
        both = [name for name in wanted if UNQUANTIZED.get(name, name) in self.asked]
        if both:
            raise UsageError(
                f"Precision {', '.join(both)} is asked for and in fallback, too; leave it out of one of them."
            )
        _require_known("precision", self.candidates, PRECISIONS)

    def _check_integers(self) -> None:
        if (self.all_integer or self.keep_float) and not self.makes("int8"):
            raise UsageError("all_integer and keep_float are for int8, which was not asked for.")
        if self.all_integer and self.makes(ALL_INTEGER):
            raise UsageError(
                "all_integer makes of int8 what the precision all-integer is: two equal files. Leave one out."
            )
        if self.keep_float < 0 or (self.keep_float and self.all_integer):
            raise UsageError(
                f"keep_float={self.keep_float} layers cannot stay in float"
                + (" in an all-integer model." if self.all_integer else "; 0 or more are expected.")
            )

    def _check_range(self) -> None:
        _require_known("input range", (self.input_range,), tuple(INPUT_RANGES))
        if self.input_range == PIXELS:
            return
        what = f"input_range is {self.input_range}"
        if "tflite" not in self.formats:
            raise UsageError(f"{what}, and it is for the format 'tflite', which was not asked for.")
        if self.uint8_input:
            raise UsageError(
                f"{what}, and uint8_input asks for bytes, which go from 0 to 255. Leave one of them out."
            )
        if self.makes_all_integer and self.input_range != "0..1":
            raise UsageError(
                f"{what}, and an all-integer model cannot say so: levels of 2/255 around zero need the zero point "
                "127.5, which is no whole number. Choose 0..1 or 0..255: both take the same bytes."
            )


def check_calibration_size(size: int) -> None:
    """Raise ``UsageError`` for a number of images that nothing can be calibrated on."""
    if size < 1:
        raise UsageError(f"The calibration size is {size}; at least 1 image is needed, 100 are usual.")


def distinct(precisions: Iterable[str]) -> tuple[str, ...]:
    """Each precision once, by its own name, in the order given."""
    return tuple(dict.fromkeys(UNQUANTIZED.get(name, name) for name in precisions))


def _require_known(what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            raise unknown_name(what, name, known)
    if not given:
        raise UsageError(f"No {what} was given; choose from {', '.join(known)}.")
