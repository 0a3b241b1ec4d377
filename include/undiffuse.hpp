// undiffuse for C++17: the C library of undiffuse.h as classes that own, throw and take std::function.
//
// Header only. What a function does, and each field of an options struct, is said in undiffuse.h under the C name; here stands what is
// different. A first program:
//
//     #include <cstdio>
//     #include <undiffuse.hpp>
//
//     int main(int, char **argv) {
//       try {
//         auto model = undiffuse::model::load(argv[1]);
//         undiffuse::sampler_options how;
//         how.kind = UNDIFFUSE_SAMPLER_DDIM;
//         how.steps = 10;
//         undiffuse::session_options options;
//         options.seed = 42;
//         options.progress = [](const undiffuse::progress &p) {
//           std::printf("step %zu of %zu\n", p.step + 1, p.step_count);
//           return true;
//         };
//         undiffuse::session session(model, undiffuse::sampler(model, how), options);
//         session.run();
//         for (float value : session.x().first(4)) std::printf("%.3f\n", value);
//       } catch (const undiffuse::error &e) {
//         std::fprintf(stderr, "%s\n", e.what());
//         return 1;
//       }
//     }
//
// Objects are moved, not copied. A moved-from object can be assigned to and destroyed, nothing else. They may go in any order: each
// keeps what it needs of the others, callbacks included. A std::function is copied into the object that it was given to.
//
// Errors are exceptions of class `error`. An exception of a callback does not pass through the library: it is kept, the library is told
// that the callback failed, and the call that ran the callback throws it, with its own type. The session stands after its last whole
// step. There is no global state.
//
// Threads: const members may be called from several threads at once, others from one at a time. If several sessions use an object with
// callbacks, these must be ready to be called from several threads at once.
#ifndef UNDIFFUSE_HPP
#define UNDIFFUSE_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "undiffuse.h"

namespace undiffuse {

using level = undiffuse_level;
using call = undiffuse_call;
using progress = undiffuse_progress;

// A status of the library below 0, with its text.
class error : public std::runtime_error {
 public:
  error(undiffuse_status status, const std::string &text) : std::runtime_error(text), status_(status) {}
  undiffuse_status status() const noexcept { return status_; }

 private:
  undiffuse_status status_;
};

// A pointer and a length: what std::span is in C++20. It owns nothing.
template <class T>
class view {
 public:
  view() noexcept = default;
  view(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  // From what has data() and size(): std::vector, std::array, std::span, another view.
  template <class C, class P = decltype(std::declval<C &>().data()), class = decltype(std::declval<C &>().size()),
            class = std::enable_if_t<std::is_convertible_v<std::remove_pointer_t<P> (*)[], T (*)[]>>>
  view(C &&c) noexcept : data_(c.data()), size_(c.size()) {}

  T *data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T *begin() const noexcept { return data_; }
  T *end() const noexcept { return data_ + size_; }
  // Not checked.
  T &operator[](std::size_t i) const noexcept { return data_[i]; }
  // At most the first `n` elements.
  view first(std::size_t n) const noexcept { return view(data_, n < size_ ? n : size_); }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};

namespace detail {

// Where callbacks of one object leave their exceptions, each for the thread that called the library.
class callbacks {
 public:
  callbacks() = default;
  callbacks(const callbacks &) = delete;
  callbacks &operator=(const callbacks &) = delete;
  virtual ~callbacks() = default;

  // Runs `f`; 0 if it returned, UNDIFFUSE_CALLBACK if it threw.
  template <class F>
  std::int32_t guard(F &&f) noexcept {
    try {
      f();
      return UNDIFFUSE_OK;
    } catch (...) {
      try {
        std::lock_guard<std::mutex> lock(mutex_);
        thrown_.emplace_back(std::this_thread::get_id(), std::current_exception());
      } catch (...) {  // No memory to keep it: the status still says that the callback failed.
      }
      return UNDIFFUSE_CALLBACK;
    }
  }

  // Takes the first exception of this thread, and drops what others it left.
  std::exception_ptr take() {
    std::lock_guard<std::mutex> lock(mutex_);
    std::exception_ptr first;
    const auto me = std::this_thread::get_id();
    for (auto it = thrown_.begin(); it != thrown_.end();) {
      if (it->first == me) {
        if (!first) first = it->second;
        it = thrown_.erase(it);
      } else {
        ++it;
      }
    }
    return first;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::thread::id, std::exception_ptr>> thrown_;
};

using kept = std::vector<std::shared_ptr<callbacks>>;

// Throws what a callback threw, else an error if `status` says so. Takes `e`.
inline undiffuse_status check(undiffuse_status status, undiffuse_error *e, const kept &keep) {
  const std::unique_ptr<undiffuse_error, void (*)(undiffuse_error *)> owned(e, undiffuse_error_free);
  std::exception_ptr thrown;
  for (const auto &c : keep) {
    auto t = c->take();
    if (!thrown) thrown = t;
  }
  if (thrown) std::rethrow_exception(thrown);
  if (status < 0) {
    const char *text = undiffuse_error_message(e);
    throw error(status, *text ? text : undiffuse_status_name(status));
  }
  return status;
}

// Calls `f(undiffuse_error **)` and checks.
template <class F>
undiffuse_status call(const kept &keep, F &&f) {
  undiffuse_error *e = nullptr;
  const undiffuse_status status = f(&e);
  return check(status, status < 0 ? e : nullptr, keep);
}

template <class F>
undiffuse_status call(F &&f) {
  return call(kept(), std::forward<F>(f));
}

// The size first, then the content.
template <class C, class F>
C filled(F &&f) {
  std::size_t len = 0;
  call([&](auto e) { return f(static_cast<typename C::value_type *>(nullptr), &len, e); });
  C out(len, typename C::value_type());
  if (len == 0) return out;
  call([&](auto e) { return f(out.data(), &len, e); });
  out.resize(len);
  return out;
}

template <class T>
T sized() {
  T t{};
  t.struct_size = sizeof(T);
  return t;
}

// A handle and the callbacks that must outlive it.
template <class T, void (*Free)(T *)>
class object {
 public:
  object() = default;
  object(object &&) noexcept = default;
  object &operator=(object &&other) noexcept {
    object old(std::move(other));  // The old handle is freed before its callbacks.
    std::swap(keep_, old.keep_);
    std::swap(handle_, old.handle_);
    return *this;
  }

  // The C handle, still owned by this object; NULL once it was moved from.
  T *get() const noexcept { return handle_.get(); }
  const kept &keep() const noexcept { return keep_; }

  // Makes the handle by `f(T **, undiffuse_error **)`.
  template <class F>
  void make(F &&f) {
    T *t = nullptr;
    undiffuse_error *e = nullptr;
    const undiffuse_status status = f(&t, &e);
    handle_.reset(t);
    check(status, status < 0 ? e : nullptr, keep_);
  }

  void also_keep(std::shared_ptr<callbacks> c) {
    if (c) keep_.push_back(std::move(c));
  }
  void also_keep(const kept &others) { keep_.insert(keep_.end(), others.begin(), others.end()); }

 private:
  struct deleter {
    void operator()(T *t) const noexcept { Free(t); }
  };
  kept keep_;
  std::unique_ptr<T, deleter> handle_;
};

inline const char *c_string(const std::string &s) { return s.empty() ? nullptr : s.c_str(); }

}  // namespace detail

// ---- Versions ---------------------------------------------------------------------------

// Whether the library that the program runs with has all that this header has, and still runs programs of this header.
inline bool is_compatible() noexcept {
  return undiffuse_abi_version() >= UNDIFFUSE_ABI_VERSION && undiffuse_abi_oldest() <= UNDIFFUSE_ABI_VERSION;
}

// ---- Cancel flags and devices -----------------------------------------------------------

// A flag that stops the sessions that use it. set, reset and is_set may be called from any thread at any time; in a signal handler call
// undiffuse_cancel_set(flag.get()).
class cancel_flag {
 public:
  cancel_flag() {
    flag_.make([](auto out, auto e) { return undiffuse_cancel_new(out, e); });
  }
  void set() const noexcept { undiffuse_cancel_set(flag_.get()); }
  void reset() const noexcept { undiffuse_cancel_reset(flag_.get()); }
  bool is_set() const noexcept { return undiffuse_cancel_is_set(flag_.get()); }
  undiffuse_cancel *get() const noexcept { return flag_.get(); }

 private:
  detail::object<undiffuse_cancel, undiffuse_cancel_free> flag_;
};

// The devices of a backend; throws if the backend is not built in.
inline std::vector<undiffuse_device_info> devices(undiffuse_backend backend) {
  std::uint32_t count = 0;
  detail::call([&](auto e) { return undiffuse_device_count(backend, &count, e); });
  std::vector<undiffuse_device_info> out(count, detail::sized<undiffuse_device_info>());
  for (std::uint32_t i = 0; i < count; i++)
    detail::call([&](auto e) { return undiffuse_device_get_info(backend, i, &out[i], e); });
  return out;
}

// ---- Memory and threads -----------------------------------------------------------------

// Your allocator. `allocate(size, alignment)` may throw or give nullptr; `deallocate(block, size, alignment)` must not throw. Both empty:
// malloc.
struct allocator {
  std::function<void *(std::size_t, std::size_t)> allocate;
  std::function<void(void *, std::size_t, std::size_t)> deallocate;
};

// One task of a parallel-for. A small value, to be copied into your threads; it does not throw.
class task {
 public:
  task(undiffuse_task_fn f, void *data) noexcept : f_(f), data_(data) {}
  void operator()(std::size_t index) const noexcept { f_(data_, index); }

 private:
  undiffuse_task_fn f_;
  void *data_;
};

// Your threads: `parallel_for(count, task)` calls task(i) for every i below count and returns when all have returned. Empty with a
// thread_count above 0: all on the calling thread. A thread_count of 0: the library's own threads.
struct threads {
  std::size_t thread_count = 0;
  std::function<void(std::size_t count, task)> parallel_for;
};

namespace detail {

struct allocator_state final : callbacks {
  explicit allocator_state(allocator a) : user(std::move(a)), c(sized<undiffuse_allocator>()) {
    c.user_data = this;
    c.allocate = [](void *self, std::size_t size, std::size_t alignment) noexcept -> void * {
      auto *s = static_cast<allocator_state *>(self);
      void *block = nullptr;
      s->guard([&] { block = s->user.allocate(size, alignment); });
      return block;
    };
    c.deallocate = [](void *self, void *block, std::size_t size, std::size_t alignment) noexcept {
      static_cast<allocator_state *>(self)->user.deallocate(block, size, alignment);
    };
  }
  allocator user;
  undiffuse_allocator c;
};

inline std::shared_ptr<allocator_state> state_of(const allocator &a) {
  if (!a.allocate && !a.deallocate) return nullptr;
  if (!a.allocate || !a.deallocate)
    throw error(UNDIFFUSE_INVALID_ARGUMENT, "undiffuse::allocator has one of its two functions");
  return std::make_shared<allocator_state>(a);
}

struct threads_state final : callbacks {
  explicit threads_state(threads t) : user(std::move(t)), c(sized<undiffuse_threads>()) {
    c.user_data = this;
    c.thread_count = user.thread_count;
    if (user.parallel_for)
      c.parallel_for = [](void *self, std::size_t count, undiffuse_task_fn f, void *data) noexcept {
        auto *s = static_cast<threads_state *>(self);
        s->guard([&] { s->user.parallel_for(count, task(f, data)); });
      };
  }
  threads user;
  undiffuse_threads c;
};

inline std::shared_ptr<threads_state> state_of(const threads &t) {
  if (t.thread_count == 0 && !t.parallel_for) return nullptr;
  return std::make_shared<threads_state>(t);
}

}  // namespace detail

// ---- Models -----------------------------------------------------------------------------

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

// An array of the C structs for dimensions.
inline void copy_dims(const std::vector<std::size_t> &dims, std::size_t &rank, std::size_t (&out)[4]) {
  if (dims.size() > 4) throw error(UNDIFFUSE_INVALID_ARGUMENT, "more than 4 dimensions");
  rank = dims.size();
  for (std::size_t i = 0; i < dims.size(); i++) out[i] = dims[i];
}

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

// ---- Samplers ---------------------------------------------------------------------------

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

// The fields of undiffuse_sampler_options: the schedule's own sampler with all timesteps, unless you say otherwise.
struct sampler_options : undiffuse_sampler_options {
  sampler_options() { undiffuse_sampler_options_init(this, sizeof(undiffuse_sampler_options)); }
  // The timesteps themselves, decreasing; empty for `steps` of them.
  std::vector<std::uint32_t> timesteps;

  undiffuse_sampler_options c() const {
    undiffuse_sampler_options o = *this;
    o.timesteps = timesteps.empty() ? nullptr : timesteps.data();
    o.timesteps_len = timesteps.size();
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

// ---- Noise ------------------------------------------------------------------------------

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

// Noise of your own in place of a seed's: the arrays of undiffuse_noise, which move into the session, or `fill`. Both empty: the seed's.
struct noise {
  std::vector<float> x_t;
  std::vector<float> steps_noise;
  std::size_t steps = 0;
  std::size_t samples = 0;
  std::uint64_t first_sample = 0;
  std::function<void(undiffuse_noise_kind kind, std::uint64_t first_sample, std::uint64_t draw, std::size_t sample_len, view<float> out)>
      fill;
  std::uint64_t fingerprint = 0;
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
    if (!user.fill) {  // The library believes the counts.
      const std::size_t each = user.samples ? user.x_t.size() / user.samples : 0;
      if (each * user.samples != user.x_t.size() || each * user.samples * user.steps != user.steps_noise.size())
        throw error(UNDIFFUSE_SHAPE, "undiffuse::noise: the arrays are not of `samples` samples and `steps` steps");
    } else {
      c.fill = [](void *self, undiffuse_noise_kind kind, std::uint64_t first, std::uint64_t draw, std::size_t sample_len,
                  std::size_t count, float *out) noexcept -> std::int32_t {
        auto *s = static_cast<noise_state *>(self);
        return s->guard([&] { s->user.fill(kind, first, draw, sample_len, {out, count * sample_len}); });
      };
    }
  }
  // The arrays must be of samples of this length.
  void check(std::size_t sample_len) const {
    if (!user.fill && user.x_t.size() != user.samples * sample_len)
      throw error(UNDIFFUSE_SHAPE, "undiffuse::noise: x_t has " + std::to_string(user.x_t.size()) + " values, expected " +
                                       std::to_string(user.samples) + " samples of " + std::to_string(sample_len));
  }
  noise user;
  undiffuse_noise c;
};

}  // namespace detail

// ---- Linear operators -------------------------------------------------------------------

// Your own operator; pseudo_inverse may be empty. `output_dims` are those of a measurement.
struct operator_functions {
  using map = std::function<void(view<const float> from, view<float> to)>;
  map apply;
  map adjoint;
  map pseudo_inverse;
  std::vector<std::size_t> output_dims;
};

namespace detail {

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

// A linear map A from a sample to a measurement. `dims` are those of a sample, outermost first.
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

// ---- Evidence ---------------------------------------------------------------------------

// The fields of undiffuse_method_options, with their defaults.
struct method_options : undiffuse_method_options {
  explicit method_options(undiffuse_method m = UNDIFFUSE_METHOD_CALIBRATED) {
    undiffuse_method_options_init(this, sizeof(undiffuse_method_options));
    method = m;
  }
};

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

// ---- Sessions ---------------------------------------------------------------------------

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
    if (o.noise.fill || !o.noise.x_t.empty()) {
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
  undiffuse_session_options c;
  kept keep;
};

}  // namespace detail

// A run of a model: one batch of samples on its way from noise to x_0.
class session {
 public:
  explicit session(const model &m, const session_options &o = {}) : session(m, nullptr, nullptr, o) {}
  session(const model &m, const sampler &s, const session_options &o = {}) : session(m, &s, nullptr, o) {}
  session(const model &m, const sampler &s, const evidence &r, const session_options &o = {}) : session(m, &s, &r, o) {}
  // nullptr: the model's own sampler with all its steps; no evidence.
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

// All in one call: `count` samples, [count, sample_len], batch by batch. Throws UNDIFFUSE_STOPPED as an error if `progress` stops it.
inline std::vector<float> sample(const model &m, const sampler *s, const evidence *r, std::size_t count, const session_options &o = {}) {
  const detail::lowered_options options(o, m, r);
  const std::size_t n = m.info().sample_len;
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

// ---- Evaluation -------------------------------------------------------------------------

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

#endif  // UNDIFFUSE_HPP
