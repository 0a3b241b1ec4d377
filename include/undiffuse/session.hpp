// Runs, and all of a run in one call.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_SESSION_HPP
#define UNDIFFUSE_SESSION_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "evidence.hpp"
#include "model.hpp"
#include "noise.hpp"
#include "sampler.hpp"

namespace undiffuse {

// Values for an input of a network beside x and the level: rows of the input's `len` floats; sample i gets row i modulo their number.
struct condition {
  std::string name;
  std::vector<float> values;
};

// Classifier-free guidance: see undiffuse_guidance.
struct guidance {
  double scale = 1;
  double rescale = 0;
  double interval_low = 0;
  double interval_high = std::numeric_limits<double>::infinity();
  std::vector<condition> negative;
};

// How a session runs: the fields of undiffuse_session_options, some with other types. `workspace` stays a pointer of yours.
struct session_options : undiffuse_session_options {
  session_options() { undiffuse_session_options_init(this, sizeof(undiffuse_session_options)); }
  undiffuse::noise noise;
  undiffuse::threads threads;
  undiffuse::allocator allocator;
  // nullptr, or a flag, which the session keeps.
  const cancel_flag *cancel = nullptr;
  // Called after each step of run(); true to go on.
  std::function<bool(const undiffuse::progress &)> progress;
  // One class for each entry; sample i gets entry i modulo their number.
  std::vector<float> classes;
  // What the model takes beside x, the level and classes.
  std::vector<undiffuse::condition> conditions;
  // Without negative conditions there is none.
  undiffuse::guidance guidance;
};

namespace detail {

struct progress_state final : callbacks {
  using function = std::function<bool(const undiffuse::progress &)>;
  explicit progress_state(function f) : user(std::move(f)) {}
  static std::int32_t run(void *self, const undiffuse::progress *p) noexcept {
    auto *s = static_cast<progress_state *>(self);
    bool go_on = false;
    s->guard([&] { go_on = s->user(*p); });
    return go_on ? 0 : 1;
  }
  function user;
};

inline std::vector<undiffuse_condition> lowered(const std::vector<condition> &list) {
  std::vector<undiffuse_condition> all;
  for (const auto &c : list) all.push_back({c.name.c_str(), c.values.data(), c.values.size()});
  return all;
}

// The C options, and what they point at.
struct lowered_options {
  lowered_options(const session_options &o, const model &m, const evidence *r) : c(o) {
    keep = m.keep();
    if (r) keep.insert(keep.end(), r->keep().begin(), r->keep().end());
    c.noise = nullptr;
    c.threads = nullptr;
    c.allocator = nullptr;
    c.progress = nullptr;
    c.progress_user_data = nullptr;
    c.cancel = o.cancel ? o.cancel->get() : nullptr;
    c.classes = o.classes.empty() ? nullptr : o.classes.data();
    c.classes_len = o.classes.size();
    given = lowered(o.conditions);
    c.conditions = given.data();
    c.condition_count = given.size();
    c.guidance = nullptr;
    if (!o.guidance.negative.empty()) {
      negative = lowered(o.guidance.negative);
      undiffuse_guidance_init(&guided, sizeof guided);
      guided.scale = o.guidance.scale;
      guided.rescale = o.guidance.rescale;
      guided.interval_low = o.guidance.interval_low;
      guided.interval_high = o.guidance.interval_high;
      guided.negative = negative.data();
      guided.negative_count = negative.size();
      c.guidance = &guided;
    }
    if (o.noise.fill || !o.noise.x_t.empty() || o.noise.generator != UNDIFFUSE_GENERATOR_OWN) {
      auto s = std::make_shared<noise_state>(o.noise);
      s->check(m.info().sample_len);
      c.noise = &s->c;
      keep.push_back(std::move(s));
    }
    if (auto s = state_of(o.threads)) {
      c.threads = &s->c;
      keep.push_back(std::move(s));
    }
    if (auto s = state_of(o.allocator)) {
      c.allocator = &s->c;
      keep.push_back(std::move(s));
    }
    if (o.progress) {
      auto s = std::make_shared<progress_state>(o.progress);
      c.progress = progress_state::run;
      c.progress_user_data = s.get();
      keep.push_back(std::move(s));
    }
  }
  lowered_options(const lowered_options &) = delete;
  lowered_options &operator=(const lowered_options &) = delete;
  undiffuse_session_options c;
  undiffuse_guidance guided;
  std::vector<undiffuse_condition> given, negative;
  kept keep;
};

}  // namespace detail

// A run of a model: one batch of samples on its way from noise to x_0.
class session {
 public:
  explicit session(const model &m, const session_options &o = {}) : session(m, nullptr, nullptr, o) {}
  session(const model &m, const sampler &s, const session_options &o = {}) : session(m, &s, nullptr, o) {}
  session(const model &m, const sampler &s, const evidence &r, const session_options &o = {}) : session(m, &s, &r, o) {}
  // nullptr: what the evidence recommends, without evidence what `undiffuse sample` runs; no evidence.
  session(const model &m, const sampler *s, const evidence *r, const session_options &o = {}) {
    const detail::lowered_options options(o, m, r);
    session_.also_keep(options.keep);
    session_.make([&](auto out, auto e) {
      return undiffuse_session_new(m.get(), raw(s), raw(r), &options.c, out, e);
    });
  }

  // The bytes that a session of these arguments takes, for `workspace`.
  static std::size_t required_bytes(const model &m, const sampler *s, const evidence *r, const session_options &o = {}) {
    const detail::lowered_options options(o, m, r);
    std::size_t bytes = 0;
    detail::call(options.keep, [&](auto e) {
      return undiffuse_session_required_bytes(m.get(), raw(s), raw(r), &options.c, &bytes, e);
    });
    return bytes;
  }

  // What the session runs on.
  std::string describe() const {
    return detail::filled<std::string>([&](auto p, auto n, auto e) { return undiffuse_session_describe(get(), p, n, e); });
  }
  // All steps that are left: true when the run is done, false when the progress callback stopped it. Call it again to go on.
  bool run() {
    return checked([&](auto e) { return undiffuse_session_run(get(), e); }) != UNDIFFUSE_STOPPED;
  }
  // One step, if there is one left.
  void step() {
    checked([&](auto e) { return undiffuse_session_step(get(), e); });
  }
  undiffuse_session_info info() const {
    auto i = detail::sized<undiffuse_session_info>();
    detail::call([&](auto e) { return undiffuse_session_get_info(get(), &i, e); });
    return i;
  }
  bool done() const {
    const auto i = info();
    return i.step == i.step_count;
  }
  // The samples where they stand, [count, sample_len]; valid until the next call of a member that is not const.
  view<const float> x() const { return array(undiffuse_session_x); }
  // The x_0 that the last step predicted, likewise.
  view<const float> x0() const { return array(undiffuse_session_x0); }

  // Begins again at x_T.
  void restart(std::uint64_t first_sample, std::size_t count) {
    checked([&](auto e) { return undiffuse_session_restart(get(), first_sample, count, e); });
  }
  // Begins at step `step` with these samples, which are copied.
  void start_from(std::size_t step, view<const float> x, std::uint64_t first_sample) {
    checked([&](auto e) { return undiffuse_session_start_from(get(), step, x.data(), x.size(), first_sample, e); });
  }
  // The normal values that its noise has for draw `draw` of `count` samples: UNDIFFUSE_ENCODER_DRAW for codec::encode, 0 for add_noise.
  std::vector<float> noise(std::uint64_t first_sample, std::uint64_t draw, std::size_t count) {
    std::vector<float> out(info().sample_len * count);
    checked([&](auto e) { return undiffuse_session_noise(get(), first_sample, draw, out.data(), out.size(), e); });
    return out;
  }
  std::vector<std::uint8_t> save() const {
    return detail::filled<std::vector<std::uint8_t>>(
        [&](auto p, auto n, auto e) { return undiffuse_session_save(get(), p, n, e); });
  }
  void restore(view<const std::uint8_t> bytes) {
    checked([&](auto e) { return undiffuse_session_restore(get(), bytes.data(), bytes.size(), e); });
  }
  // The network alone at the level of `step`.
  std::vector<float> predict(std::size_t step, std::uint64_t first_sample, view<const float> x) {
    const auto i = info();
    std::vector<float> out(i.sample_len ? x.size() / i.sample_len * i.output_len : 0);
    checked([&](auto e) {
      return undiffuse_session_predict(get(), step, first_sample, x.data(), x.size(), out.data(), out.size(), e);
    });
    return out;
  }
  // Its vector-Jacobian product J^T v.
  std::vector<float> vjp(std::size_t step, std::uint64_t first_sample, view<const float> x, view<const float> v) {
    std::vector<float> out(x.size());
    checked([&](auto e) {
      return undiffuse_session_vjp(get(), step, first_sample, x.data(), x.size(), v.data(), v.size(), out.data(), e);
    });
    return out;
  }

  // Other rows for an input, from the next step on.
  void set_condition(const condition &given) {
    const undiffuse_condition c{given.name.c_str(), given.values.data(), given.values.size()};
    checked([&](auto e) { return undiffuse_session_set_condition(get(), &c, e); });
  }
  void set_negative(const condition &given) {
    const undiffuse_condition c{given.name.c_str(), given.values.data(), given.values.size()};
    checked([&](auto e) { return undiffuse_session_set_negative(get(), &c, e); });
  }

  undiffuse_session *get() const noexcept { return session_.get(); }

 private:
  static const undiffuse_sampler *raw(const sampler *s) { return s ? s->get() : nullptr; }
  static const undiffuse_evidence *raw(const evidence *r) { return r ? r->get() : nullptr; }
  template <class F>
  undiffuse_status checked(F &&f) {
    return detail::call(session_.keep(), std::forward<F>(f));
  }
  template <class F>
  view<const float> array(F f) const {
    const float *p = nullptr;
    std::size_t n = 0;
    detail::call([&](auto e) { return f(get(), &p, &n, e); });
    return {p, n};
  }
  detail::object<undiffuse_session, undiffuse_session_free> session_;
};

// All in one call: `count` samples, [count, sample_len] or, of a latent model, decoded, [count, data_len], batch by batch. Throws UNDIFFUSE_STOPPED as an error if `progress` stops it.
inline std::vector<float> sample(const model &m, const sampler *s, const evidence *r, std::size_t count, const session_options &o = {}) {
  const detail::lowered_options options(o, m, r);
  const std::size_t n = m.info().data_len;
  std::vector<float> out;
  if (n && count > out.max_size() / n) throw error(UNDIFFUSE_OUT_OF_MEMORY, "too many samples");
  out.resize(n * count);
  const auto status = detail::call(options.keep, [&](auto e) {
    return undiffuse_sample(m.get(), s ? s->get() : nullptr, r ? r->get() : nullptr, &options.c, out.data(), out.size(), e);
  });
  if (status == UNDIFFUSE_STOPPED) throw error(status, undiffuse_status_name(status));
  return out;
}
inline std::vector<float> sample(const model &m, std::size_t count, const session_options &o = {}) {
  return sample(m, nullptr, nullptr, count, o);
}

// From samples to data and back: the autoencoder of a latent model, the scale of a 2015 one; a copy for others.
class codec {
 public:
  explicit codec(const model &m, std::size_t thread_count = 0) {
    undiffuse_codec_options o;
    undiffuse_codec_options_init(&o, sizeof o);
    o.thread_count = thread_count;
    codec_.make([&](auto out, auto e) { return undiffuse_codec_new(m.get(), &o, out, e); });
  }

  undiffuse_codec_info info() const {
    auto i = detail::sized<undiffuse_codec_info>();
    detail::call([&](auto e) { return undiffuse_codec_get_info(get(), &i, e); });
    return i;
  }
  // The data of whole samples, one after the other.
  std::vector<float> decode(view<const float> x) {
    const auto i = info();
    std::vector<float> data(x.size() / i.sample_len * i.data_len);
    detail::call([&](auto e) {
      return undiffuse_codec_decode(codec_.get(), x.data(), x.size(), data.data(), data.size(), e);
    });
    return data;
  }
  // The samples of whole data, one after the other, for image to image. `noise`, as many standard normal values as there
  // are in the result, samples the distribution of an AutoencoderKL; without it they are its mean.
  std::vector<float> encode(view<const float> data, view<const float> noise = {}) {
    const auto i = info();
    std::vector<float> x(i.encoded_len ? data.size() / i.encoded_len * i.sample_len : 0);
    if (noise.size() && noise.size() != x.size()) throw error(UNDIFFUSE_SHAPE, "the noise has not as many values as the samples");
    detail::call([&](auto e) {
      return undiffuse_codec_encode(codec_.get(), data.data(), data.size(), noise.size() ? noise.data() : nullptr, x.data(), x.size(), e);
    });
    return x;
  }
  const undiffuse_codec *get() const noexcept { return codec_.get(); }

 private:
  detail::object<undiffuse_codec, undiffuse_codec_free> codec_;
};

}  // namespace undiffuse

#endif  // UNDIFFUSE_SESSION_HPP
