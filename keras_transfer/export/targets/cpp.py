"""C++ for TFLite Micro: the model as an array, its operators, golden images and a program that replays them. Texts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from keras_transfer.errors import ExportError

COLUMNS = 24
"""Numbers a line."""
_PARTS = {"PADV2": "PadV2", "CUMSUM": "CumSum", "MATMUL": "MatMul", "LSTM": "LSTM"}

MODEL_HEADER = """\
// Made by keras_transfer from {file}; SHA-256 {sha256}.
#ifndef KERAS_TRANSFER_MODEL_DATA_H_
#define KERAS_TRANSFER_MODEL_DATA_H_

#include <cstddef>

extern const unsigned char g_model[];
extern const std::size_t g_model_size;

#endif  // KERAS_TRANSFER_MODEL_DATA_H_
"""
MODEL_SOURCE = """\
// Made by keras_transfer from {file}; SHA-256 {sha256}.
#include "model_data.h"

// The format asks for 16 bytes; const: it stays in flash.
alignas(16) const unsigned char g_model[] = {{
{numbers}
}};
const std::size_t g_model_size = sizeof(g_model);
"""
RESOLVER = """\
// Made by keras_transfer: the operators of {file}, and no others.
#ifndef KERAS_TRANSFER_OP_RESOLVER_H_
#define KERAS_TRANSFER_OP_RESOLVER_H_

#include "tensorflow/lite/micro/micro_mutable_op_resolver.h"

using ModelResolver = tflite::MicroMutableOpResolver<{count}>;

// Call it once, before an interpreter is made with the resolver.
inline TfLiteStatus AddModelOperators(ModelResolver& resolver) {{
{lines}
  return kTfLiteOk;
}}

#endif  // KERAS_TRANSFER_OP_RESOLVER_H_
"""
GOLDEN = """\
// Made by keras_transfer: golden images as the model takes them, and what TFLite Micro's reference kernels answer.
#ifndef KERAS_TRANSFER_GOLDEN_DATA_H_
#define KERAS_TRANSFER_GOLDEN_DATA_H_

#include <cstdint>

constexpr int kGoldenImages = {images};
constexpr int kInputSize = {inputs};
constexpr int kOutputSize = {outputs};
// Steps of the output's scale by which another processor's kernels may round otherwise.
constexpr int kGoldenTolerance = {steps};

alignas(16) const {input_type} kGoldenInputs[kGoldenImages][kInputSize] = {{
{pixels}
}};

const {output_type} kGoldenOutputs[kGoldenImages][kOutputSize] = {{
{answers}
}};

#endif  // KERAS_TRANSFER_GOLDEN_DATA_H_
"""
MAIN = """\
// Made by keras_transfer: replays golden images through {file} on TFLite Micro, and compares the answers.
//
// Build it in a tree of TFLite Micro (github.com/tensorflow/tflite-micro) or with a board's package of it: compile
// main.cc and model_data.cc, with the tree's root among the include directories, against its library. Exit code 0:
// every answer is within kGoldenTolerance.
#include <cstdint>
#include <cstring>

#include "golden_data.h"
#include "model_data.h"
#include "op_resolver.h"
#include "tensorflow/lite/micro/micro_interpreter.h"
#include "tensorflow/lite/micro/micro_log.h"
#include "tensorflow/lite/micro/system_setup.h"
#include "tensorflow/lite/schema/schema_generated.h"

namespace {{
// Measured on a 64-bit machine with the reference kernels: {arena} bytes, {activations} of them for activations. A
// 32-bit processor keeps smaller records; optimised kernels may want more.
constexpr int kArenaSize = {rounded};
alignas(16) std::uint8_t g_arena[kArenaSize];
}}  // namespace

int main() {{
  tflite::InitializeTarget();
  const tflite::Model* model = tflite::GetModel(g_model);
  if (model->version() != TFLITE_SCHEMA_VERSION) {{
    MicroPrintf("The model has schema %d; this TFLite Micro reads %d.", static_cast<int>(model->version()),
                TFLITE_SCHEMA_VERSION);
    return 1;
  }}
  static ModelResolver resolver;
  if (AddModelOperators(resolver) != kTfLiteOk) {{
    MicroPrintf("This TFLite Micro lacks an operator of the model.");
    return 1;
  }}
  static tflite::MicroInterpreter interpreter(model, resolver, g_arena, kArenaSize);
  if (interpreter.AllocateTensors() != kTfLiteOk) {{
    MicroPrintf("The model does not fit an arena of %d bytes.", kArenaSize);
    return 1;
  }}
  MicroPrintf("Arena: %d of %d bytes used.", static_cast<int>(interpreter.arena_used_bytes()), kArenaSize);
  int furthest = 0;
  for (int image = 0; image < kGoldenImages; ++image) {{
    std::memcpy(interpreter.input(0)->data.raw, kGoldenInputs[image], sizeof(kGoldenInputs[image]));
    if (interpreter.Invoke() != kTfLiteOk) {{
      MicroPrintf("Golden image %d: the model does not run.", image);
      return 1;
    }}
    const {output_type}* answers = reinterpret_cast<const {output_type}*>(interpreter.output(0)->data.raw);
    int steps = 0;
    for (int i = 0; i < kOutputSize; ++i) {{
      const int difference = static_cast<int>(answers[i]) - static_cast<int>(kGoldenOutputs[image][i]);
      const int size = difference < 0 ? -difference : difference;
      if (size > steps) steps = size;
    }}
    MicroPrintf("Golden image %d: differs by %d steps.", image, steps);
    if (steps > furthest) furthest = steps;
  }}
  MicroPrintf(furthest <= kGoldenTolerance ? "passed" : "FAILED");
  return furthest <= kGoldenTolerance ? 0 : 1;
}}
"""


def add_method(operator: str) -> str:
    """The method of ``MicroMutableOpResolver`` that adds an operator.

    >>> add_method("DEPTHWISE_CONV_2D"), add_method("L2_NORMALIZATION")
    ('AddDepthwiseConv2D', 'AddL2Normalization')
    """
    return "Add" + "".join(
        _PARTS.get(part, part if part[0].isdigit() else part.capitalize()) for part in operator.split("_")
    )


def model_sources(file: str, content: bytes, sha256: str) -> dict[str, str]:
    """``model_data.h`` and ``model_data.cc``."""
    return {
        "model_data.h": MODEL_HEADER.format(file=file, sha256=sha256),
        "model_data.cc": MODEL_SOURCE.format(file=file, sha256=sha256, numbers=_numbers(content)),
    }


def resolver_source(file: str, operators: Iterable[str]) -> str:
    """``op_resolver.h`` for these operators."""
    names = sorted(set(operators))
    lines = "\n".join(
        f"  if (resolver.{add_method(name)}() != kTfLiteOk) return kTfLiteError;" for name in names
    )
    return RESOLVER.format(file=file, count=len(names), lines=lines)


def golden_source(pixels: np.ndarray, answers: np.ndarray, steps: int) -> str:
    """``golden_data.h``: pixels ``(N, ...)`` and answers ``(N, ...)`` in the model's own number types."""
    return GOLDEN.format(
        images=len(pixels),
        inputs=pixels[0].size,
        outputs=answers[0].size,
        steps=steps,
        input_type=_type(pixels),
        output_type=_type(answers),
        pixels=_rows(pixels),
        answers=_rows(answers),
    )


def main_source(file: str, arena: int, activations: int, output: np.ndarray) -> str:
    """``main.cc``; ``arena`` and ``activations`` in bytes, ``output`` an answer."""
    rounded = -(-arena // 1024) * 1024
    return MAIN.format(
        file=file, arena=arena, activations=activations, rounded=rounded, output_type=_type(output)
    )


def _type(numbers: np.ndarray) -> str:
    if numbers.dtype.name not in ("int8", "uint8"):
        raise ExportError(
            f"The model's edges are {numbers.dtype.name}; int8 or uint8 is expected (--all-integer)."
        )
    return f"std::{numbers.dtype.name}_t"


def _rows(numbers: np.ndarray) -> str:
    return "\n".join("{\n" + _numbers(row.ravel().tolist()) + "\n}," for row in numbers)


def _numbers(values: Sequence[int]) -> str:
    parts = [str(value) for value in values]
    return "\n".join(",".join(parts[at : at + COLUMNS]) + "," for at in range(0, len(parts), COLUMNS))
