// Bounds on the log-likelihood.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_BOUND_HPP
#define UNDIFFUSE_BOUND_HPP

#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "model.hpp"
#include "sampler.hpp"

namespace undiffuse {

// The fields of undiffuse_bound_options, some with other types.
struct bound_options : undiffuse_bound_options {
  bound_options() { undiffuse_bound_options_init(this, sizeof(undiffuse_bound_options)); }
  undiffuse::threads threads;
  const cancel_flag *cancel = nullptr;
  // Called after each network call with the rows done and the rows in all; false, or an exception, stops, by setting `cancel` if you gave one.
  std::function<bool(std::uint64_t done, std::uint64_t total)> progress;
  std::vector<float> classes;
};

namespace detail {

struct bound_state final : callbacks {
  explicit bound_state(const bound_options &o) : user(o.progress), flag(o.cancel ? o.cancel->get() : own.get()) {}
  static void run(void *self, std::uint64_t done, std::uint64_t total) noexcept {
    auto *s = static_cast<bound_state *>(self);
    bool go_on = false;
    s->guard([&] { go_on = s->user(done, total); });
    if (!go_on) undiffuse_cancel_set(s->flag);
  }
  std::function<bool(std::uint64_t, std::uint64_t)> user;
  cancel_flag own;
  undiffuse_cancel *flag;
};

}  // namespace detail

// A lower bound on the log-likelihood of data under a chain. Stopping is an error of status UNDIFFUSE_CANCELLED.
class bound {
 public:
  bound(const model &m, view<const float> data, const bound_options &o = {}) : bound(m, nullptr, data, o) {}
  bound(const model &m, const sampler &s, view<const float> data, const bound_options &o = {}) : bound(m, &s, data, o) {}

  undiffuse_bound_info info() const {
    auto i = detail::sized<undiffuse_bound_info>();
    detail::call([&](auto e) { return undiffuse_bound_get_info(get(), &i, e); });
    return i;
  }
  // K of each data point.
  std::vector<double> per_sample() const {
    return detail::filled<std::vector<double>>(
        [&](auto p, auto n, auto e) { return undiffuse_bound_per_sample(get(), p, n, e); });
  }
  std::vector<undiffuse_step_bound> steps() const {
    return detail::filled<std::vector<undiffuse_step_bound>>(
        [&](auto p, auto n, auto e) { return undiffuse_bound_steps(get(), p, n, e); });
  }
  const undiffuse_bound *get() const noexcept { return bound_.get(); }

 private:
  bound(const model &m, const sampler *s, view<const float> data, const bound_options &o) {
    undiffuse_bound_options c = o;
    c.threads = nullptr;
    c.cancel = o.cancel ? o.cancel->get() : nullptr;
    c.progress = nullptr;
    c.progress_user_data = nullptr;
    c.classes = o.classes.empty() ? nullptr : o.classes.data();
    c.classes_len = o.classes.size();
    bound_.also_keep(m.keep());
    if (auto t = detail::state_of(o.threads)) {
      c.threads = &t->c;
      bound_.also_keep(std::move(t));
    }
    if (o.progress) {
      auto p = std::make_shared<detail::bound_state>(o);
      c.progress = detail::bound_state::run;
      c.progress_user_data = p.get();
      c.cancel = p->flag;
      bound_.also_keep(std::move(p));
    }
    bound_.make([&](auto out, auto e) {
      return undiffuse_bound_new(m.get(), s ? s->get() : nullptr, &c, data.data(), data.size(), out, e);
    });
  }
  detail::object<undiffuse_bound, undiffuse_bound_free> bound_;
};

}  // namespace undiffuse

#endif  // UNDIFFUSE_BOUND_HPP
