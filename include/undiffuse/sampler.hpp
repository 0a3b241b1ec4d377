// Reverse processes, with or without a model.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_SAMPLER_HPP
#define UNDIFFUSE_SAMPLER_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "model.hpp"

namespace undiffuse {

// The fields of undiffuse_schedule_options, with diffusers' defaults.
struct schedule_options : undiffuse_schedule_options {
  schedule_options() { undiffuse_schedule_options_init(this, sizeof(undiffuse_schedule_options)); }
  // T betas in place of start, end and curve; empty for these.
  std::vector<double> trained_betas;

  undiffuse_schedule_options c() const {
    undiffuse_schedule_options o = *this;
    o.trained_betas = trained_betas.empty() ? nullptr : trained_betas.data();
    o.trained_betas_len = trained_betas.size();
    return o;
  }
};

// The fields of undiffuse_sampler_options: what `undiffuse sample` runs, unless you say otherwise.
struct sampler_options : undiffuse_sampler_options {
  sampler_options() { undiffuse_sampler_options_init(this, sizeof(undiffuse_sampler_options)); }
  // The timesteps themselves, decreasing; empty for `steps` of them.
  std::vector<std::uint32_t> timesteps;
  // The sigmas themselves, falling, with that of the result at the end; empty for `steps` of them.
  std::vector<double> sigmas;

  undiffuse_sampler_options c() const {
    undiffuse_sampler_options o = *this;
    o.timesteps = timesteps.empty() ? nullptr : timesteps.data();
    o.timesteps_len = timesteps.size();
    o.sigmas = sigmas.empty() ? nullptr : sigmas.data();
    o.sigmas_len = sigmas.size();
    return o;
  }
};

// What a step gives.
struct stepped {
  std::vector<float> next;   // x_s
  std::vector<float> x0;     // the predicted x_0, after clipping
  std::vector<float> state;  // the history of samplers that have one
};

// A reverse process with its steps fixed. It calls no network, so another engine can drive it.
class sampler {
 public:
  // Of a model's own scheduler configuration.
  explicit sampler(const model &m, const sampler_options &options = {}) {
    const auto o = options.c();
    sampler_.make([&](auto out, auto e) { return undiffuse_sampler_from_model(m.get(), &o, out, e); });
  }
  // Of a schedule by values.
  explicit sampler(const schedule_options &schedule, const sampler_options &options = {}) {
    const auto s = schedule.c();
    const auto o = options.c();
    sampler_.make([&](auto out, auto e) { return undiffuse_sampler_new(&s, &o, out, e); });
  }
  // Of the text of a diffusers scheduler_config.json.
  static sampler from_json(std::string_view json, const sampler_options &options = {}) {
    const std::string text(json);  // Ends with a NUL, as a length of 0 would ask.
    const auto o = options.c();
    sampler s;
    s.sampler_.make([&](auto out, auto e) { return undiffuse_sampler_from_json(text.c_str(), text.size(), &o, out, e); });
    return s;
  }

  undiffuse_sampler_info info() const {
    auto i = detail::sized<undiffuse_sampler_info>();
    detail::call([&](auto e) { return undiffuse_sampler_get_info(get(), &i, e); });
    return i;
  }
  undiffuse_step_info step_info(std::size_t step) const {
    auto i = detail::sized<undiffuse_step_info>();
    detail::call([&](auto e) { return undiffuse_sampler_get_step_info(get(), step, &i, e); });
    return i;
  }
  // The timestep of each network call, in order.
  std::vector<double> timesteps() const {
    return detail::filled<std::vector<double>>(
        [&](auto p, auto n, auto e) { return undiffuse_sampler_timesteps(get(), p, n, e); });
  }
  std::size_t state_len(std::size_t sample_len) const {
    std::size_t n = 0;
    detail::call([&](auto e) { return undiffuse_sampler_state_len(get(), sample_len, &n, e); });
    return n;
  }
  std::vector<float> scale_model_input(std::size_t step, view<const float> x) const {
    std::vector<float> out(x.size());
    detail::call([&](auto e) {
      return undiffuse_sampler_scale_model_input(get(), step, x.data(), x.size(), out.data(), e);
    });
    return out;
  }
  // The step at which image to image of a strength begins: add_noise there, then session::start_from.
  std::size_t start_of_strength(double strength) const {
    std::size_t step = 0;
    detail::call([&](auto e) { return undiffuse_sampler_start_of_strength(get(), strength, &step, e); });
    return step;
  }
  // alpha x_0 + sigma noise at the level of `step`.
  std::vector<float> add_noise(std::size_t step, view<const float> x0, view<const float> noise) const {
    same(x0.size(), noise.size(), "x0 and noise");
    std::vector<float> out(x0.size());
    detail::call([&](auto e) {
      return undiffuse_sampler_add_noise(get(), step, x0.data(), noise.data(), x0.size(), out.data(), e);
    });
    return out;
  }
  // Step `step` of `count` samples. `noise` may be empty where the step needs none, `state` where the sampler has none; `done` is how
  // many steps of this run were made before.
  stepped step(std::size_t step, view<const float> model_output, view<const float> x, view<const float> noise,
               std::size_t count = 1, view<const float> state = {}, std::size_t done = 0) const {
    if (count == 0 || x.size() % count != 0 || model_output.size() % count != 0)
      throw error(UNDIFFUSE_SHAPE, "x and model_output are not of " + std::to_string(count) + " samples");
    if (!noise.empty()) same(x.size(), noise.size(), "x and noise");
    auto io = detail::sized<undiffuse_step_io>();
    io.count = count;
    io.sample_len = x.size() / count;
    const std::size_t history = count * state_len(io.sample_len);
    if (history) same(history, state.size(), "the history and state");
    stepped out{std::vector<float>(x.size()), std::vector<float>(x.size()), std::vector<float>(history)};
    io.output_len = model_output.size() / count;
    io.model_output = model_output.data();
    io.x = x.data();
    io.noise = noise.data();
    io.next = out.next.data();
    io.x0 = out.x0.data();
    io.state = history ? state.data() : nullptr;
    io.next_state = history ? out.state.data() : nullptr;
    io.done = done;
    this->step(step, io);
    return out;
  }
  // The same into arrays of yours; allocates nothing here.
  void step(std::size_t step, const undiffuse_step_io &io) const {
    detail::call([&](auto e) { return undiffuse_sampler_step(get(), step, &io, e); });
  }

  const undiffuse_sampler *get() const noexcept { return sampler_.get(); }

 private:
  sampler() = default;
  static void same(std::size_t a, std::size_t b, const char *what) {
    if (a != b) throw error(UNDIFFUSE_SHAPE, std::string(what) + " have " + std::to_string(a) + " and " + std::to_string(b) + " values");
  }
  detail::object<undiffuse_sampler, undiffuse_sampler_free> sampler_;
};

}  // namespace undiffuse

#endif  // UNDIFFUSE_SAMPLER_HPP
