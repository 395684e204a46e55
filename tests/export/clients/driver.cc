// driver CASES RESULTS: every case through the C++ client; helpers_clients.py tells the format.
#include <cstdio>
#include <fstream>
#include <iterator>
#include <vector>

#include "preprocess.hpp"

int main(int, char** arguments) {
  std::ifstream file(arguments[1], std::ios::binary);
  const std::vector<char> content{std::istreambuf_iterator<char>(file), {}};
  std::ofstream results(arguments[2], std::ios::binary);
  for (std::size_t at = 0; at < content.size();) {
    std::int32_t head[14];
    std::memcpy(head, content.data() + at, sizeof head);
    at += sizeof head;
    const keras_transfer::Contract contract{
        head[0], head[1], keras_transfer::Resize(head[2]), keras_transfer::Filter(head[3]),
        head[4] == 1, head[5] == 1, head[6] >= 13};
    keras_transfer::Picture picture;
    picture.width = head[7], picture.height = head[8], picture.format = keras_transfer::Format(head[9]);
    picture.bytes = std::size_t(head[7]) * head[8] * (head[9] == 0 ? 1 : head[9] == 1 ? 3 : head[9] == 2 ? 4 : 2);
    // A copy of its own, so that a tool that watches memory sees what is read beyond the end.
    const std::vector<char> data(content.data() + at, content.data() + at + picture.bytes);
    at += picture.bytes;
    picture.data = data.data();
    picture.orientation = head[10], picture.scale = head[11];
    picture.full_width = head[12], picture.full_height = head[13];
    std::vector<char> arena(keras_transfer::arena_bytes(contract, picture));
    std::vector<std::uint8_t> pixels(std::size_t(3) * contract.height * contract.width);
    if (const char* wrong = keras_transfer::apply(contract, picture, arena.data(), arena.size(), pixels.data())) {
      std::fprintf(stderr, "%s\n", wrong);
      return 1;
    }
    const std::int32_t scale = keras_transfer::jpeg_scale(contract, head[12], head[13], head[10]);
    results.write(reinterpret_cast<const char*>(&scale), sizeof scale);
    results.write(reinterpret_cast<const char*>(pixels.data()), std::streamsize(pixels.size()));
  }
}
