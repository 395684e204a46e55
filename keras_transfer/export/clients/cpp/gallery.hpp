// Enrolled names and embeddings: the gallery.bin that `keras-transfer siamese gallery export` puts into a bundle.
//
// C++17, this header, decide.hpp and preprocess.hpp; no exceptions, no allocation: the bytes are read where they lie.
//
//     keras_transfer::Gallery gallery;
//     if (const char* wrong = keras_transfer::open(data, size, keras_transfer::model, &gallery)) ...
//     keras_transfer::Answer best[3];
//     const int told = keras_transfer::match(gallery, answer, best, 3);
//     const char* name = told > 0 && best[0].value >= gallery.rule.threshold ? gallery.name(best[0].index) : "unknown";
#ifndef KERAS_TRANSFER_GALLERY_HPP
#define KERAS_TRANSFER_GALLERY_HPP

#include "decide.hpp"

namespace keras_transfer {

struct Gallery {
  Comparison rule;  // with the threshold, NaN where none was chosen
  int dimension = 0, images = 0, names = 0;
  const std::uint32_t* counts = nullptr;  // images of each name, which lie side by side
  const float* embeddings = nullptr;
  const char* letters = nullptr;  // the names one after the other, each with a NUL behind it, in order

  const char* name(int index) const {
    const char* found = letters;
    for (; index > 0; --index) found += std::strlen(found) + 1;
    return found;
  }
};

// Looks at the content of gallery.bin, which must stay where it is, at a multiple of 4. `model` is
// that of contract.hpp. Returns nullptr, or what is wrong.
[[nodiscard]] inline const char* open(const void* data, std::size_t size, const char* model, Gallery* gallery) {
  const auto* bytes = static_cast<const std::uint8_t*>(data);
  constexpr std::size_t kHeader = 112;
  if (bytes == nullptr || size < kHeader || std::memcmp(bytes, "KTGALLRY", 8) != 0)
    return "This is no gallery.bin; `keras-transfer siamese gallery export GALLERY --to BUNDLE` makes one.";
  if (reinterpret_cast<std::uintptr_t>(bytes) % 4 != 0) return "The gallery does not lie at a multiple of 4 bytes.";
  std::uint32_t head[5], letters;  // version, dimension, images, names, kind
  std::memcpy(head, bytes + 8, sizeof head);
  std::memcpy(&letters, bytes + 40, sizeof letters);
  if (head[0] != 1) return "The gallery is of a newer version than this file, or the processor is big-endian.";
  const bool weighted = head[4] == 2;
  const std::uint64_t numbers = (weighted ? std::uint64_t(head[1]) : 0) + head[3] + std::uint64_t(head[2]) * head[1];
  const char* const damaged = "The gallery is damaged: its size is not what its header says.";
  if (head[4] > 2 || numbers > size / 4 || size != kHeader + 4 * numbers + letters) return damaged;
  if (std::strncmp(reinterpret_cast<const char*>(bytes) + 48, model, 64) != 0)
    return "The gallery holds embeddings of another model than the bundle's. Export the gallery of this model.";
  Gallery found;
  found.rule.kind = Comparison::Kind(head[4]);
  std::memcpy(&found.rule.threshold, bytes + 28, sizeof(float));
  std::memcpy(&found.rule.bias, bytes + 32, sizeof(double));
  const auto* floats = reinterpret_cast<const float*>(bytes + kHeader);
  if (weighted) found.rule.weights = floats, floats += head[1];
  found.dimension = int(head[1]), found.images = int(head[2]), found.names = int(head[3]);
  found.counts = reinterpret_cast<const std::uint32_t*>(floats);
  found.embeddings = floats + head[3];
  found.letters = reinterpret_cast<const char*>(bytes + size - letters);
  std::uint64_t images = 0;
  for (int i = 0; i < found.names; ++i) images += found.counts[i];
  const auto ends = std::count(found.letters, found.letters + letters, '\0');
  if (images != head[2] || ends != std::ptrdiff_t(head[3]) || (letters > 0 && bytes[size - 1] != 0)) return damaged;
  *gallery = found;
  return nullptr;
}

// The `top` most alike names of an embedding and the scores of their most alike images, best first; of equal ones the
// first. `best` has room for them. An image shows the first one where its value is at least gallery.rule.threshold.
// Returns how many are told; 0 where nothing is enrolled; -1: the embedding is not finite, or zero.
inline int match(const Gallery& gallery, const float* query, Answer* best, int top = 3) {
  bool zero = true;
  for (int i = 0; i < gallery.dimension; ++i) {
    if (!std::isfinite(query[i])) return -1;
    zero = zero && query[i] == 0;
  }
  if (zero) return -1;
  const float* entry = gallery.embeddings;
  int told = 0;
  for (int name = 0; name < gallery.names; ++name) {
    float score = -std::numeric_limits<float>::infinity();
    for (std::uint32_t left = gallery.counts[name]; left > 0; --left, entry += gallery.dimension)
      score = std::max(score, alike(gallery.rule, query, entry, gallery.dimension));
    int place = std::min(told, top);
    while (place > 0 && best[place - 1].value < score) --place;
    if (place >= top) continue;
    told = std::min(told + 1, top);
    for (int i = told - 1; i > place; --i) best[i] = best[i - 1];
    best[place] = {name, score};
  }
  return told;
}

}  // namespace keras_transfer

#endif
