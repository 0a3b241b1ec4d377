/* What the tests of sessions share: a small network, a sampler of a few steps for it, and what they make of seed 5. */
#ifndef SESSION_H
#define SESSION_H

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

/* Loads the network at `path` and gives the four samples that sessions must make, however they are run. */
static void load(const char *path, float wanted[4 * N]) {
  undiffuse_session_options o = session_options(4, 5);
  undiffuse_sampler_options so;
  OK(undiffuse_model_load(path, NULL, &model, E));
  OK(undiffuse_sampler_options_init(&so, sizeof so));
  so.steps = STEPS;
  OK(undiffuse_sampler_from_model(model, &so, &sampler, E));
  OK(undiffuse_sample(model, sampler, NULL, &o, wanted, 4 * N, E));
}

#endif
