// decide FOLDER WHAT [WIDTH HEIGHT]: numbers.bin (float32) of a folder through decide.hpp and its contract.hpp.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "contract.hpp"
#include "gallery.hpp"

int main(int, char** arguments) {
  using namespace keras_transfer;
  const std::string folder = arguments[1], what = arguments[2];
  std::ifstream file(folder + "/numbers.bin", std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  std::vector<float> numbers(content.size() / sizeof(float));
  std::memcpy(numbers.data(), content.data(), content.size());
  if (what == "classify") {
    std::vector<Answer> answers(meaning.count);
    const int told = classify(meaning, numbers.data(), answers.data(), 2);
    if (told < 0) std::printf("refused: a number is not finite\n");
    for (int i = 0; i < told; ++i) std::printf("%d %.17g\n", answers[i].index, answers[i].value);
  } else if (what == "input") {
    std::uint8_t levels[256];
    for (int i = 0; i < 256; ++i) levels[i] = std::uint8_t(i);
    for (const Input& input : inputs) {
      float numbers[256];
      scale(input, levels, 256, numbers);
      std::uint8_t bytes[256];
      shift(input, levels, 256, bytes);
      for (int i = 0; i < 256; ++i) {
        const double byte = input.zero != 0 ? static_cast<std::int8_t>(bytes[i]) : bytes[i];
        std::printf("%.17g\n", input.floats ? numbers[i] : byte);
      }
    }
  } else if (what == "picture") {
    const std::vector<std::uint8_t> data(std::size_t(std::atoi(arguments[5])) + 1);
    const Picture picture{data.data(), data.size() - 1, std::atoi(arguments[3]), std::atoi(arguments[4]), Format::rgb};
    std::vector<char> arena(arena_bytes(contract, picture));
    std::vector<std::uint8_t> pixels(std::size_t(3) * contract.height * contract.width);
    const char* wrong = apply(contract, picture, arena.data(), arena.size(), pixels.data());
    std::printf(wrong == nullptr ? "fine\n" : "refused: %s\n", wrong);
  } else if (what == "gallery") {
    std::ifstream lying(folder + "/gallery.bin", std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(lying), {}};
    Gallery gallery;
    Answer best[3];
    const char* wrong = open(bytes.data(), bytes.size(), model, &gallery);
    if (wrong == nullptr && std::isnan(gallery.rule.threshold))
      wrong = "No threshold was chosen for this model; give one.";
    if (wrong != nullptr) {
      std::printf("refused: %s\n", wrong);
      return 0;
    }
    const int told = match(gallery, numbers.data(), best, 3);
    const bool known = told > 0 && best[0].value >= gallery.rule.threshold;
    std::printf("%s\n", known ? gallery.name(best[0].index) : "unknown");
    for (int i = 0; i < told; ++i) std::printf("%s %.17g\n", gallery.name(best[i].index), best[i].value);
  } else if (what == "mask") {
    const int width = std::atoi(arguments[3]), height = std::atoi(arguments[4]);
    std::vector<char> arena(mask_bytes(contract, meaning, width));
    std::vector<std::int32_t> classes(std::size_t(width) * height);
    const char* wrong =
        mask(contract, meaning, numbers.data(), width, height, arena.data(), arena.size(), classes.data());
    if (wrong != nullptr) std::printf("refused: %s\n", wrong);
    for (const std::int32_t one : classes) std::printf("%d\n", one);
  } else {
    const int half = int(numbers.size() / 2);
    std::printf("%.17g\n", alike(comparison, numbers.data(), numbers.data() + half, half));
  }
}
