// Measurements, gradients and known bits, which r is made of.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_EVIDENCE_HPP
#define UNDIFFUSE_EVIDENCE_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "operator.hpp"
#include "sampler.hpp"

namespace undiffuse {

// The fields of undiffuse_method_options, with their defaults.
struct method_options : undiffuse_method_options {
  explicit method_options(undiffuse_method m = UNDIFFUSE_METHOD_CALIBRATED) {
    undiffuse_method_options_init(this, sizeof(undiffuse_method_options));
    method = m;
  }
};

// What a method needs and takes.
inline undiffuse_method_info info_of(undiffuse_method m) {
  auto i = detail::sized<undiffuse_method_info>();
  detail::call([&](auto e) { return undiffuse_method_get_info(m, &i, e); });
  return i;
}

// Your own evidence: `gradient(call, x, out)` fills out with the gradient of log r. The other fields are those of
// undiffuse_gradient_evidence.
struct gradient_evidence {
  std::function<void(const undiffuse::call &, view<const float> x, view<float> out)> gradient;
  undiffuse_gradient_rule rule = UNDIFFUSE_GRADIENT_SCORE;
  undiffuse_r_schedule r_schedule = UNDIFFUSE_R_CONSTANT;
  double scale = 1;
  std::uint64_t fingerprint = 0;
  std::string name;
};

// Evidence for a binary chain: odds, or `function(call, x, out)`, which fills out with them. The other fields are those of
// undiffuse_bit_evidence.
struct bit_evidence {
  std::vector<float> odds;
  std::function<void(const undiffuse::call &, view<const float> x, view<float> out)> function;
  undiffuse_r_schedule r_schedule = UNDIFFUSE_R_CONSTANT;
  double pi = 0.5;
  std::uint64_t fingerprint = 0;
};

// Evidence for a chain of classes: r of each class at each position. The other fields are those of undiffuse_class_evidence.
struct class_evidence {
  std::vector<float> weights;
  std::uint32_t class_count = 0;
  undiffuse_r_schedule r_schedule = UNDIFFUSE_R_CONSTANT;
  bool has_mask = false;
  std::uint32_t mask_class = 0;
  bool calibrated = false;
};

namespace detail {

struct gradient_state final : callbacks {
  using function = std::function<void(const undiffuse::call &, view<const float>, view<float>)>;
  explicit gradient_state(function f) : user(std::move(f)) {}
  static std::int32_t run(void *self, const undiffuse::call *c, const float *x, float *out) noexcept {
    auto *s = static_cast<gradient_state *>(self);
    const std::size_t n = c->count * c->sample_len;
    return s->guard([&] { s->user(*c, {x, n}, {out, n}); });
  }
  function user;
};

}  // namespace detail

// Evidence r: sessions made with it sample from p(x) r(x).
class evidence {
 public:
  // y = A x_0 + sigma n, one measurement for all samples.
  static evidence from_measurement(const linear_operator &op, view<const float> y, double sigma, const method_options &how = method_options()) {
    return measured(op, y, sigma, how, 0, 0);
  }
  // Row i of `y` belongs to sample first_sample + i.
  static evidence from_measurements(const linear_operator &op, view<const float> y, std::uint64_t first_sample, double sigma,
                                    const method_options &how = method_options()) {
    return measured(op, y, sigma, how, first_sample, 1);
  }
  // The model itself, with the covariance that steps of their length should have.
  static evidence optimal_variance(std::size_t variance_products) {
    evidence r;
    r.evidence_.make([&](auto out, auto e) { return undiffuse_evidence_optimal_variance(variance_products, out, e); });
    return r;
  }
  static evidence from_gradient(const gradient_evidence &g) {
    auto c = detail::sized<undiffuse_gradient_evidence>();
    evidence r;
    if (g.gradient) {
      auto state = std::make_shared<detail::gradient_state>(g.gradient);
      c.user_data = state.get();
      c.gradient = detail::gradient_state::run;
      r.evidence_.also_keep(state);
    }
    c.rule = g.rule;
    c.r_schedule = g.r_schedule;
    c.scale = g.scale;
    c.fingerprint = g.fingerprint;
    c.name = detail::c_string(g.name);
    r.evidence_.make([&](auto out, auto e) { return undiffuse_evidence_from_gradient(&c, out, e); });
    return r;
  }
  static evidence from_classes(const class_evidence &k) {
    auto c = detail::sized<undiffuse_class_evidence>();
    evidence r;
    c.weights = k.weights.data();
    c.weights_len = k.weights.size();
    c.class_count = k.class_count;
    c.r_schedule = k.r_schedule;
    c.has_mask = k.has_mask;
    c.mask_class = k.mask_class;
    c.calibrated = k.calibrated;
    r.evidence_.make([&](auto out, auto e) { return undiffuse_evidence_from_classes(&c, out, e); });
    return r;
  }
  static evidence from_bits(const bit_evidence &b) {
    auto c = detail::sized<undiffuse_bit_evidence>();
    evidence r;
    c.odds = b.odds.empty() ? nullptr : b.odds.data();
    c.odds_len = b.odds.size();
    c.r_schedule = b.r_schedule;
    c.pi = b.pi;
    c.fingerprint = b.fingerprint;
    if (b.function) {
      auto state = std::make_shared<detail::gradient_state>(b.function);
      c.user_data = state.get();
      c.function = detail::gradient_state::run;
      r.evidence_.also_keep(state);
    }
    r.evidence_.make([&](auto out, auto e) { return undiffuse_evidence_from_bits(&c, out, e); });
    return r;
  }

  // The sampler that this evidence is best run with on a model; the rest of `options` stays.
  sampler_options recommended(const model &m, sampler_options options = {}) const {
    detail::call(keep(), [&](auto e) { return undiffuse_evidence_recommend_sampler(get(), m.get(), &options, e); });
    return options;
  }

  // Turns standard normal noise into the x_T of DDRM and DDNM+, in place.
  void start(const sampler &s, std::uint64_t first_sample, view<float> x) const {
    detail::call(keep(), [&](auto e) {
      return undiffuse_evidence_start(get(), s.get(), first_sample, x.data(), x.size(), e);
    });
  }

  const undiffuse_evidence *get() const noexcept { return evidence_.get(); }
  const detail::kept &keep() const noexcept { return evidence_.keep(); }

 private:
  evidence() = default;
  static evidence measured(const linear_operator &op, view<const float> y, double sigma, const method_options &how,
                           std::uint64_t first_sample, std::uint32_t each) {
    auto m = detail::sized<undiffuse_measurement>();
    m.op = op.get();
    m.y = y.data();
    m.y_len = y.size();
    m.sigma = sigma;
    m.first_sample = first_sample;
    m.each = each;
    evidence r;
    r.evidence_.also_keep(op.keep());
    r.evidence_.make([&](auto out, auto e) { return undiffuse_evidence_from_measurement(&m, &how, out, e); });
    return r;
  }
  detail::object<undiffuse_evidence, undiffuse_evidence_free> evidence_;
};

}  // namespace undiffuse

#endif  // UNDIFFUSE_EVIDENCE_HPP
