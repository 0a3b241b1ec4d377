// Draws eight samples of a model, with progress, and writes them as a PGM picture.
//
//     sample_cpp digits.safetensors samples.pgm
#include <algorithm>
#include <cstdio>
#include <fstream>

#include <undiffuse.hpp>

int main(int argc, char **argv) try {
  if (argc != 3) {
    std::fprintf(stderr, "usage: %s MODEL OUTPUT.pgm\n", argv[0]);
    return 2;
  }
  constexpr std::size_t side = 28, count = 8;
  auto model = undiffuse::model::load(argv[1]);
  undiffuse::sampler_options how;
  how.kind = UNDIFFUSE_SAMPLER_DDIM;
  how.steps = 20;
  undiffuse::session_options options;
  options.batch = count;
  options.seed = 42;
  options.progress = [](const undiffuse::progress &p) {
    std::fprintf(stderr, "\rstep %zu of %zu", p.step + 1, p.step_count);
    return true;
  };
  undiffuse::session session(model, undiffuse::sampler(model, how), options);
  session.run();
  const auto x = session.x();
  if (x.size() != count * side * side) throw std::runtime_error("the model's samples are not 28 x 28");

  std::ofstream file(argv[2], std::ios::binary);
  file << "P5 " << count * side << ' ' << side << " 255\n";
  for (std::size_t row = 0; row < side; row++)
    for (std::size_t i = 0; i < count * side; i++) {
      const float v = x[(i / side * side + row) * side + i % side];
      file.put(static_cast<char>(static_cast<unsigned char>((std::clamp(v, -1.0f, 1.0f) + 1) * 127.5f + 0.5f)));
    }
  if (!file.flush()) throw std::runtime_error("the picture could not be written");
  std::printf("\n%s: %zu samples of seed 42\n", argv[2], count);
} catch (const std::exception &e) {
  std::fprintf(stderr, "%s\n", e.what());
  return 1;
}
