/* Two models and four sessions in four threads at once give the same bits as one after another; a flag stops from another thread. */
#include <pthread.h>

#include "check.h"

enum { N = 64, BATCH = 3, SESSIONS = 4, ROUNDS = 3 };

static undiffuse_model *models[2];
static undiffuse_sampler *sampler;
static float wanted[SESSIONS][BATCH * N], got[SESSIONS][BATCH * N];

/* Each thread has an error of its own. */
static void run(size_t i, float *out, size_t threads) {
  undiffuse_session_options o;
  undiffuse_session *s = NULL;
  const float *x = NULL;
  undiffuse_error *error = NULL;
  CHECK(undiffuse_session_options_init(&o, sizeof o) == UNDIFFUSE_OK);
  o.batch = BATCH;
  o.seed = i;
  o.thread_count = threads;
  CHECK(undiffuse_session_new(models[i % 2], sampler, NULL, &o, &s, &error) == UNDIFFUSE_OK);
  CHECK(undiffuse_session_run(s, &error) == UNDIFFUSE_OK);
  CHECK(undiffuse_session_x(s, &x, NULL, &error) == UNDIFFUSE_OK && error == NULL);
  memcpy(out, x, sizeof wanted[0]);
  undiffuse_session_free(s);
}

static void *thread(void *arg) {
  size_t i = (size_t)(uintptr_t)arg, round;
  for (round = 0; round < (BRIEF ? 1 : ROUNDS); round++) run(i, got[i], 1 + round % 2);
  return NULL;
}

static undiffuse_cancel *cancel;
static undiffuse_session *endless;

static void *runs_until_cancelled(void *arg) {
  undiffuse_error *error = NULL;
  undiffuse_status status;
  (void)arg;
  do {
    status = undiffuse_session_run(endless, &error);
    if (status == UNDIFFUSE_OK) status = undiffuse_session_restart(endless, 0, 1, &error);
  } while (status == UNDIFFUSE_OK);
  CHECK(status == UNDIFFUSE_CANCELLED && undiffuse_error_status(error) == UNDIFFUSE_CANCELLED);
  undiffuse_error_free(error);
  return NULL;
}

int main(int argc, char **argv) {
  pthread_t threads[SESSIONS];
  undiffuse_session_options o = session_options(1, 1);
  size_t i;
  CHECK(argc == 2);
  for (i = 0; i < 2; i++) OK(undiffuse_model_load(argv[1], NULL, &models[i], E));
  sampler = ddim_of(models[0], 8, 1.0);
  for (i = 0; i < SESSIONS; i++) run(i, wanted[i], 1);
  for (i = 0; i < SESSIONS; i++) CHECK(pthread_create(&threads[i], NULL, thread, (void *)(uintptr_t)i) == 0);
  for (i = 0; i < SESSIONS; i++) CHECK(pthread_join(threads[i], NULL) == 0);
  for (i = 0; i < SESSIONS; i++) CHECK(same_floats(got[i], wanted[i], BATCH * N));
  CHECK(!same_floats(wanted[0], wanted[2], BATCH * N));

  OK(undiffuse_cancel_new(&cancel, E));
  o.cancel = cancel;
  o.thread_count = 2;
  OK(undiffuse_session_new(models[0], sampler, NULL, &o, &endless, E));
  CHECK(pthread_create(&threads[0], NULL, runs_until_cancelled, NULL) == 0);
  /* The other thread is in a call, or between two; the session belongs to it. */
  undiffuse_cancel_set(cancel);
  CHECK(pthread_join(threads[0], NULL) == 0);
  undiffuse_cancel_reset(cancel);
  OK(undiffuse_session_run(endless, E));
  undiffuse_session_free(endless);
  undiffuse_cancel_free(cancel);
  undiffuse_sampler_free(sampler);
  for (i = 0; i < 2; i++) undiffuse_model_free(models[i]);
  return 0;
}
