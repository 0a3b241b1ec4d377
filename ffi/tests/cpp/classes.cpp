// Every class of undiffuse.hpp, and an exception through every callback. Arguments: a small packed model.
#include "undiffuse.hpp"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <new>
#include <thread>

namespace {

using undiffuse::view;

#define CHECK(condition)                                                             \
  do {                                                                               \
    if (!(condition)) {                                                              \
      std::fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      std::exit(1);                                                                  \
    }                                                                                \
  } while (0)

// An exception that the library does not know.
struct mine {
  int number;
};

template <class F>
int thrown(F &&f) {
  try {
    f();
  } catch (const mine &m) {
    return m.number;
  }
  return 0;
}

template <class F>
int status(F &&f) {
  try {
    f();
  } catch (const undiffuse::error &e) {
    CHECK(e.what()[0] != 0);
    return e.status();
  }
  return 0;
}

const char *const PLAIN = "{\"_class_name\": \"DDPMScheduler\", \"clip_sample\": false, \"num_train_timesteps\": 20}";

double slope(const undiffuse::call &c) {
  const double a = c.level.alpha, s = c.level.sigma;
  return s / (a * a * 0.25 + s * s);
}

// The denoiser of data N(0, 1/4), known exactly. It throws at call `*throw_at`.
undiffuse::denoiser gaussian(std::vector<std::size_t> dims, int *throw_at = nullptr) {
  undiffuse::denoiser d;
  d.dims = std::move(dims);
  d.name = "gaussian";
  d.scheduler_json = PLAIN;
  d.fingerprint = 7;
  d.predict = [throw_at](const undiffuse::call &c, view<const float> x, view<float> out) {
    if (throw_at && --*throw_at == 0) throw mine{1};
    CHECK(x.size() == out.size() && x.size() == c.count * c.sample_len);
    for (std::size_t i = 0; i < x.size(); i++) out[i] = static_cast<float>(slope(c) * x[i]);
  };
  d.vjp = [throw_at](const undiffuse::call &c, view<const float>, view<const float> v, view<float> out) {
    if (throw_at && --*throw_at == 0) throw mine{2};
    for (std::size_t i = 0; i < v.size(); i++) out[i] = static_cast<float>(slope(c) * v[i]);
  };
  return d;
}

undiffuse::session_options serial(std::size_t batch) {
  undiffuse::session_options o;
  o.batch = batch;
  o.seed = 5;
  o.thread_count = 1;
  return o;
}

bool same(view<const float> a, view<const float> b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
}

std::vector<float> copy(view<const float> v) { return std::vector<float>(v.begin(), v.end()); }

void versions_and_devices() {
  CHECK(undiffuse::is_compatible());
  CHECK(undiffuse::devices(UNDIFFUSE_BACKEND_CPU).size() == 1);
  CHECK(status([] { undiffuse::devices(UNDIFFUSE_BACKEND_REFERENCE); }) == UNDIFFUSE_UNSUPPORTED);  // Off unless asked for.
  undiffuse::cancel_flag flag;
  CHECK(!flag.is_set());
  flag.set();
  undiffuse::cancel_flag moved(std::move(flag));
  CHECK(moved.is_set());
  moved.reset();
  CHECK(!moved.is_set());
}

void networks(const char *path) {
  CHECK(status([] { undiffuse::model::load("/there/is/none"); }) == UNDIFFUSE_IO);
  std::ifstream file(path, std::ios::binary);
  const std::vector<char> text((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const std::vector<std::uint8_t> bytes(text.begin(), text.end());
  auto model = undiffuse::model::load_memory(bytes);
  CHECK(model.info().rank == 3 && !model.config_json().empty() && !model.scheduler_json().empty());
  const auto one = undiffuse::sample(model, 3, serial(1));
  CHECK(same(one, undiffuse::sample(undiffuse::model::load(path), 3, serial(2))));

  // An allocator: what it gives comes back, whoever goes first, and a session runs in a model that is gone.
  auto live = std::make_shared<std::atomic<long>>(0);
  int left = -1;
  undiffuse::model_options how;
  how.gradient = UNDIFFUSE_GRADIENT_FULL;
  how.allocator.allocate = [live, &left](std::size_t size, std::size_t alignment) {
    if (left > 0 && --left == 0) throw mine{3};
    void *block = ::operator new(size, std::align_val_t(alignment));
    ++*live;
    return block;
  };
  how.allocator.deallocate = [live](void *block, std::size_t, std::size_t alignment) {
    ::operator delete(block, std::align_val_t(alignment));
    --*live;
  };
  {
    auto options = serial(3);
    options.allocator = how.allocator;
    auto kept = std::make_unique<undiffuse::model>(undiffuse::model::load_memory(bytes, how));
    CHECK(*live > 0);
    undiffuse::session session(*kept, options);
    kept.reset();
    CHECK(session.run() && same(session.x(), one));
    const auto x = copy(session.x());
    CHECK(session.vjp(0, 0, x, x).size() == x.size());
    undiffuse::session other(model, serial(1));
    other = std::move(session);  // The old handle goes before its callbacks.
    CHECK(same(other.x(), one));
  }
  CHECK(*live == 0);
  left = 3;
  CHECK(thrown([&] { undiffuse::model::load_memory(bytes, how); }) == 3 && *live == 0);
  how.allocator.deallocate = nullptr;
  CHECK(status([&] { undiffuse::model::load_memory(bytes, how); }) == UNDIFFUSE_INVALID_ARGUMENT);

  // Threads of ours, and what they throw.
  auto options = serial(3);
  std::atomic<long> tasks{0};
  int calls = 0, throw_at = 0;
  options.threads.thread_count = 2;
  options.threads.parallel_for = [&](std::size_t count, undiffuse::task task) {
    if (++calls == throw_at) throw mine{4};
    std::thread second([&] {
      for (std::size_t i = 1; i < count; i++) task(i);
    });
    task(0);
    second.join();
    tasks += static_cast<long>(count);
  };
  CHECK(same(undiffuse::sample(model, 3, options), one) && tasks > 0);
  calls = 0;
  throw_at = 5;
  undiffuse::session session(model, options);
  CHECK(thrown([&] { session.run(); }) == 4);
  CHECK(session.run() && same(session.x(), one));

  // The caller's memory.
  auto in_place = serial(3);
  std::vector<char> memory(undiffuse::session::required_bytes(model, nullptr, nullptr, in_place));
  in_place.workspace = memory.data();
  in_place.workspace_bytes = memory.size();
  CHECK(same(undiffuse::sample(model, 3, in_place), one));
  CHECK(undiffuse::session(model, in_place).describe().find("cpu") != std::string::npos);
  CHECK(status([] { (void)undiffuse::model::load_embedded(); }) <= 0);  // Whether the build has them is its own affair.
}

void samplers() {
  undiffuse::schedule_options schedule;
  schedule.clip_sample = 0;
  schedule.trained_betas = std::vector<double>(10, 0.02);
  schedule.num_train_timesteps = 10;
  undiffuse::sampler_options how;
  how.kind = UNDIFFUSE_SAMPLER_DDIM;
  how.timesteps = {9, 4, 0};
  undiffuse::sampler s(schedule, how);
  CHECK(s.info().step_count == 3 && s.timesteps() == (std::vector<double>{9, 4, 0}) && s.state_len(4) == 0);
  CHECK(s.start_of_strength(0.7) == 1);
  CHECK(std::fabs(s.step_info(0).level.alpha - std::sqrt(std::pow(0.98, 10))) < 1e-6);
  const std::vector<float> x0{1, -1, 0.5f, 0}, noise{0.5f, 0.25f, -1, 2};
  auto x = s.add_noise(0, x0, noise);
  CHECK(x.size() == 4 && same(s.scale_model_input(0, x), x));
  auto out = s.step(0, noise, x, {}, 2);
  for (std::size_t i = 0; i < 4; i++) CHECK(std::fabs(out.x0[i] - x0[i]) < 1e-5);
  CHECK(status([&] { s.step(0, noise, x, {}, 3); }) == UNDIFFUSE_SHAPE);
  CHECK(status([&] { s.add_noise(0, x0, view<const float>(noise).first(3)); }) == UNDIFFUSE_SHAPE);
  CHECK(undiffuse::sampler::from_json(PLAIN).info().step_count == 20);
  CHECK(status([] { undiffuse::sampler::from_json("{\"_class_name\": 1}"); }) == UNDIFFUSE_CONFIG);
  CHECK(undiffuse::noise_normal(1, 2, 3, 4) != undiffuse::noise_normal(2, 2, 3, 4));
  for (float u : undiffuse::noise_uniform(1, 2, 3, 100)) CHECK(u >= 0 && u < 1);
}

void operators() {
  using undiffuse::linear_operator;
  const std::vector<std::size_t> d{3, 8, 8};
  std::vector<std::uint8_t> known(64, 1);
  known[5] = 0;
  const std::vector<std::size_t> first{0};
  const auto taps = undiffuse::gaussian_kernel(3, 1.0);
  const std::vector<float> box(9, 1.0f / 9);
  std::vector<float> row(192, 1.0f);
  std::vector<linear_operator> all;
  all.push_back(linear_operator::identity(d));
  all.push_back(linear_operator::mask(d, known));
  all.push_back(linear_operator::without_box(d, 1, 1, 3, 3));
  all.push_back(linear_operator::channels(d, first));
  all.push_back(linear_operator::grey(d));
  all.push_back(linear_operator::block_average(d, 2));
  all.push_back(linear_operator::bicubic(d, 2, UNDIFFUSE_PADDING_SYMMETRIC));
  all.push_back(linear_operator::separable_blur(d, taps, taps, UNDIFFUSE_PADDING_ZERO));
  all.push_back(linear_operator::circular_blur(d, box, 3));
  all.push_back(linear_operator::dense(d, row));
  all.push_back(linear_operator::hadamard(d, 16, 1));
  undiffuse::operator_functions f;
  int throw_at = 0;
  f.apply = f.adjoint = [&](view<const float> from, view<float> to) {
    if (throw_at && --throw_at == 0) throw mine{5};
    for (std::size_t i = 0; i < to.size(); i++) to[i] = 2 * from[i];
  };
  f.pseudo_inverse = [](view<const float> from, view<float> to) {
    for (std::size_t i = 0; i < to.size(); i++) to[i] = from[i] / 2;
  };
  f.output_dims = d;
  all.push_back(linear_operator::from_functions(d, f));
  for (const auto &a : all) {  // <A u, v> = <u, A^T v>
    const auto u = undiffuse::noise_normal(1, 0, 0, 192), v = undiffuse::noise_normal(1, 1, 0, a.info().output_len);
    const auto au = a.apply(u), atv = a.adjoint(v);
    double left = 0, right = 0;
    for (std::size_t i = 0; i < v.size(); i++) left += static_cast<double>(au[i]) * v[i];
    for (std::size_t i = 0; i < u.size(); i++) right += static_cast<double>(atv[i]) * u[i];
    CHECK(std::fabs(left - right) < 1e-3 * (1 + std::fabs(left)));
    const auto again = a.apply(a.pseudo_inverse(au));
    for (std::size_t i = 0; i < au.size(); i++) CHECK(std::fabs(again[i] - au[i]) < 1e-3);
  }
  std::vector<linear_operator> bent;
  bent.push_back(linear_operator::clip(d, 2));
  bent.push_back(linear_operator::gamma(d, 2.2));
  bent.push_back(linear_operator::quantize(d, 5));
  bent.push_back(linear_operator::fourier_magnitude(d, 1.5));
  undiffuse::forward_functions g;
  int throw_in = 0;
  g.forward = [&](view<const float> x, view<float> y) {
    if (throw_in) throw mine{6};
    for (std::size_t i = 0; i < y.size(); i++) y[i] = x[i] * x[i];
  };
  g.vjp = [](view<const float> x, view<const float> v, view<float> out) {
    for (std::size_t i = 0; i < out.size(); i++) out[i] = 2 * x[i] * v[i];
  };
  g.output_dims = d;
  bent.push_back(linear_operator::from_forward_functions(d, g));
  for (const auto &a : bent) {
    const std::vector<float> x(192, 0.25f), v(a.info().output_len, 1.0f);
    CHECK(!a.info().linear && a.apply(x).size() == v.size() && a.vjp(x, v).size() == 192);
    CHECK(status([&] { a.adjoint(v); }) == UNDIFFUSE_UNSUPPORTED);
  }
  CHECK(bent.back().vjp(row, row)[7] == 2);
  throw_in = 1;
  CHECK(thrown([&] { bent.back().apply(row); }) == 6);
  throw_at = 1;
  CHECK(thrown([&] { all.back().apply(row); }) == 5);
  CHECK(status([&] { linear_operator::dense(d, box); }) == UNDIFFUSE_SHAPE);
  CHECK(status([&] { linear_operator::circular_blur(d, box, 2); }) == UNDIFFUSE_SHAPE);
  CHECK(status([&] { linear_operator::identity({1, 1, 1, 1, 1}); }) < 0);
}

void evidence() {
  const std::vector<std::size_t> d{1, 4, 4};
  int throw_at = 0;
  auto model = undiffuse::model::from_denoiser(gaussian(d, &throw_at));
  undiffuse::sampler_options every_step;
  every_step.kind = UNDIFFUSE_SAMPLER_DDPM;
  undiffuse::sampler s(model, every_step);

  // A measurement through an operator of ours that is gone before the session is made.
  int map_throws = 0;
  auto measured = [&] {
    undiffuse::operator_functions f;
    f.apply = f.adjoint = [&](view<const float> from, view<float> to) {
      if (map_throws && --map_throws == 0) throw mine{6};
      for (std::size_t i = 0; i < to.size(); i++) to[i] = from[i];
    };
    f.output_dims = d;
    return undiffuse::evidence::from_measurement(undiffuse::linear_operator::from_functions(d, f), std::vector<float>(16, 0.8f), 0.1);
  }();
  undiffuse::session session(model, s, measured, serial(2));
  map_throws = 4;
  CHECK(thrown([&] { session.run(); }) == 6);
  throw_at = 2;
  CHECK(thrown([&] { session.run(); }) != 0);
  throw_at = 0;
  CHECK(session.run());
  double mean = 0;
  for (float v : session.x()) mean += v / 32;
  CHECK(std::fabs(mean - 0.8 * 0.25 / 0.26) < 0.1);  // The posterior's mean.

  CHECK(undiffuse::info_of(UNDIFFUSE_METHOD_TMPD).product_count == 2);
  undiffuse::method_options ddnm(UNDIFFUSE_METHOD_DDNM);
  auto op = undiffuse::linear_operator::without_box(d, 0, 0, 2, 2);
  const std::vector<float> rows(24, 0.3f);
  auto each = undiffuse::evidence::from_measurements(op, rows, 0, 0.0, ddnm);
  undiffuse::session filled(model, s, each, serial(2));
  CHECK(filled.run() && std::fabs(filled.x()[15] - 0.3f) < 1e-3);

  auto ddrm = undiffuse::evidence::from_measurement(op, view<const float>(rows).first(12), 0.1, undiffuse::method_options(UNDIFFUSE_METHOD_DDRM));
  auto x = undiffuse::noise_normal(1, 0, 0, 16);
  ddrm.start(s, 0, x);
  undiffuse::sampler_options usual;
  usual.use_clipped_model_output = 1;
  usual = ddrm.recommended(model, usual);
  CHECK(usual.kind == UNDIFFUSE_SAMPLER_DDIM && usual.steps == 20 && usual.eta == 0.85 && usual.use_clipped_model_output == 1);

  undiffuse::gradient_evidence g;
  int gradient_throws = 0;
  g.gradient = [&](const undiffuse::call &, view<const float> v, view<float> out) {
    if (gradient_throws && --gradient_throws == 0) throw mine{7};
    for (std::size_t i = 0; i < v.size(); i++) out[i] = 1.0f;
  };
  g.rule = UNDIFFUSE_GRADIENT_MEAN;
  auto own = undiffuse::evidence::from_gradient(g);
  undiffuse::session pulled(model, s, own, serial(1));
  gradient_throws = 3;
  CHECK(thrown([&] { pulled.run(); }) == 7 && pulled.info().step == 2 && pulled.run());
  CHECK(status([] { undiffuse::evidence::from_gradient({}); }) == UNDIFFUSE_INVALID_ARGUMENT);

  // Bits: a network that knows nothing, and evidence that knows all.
  undiffuse::denoiser half;
  half.dims = {8};
  half.predict = [](const undiffuse::call &, view<const float>, view<float> out) {
    for (float &v : out) v = 0.5f;
  };
  auto coin = undiffuse::model::from_denoiser(half);
  undiffuse::schedule_options schedule;
  schedule.num_train_timesteps = 10;
  schedule.beta_schedule = UNDIFFUSE_BETAS_ERASING_EVENLY_2015;
  undiffuse::sampler_options how;
  how.kind = UNDIFFUSE_SAMPLER_BITS_2015;
  undiffuse::sampler chain(schedule, how);
  undiffuse::bit_evidence bits;
  bits.odds = {1, 0, 1, 0, 1, 1, 0, 0};
  undiffuse::session certain(coin, chain, undiffuse::evidence::from_bits(bits), serial(1));
  CHECK(certain.run() && same(certain.x(), bits.odds));
  int bit_throws = 2;
  undiffuse::bit_evidence function;
  function.function = [&](const undiffuse::call &, view<const float>, view<float> out) {
    if (bit_throws && --bit_throws == 0) throw mine{8};
    for (float &v : out) v = 1.0f;
  };
  undiffuse::session told(coin, chain, undiffuse::evidence::from_bits(function), serial(1));
  CHECK(thrown([&] { told.run(); }) == 8 && told.run() && told.x()[1] == 1.0f);
  undiffuse::class_evidence classes;
  classes.weights = {0, 1, 1, 1};
  classes.class_count = 2;
  const auto known = undiffuse::evidence::from_classes(classes);
  (void)known;
}

void sessions() {
  int throw_at = 0;
  auto model = undiffuse::model::from_denoiser(gaussian({4}, &throw_at));
  auto options = serial(2);
  int steps = 0, progress_throws = 0, stop_at = 0;
  options.progress = [&](const undiffuse::progress &p) {
    CHECK(p.count == 2 && p.x != nullptr);
    if (++steps == progress_throws) throw mine{9};
    return steps != stop_at;
  };
  undiffuse::session session(model, options);
  const auto start = copy(session.x());
  CHECK(session.run() && steps == 20 && session.done() && session.x0().size() == 8);
  const auto all = copy(session.x());

  steps = 0;
  progress_throws = 3;
  session.restart(0, 2);
  CHECK(thrown([&] { session.run(); }) == 9 && session.info().step == 3);
  steps = 0;
  progress_throws = 0;
  stop_at = 2;
  CHECK(!session.run() && session.info().step == 5);
  stop_at = 0;
  const auto saved = session.save();
  session.step();
  CHECK(session.run() && same(session.x(), all));
  undiffuse::session other(model, serial(2));
  other.restore(saved);
  CHECK(other.info().step == 5 && other.run() && same(other.x(), all));
  auto broken = saved;
  broken.back() ^= 1;
  CHECK(status([&] { other.restore(broken); }) == UNDIFFUSE_INVALID_ARGUMENT);
  other.start_from(0, start, 0);
  CHECK(other.run() && same(other.x(), all));

  throw_at = 4;
  other.restart(0, 2);
  CHECK(thrown([&] { other.run(); }) == 1 && other.info().step == 3);
  CHECK(other.run() && same(other.x(), all));
  throw_at = 1;
  CHECK(thrown([&] { other.predict(0, 0, start); }) == 1);
  throw_at = 1;
  CHECK(thrown([&] { other.vjp(0, 0, start, start); }) == 2);
  throw_at = 0;
  std::vector<float> spoiled(start.begin(), start.end());
  spoiled[3] = std::numeric_limits<float>::quiet_NaN();
  CHECK(status([&] { other.predict(0, 0, spoiled); }) == UNDIFFUSE_NON_FINITE);
  CHECK(status([&] { other.vjp(0, 0, start, spoiled); }) == UNDIFFUSE_NON_FINITE);
  CHECK(other.predict(0, 0, start).size() == 8 && other.vjp(0, 0, start, start).size() == 8);

  // Stopped by the one-call run; cancelled by another thread's flag.
  steps = 0;
  stop_at = 1;
  CHECK(status([&] { undiffuse::sample(model, 2, options); }) == UNDIFFUSE_STOPPED);
  undiffuse::cancel_flag flag;
  auto stoppable = serial(2);
  stoppable.cancel = &flag;
  undiffuse::session cancelled(model, stoppable);
  std::thread([&] { flag.set(); }).join();
  CHECK(status([&] { cancelled.run(); }) == UNDIFFUSE_CANCELLED);
  flag.reset();
  CHECK(cancelled.run() && same(cancelled.x(), all));

  // Noise of ours: arrays, a function, and what does not fit.
  auto with_noise = serial(2);
  for (std::uint64_t sample = 0; sample < 2; sample++)
    for (float v : undiffuse::noise_normal(5, sample, 0, 4)) with_noise.noise.x_t.push_back(v);
  for (std::uint64_t draw = 1; draw <= 20; draw++)
    for (std::uint64_t sample = 0; sample < 2; sample++)
      for (float v : undiffuse::noise_normal(5, sample, draw, 4)) with_noise.noise.steps_noise.push_back(v);
  with_noise.noise.steps = 20;
  with_noise.noise.samples = 2;
  CHECK(same(undiffuse::sample(model, 2, with_noise), all));
  with_noise.noise.samples = 3;
  CHECK(status([&] { undiffuse::sample(model, 2, with_noise); }) == UNDIFFUSE_SHAPE);
  auto with_fill = serial(2);
  bool fill_throws = false;
  with_fill.noise.fill = [&](undiffuse_noise_kind, std::uint64_t first, std::uint64_t draw, std::size_t len, view<float> out) {
    if (fill_throws) throw mine{10};
    for (std::size_t i = 0; i < out.size(); i += len) {
      const auto v = undiffuse::noise_normal(5, first + i / len, draw, len);
      std::copy(v.begin(), v.end(), out.begin() + i);
    }
  };
  CHECK(same(undiffuse::sample(model, 2, with_fill), all));
  fill_throws = true;
  CHECK(thrown([&] { undiffuse::sample(model, 2, with_fill); }) == 10);
  auto python = serial(2);
  python.noise.generator = UNDIFFUSE_GENERATOR_NUMPY;
  python.noise.samples = 2;
  const auto drawn = undiffuse::sample(model, 2, python);
  CHECK(!same(drawn, all));
  python.batch = 1;
  CHECK(same(undiffuse::sample(model, 2, python), drawn));
  python.noise.samples = 0;
  python.noise.each_seed = true;
  CHECK(!same(undiffuse::sample(model, 2, python), drawn));
  python.noise.gpu_threads = 0;
  python.noise.x_t = {0, 0, 0, 0};
  CHECK(status([&] { undiffuse::sample(model, 2, python); }) == UNDIFFUSE_INVALID_ARGUMENT);

  // Four threads, one model, one of which throws in each: every exception reaches the thread whose call it was.
  undiffuse::denoiser d = gaussian({4});
  const auto plain = d.predict;
  d.predict = [plain](const undiffuse::call &c, view<const float> x, view<float> out) {
    if (c.first_sample >= 100) throw mine{static_cast<int>(c.first_sample)};
    plain(c, x, out);
  };
  auto shared = undiffuse::model::from_denoiser(d);
  std::vector<std::thread> threads;
  for (int i = 0; i < 4; i++)
    threads.emplace_back([&shared, i] {
      for (int round = 0; round < 50; round++) {
        auto o = serial(1);
        o.first_sample = i % 2 ? 100 + static_cast<std::uint64_t>(i) : 0;
        CHECK(thrown([&] { undiffuse::sample(shared, 1, o); }) == (i % 2 ? 100 + i : 0));
      }
    });
  for (auto &t : threads) t.join();
}

void bounds() {
  auto model = undiffuse::model::from_denoiser(gaussian({4}));
  auto data = undiffuse::noise_normal(1, 0, 0, 40);
  for (float &v : data) v /= 2;
  undiffuse::bound_options options;
  options.thread_count = 1;
  options.batch = 4;
  bool throws = false, stops = false;
  options.progress = [&](std::uint64_t done, std::uint64_t total) {
    CHECK(done <= total);
    if (throws) throw mine{11};
    return !stops;
  };
  undiffuse::sampler_options every_step;
  every_step.kind = UNDIFFUSE_SAMPLER_DDPM;
  undiffuse::sampler s(model, every_step);
  undiffuse::bound bound(model, s, data, options);
  CHECK(bound.info().count == 10 && std::isfinite(bound.info().k));
  CHECK(bound.per_sample().size() == 10 && !bound.steps().empty());
  CHECK(undiffuse::bound(model, data, options).info().k == bound.info().k);
  stops = true;
  CHECK(status([&] { undiffuse::bound(model, data, options); }) == UNDIFFUSE_CANCELLED);
  throws = true;
  CHECK(thrown([&] { undiffuse::bound(model, data, options); }) == 11);
}

static_assert(!std::is_copy_constructible_v<undiffuse::model> && std::is_nothrow_move_constructible_v<undiffuse::model>);
static_assert(!std::is_copy_constructible_v<undiffuse::session> && std::is_nothrow_move_assignable_v<undiffuse::session>);
static_assert(!std::is_convertible_v<view<const float>, view<float>> && std::is_convertible_v<view<float>, view<const float>>);

// A model without conditions says so, and takes none.
void conditions(const undiffuse::model &m) {
  const auto inputs = m.inputs();
  CHECK(inputs.size() == 2 && std::strcmp(inputs[0].name, "sample") == 0 && inputs[1].role == UNDIFFUSE_INPUT_TIMESTEP);
  undiffuse::session s(m);
  const undiffuse::condition image{"image", {0.0f}};
  CHECK(status([&] { s.set_condition(image); }) == UNDIFFUSE_INVALID_ARGUMENT);
  CHECK(status([&] { s.set_negative(image); }) == UNDIFFUSE_INVALID_ARGUMENT);
  undiffuse::session_options o;
  o.conditions = {image};
  CHECK(status([&] { undiffuse::session{m, o}; }) == UNDIFFUSE_INVALID_ARGUMENT);
  o.conditions.clear();
  o.guidance.negative = {image};
  CHECK(status([&] { undiffuse::session{m, o}; }) == UNDIFFUSE_INVALID_ARGUMENT);
}

// A codec of a model without a decoder copies, both ways.
void codecs(const undiffuse::model &m) {
  undiffuse::codec codec(m, 1);
  const std::vector<float> x(codec.info().sample_len, 0.5f);
  CHECK(codec.info().data_len == m.info().data_len && !codec.info().is_decoder);
  CHECK(codec.decode(x) == x);
  CHECK(codec.info().encoded_len == x.size() && codec.encode(x) == x && codec.encode(x, x) == x);
}

}  // namespace

int main(int argc, char **argv) {
  CHECK(argc == 2);
  versions_and_devices();
  networks(argv[1]);
  conditions(undiffuse::model::load(argv[1]));
  codecs(undiffuse::model::load(argv[1]));
  samplers();
  operators();
  evidence();
  sessions();
  bounds();
  std::puts("every class");
}
