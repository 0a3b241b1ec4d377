/* Sessions: whole runs, single steps, progress, cancel, saved states, conditions and codecs. argv[1]: a small network. */
#include <signal.h>
#include <sys/time.h>

#include "session.h"

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

/* A codec of a model without a decoder copies, both ways; ffi/src/codec/tests.rs has one with a decoder. */
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
  CHECK(i.encoded_len == N && i.encoded_dims[2] == 8 && !i.has_posterior && info.encoder_weight_bytes == 0);
  memset(data, 0, sizeof data);
  OK(undiffuse_codec_encode(c, x, 4 * N, NULL, data, 4 * N, E));
  CHECK(same_floats(x, data, 4 * N));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_codec_encode(c, x, 4 * N, NULL, data, N, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_codec_encode(c, data, 4 * N, NULL, data, 4 * N, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_codec_encode(c, x, 4 * N, data, data, 4 * N, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_codec_encode(NULL, x, N, NULL, data, N, E));
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
  static float wanted[4 * N];
  undiffuse_session *s;
  CHECK(argc == 2);
  load(argv[1], wanted);
  same_samples(wanted);
  saved(wanted);
  watched(wanted);
  starts(wanted);
  gradient(argv[1]);
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
