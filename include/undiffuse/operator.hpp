// Maps from a sample to a measurement.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_OPERATOR_HPP
#define UNDIFFUSE_OPERATOR_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core.hpp"

namespace undiffuse {

// Your own operator; pseudo_inverse may be empty. `output_dims` are those of a measurement.
struct operator_functions {
  using map = std::function<void(view<const float> from, view<float> to)>;
  map apply;
  map adjoint;
  map pseudo_inverse;
  std::vector<std::size_t> output_dims;
};

// Your own operator that is not linear: y = A(x), and J(x)^T v of its derivative J.
struct forward_functions {
  std::function<void(view<const float> x, view<float> y)> forward;
  std::function<void(view<const float> x, view<const float> v, view<float> out)> vjp;
  std::vector<std::size_t> output_dims;
};

namespace detail {

struct forward_state final : callbacks {
  explicit forward_state(forward_functions f) : user(std::move(f)) {}
  static std::int32_t forward(void *self, const float *x, std::size_t x_len, float *y, std::size_t y_len) noexcept {
    auto *s = static_cast<forward_state *>(self);
    return s->guard([&] { s->user.forward({x, x_len}, {y, y_len}); });
  }
  static std::int32_t vjp(void *self, const float *x, std::size_t x_len, const float *v, std::size_t v_len, float *out,
                          std::size_t out_len) noexcept {
    auto *s = static_cast<forward_state *>(self);
    return s->guard([&] { s->user.vjp({x, x_len}, {v, v_len}, {out, out_len}); });
  }
  forward_functions user;
};

struct operator_state final : callbacks {
  explicit operator_state(operator_functions f) : user(std::move(f)) {}
  template <operator_functions::map operator_functions::*Map>
  static std::int32_t run(void *self, const float *from, std::size_t from_len, float *to, std::size_t to_len) noexcept {
    auto *s = static_cast<operator_state *>(self);
    return s->guard([&] { (s->user.*Map)({from, from_len}, {to, to_len}); });
  }
  operator_functions user;
};

}  // namespace detail

// A map A from a sample to a measurement: linear, but for clip, gamma, quantize, fourier_magnitude and
// from_forward_functions, which DPS, DAPS, RED-diff and SITCOM take. `dims` are those of a sample, outermost first.
class linear_operator {
 public:
  using dims_t = std::vector<std::size_t>;

  static linear_operator identity(const dims_t &d) {
    return made([&](auto out, auto e) { return undiffuse_operator_identity(d.data(), d.size(), out, e); });
  }
  static linear_operator mask(const dims_t &d, view<const std::uint8_t> known) {
    return made([&](auto out, auto e) {
      return undiffuse_operator_mask(d.data(), d.size(), known.data(), known.size(), out, e);
    });
  }
  static linear_operator without_box(const dims_t &d, std::size_t top, std::size_t left, std::size_t height, std::size_t width) {
    return made([&](auto out, auto e) {
      return undiffuse_operator_without_box(d.data(), d.size(), top, left, height, width, out, e);
    });
  }
  static linear_operator channels(const dims_t &d, view<const std::size_t> channels) {
    return made([&](auto out, auto e) {
      return undiffuse_operator_channels(d.data(), d.size(), channels.data(), channels.size(), out, e);
    });
  }
  // No weights: the mean of the channels.
  static linear_operator grey(const dims_t &d, view<const double> weights = {}) {
    return made([&](auto out, auto e) {
      return undiffuse_operator_grey(d.data(), d.size(), weights.data(), weights.size(), out, e);
    });
  }
  static linear_operator block_average(const dims_t &d, std::size_t factor) {
    return made([&](auto out, auto e) { return undiffuse_operator_block_average(d.data(), d.size(), factor, out, e); });
  }
  static linear_operator bicubic(const dims_t &d, std::size_t factor, undiffuse_padding padding) {
    return made([&](auto out, auto e) { return undiffuse_operator_bicubic(d.data(), d.size(), factor, padding, out, e); });
  }
  static linear_operator separable_blur(const dims_t &d, view<const float> down, view<const float> across, undiffuse_padding padding) {
    return made([&](auto out, auto e) {
      return undiffuse_operator_separable_blur(d.data(), d.size(), down.data(), down.size(), across.data(), across.size(),
                                               padding, out, e);
    });
  }
  // `kernel` row by row, of rows of `kernel_width`.
  static linear_operator circular_blur(const dims_t &d, view<const float> kernel, std::size_t kernel_width) {
    if (kernel_width == 0 || kernel.size() % kernel_width != 0)
      throw error(UNDIFFUSE_SHAPE, "the kernel is not of rows of " + std::to_string(kernel_width) + " taps");
    return made([&](auto out, auto e) {
      return undiffuse_operator_circular_blur(d.data(), d.size(), kernel.data(), kernel.size() / kernel_width, kernel_width,
                                              out, e);
    });
  }
  // `matrix` of rows as long as a sample.
  static linear_operator dense(const dims_t &d, view<const float> matrix) {
    std::size_t n = 1;
    for (std::size_t side : d) {
      if (side == 0 || n > matrix.size() / side) throw error(UNDIFFUSE_SHAPE, "the matrix is shorter than one row");
      n *= side;
    }
    if (matrix.size() % n != 0) throw error(UNDIFFUSE_SHAPE, "the matrix is not of rows of " + std::to_string(n) + " values");
    return made([&](auto out, auto e) {
      return undiffuse_operator_dense(d.data(), d.size(), matrix.data(), matrix.size() / n, out, e);
    });
  }
  static linear_operator hadamard(const dims_t &d, std::size_t measurements, std::uint64_t seed) {
    return made([&](auto out, auto e) {
      return undiffuse_operator_hadamard(d.data(), d.size(), measurements, seed, out, e);
    });
  }
  static linear_operator clip(const dims_t &d, double gain) {
    return made([&](auto out, auto e) { return undiffuse_operator_clip(d.data(), d.size(), gain, out, e); });
  }
  static linear_operator gamma(const dims_t &d, double exponent) {
    return made([&](auto out, auto e) { return undiffuse_operator_gamma(d.data(), d.size(), exponent, out, e); });
  }
  static linear_operator quantize(const dims_t &d, std::uint32_t levels) {
    return made([&](auto out, auto e) { return undiffuse_operator_quantize(d.data(), d.size(), levels, out, e); });
  }
  static linear_operator fourier_magnitude(const dims_t &d, double oversampling) {
    return made([&](auto out, auto e) {
      return undiffuse_operator_fourier_magnitude(d.data(), d.size(), oversampling, out, e);
    });
  }
  static linear_operator from_forward_functions(const dims_t &d, const forward_functions &f) {
    using state_t = detail::forward_state;
    auto state = std::make_shared<state_t>(f);
    auto c = detail::sized<undiffuse_forward_callbacks>();
    c.user_data = state.get();
    if (f.forward) c.forward = state_t::forward;
    if (f.vjp) c.vjp = state_t::vjp;
    detail::copy_dims(f.output_dims, c.output_rank, c.output_dims);
    return made([&](auto out, auto e) { return undiffuse_operator_from_forward_callbacks(d.data(), d.size(), &c, out, e); }, state);
  }
  static linear_operator from_functions(const dims_t &d, const operator_functions &f) {
    using state_t = detail::operator_state;
    auto state = std::make_shared<state_t>(f);
    auto c = detail::sized<undiffuse_operator_callbacks>();
    c.user_data = state.get();
    if (f.apply) c.apply = state_t::run<&operator_functions::apply>;
    if (f.adjoint) c.adjoint = state_t::run<&operator_functions::adjoint>;
    if (f.pseudo_inverse) c.pseudo_inverse = state_t::run<&operator_functions::pseudo_inverse>;
    detail::copy_dims(f.output_dims, c.output_rank, c.output_dims);
    return made([&](auto out, auto e) { return undiffuse_operator_from_callbacks(d.data(), d.size(), &c, out, e); }, state);
  }

  undiffuse_operator_info info() const {
    auto i = detail::sized<undiffuse_operator_info>();
    detail::call([&](auto e) { return undiffuse_operator_get_info(get(), &i, e); });
    return i;
  }
  // y = A x
  std::vector<float> apply(view<const float> x) const {
    return mapped(undiffuse_operator_apply, x, info().output_len);
  }
  // J(x)^T v
  std::vector<float> vjp(view<const float> x, view<const float> v) const {
    std::vector<float> out(x.size());
    detail::call(keep(), [&](auto e) {
      return undiffuse_operator_vjp(get(), x.data(), x.size(), v.data(), v.size(), out.data(), out.size(), e);
    });
    return out;
  }
  // x = A^T y
  std::vector<float> adjoint(view<const float> y) const {
    return mapped(undiffuse_operator_adjoint, y, info().input_len);
  }
  // x = A^+ y
  std::vector<float> pseudo_inverse(view<const float> y) const {
    return mapped(undiffuse_operator_pseudo_inverse, y, info().input_len);
  }

  const undiffuse_operator *get() const noexcept { return op_.get(); }
  const detail::kept &keep() const noexcept { return op_.keep(); }

 private:
  linear_operator() = default;
  template <class F>
  static linear_operator made(F &&f, std::shared_ptr<detail::callbacks> state = nullptr) {
    linear_operator o;
    o.op_.also_keep(std::move(state));
    o.op_.make(f);
    return o;
  }
  template <class F>
  std::vector<float> mapped(F f, view<const float> from, std::size_t to_len) const {
    std::vector<float> to(to_len);
    detail::call(keep(), [&](auto e) { return f(get(), from.data(), from.size(), to.data(), to.size(), e); });
    return to;
  }
  detail::object<undiffuse_operator, undiffuse_operator_free> op_;
};

// A normalised Gaussian kernel of an odd number of taps.
inline std::vector<float> gaussian_kernel(std::size_t taps, double sigma) {
  std::vector<float> out(taps);
  detail::call([&](auto e) { return undiffuse_gaussian_kernel(taps, sigma, out.data(), e); });
  return out;
}

}  // namespace undiffuse

#endif  // UNDIFFUSE_OPERATOR_HPP
