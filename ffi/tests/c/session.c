/* Sessions: whole runs, single steps, progress, cancel, saved states, the caller's memory, threads and noise. argv[1]: a small network. */
#include <signal.h>
#include <sys/time.h>

#include "check.h"

enum { N = 64, STEPS = 6 };

static undiffuse_model *model;
static undiffuse_sampler *sampler;

static undiffuse_session *open_session(const undiffuse_session_options *o) {
  undiffuse_session *s = NULL;
  OK(undiffuse_session_new(model, sampler, NULL, o, &s, E));
  return s;
}

/* Copies x of the session, which has `count` samples. */
static void result(const undiffuse_session *s, size_t count, float *to) {
  const float *x = NULL;
  size_t len = 0;
  OK(undiffuse_session_x(s, &x, &len, E));
  CHECK(len == count * N);
  memcpy(to, x, len * sizeof *x);
}

static size_t position(const undiffuse_session *s) {
  undiffuse_session_info i;
  i.struct_size = sizeof i;
  OK(undiffuse_session_get_info(s, &i, E));
  CHECK(i.step_count == STEPS && i.sample_len == N && i.output_len == N && i.count <= i.batch && i.workspace_bytes > 0);
  return i.step;
}

/* The inputs of a model, and that one without conditions takes none; ffi/src/model/tests.rs has one with conditions. */
static void conditions(void) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_model_info info;
  undiffuse_input_info input;
  undiffuse_guidance g;
  undiffuse_condition c;
  undiffuse_session *s = open_session(&o), *none = NULL;
  const float values[1] = {0};
  info.struct_size = sizeof info;
  input.struct_size = sizeof input;
  OK(undiffuse_model_get_info(model, &info, E));
  CHECK(info.input_count == 2);
  OK(undiffuse_model_get_input(model, 0, &input, E));
  CHECK(!strcmp(input.name, "sample") && input.role == UNDIFFUSE_INPUT_SAMPLE && input.len == N && input.rank == 3);
  OK(undiffuse_model_get_input(model, 1, &input, E));
  CHECK(input.role == UNDIFFUSE_INPUT_TIMESTEP && input.len == 1 && !input.is_whole);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_get_input(model, 2, &input, E));
  c.name = "image";
  c.values = values;
  c.values_len = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_set_condition(s, &c, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_set_negative(s, &c, E));
  o.conditions = &c;
  o.condition_count = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(model, sampler, NULL, &o, &none, E));
  o.condition_count = 0;
  OK(undiffuse_guidance_init(&g, sizeof g));
  g.scale = 2;
  o.guidance = &g;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(model, sampler, NULL, &o, &none, E));
  undiffuse_session_free(s);
}

/* A codec of a model without a decoder copies; ffi/src/codec/tests.rs has one with a decoder. */
static void codec(const float *x) {
  undiffuse_codec_options o;
  undiffuse_codec_info i;
  undiffuse_codec *c = NULL;
  float data[4 * N];
  undiffuse_model_info info;
  OK(undiffuse_codec_options_init(&o, sizeof o));
  OK(undiffuse_codec_new(model, &o, &c, E));
  info.struct_size = sizeof info;
  OK(undiffuse_model_get_info(model, &info, E));
  i.struct_size = sizeof i;
  OK(undiffuse_codec_get_info(c, &i, E));
  CHECK(i.sample_len == N && i.data_len == N && i.rank == 3 && i.dims[1] == 8 && !i.is_decoder && i.tile_count == 1);
  CHECK(info.data_len == N && info.data_rank == 3 && info.data_dims[2] == 8 && info.decoder_weight_bytes == 0);
  OK(undiffuse_codec_decode(c, x, 4 * N, data, 4 * N, E));
  CHECK(same_floats(x, data, 4 * N));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_codec_decode(c, x, 4 * N, data, N, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_codec_decode(c, data, 4 * N, data, 4 * N, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_codec_decode(NULL, x, N, data, N, E));
  undiffuse_codec_free(c);
  undiffuse_codec_free(NULL);
}

/* Whatever the batch, the shard and the way to get there. */
static void same_samples(const float *wanted) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_session *s;
  float x[4 * N];
  size_t batch, i;
  for (batch = 1; batch <= 5; batch++) {
    o.batch = batch;
    OK(undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
    CHECK(same_floats(x, wanted, 4 * N));
  }
  o.batch = 2;
  o.first_sample = 2;
  OK(undiffuse_sample(model, sampler, NULL, &o, x, 2 * N, E));
  CHECK(same_floats(x, wanted + 2 * N, 2 * N));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_sample(model, sampler, NULL, &o, x, N + 1, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_sample(model, sampler, NULL, &o, x, 0, E));
  o.batch = 0;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, x, N, E));

  o = session_options(4, 5);
  s = open_session(&o);
  for (i = 0; i < STEPS; i++) {
    CHECK(position(s) == i);
    OK(undiffuse_session_step(s, E));
  }
  OK(undiffuse_session_step(s, E));
  CHECK(position(s) == STEPS);
  result(s, 4, x);
  CHECK(same_floats(x, wanted, 4 * N));
  OK(undiffuse_session_restart(s, 1, 3, E));
  CHECK(position(s) == 0);
  OK(undiffuse_session_run(s, E));
  result(s, 3, x);
  CHECK(same_floats(x, wanted + N, 3 * N));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_restart(s, 0, 5, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_restart(s, (uint64_t)-1, 1, E));
  CHECK(position(s) == STEPS);
  undiffuse_session_free(s);
}

static void saved(const float *wanted) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_session *s = open_session(&o), *t;
  unsigned char *bytes;
  size_t len = 0, needed;
  float x[4 * N];
  OK(undiffuse_session_step(s, E));
  OK(undiffuse_session_step(s, E));
  OK(undiffuse_session_save(s, NULL, &len, E));
  needed = len;
  bytes = (unsigned char *)malloc(needed + 8);
  CHECK(bytes != NULL);
  len = needed - 1;
  FAILS(UNDIFFUSE_BUFFER_TOO_SMALL, undiffuse_session_save(s, bytes, &len, E));
  CHECK(len == needed);
  len = needed + 8;
  OK(undiffuse_session_save(s, bytes, &len, E));
  CHECK(len == needed);
  undiffuse_session_free(s);

  o.first_sample = 77; /* another place, the same seed */
  t = open_session(&o);
  bytes[needed / 2] ^= 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_restore(t, bytes, needed, E));
  bytes[needed / 2] ^= 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_restore(t, bytes, needed - 1, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_restore(t, NULL, 0, E));
  CHECK(position(t) == 0);
  OK(undiffuse_session_restore(t, bytes, needed, E));
  CHECK(position(t) == 2);
  OK(undiffuse_session_run(t, E));
  result(t, 4, x);
  CHECK(same_floats(x, wanted, 4 * N));
  undiffuse_session_free(t);
  o.seed = 6;
  t = open_session(&o);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_restore(t, bytes, needed, E));
  undiffuse_session_free(t);
  free(bytes);
}

typedef struct watcher {
  size_t calls, stop_at;
  undiffuse_cancel *cancel;
  undiffuse_session *session;
  float last_x0;
} watcher;

static int32_t watch(void *user_data, const undiffuse_progress *p) {
  watcher *w = (watcher *)user_data;
  CHECK(p->step_count == STEPS && p->count == 4 && p->sample_len == N && p->first_sample == 0);
  CHECK(isfinite(p->x[4 * N - 1]) && p->level.sigma > 0);
  w->last_x0 = p->x0[0];
  w->calls++;
  if (w->session) {
    /* The session is in use: it is refused, not broken. */
    const float *x = NULL;
    FAILS(UNDIFFUSE_BUSY, undiffuse_session_step(w->session, E));
    FAILS(UNDIFFUSE_BUSY, undiffuse_session_x(w->session, &x, NULL, E));
    CHECK(x == NULL);
    undiffuse_session_free(w->session);
  }
  if (w->cancel) undiffuse_cancel_set(w->cancel);
  return w->calls == w->stop_at;
}

static void watched(const float *wanted) {
  undiffuse_session_options o = session_options(4, 5);
  watcher w;
  undiffuse_session *s;
  undiffuse_cancel *cancel = NULL;
  const float *x0 = NULL;
  float x[4 * N];
  memset(&w, 0, sizeof w);
  OK(undiffuse_cancel_new(&cancel, E));
  o.progress = watch;
  o.progress_user_data = &w;
  o.cancel = cancel;
  w.stop_at = 3;
  s = open_session(&o);
  w.session = s;
  CHECK(undiffuse_session_run(s, E) == UNDIFFUSE_STOPPED && last_error == NULL);
  CHECK(w.calls == 3 && position(s) == 3);
  OK(undiffuse_session_x0(s, &x0, NULL, E));
  CHECK(x0[0] == w.last_x0);
  w.cancel = cancel;
  w.stop_at = 0;
  w.session = NULL;
  FAILS(UNDIFFUSE_CANCELLED, undiffuse_session_run(s, E));
  CHECK(w.calls == 4 && position(s) == 4);
  FAILS(UNDIFFUSE_CANCELLED, undiffuse_session_step(s, E));
  w.cancel = NULL;
  undiffuse_cancel_reset(cancel);
  undiffuse_cancel_free(cancel); /* the session has its own hold on it */
  OK(undiffuse_session_run(s, E));
  CHECK(w.calls == STEPS);
  result(s, 4, x);
  CHECK(same_floats(x, wanted, 4 * N));
  undiffuse_session_free(s);
  w.calls = 0;
  w.stop_at = 2;
  o.cancel = NULL;
  CHECK(undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E) == UNDIFFUSE_STOPPED && last_error == NULL);
}

static void starts(const float *wanted) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_session *s = open_session(&o);
  float x[4 * N], y[N];
  size_t i;
  for (i = 0; i < 2; i++) OK(undiffuse_noise_normal(5, i, 0, x + i * N, N, E));
  OK(undiffuse_session_start_from(s, 0, x, 2 * N, 0, E));
  OK(undiffuse_session_run(s, E));
  result(s, 2, x);
  CHECK(same_floats(x, wanted, 2 * N));
  OK(undiffuse_session_start_from(s, STEPS, x, N, 0, E));
  CHECK(position(s) == STEPS);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_start_from(s, STEPS + 1, x, N, 0, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_session_start_from(s, 0, x, N + 1, 0, E));
  x[3] = NAN;
  FAILS(UNDIFFUSE_NON_FINITE, undiffuse_session_start_from(s, 0, x, N, 0, E));
  x[3] = 0;

  /* The network alone. */
  OK(undiffuse_session_predict(s, 2, 0, x, N, y, N, E));
  CHECK(isfinite(y[0]) && y[0] != x[0]);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_predict(s, STEPS, 0, x, N, y, N, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_session_predict(s, 2, 0, x, N, y, N - 1, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_predict(s, 2, 0, x, N, x, N, E));
  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_session_vjp(s, 2, 0, x, N, x, N, y, E));
  CHECK(position(s) == STEPS);
  undiffuse_session_free(s);
}

static void gradient(const char *path) {
  undiffuse_model_options mo;
  undiffuse_model *with = NULL;
  undiffuse_session_options o = session_options(1, 1);
  undiffuse_session *s = NULL;
  float x[N], v[N], up[N], down[N], g[N];
  double slope = 0, difference = 0;
  size_t i;
  OK(undiffuse_model_options_init(&mo, sizeof mo));
  mo.gradient = UNDIFFUSE_GRADIENT_RECOMPUTE;
  OK(undiffuse_model_load(path, &mo, &with, E));
  OK(undiffuse_session_new(with, sampler, NULL, &o, &s, E));
  undiffuse_model_free(with);
  OK(undiffuse_noise_normal(1, 0, 0, x, N, E));
  OK(undiffuse_noise_normal(2, 0, 0, v, N, E));
  OK(undiffuse_session_vjp(s, 3, 0, x, N, v, N, g, E));
  /* d/de <v, f(x + e g)> at 0 is <g, g>. */
  for (i = 0; i < N; i++) x[i] += 1e-2f * g[i];
  OK(undiffuse_session_predict(s, 3, 0, x, N, up, N, E));
  for (i = 0; i < N; i++) x[i] -= 2e-2f * g[i];
  OK(undiffuse_session_predict(s, 3, 0, x, N, down, N, E));
  for (i = 0; i < N; i++) {
    slope += (double)g[i] * g[i];
    difference += v[i] * ((double)up[i] - down[i]) / 2e-2;
  }
  CHECK(slope > 0 && fabs(difference / slope - 1) < 0.02);
  undiffuse_session_free(s);
}

typedef struct counted {
  size_t bytes, calls;
} counted;

static void *counting_allocate(void *user_data, size_t size, size_t alignment) {
  counted *c = (counted *)user_data;
  void *block = NULL;
  CHECK(size > 0 && alignment == 64);
  c->bytes += size;
  c->calls++;
  if (posix_memalign(&block, alignment, size)) return NULL;
  memset(block, 0xa5, size);
  return block;
}

static void counting_free(void *user_data, void *block, size_t size, size_t alignment) {
  counted *c = (counted *)user_data;
  CHECK(block != NULL && alignment == 64);
  c->bytes -= size;
  free(block);
}

static void crooked_free(void *user_data, void *block, size_t size, size_t alignment) {
  (void)user_data;
  (void)size;
  (void)alignment;
  free((char *)block - 4);
}

static void *crooked_allocate(void *user_data, size_t size, size_t alignment) {
  char *block = NULL;
  (void)user_data;
  if (posix_memalign((void **)&block, alignment, size + 4)) return NULL;
  return block + 4;
}

static void memory(const float *wanted, const char *path) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_allocator a;
  undiffuse_model_options mo;
  undiffuse_model *in_ours = NULL;
  undiffuse_model_info info;
  counted c = {0, 0};
  unsigned char *workspace;
  size_t bytes = 0, used, offset;
  undiffuse_session *s = NULL;
  float x[4 * N];
  memset(&a, 0, sizeof a);
  a.struct_size = sizeof a;
  a.user_data = &c;
  a.allocate = counting_allocate;
  a.deallocate = counting_free;

  /* A workspace at any address, and not a byte beyond it. */
  OK(undiffuse_session_required_bytes(model, sampler, NULL, &o, &bytes, E));
  workspace = (unsigned char *)malloc(bytes + 64);
  CHECK(workspace != NULL);
  for (offset = 0; offset < 64; offset += BRIEF ? 39 : 13) {
    size_t i;
    memset(workspace, 0x77, bytes + 64);
    o.workspace = workspace + offset;
    o.workspace_bytes = bytes;
    s = open_session(&o);
    OK(undiffuse_session_run(s, E));
    result(s, 4, x);
    CHECK(same_floats(x, wanted, 4 * N));
    undiffuse_session_free(s);
    for (i = 0; i < offset; i++) CHECK(workspace[i] == 0x77);
    for (i = offset + bytes; i < bytes + 64; i++) CHECK(workspace[i] == 0x77);
  }
  s = NULL;
  o.workspace_bytes = bytes - 1;
  FAILS(UNDIFFUSE_OUT_OF_MEMORY, undiffuse_session_new(model, sampler, NULL, &o, &s, E));
  o.workspace_bytes = bytes;
  o.allocator = &a;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(model, sampler, NULL, &o, &s, E));
  o.workspace = NULL;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(model, sampler, NULL, &o, &s, E));
  free(workspace);

  /* An allocator: for a session in one call of at most the bytes that were announced, for a model all weights. */
  o.workspace_bytes = 0;
  s = open_session(&o);
  CHECK(c.calls == 1 && c.bytes <= bytes && c.bytes + 64 >= bytes);
  used = c.bytes;
  OK(undiffuse_session_run(s, E));
  CHECK(c.calls == 1 && c.bytes == used);
  result(s, 4, x);
  CHECK(same_floats(x, wanted, 4 * N));
  undiffuse_session_free(s);
  CHECK(c.bytes == 0);
  OK(undiffuse_model_options_init(&mo, sizeof mo));
  mo.allocator = &a;
  OK(undiffuse_model_load(path, &mo, &in_ours, E));
  info.struct_size = sizeof info;
  OK(undiffuse_model_get_info(in_ours, &info, E));
  CHECK(c.bytes + 4096 >= info.weight_bytes && c.bytes < info.weight_bytes + 65536); /* but for a table of frequencies */
  undiffuse_model_free(in_ours);
  CHECK(c.bytes == 0);

  /* One that breaks its promise is found out. */
  a.allocate = crooked_allocate;
  a.deallocate = crooked_free;
  s = NULL;
  FAILS(UNDIFFUSE_OUT_OF_MEMORY, undiffuse_session_new(model, sampler, NULL, &o, &s, E));
  a.deallocate = NULL;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(model, sampler, NULL, &o, &s, E));
  CHECK(s == NULL);
}

typedef struct pool {
  size_t calls, most, skip;
} pool;

static void parallel_for(void *user_data, size_t count, undiffuse_task_fn task, void *task_data) {
  pool *p = (pool *)user_data;
  size_t i;
  p->calls++;
  if (count > p->most) p->most = count;
  for (i = p->skip; i < count; i++) task(task_data, i);
}

static void host_threads(const float *wanted) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_threads t;
  pool p = {0, 0, 0};
  undiffuse_session *s;
  float x[4 * N];
  char text[256];
  size_t len = sizeof text, count;
  memset(&t, 0, sizeof t);
  t.struct_size = sizeof t;
  t.user_data = &p;
  t.thread_count = 3;
  t.parallel_for = parallel_for;
  o.threads = &t;
  s = open_session(&o);
  OK(undiffuse_session_describe(s, text, &len, E));
  text[len] = 0;
  CHECK(strstr(text, "3 threads") != NULL);
  len = 3;
  FAILS(UNDIFFUSE_BUFFER_TOO_SMALL, undiffuse_session_describe(s, text, &len, E));
  OK(undiffuse_session_run(s, E));
  CHECK(p.calls > 0 && p.most == 3);
  result(s, 4, x);
  CHECK(same_floats(x, wanted, 4 * N));
  OK(undiffuse_session_restart(s, 0, 4, E));
  p.skip = 3; /* threads that do nothing */
  FAILS(UNDIFFUSE_CALLBACK, undiffuse_session_run(s, E));
  p.skip = 2; /* one that does the work of all */
  OK(undiffuse_session_run(s, E));
  result(s, 4, x);
  CHECK(same_floats(x, wanted, 4 * N));
  undiffuse_session_free(s);
  t.parallel_for = NULL;
  OK(undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  CHECK(same_floats(x, wanted, 4 * N));
  t.thread_count = 0;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  t.thread_count = 257;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  o.threads = NULL;
  for (count = BRIEF ? 1 : 0; count < (BRIEF ? 2 : 4); count++) {
    o.thread_count = count;
    OK(undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
    CHECK(same_floats(x, wanted, 4 * N));
  }
  o.thread_count = 257;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_required_bytes(model, sampler, NULL, &o, &count, E));
}

static int32_t seeded(void *user_data, undiffuse_noise_kind kind, uint64_t first, uint64_t draw, size_t sample_len, size_t count,
                      float *out) {
  size_t i;
  CHECK(kind == UNDIFFUSE_NOISE_NORMAL && sample_len == N);
  if (*(int32_t *)user_data) return *(int32_t *)user_data;
  for (i = 0; i < count; i++) OK(undiffuse_noise_normal(5, first + i, draw, out + i * N, N, E));
  return 0;
}

static void own_noise(const float *wanted) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_noise n;
  static float x_t[4 * N], noise[STEPS * 4 * N];
  float x[4 * N];
  int32_t status = 0;
  size_t i, step;
  for (i = 0; i < 4; i++) {
    OK(undiffuse_noise_normal(5, i, 0, x_t + i * N, N, E));
    for (step = 0; step < STEPS; step++)
      OK(undiffuse_noise_normal(5, i, step + 1, noise + (step * 4 + i) * N, N, E));
  }
  memset(&n, 0, sizeof n);
  n.struct_size = sizeof n;
  n.x_t = x_t;
  n.noise = noise;
  n.steps = STEPS;
  n.samples = 4;
  o.noise = &n;
  o.batch = 3;
  OK(undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  CHECK(same_floats(x, wanted, 4 * N));
  o.first_sample = 1; /* the arrays end before the fourth */
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  o.first_sample = 0;
  n.steps = 2;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  n.steps = (size_t)-1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  n.steps = STEPS;
  n.fill = seeded;
  n.user_data = &status;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  n.x_t = n.noise = NULL;
  OK(undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  CHECK(same_floats(x, wanted, 4 * N));
  status = 3;
  FAILS(UNDIFFUSE_CALLBACK, undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
}

/* torch.manual_seed(0); torch.randn(4, ...): its first values, and that neither batches nor sessions change them. */
static void generators(void) {
  static const float first[3] = {-1.1258398f, -1.1523602f, -0.25057858f};
  undiffuse_session_options o = session_options(4, 0);
  undiffuse_session *session;
  undiffuse_noise n;
  float x[4 * N], y[4 * N];
  const float *x_t;
  size_t i, len;
  memset(&n, 0, sizeof n);
  n.struct_size = sizeof n;
  n.generator = UNDIFFUSE_GENERATOR_TORCH_CPU;
  n.samples = 4;
  o.noise = &n;
  session = open_session(&o);
  OK(undiffuse_session_x(session, &x_t, &len, E));
  for (i = 0; i < 3; i++) CHECK(x_t[i] == first[i]);
  undiffuse_session_free(session);
  OK(undiffuse_sample(model, sampler, NULL, &o, x, 4 * N, E));
  o.batch = 3;
  OK(undiffuse_sample(model, sampler, NULL, &o, y, 4 * N, E));
  CHECK(same_floats(x, y, 4 * N));
  o.first_sample = 1; /* four are drawn, the fifth is none of them */
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, 4 * N, E));
  OK(undiffuse_sample(model, sampler, NULL, &o, y, 3 * N, E));
  CHECK(same_floats(x + N, y, 3 * N));
  n.each_seed = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, N, E));
  n.samples = 0;
  OK(undiffuse_sample(model, sampler, NULL, &o, x, N, E)); /* sample 1 of seed 0 ... */
  o.seed = 1;
  o.first_sample = 0;
  OK(undiffuse_sample(model, sampler, NULL, &o, y, N, E)); /* ... is sample 0 of seed 1 */
  CHECK(same_floats(x, y, N));
  n.drawn_in = UNDIFFUSE_DRAWN_IN_BF16;
  OK(undiffuse_sample(model, sampler, NULL, &o, y, N, E));
  CHECK(!same_floats(x, y, N));
  n.generator = UNDIFFUSE_GENERATOR_JAX;
  FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_sample(model, sampler, NULL, &o, y, N, E));
  n.generator = UNDIFFUSE_GENERATOR_OWN;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, N, E));
  n.drawn_in = UNDIFFUSE_DRAWN_IN_F32;
  n.each_seed = 2;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, N, E));
  n.each_seed = 0;
  n.generator = 6;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, N, E));
  n.generator = UNDIFFUSE_GENERATOR_NUMPY;
  n.fill = seeded;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, N, E));
}

static undiffuse_cancel *for_signal;

static void on_signal(int number) {
  (void)number;
  undiffuse_cancel_set(for_signal);
}

/* A signal handler cancels, whenever the timer goes off; the session is usable after. */
static void interrupted(const float *wanted) {
  undiffuse_session_options o = session_options(4, 5);
  struct itimerval timer = {{0, 0}, {0, 2000}};
  struct sigaction action;
  undiffuse_session *s;
  undiffuse_status status;
  OK(undiffuse_cancel_new(&for_signal, E));
  o.cancel = for_signal;
  s = open_session(&o);
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  CHECK(sigaction(SIGALRM, &action, NULL) == 0 && setitimer(ITIMER_REAL, &timer, NULL) == 0);
  do {
    OK(undiffuse_session_restart(s, 0, 4, E));
    status = undiffuse_session_run(s, E);
  } while (status == UNDIFFUSE_OK);
  FAILS(UNDIFFUSE_CANCELLED, status);
  undiffuse_cancel_reset(for_signal);
  OK(undiffuse_session_run(s, E));
  {
    const float *x = NULL;
    size_t len = 0;
    OK(undiffuse_session_x(s, &x, &len, E));
    CHECK(len == 4 * N && same_floats(x, wanted, len));
  }
  undiffuse_session_free(s);
  undiffuse_cancel_free(for_signal);
}

/* A denoiser that fails, and one that cancels from within. */
static void failures(void) {
  gaussian g;
  undiffuse_model *m;
  undiffuse_session_options o = session_options(1, 1);
  undiffuse_session *s = NULL;
  undiffuse_cancel *cancel = NULL;
  float class_of = 0;
  memset(&g, 0, sizeof g);
  g.fail_at = 3;
  g.fail_with = -99;
  m = gaussian_model(&g, 1, 2, 2);
  OK(undiffuse_cancel_new(&cancel, E));
  o.cancel = cancel;
  OK(undiffuse_session_new(m, NULL, NULL, &o, &s, E));
  FAILS(UNDIFFUSE_CALLBACK, undiffuse_session_run(s, E));
  g.fail_at = 4;
  g.fail_with = UNDIFFUSE_CANCELLED;
  FAILS(UNDIFFUSE_CANCELLED, undiffuse_session_run(s, E));
  g.cancel_at_call = cancel;
  FAILS(UNDIFFUSE_CANCELLED, undiffuse_session_run(s, E));
  g.cancel_at_call = NULL;
  undiffuse_cancel_reset(cancel);
  OK(undiffuse_session_run(s, E));
  undiffuse_session_free(s);
  s = NULL;
  o.classes = &class_of;
  o.classes_len = 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(m, NULL, NULL, &o, &s, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_new(model, NULL, NULL, &o, &s, E));
  undiffuse_cancel_free(cancel);
  undiffuse_model_free(m);
}

int main(int argc, char **argv) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_sampler_options so;
  static float wanted[4 * N];
  undiffuse_session *s;
  CHECK(argc == 2);
  OK(undiffuse_model_load(argv[1], NULL, &model, E));
  OK(undiffuse_sampler_options_init(&so, sizeof so));
  so.steps = STEPS;
  OK(undiffuse_sampler_from_model(model, &so, &sampler, E));
  OK(undiffuse_sample(model, sampler, NULL, &o, wanted, 4 * N, E));
  same_samples(wanted);
  saved(wanted);
  watched(wanted);
  starts(wanted);
  gradient(argv[1]);
  memory(wanted, argv[1]);
  host_threads(wanted);
  own_noise(wanted);
  generators();
  interrupted(wanted);
  failures();
  conditions();
  codec(wanted);
  /* A session outlives what it was made of. */
  s = open_session(&o);
  undiffuse_model_free(model);
  undiffuse_sampler_free(sampler);
  OK(undiffuse_session_run(s, E));
  undiffuse_session_free(s);
  undiffuse_session_free(NULL);
  return 0;
}
