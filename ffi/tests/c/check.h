/* What the test programs share: checks that name their line, a small model, and a denoiser that is known exactly. */
#ifndef CHECK_H
#define CHECK_H

#include <float.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "undiffuse.h"

#if defined(__GNUC__)
#define MAY_BE_UNUSED __attribute__((unused))
#else
#define MAY_BE_UNUSED
#endif

/* Ends the program with a message unless the condition holds. */
#define CHECK(condition)                                                        \
  do {                                                                          \
    if (!(condition)) {                                                         \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
      exit(1);                                                                  \
    }                                                                           \
  } while (0)

#ifndef CHECK_ONLY /* for a program that is not linked with the library */

static undiffuse_error *last_error;

static void MAY_BE_UNUSED check_status(int got, int wanted, const char *call, const char *file, int line) {
  if (got != wanted) {
    fprintf(stderr, "%s:%d: %s: %s (%s), expected %s\n", file, line, call, undiffuse_status_name(got),
            undiffuse_error_message(last_error), undiffuse_status_name(wanted));
    exit(1);
  }
  if (got < 0) {
    /* A failed call leaves an error object that says the same and has a text. */
    CHECK(last_error != NULL && (int)undiffuse_error_status(last_error) == wanted);
    CHECK(undiffuse_error_message(last_error)[0] != 0);
    /* It speaks of what a C program knows. */
    if (strstr(undiffuse_error_message(last_error), "::") || strstr(undiffuse_error_message(last_error), "Some(") ||
        strstr(undiffuse_error_message(last_error), "None")) {
      fprintf(stderr, "%s:%d: %s names Rust: %s\n", file, line, call, undiffuse_error_message(last_error));
      exit(1);
    }
  } else {
    CHECK(last_error == NULL);
  }
  undiffuse_error_free(last_error);
  last_error = NULL;
}

/* The call's last argument is &last_error. */
#define OK(call) check_status((int)(call), UNDIFFUSE_OK, #call, __FILE__, __LINE__)
#define FAILS(status, call) check_status((int)(call), (status), #call, __FILE__, __LINE__)

#define E (&last_error)
/* Whether to do less, because a tool makes the program slow. */
#define BRIEF (getenv("BRIEF") != NULL)
#define COUNT(array) (sizeof(array) / sizeof(array)[0])

/* A file as bytes; the caller frees them. */
static unsigned char MAY_BE_UNUSED *read_file(const char *path, size_t *len) {
  FILE *file = fopen(path, "rb");
  unsigned char *bytes;
  long end;
  CHECK(file != NULL);
  fseek(file, 0, SEEK_END);
  end = ftell(file);
  rewind(file);
  CHECK(end > 0);
  bytes = (unsigned char *)malloc((size_t)end);
  CHECK(bytes != NULL && fread(bytes, 1, (size_t)end, file) == (size_t)end);
  fclose(file);
  *len = (size_t)end;
  return bytes;
}

/* E[eps | x] for data N(0, 1/4), and its vector-Jacobian product. Counts its calls, and fails on call `fail_at`. */
typedef struct gaussian {
  int calls;
  int fail_at;
  int fail_with;
  undiffuse_cancel *cancel_at_call;
} gaussian;

static double gaussian_slope(const undiffuse_call *call) {
  double a = call->level.alpha, s = call->level.sigma;
  return s / (a * a * 0.25 + s * s);
}

static int32_t MAY_BE_UNUSED gaussian_predict(void *user_data, const undiffuse_call *call, const float *x, float *out) {
  gaussian *g = (gaussian *)user_data;
  size_t i, n = call->count * call->sample_len;
  if (g && ++g->calls == g->fail_at) return g->fail_with;
  if (g && g->cancel_at_call) undiffuse_cancel_set(g->cancel_at_call);
  for (i = 0; i < n; i++) out[i] = (float)(gaussian_slope(call) * x[i]);
  return 0;
}

static int32_t MAY_BE_UNUSED gaussian_vjp(void *user_data, const undiffuse_call *call, const float *x, const float *v,
                                          float *out) {
  size_t i, n = call->count * call->sample_len;
  (void)user_data;
  (void)x;
  for (i = 0; i < n; i++) out[i] = (float)(gaussian_slope(call) * v[i]);
  return 0;
}

/* No clipping, so that the chain stays Gaussian. */
static const char MAY_BE_UNUSED *const PLAIN_DDPM =
    "{\"_class_name\": \"DDPMScheduler\", \"clip_sample\": false, \"num_train_timesteps\": 100, \"beta_start\": 0.001, \"beta_end\": 0.2}";

static undiffuse_model MAY_BE_UNUSED *gaussian_model(gaussian *state, size_t channels, size_t height, size_t width) {
  undiffuse_denoiser d;
  undiffuse_model *model = NULL;
  memset(&d, 0, sizeof d);
  d.struct_size = sizeof d;
  d.user_data = state;
  d.predict = gaussian_predict;
  d.vjp = gaussian_vjp;
  d.rank = 3;
  d.dims[0] = channels;
  d.dims[1] = height;
  d.dims[2] = width;
  d.name = "gaussian";
  d.fingerprint = 7;
  d.scheduler_json = PLAIN_DDPM;
  OK(undiffuse_model_from_denoiser(&d, &model, E));
  return model;
}

static undiffuse_sampler MAY_BE_UNUSED *ddim_of(const undiffuse_model *model, size_t steps, double eta) {
  undiffuse_sampler_options o;
  undiffuse_sampler *sampler = NULL;
  OK(undiffuse_sampler_options_init(&o, sizeof o));
  o.kind = UNDIFFUSE_SAMPLER_DDIM;
  o.steps = steps;
  o.eta = eta;
  OK(undiffuse_sampler_from_model(model, &o, &sampler, E));
  return sampler;
}

static undiffuse_session_options MAY_BE_UNUSED session_options(size_t batch, uint64_t seed) {
  undiffuse_session_options o;
  OK(undiffuse_session_options_init(&o, sizeof o));
  o.batch = batch;
  o.seed = seed;
  o.thread_count = 1;
  return o;
}

static int MAY_BE_UNUSED same_floats(const float *a, const float *b, size_t n) { return memcmp(a, b, n * sizeof *a) == 0; }

#endif

#endif
