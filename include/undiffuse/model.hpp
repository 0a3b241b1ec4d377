// Networks compiled from weights, and denoisers of your own.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_MODEL_HPP
#define UNDIFFUSE_MODEL_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "host.hpp"

namespace undiffuse {

// How a model is loaded: the fields of undiffuse_model_options, some with other types.
struct model_options : undiffuse_model_options {
  model_options() {
    undiffuse_model_options_init(this, sizeof(undiffuse_model_options));
  }
  // The text of a diffusers scheduler_config.json in place of the model's own; empty for that.
  std::string scheduler_json;
  undiffuse::allocator allocator;
};

// Your own denoiser. `predict(call, x, out)` fills out from x; `vjp(call, x, v, out)` may be empty. The other fields are those of
// undiffuse_denoiser.
struct denoiser {
  std::function<void(const undiffuse::call &, view<const float> x, view<float> out)> predict;
  std::function<void(const undiffuse::call &, view<const float> x, view<const float> v, view<float> out)> vjp;
  std::vector<std::size_t> dims;
  std::size_t output_len = 0;
  std::size_t max_batch = 0;
  std::uint64_t fingerprint = 0;
  std::string name;
  std::string scheduler_json;
};

namespace detail {

struct denoiser_state final : callbacks {
  explicit denoiser_state(denoiser d) : user(std::move(d)) {}

  std::size_t output_len(const undiffuse::call *c) const {
    return c->count * (user.output_len ? user.output_len : c->sample_len);
  }
  static std::int32_t predict(void *self, const undiffuse::call *c, const float *x, float *out) noexcept {
    auto *s = static_cast<denoiser_state *>(self);
    return s->guard([&] { s->user.predict(*c, {x, c->count * c->sample_len}, {out, s->output_len(c)}); });
  }
  static std::int32_t vjp(void *self, const undiffuse::call *c, const float *x, const float *v, float *out) noexcept {
    auto *s = static_cast<denoiser_state *>(self);
    const std::size_t n = c->count * c->sample_len;
    return s->guard([&] { s->user.vjp(*c, {x, n}, {v, s->output_len(c)}, {out, n}); });
  }
  denoiser user;
};

}  // namespace detail

// What predicts.
class model {
 public:
  // A diffusers pipeline directory or a packed file.
  static model load(const std::string &path, const model_options &options = {}) {
    return made(options, [&](auto o, auto out, auto e) { return undiffuse_model_load(path.c_str(), o, out, e); });
  }
  // A packed file in memory, not needed afterwards.
  static model load_memory(view<const std::uint8_t> bytes, const model_options &options = {}) {
    return made(options, [&](auto o, auto out, auto e) {
      return undiffuse_model_load_memory(bytes.data(), bytes.size(), o, out, e);
    });
  }
  // The digits that come with the library, if it was built with them.
  static model load_embedded(const model_options &options = {}) {
    return made(options, [](auto o, auto out, auto e) { return undiffuse_model_load_embedded(o, out, e); });
  }
  static model from_denoiser(const denoiser &d) {
    auto state = std::make_shared<detail::denoiser_state>(d);
    auto c = detail::sized<undiffuse_denoiser>();
    c.user_data = state.get();
    if (d.predict) c.predict = detail::denoiser_state::predict;
    if (d.vjp) c.vjp = detail::denoiser_state::vjp;
    detail::copy_dims(d.dims, c.rank, c.dims);
    c.output_len = d.output_len;
    c.max_batch = d.max_batch;
    c.fingerprint = d.fingerprint;
    c.name = detail::c_string(d.name);
    c.scheduler_json = detail::c_string(d.scheduler_json);
    c.scheduler_json_len = d.scheduler_json.size();
    model m;
    m.model_.also_keep(state);
    m.model_.make([&](auto out, auto e) { return undiffuse_model_from_denoiser(&c, out, e); });
    return m;
  }

  undiffuse_model_info info() const {
    auto i = detail::sized<undiffuse_model_info>();
    detail::call([&](auto e) { return undiffuse_model_get_info(get(), &i, e); });
    return i;
  }
  std::string scheduler_json() const {
    return detail::filled<std::string>([&](auto p, auto n, auto e) { return undiffuse_model_scheduler_json(get(), p, n, e); });
  }
  // Empty for a denoiser of yours.
  std::string config_json() const {
    return detail::filled<std::string>([&](auto p, auto n, auto e) { return undiffuse_model_config_json(get(), p, n, e); });
  }

  // The inputs of the network, x and the timestep among them; names are valid as long as the model.
  std::vector<undiffuse_input_info> inputs() const {
    std::vector<undiffuse_input_info> all(info().input_count);
    for (std::size_t n = 0; n < all.size(); n++) {
      all[n] = detail::sized<undiffuse_input_info>();
      detail::call([&](auto e) { return undiffuse_model_get_input(get(), n, &all[n], e); });
    }
    return all;
  }

  const undiffuse_model *get() const noexcept { return model_.get(); }
  const detail::kept &keep() const noexcept { return model_.keep(); }

 private:
  model() = default;
  template <class F>
  static model made(const model_options &options, F &&f) {
    undiffuse_model_options c = options;
    c.scheduler_json = detail::c_string(options.scheduler_json);
    c.scheduler_json_len = options.scheduler_json.size();
    auto a = detail::state_of(options.allocator);
    c.allocator = a ? &a->c : nullptr;
    model m;
    m.model_.also_keep(a);
    m.model_.make([&](auto out, auto e) { return f(&c, out, e); });
    return m;
  }
  detail::object<undiffuse_model, undiffuse_model_free> model_;
};

}  // namespace undiffuse

#endif  // UNDIFFUSE_MODEL_HPP
