// bench PHOTO WIDTH HEIGHT SIZE RULE FILTER ORIENTATION TIMES: milliseconds of one core a photo, a line each.
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "preprocess.hpp"

int main(int, char** arguments) {
  using namespace keras_transfer;
  std::ifstream file(arguments[1], std::ios::binary);
  const std::vector<char> data{std::istreambuf_iterator<char>(file), {}};
  const std::string rules[] = {"squash", "crop", "pad"};
  const std::string filters[] = {"nearest", "bilinear", "bicubic", "area", "lanczos"};
  Contract contract{std::atoi(arguments[4]), std::atoi(arguments[4])};
  for (int i = 0; i < 3; ++i) if (rules[i] == arguments[5]) contract.resize = Resize(i);
  for (int i = 0; i < 5; ++i) if (filters[i] == arguments[6]) contract.filter = Filter(i);
  Picture picture{data.data(), data.size(), std::atoi(arguments[2]), std::atoi(arguments[3])};
  picture.format = data.size() == std::size_t(picture.width) * picture.height * 4 ? Format::rgba : Format::rgb;
  picture.orientation = std::atoi(arguments[7]);
  std::vector<std::uint8_t> arena(arena_bytes(contract, picture));
  std::vector<std::uint8_t> pixels(std::size_t(3) * contract.height * contract.width);
  for (int i = 0; i < std::atoi(arguments[8]); ++i) {
    const std::clock_t begin = std::clock();
    if (const char* wrong = apply(contract, picture, arena.data(), arena.size(), pixels.data())) {
      std::fprintf(stderr, "%s\n", wrong);
      return 1;
    }
    std::printf("%.3f\n", 1000.0 * double(std::clock() - begin) / CLOCKS_PER_SEC);
  }
}
