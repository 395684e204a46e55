// What a model's answer means: labels, masks, likeness. C++17, this header and preprocess.hpp; no exceptions, no
// allocation. contract.hpp tells what the bundle's outputs are.
//
// A quantized output is first made into numbers: (stored - zero point) * scale. Labels, order and masks are those of
// keras_transfer. Scores of likeness are sums in another order: they agree to about 1e-6.
#ifndef KERAS_TRANSFER_DECIDE_HPP
#define KERAS_TRANSFER_DECIDE_HPP

#include <limits>

#include "preprocess.hpp"

namespace keras_transfer {

inline constexpr int kSchema = 1;  // of bundle.json, the newest that these headers know

// What the outputs are, along the last axis.
struct Meaning {
  bool probabilities = true;         // else values, of a regression
  int count = 0;                     // of labels
  const char* const* labels = nullptr;
  const float* thresholds = nullptr;  // of labels that are independent of one another; else nullptr
  int ignore_index = -1;             // of masks
};

struct Answer {
  int index;
  float value;
};

// The classes of an image, best first; of equal ones the first. `answers` has room for meaning.count. Returns how
// many are told: the `top` most probable; with thresholds all that reach theirs, perhaps none; of values all, in their
// order. -1: a number is not finite.
inline int classify(const Meaning& meaning, const float* numbers, Answer* answers, int top = 3) {
  for (int i = 0; i < meaning.count; ++i) {
    if (!std::isfinite(numbers[i])) return -1;
    answers[i] = {i, numbers[i]};
  }
  if (!meaning.probabilities) return meaning.count;
  std::sort(answers, answers + meaning.count, [](const Answer& a, const Answer& b) {
    return a.value != b.value ? a.value > b.value : a.index < b.index;
  });
  if (meaning.thresholds == nullptr) return std::min(std::max(top, 0), meaning.count);
  Answer* end = std::remove_if(answers, answers + meaning.count,
                               [&](const Answer& one) { return !(one.value >= meaning.thresholds[one.index]); });
  return int(end - answers);
}

namespace detail {

// Of a pixel of a side: whether it was seen, the model's pixels before and after it, and the share of the later.
struct Between {
  bool known;
  int before, after;
  float share;

  static Between of(int i, int side, double seen, int begin, int count) {
    const double centre = (i + 0.5 - (side - seen) / 2) / seen * count;
    const double low = std::clamp(centre - 0.5, 0.0, double(count - 1)), floor = std::floor(low);
    return {centre >= 0 && centre < count, begin + int(floor), begin + std::min(int(floor) + 1, count - 1),
            float(low - floor)};
  }
};

}  // namespace detail

// How many bytes mask() needs for an image of this width.
inline std::size_t mask_bytes(const Contract& contract, const Meaning& meaning, int width) {
  detail::Arena counter(nullptr, 0);
  counter.take<detail::Between>(std::size_t(width));
  counter.take<float>(std::size_t(contract.width) * meaning.count);
  return counter.used() + 15;
}

// Class indices of every pixel of an upright image, row by row. Probabilities, contract.height * contract.width *
// meaning.count of them, are interpolated between the model's pixels; what a crop cut off gets the ignore index.
// Returns nullptr, or what is wrong.
[[nodiscard]] inline const char* mask(const Contract& contract, const Meaning& meaning, const float* chances, int width,
                                      int height, void* arena, std::size_t arena_size, std::int32_t* classes) {
  if (const char* wrong = detail::wrong_contract(contract)) return wrong;
  if (width < 1 || height < 1) return "The image has no pixels; at least 1 x 1 is expected.";
  detail::Arena memory(arena, arena_size);
  const std::size_t cells = std::size_t(contract.width) * meaning.count;
  auto* columns = memory.take<detail::Between>(std::size_t(width));
  auto* line = memory.take<float>(cells);
  if (!memory.enough()) return "The arena is too small; mask_bytes tells how many bytes are needed.";
  for (std::size_t i = 0; i < contract.height * cells; ++i) {
    if (!std::isfinite(chances[i])) return "The model gives numbers that are not finite.";
  }
  const bool crops = contract.resize == Resize::crop;
  const double h = height, w = width, full_height = contract.height, full_width = contract.width;
  const double seen_height = crops ? std::min(h, w * full_height / full_width) : h;
  const double seen_width = crops ? std::min(w, h * full_width / full_height) : w;
  const detail::Size inner = detail::inner_size(contract, {height, width});
  for (int x = 0; x < width; ++x)
    columns[x] = detail::Between::of(x, width, seen_width, (contract.width - inner.width) / 2, inner.width);
  for (int y = 0; y < height; ++y) {
    const auto row = detail::Between::of(y, height, seen_height, (contract.height - inner.height) / 2, inner.height);
    const float *above = chances + row.before * cells, *below = chances + row.after * cells;
    const float earlier = 1 - row.share;
    for (std::size_t i = 0; i < cells; ++i) line[i] = above[i] * earlier + below[i] * row.share;
    for (int x = 0; x < width; ++x) {
      const float *left = line + std::size_t(columns[x].before) * meaning.count;
      const float *right = line + std::size_t(columns[x].after) * meaning.count;
      const float second = columns[x].share, first = 1 - second;
      float best = -std::numeric_limits<float>::infinity();
      int chosen = 0;
      for (int i = 0; i < meaning.count; ++i) {
        const float chance = left[i] * first + right[i] * second;
        if (chance > best) best = chance, chosen = i;
      }
      *classes++ = row.known && columns[x].known ? chosen : meaning.ignore_index;
    }
  }
  return nullptr;
}

// How embeddings are compared.
struct Comparison {
  enum class Kind { cosine, euclidean, weighted_l1 } kind = Kind::cosine;
  const float* weights = nullptr;  // of weighted_l1
  double bias = 0;
  float threshold = std::numeric_limits<float>::quiet_NaN();  // the least score of a match; NaN: none was chosen
};

// How alike two embeddings of `count` numbers are, higher for more; not finite where a number is not. They show the same from rule.threshold on.
inline float alike(const Comparison& rule, const float* a, const float* b, int count) {
  double sum = 0, length_a = 0, length_b = 0;
  for (int i = 0; i < count; ++i) {
    const double apart = double(a[i]) - b[i];
    if (rule.kind == Comparison::Kind::weighted_l1) sum += std::fabs(apart) * rule.weights[i];
    else sum += rule.kind == Comparison::Kind::cosine ? double(a[i]) * b[i] : apart * apart;
    length_a += double(a[i]) * a[i];
    length_b += double(b[i]) * b[i];
  }
  switch (rule.kind) {
    case Comparison::Kind::euclidean:
      return float(-std::sqrt(sum));
    case Comparison::Kind::weighted_l1:
      return float(1 / (1 + std::exp(std::clamp(sum - rule.bias, -60.0, 60.0))));
    default:
      return float(sum / std::max(std::sqrt(length_a), 1e-12) / std::max(std::sqrt(length_b), 1e-12));
  }
}

}  // namespace keras_transfer

#endif
