// Replays the golden images of a bundle: whether preprocess.hpp makes the recorded pixels of them here.
//
//     g++ -std=c++17 -O2 clients/cpp/selftest.cc -o /tmp/selftest && /tmp/selftest BUNDLE
//
// Exit code 1 on any deviation. The golden images are PNG files, which are read here; classify.py --self-test compares
// what the models answer.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "contract.hpp"

namespace {

using Bytes = std::vector<std::uint8_t>;

[[noreturn]] void stop(const std::string& why) {
  std::fprintf(stderr, "The self-test cannot be run: %s\n", why.c_str());
  std::exit(1);
}

Bytes read(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) stop(path + " cannot be opened.");
  return Bytes{std::istreambuf_iterator<char>(file), {}};
}

// Bits of a deflate stream (RFC 1951), the lowest of a byte first.
class Bits {
 public:
  explicit Bits(const Bytes& data) : data_(data) {}
  int take(int count) {
    int value = 0;
    for (int i = 0; i < count; ++i, ++at_) {
      if (at_ / 8 >= data_.size()) stop("a golden image is cut short.");
      value |= (data_[at_ / 8] >> at_ % 8 & 1) << i;
    }
    return value;
  }
  void to_next_byte() { at_ = (at_ + 7) / 8 * 8; }

 private:
  const Bytes& data_;
  std::size_t at_ = 16;  // behind zlib's two bytes
};

// A Huffman code by the lengths of its words.
class Code {
 public:
  explicit Code(const std::vector<int>& lengths) {
    for (int length = 1; length <= 15; ++length)
      for (std::size_t symbol = 0; symbol < lengths.size(); ++symbol)
        if (lengths[symbol] == length) symbols_.push_back(int(symbol)), ++count_[length];
  }
  int next(Bits& bits) const {
    int word = 0, first = 0, place = 0;
    for (int length = 1; length <= 15; ++length) {
      word = word << 1 | bits.take(1);
      if (word - first < count_[length]) return symbols_[place + word - first];
      place += count_[length];
      first = (first + count_[length]) << 1;
    }
    stop("a golden image is damaged.");
  }

 private:
  std::vector<int> symbols_;
  int count_[16] = {};
};

void inflate_block(Bits& bits, const Code& literals, const Code& distances, Bytes& out) {
  for (int symbol = literals.next(bits); symbol != 256; symbol = literals.next(bits)) {
    if (symbol < 256) {
      out.push_back(std::uint8_t(symbol));
      continue;
    }
    const int step = symbol - 257, extra = step < 8 || step == 28 ? 0 : step / 4 - 1;
    const int base = step < 8 ? 3 + step : step == 28 ? 258 : 3 + ((4 + step % 4) << extra);
    const int length = base + bits.take(extra);
    const int far = distances.next(bits), more = far < 4 ? 0 : far / 2 - 1;
    const std::size_t back = std::size_t((far < 4 ? 1 + far : 1 + ((2 + far % 2) << more)) + bits.take(more));
    if (back > out.size()) stop("a golden image is damaged.");
    for (int i = 0; i < length; ++i) out.push_back(out[out.size() - back]);
  }
}

void dynamic_block(Bits& bits, Bytes& out) {
  const int literals = bits.take(5) + 257, distances = bits.take(5) + 1, given = bits.take(4) + 4;
  constexpr int order[] = {16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15};
  std::vector<int> lengths(19);
  for (int i = 0; i < given; ++i) lengths[order[i]] = bits.take(3);
  const Code code(lengths);
  std::vector<int> all;
  while (int(all.size()) < literals + distances) {
    const int symbol = code.next(bits);
    if (symbol < 16) all.push_back(symbol);
    else if (symbol == 16) all.insert(all.end(), 3 + bits.take(2), all.empty() ? 0 : all.back());
    else all.insert(all.end(), symbol == 17 ? 3 + bits.take(3) : 11 + bits.take(7), 0);
  }
  const auto middle = all.begin() + literals;
  inflate_block(bits, Code({all.begin(), middle}), Code({middle, middle + distances}), out);
}

Bytes inflate(const Bytes& data) {
  Bits bits(data);
  Bytes out;
  for (bool last = false; !last;) {
    last = bits.take(1);
    const int kind = bits.take(2);
    if (kind == 0) {
      bits.to_next_byte();
      const int length = bits.take(16);
      bits.take(16);
      for (int i = 0; i < length; ++i) out.push_back(std::uint8_t(bits.take(8)));
    } else if (kind == 1) {
      std::vector<int> lengths(288, 8);
      std::fill(lengths.begin() + 144, lengths.begin() + 256, 9);
      std::fill(lengths.begin() + 256, lengths.begin() + 280, 7);
      inflate_block(bits, Code(lengths), Code(std::vector<int>(30, 5)), out);
    } else {
      dynamic_block(bits, out);
    }
  }
  return out;
}

struct Image {
  Bytes pixels;
  int width, height, channels;
};

int predicted(int filter, int left, int above, int corner) {
  if (filter < 3) return filter == 0 ? 0 : filter == 1 ? left : above;
  if (filter == 3) return (left + above) / 2;
  const int a = std::abs(above - corner), b = std::abs(left - corner), c = std::abs(left + above - 2 * corner);
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

// A PNG of 8 bits a channel, grey, RGB or RGBA, not interlaced, as Pillow writes it.
Image read_png(const std::string& path) {
  const Bytes file = read(path);
  const auto word = [&](std::size_t at) {
    return std::uint32_t(file[at]) << 24 | file[at + 1] << 16 | file[at + 2] << 8 | file[at + 3];
  };
  if (file.size() < 33 || word(0) != 0x89504E47 || file[24] != 8 || file[28] != 0) stop(path + " is no such PNG.");
  Image image{{}, int(word(16)), int(word(20)), file[25] == 0 ? 1 : file[25] == 2 ? 3 : 4};
  Bytes packed;
  for (std::size_t at = 8; at + 12 <= file.size(); at += 12 + word(at))
    if (std::memcmp(&file[at + 4], "IDAT", 4) == 0)
      packed.insert(packed.end(), file.begin() + at + 8, file.begin() + at + 8 + word(at));
  const Bytes raw = inflate(packed);
  const std::size_t row = std::size_t(image.width) * image.channels;
  if (raw.size() != (row + 1) * image.height) stop(path + " is damaged.");
  image.pixels.resize(row * image.height);
  for (std::size_t place = 0; place < image.pixels.size(); ++place) {
    const std::size_t x = place % row, line = place / row * (row + 1);
    const bool has_left = x >= std::size_t(image.channels), has_above = place >= row;
    const int left = has_left ? image.pixels[place - image.channels] : 0;
    const int above = has_above ? image.pixels[place - row] : 0;
    const int corner = has_left && has_above ? image.pixels[place - row - image.channels] : 0;
    image.pixels[place] = std::uint8_t(raw[line + 1 + x] + predicted(raw[line], left, above, corner));
  }
  return image;
}

}  // namespace

int main(int count, char** arguments) {
  using namespace keras_transfer;
  const std::string folder = count > 1 ? std::string(arguments[1]) + "/" : "";
  bool failed = false;
  int left_out = 0;
  for (const Golden& golden : golden_images) {
    const char* const name = golden.decoded != nullptr ? golden.decoded : golden.image;
    const Image image = read_png(folder + name), expected = read_png(folder + golden.input);
    const Format format = image.channels == 1 ? Format::grey : image.channels == 3 ? Format::rgb : Format::rgba;
    Picture picture{image.pixels.data(), image.pixels.size(), image.width, image.height, format};
    picture.scale = golden.scale, picture.full_width = golden.width, picture.full_height = golden.height;
    std::vector<std::uint8_t> arena(arena_bytes(contract, picture));
    Bytes pixels(std::size_t(3) * contract.height * contract.width);
    const char* wrong = apply(contract, picture, arena.data(), arena.size(), pixels.data());
    if (golden.decoded != nullptr) {
      if (wrong == nullptr && jpeg_scale(contract, golden.width, golden.height) != golden.scale)
        wrong = "The JPEG is decoded at another part of its size.";
      std::printf("-      %s: left out, its decoding; its pixels are those of %s\n", golden.image, golden.decoded);
      ++left_out;
    }
    if (wrong == nullptr && pixels.size() != expected.pixels.size()) wrong = "The recorded pixels are of another size.";
    int differ = 0, furthest = 0;
    for (std::size_t i = 0; wrong == nullptr && i < pixels.size(); ++i) {
      const int difference = std::abs(int(pixels[i]) - int(expected.pixels[i]));
      differ += difference > 0;
      furthest = std::max(furthest, difference);
    }
    const bool passed = wrong == nullptr && furthest <= pixel_tolerance;
    failed = failed || !passed;
    std::printf("%s  %s: ", passed ? "ok   " : "WRONG", name);
    if (wrong != nullptr) std::printf("%s\n", wrong);
    else if (differ == 0) std::printf("pixels identical\n");
    else std::printf("%d bytes differ, by up to %d of 255 (allowed %d)\n", differ, furthest, pixel_tolerance);
  }
  std::printf(failed ? "FAILED" : "passed");
  if (left_out > 0) std::printf("; left out: %d", left_out);
  std::printf("\n");
  return failed ? 1 : 0;
}
