// decide FOLDER WHAT [WIDTH HEIGHT]: numbers.bin (float32) of a folder through decide.hpp and its contract.hpp.
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "contract.hpp"

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
      for (int i = 0; i < 256; ++i) std::printf("%.17g\n", input.floats ? numbers[i] : levels[i]);
    }
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
