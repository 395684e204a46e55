// From a decoded picture to the pixels the model was trained on: uint8 (height, width, 3), RGB in [0, 255].
//
// C++17, this header alone; no exceptions, no allocation: all memory is one arena that the caller passes in. The result
// equals that of keras_transfer bit for bit, which is what Pillow 13.0 computes on x86-64; with Contract::tall_first
// false, what Pillow 11 and 12 compute (but for pictures more than 100 times as high as wide). selftest.cc shows it
// with the bundle's golden images.
//
//     #include "contract.hpp"
//     keras_transfer::Picture photo{data, size, 4000, 3000, keras_transfer::Format::rgb};
//     std::vector<std::byte> arena(keras_transfer::arena_bytes(keras_transfer::contract, photo));
//     const char* wrong = keras_transfer::apply(keras_transfer::contract, photo, arena.data(), arena.size(), pixels);
//
// Where the contract's `scaled` is true, keras_transfer decodes a JPEG of at least twice the size that is needed at
// 1/2, 1/4 or 1/8 (libjpeg's scale_denom): see jpeg_scale. Decoded whole, its pixels differ from those by about 0.25 of
// 255 on average, by rounding. Everything else is equal.
//
// Compile without -ffast-math; where the processor fuses multiply and add (ARM64), with -ffp-contract=off.
#ifndef KERAS_TRANSFER_PREPROCESS_HPP
#define KERAS_TRANSFER_PREPROCESS_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>

#ifdef __FAST_MATH__
#error "preprocess.hpp needs exact arithmetic: compile it without -ffast-math."
#endif

namespace keras_transfer {

enum class Resize { squash, crop, pad };
enum class Filter { nearest, bilinear, bicubic, area, lanczos };
enum class Format { grey, rgb, rgba, grey16 };  // grey16: uint16_t in the processor's byte order

// What bundle.json says under "preprocessing"; contract.hpp holds the bundle's.
struct Contract {
  int height = 0, width = 0;
  Resize resize = Resize::squash;
  Filter filter = Filter::bilinear;
  bool antialias = true;
  bool scaled = false;     // "decode" is "scaled"
  bool tall_first = true;  // made with Pillow 13 or later
};

struct Picture {
  const void* data = nullptr;
  std::size_t bytes = 0;  // of data
  int width = 0, height = 0;  // of data, as stored
  Format format = Format::rgb;  // transparent pixels come to lie on white
  int orientation = 1;  // EXIF's, 1 to 8; anything else is taken as 1, upright
  std::size_t row_bytes = 0;  // from one row to the next; 0: rows without gaps
  // For a JPEG that was decoded at 1/scale of its size: the file's own size, as stored.
  int scale = 1, full_width = 0, full_height = 0;
};

namespace detail {

constexpr int kBits = 22;  // of a weight's fraction
constexpr std::int32_t kHalf = 1 << (kBits - 1);
constexpr std::int64_t kMostPixels = 178956970;
constexpr int kMostSide = 16384;

struct Size { int height, width; };
struct Box { double left, top, right, bottom; };

inline int channels_of(Format format) {
  return format == Format::rgb ? 3 : format == Format::rgba ? 4 : 1;
}
inline int depth_of(Format format) { return format == Format::grey16 ? 2 : 1; }
inline bool turns(int orientation) { return orientation >= 5 && orientation <= 8; }
inline std::uint8_t clipped(std::int32_t sum) {
  return static_cast<std::uint8_t>(std::clamp(sum >> kBits, 0, 255));
}

inline const char* wrong_contract(const Contract& contract) {
  const bool known = contract.height >= 1 && contract.height <= kMostSide && contract.width >= 1 &&
                     contract.width <= kMostSide;
  if (!known) return "The contract's size is not from 1 x 1 to 16384 x 16384.";
  if (!contract.antialias && (contract.filter == Filter::area || contract.filter == Filter::lanczos))
    return "The contract has no antialiasing; area and lanczos always antialias.";
  return nullptr;
}

inline const char* wrong_picture(const Picture& picture) {
  if (picture.data == nullptr || picture.width < 1 || picture.height < 1)
    return "The picture has no pixels; at least 1 x 1 is expected.";
  if (std::int64_t(picture.width) * picture.height > kMostPixels)
    return "The picture has more than 178956970 pixels.";
  const std::size_t row = std::size_t(picture.width) * channels_of(picture.format) * depth_of(picture.format);
  const std::size_t step = picture.row_bytes == 0 ? row : picture.row_bytes;
  if (step < row || step % depth_of(picture.format) != 0 || picture.bytes < step * (picture.height - 1) + row)
    return "The picture's buffer is too short for its size and format.";
  const int scale = picture.scale;
  if (scale != 1 && scale != 2 && scale != 4 && scale != 8) return "The picture's scale is not 1, 2, 4 or 8.";
  if (scale != 1 && ((std::int64_t(picture.full_width) + scale - 1) / scale != picture.width ||
                     (std::int64_t(picture.full_height) + scale - 1) / scale != picture.height))
    return "The file's size at this scale is not the picture's.";
  return nullptr;
}

// The upright size of the file's pixels.
inline Size upright(const Picture& picture) {
  const Size stored = picture.scale == 1 ? Size{picture.height, picture.width}
                                         : Size{picture.full_height, picture.full_width};
  return turns(picture.orientation) ? Size{stored.width, stored.height} : stored;
}

// The size a picture gets when it just fits in; rounded half up.
inline Size fit(const Contract& contract, Size full) {
  const std::int64_t height = contract.height, width = contract.width, h = full.height, w = full.width;
  if (height * w >= width * h)
    return {int(std::max<std::int64_t>(1, (2 * h * width + w) / (2 * w))), contract.width};
  return {contract.height, int(std::max<std::int64_t>(1, (2 * w * height + h) / (2 * h)))};
}

inline Size inner_size(const Contract& contract, Size full) {
  return contract.resize == Resize::pad ? fit(contract, full) : Size{contract.height, contract.width};
}

// What is seen of a picture, in the file's upright pixels.
inline Box region(const Contract& contract, Size full) {
  const std::int64_t height = contract.height, width = contract.width;
  const double h = full.height, w = full.width;
  if (contract.resize != Resize::crop) return {0, 0, w, h};
  if (height * full.width >= width * full.height) {
    const double inner = double(width * full.height) / double(height);
    const double left = (w - inner) / 2;
    return {left, 0, std::min(left + inner, w), h};
  }
  const double inner = double(height * full.width) / double(width);
  const double top = (h - inner) / 2;
  return {0, top, w, std::min(top + inner, h)};
}

// In single precision, as Pillow keeps boxes. Volatile: g++ 12 leaves the rounding out where it vectorizes.
inline float single(double number) {
  const volatile float rounded = static_cast<float>(number);
  return rounded;
}

// Takes pieces off the arena; without memory it only counts.
class Arena {
 public:
  Arena(void* memory, std::size_t size) : memory_(static_cast<std::byte*>(memory)), size_(size) {}
  template <class T>
  T* take(std::size_t count) {
    used_ += (16 - (reinterpret_cast<std::uintptr_t>(memory_) + used_) % 16) % 16;
    const std::size_t begin = used_;
    used_ += count * sizeof(T);
    return memory_ == nullptr || used_ > size_ ? nullptr : reinterpret_cast<T*>(memory_ + begin);
  }
  std::size_t used() const { return used_; }
  bool enough() const { return memory_ != nullptr && used_ <= size_; }

 private:
  std::byte* memory_;
  std::size_t size_, used_ = 0;
};

inline double sinc(double x) {
  constexpr double pi = 3.14159265358979323846;
  return x == 0 ? 1 : std::sin(x * pi) / (x * pi);
}

// A filter's value at a distance from the centre, in pixels of the coarser grid.
inline double value(Filter filter, double x) {
  const double distance = std::fabs(x);
  switch (filter) {
    case Filter::area:
      return x > -0.5 && x <= 0.5 ? 1 : 0;
    case Filter::bicubic:  // Keys's cubic, a = -1/2
      if (distance < 1) return (1.5 * distance - 2.5) * distance * distance + 1;
      return distance < 2 ? (((distance - 5) * distance + 8) * distance - 4) * -0.5 : 0;
    case Filter::lanczos:
      return x >= -3 && x < 3 ? sinc(x) * sinc(x / 3) : 0;
    default:
      return distance < 1 ? 1 - distance : 0;
  }
}

inline double reach(Filter filter) {
  return filter == Filter::area ? 0.5 : filter == Filter::bicubic ? 2 : filter == Filter::lanczos ? 3 : 1;
}

// Of each target pixel along one axis: the first source pixel it sees, how many, and their weights, of 2^-22.
struct Axis {
  int count, most;  // most: weights a pixel has at most
  int *start, *taps;
  std::int32_t* weight;
  double* exact;
  int first_used, end_used;

  Axis(Arena& arena, Filter filter, double extent, int targets) : count(targets) {
    const double scale = extent / targets;
    most = int(std::ceil(reach(filter) * std::max(scale, 1.0))) * 2 + 1;
    start = arena.take<int>(targets);
    taps = arena.take<int>(targets);
    weight = arena.take<std::int32_t>(std::size_t(targets) * most);
    exact = arena.take<double>(most);
  }

  void fill(Filter filter, int side, float begin, float extent) {
    const double scale = double(extent) / count;
    const double widened = std::max(scale, 1.0), support = reach(filter) * widened, inverse = 1 / widened;
    first_used = side;
    end_used = 0;
    for (int i = 0; i < count; ++i) {
      const double centre = begin + (i + 0.5) * scale;
      int from = std::max(0, int(centre - support + 0.5));
      int seen = std::min(side, int(centre + support + 0.5)) - from;
      double total = 0;
      for (int tap = 0; tap < seen; ++tap) total += exact[tap] = value(filter, (tap + from - centre + 0.5) * inverse);
      std::int32_t* weights = weight + std::size_t(i) * most;
      for (int tap = 0; tap < seen; ++tap) {
        const double share = total == 0 ? exact[tap] : exact[tap] / total;
        weights[tap] = std::int32_t((share < 0 ? -0.5 : 0.5) + share * (1 << kBits));
      }
      while (seen > 0 && weights[seen - 1] == 0) --seen;
      int empty = 0;
      while (empty < seen && weights[empty] == 0) ++empty;
      if (empty > 0) std::memmove(weights, weights + empty, sizeof(*weights) * (seen - empty));
      start[i] = from + empty;
      taps[i] = seen - empty;
      if (taps[i] > 0) {
        first_used = std::min(first_used, start[i]);
        end_used = std::max(end_used, start[i] + taps[i]);
      }
    }
    first_used = std::min(first_used, end_used);
  }

  const std::int32_t* weights(int i) const { return weight + std::size_t(i) * most; }
};

// The rows of a picture, upright and RGB, whatever it is stored as.
class Rows {
 public:
  Rows(const Picture& picture) : picture_(picture) {
    const bool turned = turns(picture.orientation);
    height = turned ? picture.width : picture.height;
    width = turned ? picture.height : picture.width;
    const std::ptrdiff_t pixel = channels_of(picture.format) * depth_of(picture.format);
    const std::ptrdiff_t row = picture.row_bytes == 0 ? pixel * picture.width : std::ptrdiff_t(picture.row_bytes);
    const std::ptrdiff_t end = pixel * (picture.width - 1), bottom = row * (picture.height - 1);
    origin_ = static_cast<const std::uint8_t*>(picture.data);
    right_ = pixel, down_ = row;
    switch (picture.orientation) {
      case 2: origin_ += end, right_ = -pixel; break;
      case 3: origin_ += end + bottom, right_ = -pixel, down_ = -row; break;
      case 4: origin_ += bottom, down_ = -row; break;
      case 5: right_ = row, down_ = pixel; break;
      case 6: origin_ += bottom, right_ = -row, down_ = pixel; break;
      case 7: origin_ += end + bottom, right_ = -row, down_ = -pixel; break;
      case 8: origin_ += end, right_ = row, down_ = -pixel; break;
      default: break;
    }
  }

  // A region of the file's upright pixels in those of data: a scaled picture is filled up at the file's far edges.
  Box box(const Box& region, Size full) const {
    const int orientation = picture_.orientation;
    const double scale = picture_.scale;
    const bool mirrored = orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const bool upside = orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    const double across = mirrored ? width - full.width / scale : 0, down = upside ? height - full.height / scale : 0;
    return {across + region.left / scale, down + region.top / scale, across + region.right / scale,
            down + region.bottom / scale};
  }

  // A row's RGB bytes: where they lie, or in `line`; columns outside [first, end) are not filled in.
  const std::uint8_t* read(int y, int first, int end, std::uint8_t* line) const {
    const std::uint8_t* from = origin_ + y * down_;
    if (picture_.format == Format::rgb && right_ == 3) return from;
    from += first * right_;
    std::uint8_t* to = line + 3 * std::size_t(first);
    std::uint8_t* const last = line + 3 * std::size_t(end);
    switch (picture_.format) {
      case Format::rgb:
        for (; to != last; to += 3, from += right_) to[0] = from[0], to[1] = from[1], to[2] = from[2];
        break;
      case Format::rgba:
        for (; to != last; to += 3, from += right_)
          for (int i = 0; i < 3; ++i) to[i] = from[3] == 255 ? from[i] : on_white(from[i], from[3]);
        break;
      case Format::grey:
        for (; to != last; to += 3, from += right_) to[0] = to[1] = to[2] = from[0];
        break;
      case Format::grey16:
        for (; to != last; to += 3, from += right_) {
          std::uint16_t level;
          std::memcpy(&level, from, 2);
          to[0] = to[1] = to[2] = std::uint8_t((level + 128) / 257);
        }
        break;
    }
    return line;
  }

  int height, width;

 private:
  static std::uint8_t on_white(int level, int alpha) {
    return std::uint8_t((2 * (level * alpha + 255 * (255 - alpha)) + 255) / 510);
  }
  const Picture& picture_;
  const std::uint8_t* origin_;
  std::ptrdiff_t right_, down_;
};

// One row's horizontal pass.
inline void squeeze(const std::uint8_t* row, const Axis& across, std::uint8_t* out) {
  for (int x = 0; x < across.count; ++x, out += 3) {
    const std::int32_t* weights = across.weights(x);
    const std::uint8_t* from = row + 3 * std::size_t(across.start[x]);
    std::int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int tap = 0; tap < across.taps[x]; ++tap, from += 3) {
      red += from[0] * weights[tap];
      green += from[1] * weights[tap];
      blue += from[2] * weights[tap];
    }
    out[0] = clipped(red), out[1] = clipped(green), out[2] = clipped(blue);
  }
}

// Where the pixels go: `size` of them, from `first` on, rows `step` bytes apart.
struct Target {
  Size size;
  std::uint8_t* first;
  std::size_t step;
};

// Two passes of weighted sums, each rounded to bytes.
class Resampler {
 public:
  Resampler(Arena& arena, const Contract& contract, const Rows& rows, const Box& box, Size target)
      : filter_(contract.filter),
        left_(single(box.left)),
        top_(single(box.top)),
        wide_(single(single(box.right) - left_)),
        high_(single(single(box.bottom) - top_)),
        rows_(rows),
        across_(arena, filter_, wide_, target.width),
        down_(arena, filter_, high_, target.height) {
    const int shrinks = rows.height - target.height;
    vertical_first_ = contract.tall_first && shrinks > 0 && shrinks > 2 * (rows.width - target.width);
    line_ = arena.take<std::uint8_t>(3 * std::size_t(rows.width));
    sums_ = arena.take<std::int32_t>(3 * std::size_t(vertical_first_ ? rows.width : target.width));
    const std::size_t seen = std::min(std::size_t(rows.height), std::size_t(high_) + down_.most + 1);
    between_ = arena.take<std::uint8_t>(3 * (vertical_first_ ? std::size_t(rows.width) : seen * target.width));
  }

  void run(const Target& target) {
    across_.fill(filter_, rows_.width, left_, wide_);
    down_.fill(filter_, rows_.height, top_, high_);
    const int first = across_.first_used, end = across_.end_used;
    if (vertical_first_) {
      for (int y = 0; y < target.size.height; ++y) {
        std::fill(sums_ + 3 * first, sums_ + 3 * end, kHalf);
        for (int tap = 0; tap < down_.taps[y]; ++tap)
          add(rows_.read(down_.start[y] + tap, first, end, line_), 3 * first, 3 * end, down_.weights(y)[tap]);
        for (int i = 3 * first; i < 3 * end; ++i) between_[i] = clipped(sums_[i]);
        squeeze(between_, across_, target.first + y * target.step);
      }
      return;
    }
    const std::size_t length = 3 * std::size_t(target.size.width);
    for (int y = down_.first_used; y < down_.end_used; ++y)
      squeeze(rows_.read(y, first, end, line_), across_, between_ + (y - down_.first_used) * length);
    for (int y = 0; y < target.size.height; ++y) {
      std::fill(sums_, sums_ + length, kHalf);
      for (int tap = 0; tap < down_.taps[y]; ++tap)
        add(between_ + (down_.start[y] + tap - down_.first_used) * length, 0, int(length), down_.weights(y)[tap]);
      std::uint8_t* out = target.first + y * target.step;
      for (std::size_t i = 0; i < length; ++i) out[i] = clipped(sums_[i]);
    }
  }

 private:
  void add(const std::uint8_t* row, int begin, int end, std::int32_t share) {
    for (int i = begin; i < end; ++i) sums_[i] += row[i] * share;
  }

  Filter filter_;
  float left_, top_, wide_, high_;
  const Rows& rows_;
  Axis across_, down_;
  bool vertical_first_;
  std::uint8_t *line_, *between_;
  std::int32_t* sums_;
};

// One value of the source, or a mixture of its neighbours, at the centre of each pixel.
class Sampler {
 public:
  Sampler(Arena& arena, const Contract& contract, const Rows& rows, const Box& box, Size target) : rows_(rows) {
    taps_ = contract.filter == Filter::nearest ? 1 : contract.filter == Filter::bilinear ? 2 : 4;
    left_ = box.left, top_ = box.top, wide_ = box.right - box.left, high_ = box.bottom - box.top;
    if (contract.antialias) {
      left_ = single(box.left), top_ = single(box.top);
      wide_ = single(single(box.right) - left_), high_ = single(single(box.bottom) - top_);
    }
    columns_ = arena.take<int>(std::size_t(taps_) * target.width);
    lines_ = arena.take<int>(std::size_t(taps_) * target.height);
    across_ = arena.take<double>(target.width);
    down_ = arena.take<double>(target.height);
    line_ = arena.take<std::uint8_t>(3 * std::size_t(rows.width) * taps_);
  }

  void run(const Target& target) {
    centres(left_, wide_ / target.size.width, target.size.width, rows_.width, columns_, across_);
    centres(top_, high_ / target.size.height, target.size.height, rows_.height, lines_, down_);
    const std::uint8_t* seen[4];
    for (int y = 0; y < target.size.height; ++y) {
      for (int row = 0; row < taps_; ++row)
        seen[row] = rows_.read(lines_[y * taps_ + row], 0, rows_.width, line_ + 3 * std::size_t(rows_.width) * row);
      std::uint8_t* out = target.first + y * target.step;
      for (int x = 0; x < target.size.width; ++x)
        for (int channel = 0; channel < 3; ++channel) {
          double values[4], near[4];
          for (int row = 0; row < taps_; ++row) {
            for (int i = 0; i < taps_; ++i)
              near[i] = seen[row][3 * std::size_t(columns_[x * taps_ + i]) + channel];
            values[row] = mix(near, across_[x]);
          }
          *out++ = std::uint8_t(std::clamp(mix(values, down_[y]), 0.0, 255.0));
        }
    }
  }

 private:
  // Where each target pixel's centre lies: the taps around it, kept inside, and the share of the later ones.
  void centres(double begin, double step, int count, int side, int* places, double* shares) const {
    double sum = begin + step * 0.5;  // nearest adds up the steps, the others multiply
    for (int i = 0; i < count; ++i) {
      const double centre = taps_ == 1 ? sum : step * (i + 0.5) + begin - 0.5;
      sum += step;
      const double before = std::floor(centre);
      shares[i] = centre - before;
      for (int tap = 0; tap < taps_; ++tap)
        places[i * taps_ + tap] = std::clamp(int(before) + tap - (taps_ == 4), 0, side - 1);
    }
  }

  double mix(const double* v, double t) const {
    if (taps_ == 1) return v[0];
    if (taps_ == 2) return v[0] + (v[1] - v[0]) * t;
    return v[1] + t * (-v[0] + v[2] + t * (2 * (v[0] - v[1]) + v[2] - v[3] + t * (-v[0] + v[1] - v[2] + v[3])));
  }

  const Rows& rows_;
  int taps_;
  double left_, top_, wide_, high_;
  int *columns_, *lines_;
  double *across_, *down_;
  std::uint8_t* line_;
};

template <class Scaler>
const char* scale_into(Scaler& scaler, const Arena& arena, const Target& target) {
  if (!arena.enough()) return "The arena is too small; arena_bytes tells how many bytes are needed.";
  scaler.run(target);
  return nullptr;
}

// Prepares everything; with pixels it runs, too. `used` tells the bytes of the arena.
inline const char* work(const Contract& contract, const Picture& picture, Arena& arena, std::uint8_t* pixels) {
  if (const char* wrong = wrong_contract(contract)) return wrong;
  if (const char* wrong = wrong_picture(picture)) return wrong;
  const Rows rows(picture);
  const Size full = upright(picture), inner = inner_size(contract, full);
  const Box box = rows.box(region(contract, full), full);
  const std::size_t step = 3 * std::size_t(contract.width);
  Target target{inner, pixels, step};
  if (pixels != nullptr) {
    if (contract.resize == Resize::pad) std::memset(pixels, 0, step * contract.height);
    target.first += ((contract.height - inner.height) / 2) * step + 3 * std::size_t((contract.width - inner.width) / 2);
  }
  if (contract.antialias && contract.filter != Filter::nearest) {
    Resampler scaler(arena, contract, rows, box, inner);
    return pixels == nullptr ? nullptr : scale_into(scaler, arena, target);
  }
  Sampler scaler(arena, contract, rows, box, inner);
  return pixels == nullptr ? nullptr : scale_into(scaler, arena, target);
}

}  // namespace detail

// How many bytes apply() needs for this picture; 0 where it would refuse it.
inline std::size_t arena_bytes(const Contract& contract, const Picture& picture) {
  detail::Arena counter(nullptr, 0);
  return detail::work(contract, picture, counter, nullptr) == nullptr ? counter.used() + 15 : 0;
}

// Writes contract.height * contract.width * 3 bytes, row by row, to `pixels`. Returns nullptr, or what is wrong.
[[nodiscard]] inline const char* apply(const Contract& contract, const Picture& picture, void* arena,
                                       std::size_t arena_size, std::uint8_t* pixels) {
  if (const char* wrong = detail::wrong_contract(contract)) return wrong;
  if (pixels == nullptr) return "There is no place for the pixels.";
  detail::Arena memory(arena, arena_size);
  return detail::work(contract, picture, memory, pixels);
}

// What a model of the bundle takes: bytes, which are the pixels themselves plus `zero`, or floats in a range.
struct Input {
  const char* file;
  bool floats = false;
  float black = 0, white = 255;
  int zero = 0;  // 0: uint8; -128: int8
};

// The pixels of apply() as the bytes that a model takes; `count` of them. `out` may be `pixels`.
inline void shift(const Input& input, const std::uint8_t* pixels, std::size_t count, void* out) {
  for (std::size_t i = 0; i < count; ++i) static_cast<std::uint8_t*>(out)[i] = std::uint8_t(pixels[i] + input.zero);
}

// The pixels of apply() as the floats that a model takes; `count` of them.
inline void scale(const Input& input, const std::uint8_t* pixels, std::size_t count, float* out) {
  const double low = input.black, std = 255 / (input.white - low);
  for (std::size_t i = 0; i < count; ++i) out[i] = float((pixels[i] + low * std) / std);
}

// At which part of its size keras_transfer decodes a JPEG of so many pixels, as stored: 1 (all of it), 2, 4 or 8.
inline int jpeg_scale(const Contract& contract, int width, int height, int orientation = 1) {
  const bool weighs = contract.filter == Filter::bilinear || contract.filter == Filter::bicubic ||
                      contract.filter == Filter::lanczos;
  if (!contract.scaled || !contract.antialias || !weighs || width < 1 || height < 1) return 1;
  const detail::Size full = detail::turns(orientation) ? detail::Size{width, height} : detail::Size{height, width};
  const detail::Size inner = detail::inner_size(contract, full);
  for (const int scale : {8, 4, 2})
    if (full.height >= 2 * std::int64_t(scale) * inner.height && full.width >= 2 * std::int64_t(scale) * inner.width)
      return scale;
  return 1;
}

}  // namespace keras_transfer

#endif
