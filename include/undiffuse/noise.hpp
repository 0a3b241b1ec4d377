// The values of a seed, and noise of your own.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_NOISE_HPP
#define UNDIFFUSE_NOISE_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "core.hpp"

namespace undiffuse {

// The `len` normal values of draw `draw` of sample `sample` of a seed. Draw 0 is x_T, draw k the noise of step k - 1.
inline std::vector<float> noise_normal(std::uint64_t seed, std::uint64_t sample, std::uint64_t draw, std::size_t len) {
  std::vector<float> out(len);
  detail::call([&](auto e) { return undiffuse_noise_normal(seed, sample, draw, out.data(), len, e); });
  return out;
}

// As noise_normal, uniform in [0, 1).
inline std::vector<float> noise_uniform(std::uint64_t seed, std::uint64_t sample, std::uint64_t draw, std::size_t len) {
  std::vector<float> out(len);
  detail::call([&](auto e) { return undiffuse_noise_uniform(seed, sample, draw, out.data(), len, e); });
  return out;
}

// Noise in place of a seed's: the arrays of undiffuse_noise, which move into the session, `fill`, or the generator of a Python library, with the
// session's seed and `samples`. All empty: the seed's.
struct noise {
  std::vector<float> x_t;
  std::vector<float> steps_noise;
  std::size_t steps = 0;
  std::size_t samples = 0;
  std::uint64_t first_sample = 0;
  std::function<void(undiffuse_noise_kind kind, std::uint64_t first_sample, std::uint64_t draw, std::size_t sample_len, view<float> out)>
      fill;
  std::uint64_t fingerprint = 0;
  undiffuse_generator generator = UNDIFFUSE_GENERATOR_OWN;
  undiffuse_drawn_in drawn_in = UNDIFFUSE_DRAWN_IN_F32;
  bool each_seed = false;
  std::uint32_t gpu_threads = 0;
  std::size_t first_step = 0;
  std::size_t encoded_images = 0;
};

namespace detail {

struct noise_state final : callbacks {
  explicit noise_state(noise n) : user(std::move(n)), c(sized<undiffuse_noise>()) {
    c.user_data = this;
    c.x_t = user.x_t.empty() ? nullptr : user.x_t.data();
    c.noise = user.steps_noise.empty() ? nullptr : user.steps_noise.data();
    c.steps = user.steps;
    c.samples = user.samples;
    c.first_sample = user.first_sample;
    c.fingerprint = user.fingerprint;
    c.generator = user.generator;
    c.drawn_in = user.drawn_in;
    c.each_seed = user.each_seed;
    c.gpu_threads = user.gpu_threads;
    c.first_step = user.first_step;
    c.encoded_images = user.encoded_images;
    if (!user.fill && user.generator == UNDIFFUSE_GENERATOR_OWN) {  // The library believes the counts.
      const std::size_t each = user.samples ? user.x_t.size() / user.samples : 0;
      if (each * user.samples != user.x_t.size() || each * user.samples * user.steps != user.steps_noise.size())
        throw error(UNDIFFUSE_SHAPE, "undiffuse::noise: the arrays are not of `samples` samples and `steps` steps");
    } else if (user.fill) {
      c.fill = [](void *self, undiffuse_noise_kind kind, std::uint64_t first, std::uint64_t draw, std::size_t sample_len,
                  std::size_t count, float *out) noexcept -> std::int32_t {
        auto *s = static_cast<noise_state *>(self);
        return s->guard([&] { s->user.fill(kind, first, draw, sample_len, {out, count * sample_len}); });
      };
    }
  }
  // The arrays must be of samples of this length.
  void check(std::size_t sample_len) const {
    if (!user.fill && user.generator == UNDIFFUSE_GENERATOR_OWN && user.x_t.size() != user.samples * sample_len)
      throw error(UNDIFFUSE_SHAPE, "undiffuse::noise: x_t has " + std::to_string(user.x_t.size()) + " values, expected " +
                                       std::to_string(user.samples) + " samples of " + std::to_string(sample_len));
  }
  noise user;
  undiffuse_noise c;
};

}  // namespace detail

}  // namespace undiffuse

#endif  // UNDIFFUSE_NOISE_HPP
