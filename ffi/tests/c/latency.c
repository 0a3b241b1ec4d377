/* How long a session runs on after its cancel flag was set, beside the time of a whole network call: no assertion, it prints. argv[1]: a
 * model, argv[2]: threads (1), argv[3]: cancels (20). The longest layer is what `cargo run --example seeded_model` prints. */
#include <pthread.h>
#include <time.h>

#include "check.h"

static undiffuse_cancel *cancel;
static double set_at;

static double now(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_size(const void *a, const void *b) {
  double x = *(const double *)a, y = *(const double *)b;
  return (x > y) - (x < y);
}

static void *set_after(void *seconds) {
  struct timespec t;
  t.tv_sec = 0;
  t.tv_nsec = (long)(1e9 * *(double *)seconds);
  nanosleep(&t, NULL);
  set_at = now();
  undiffuse_cancel_set(cancel);
  return NULL;
}

int main(int argc, char **argv) {
  undiffuse_model *model = NULL;
  undiffuse_sampler *sampler;
  undiffuse_session_options o = session_options(1, 1);
  undiffuse_session *session = NULL;
  static double late[1000];
  double call = INFINITY;
  int i, rounds = argc > 3 ? atoi(argv[3]) : 20;
  CHECK(argc > 1 && rounds > 0 && rounds <= (int)COUNT(late));
  OK(undiffuse_model_load(argv[1], NULL, &model, E));
  sampler = ddim_of(model, 100, 0.0);
  OK(undiffuse_cancel_new(&cancel, E));
  o.cancel = cancel;
  o.thread_count = argc > 2 ? (size_t)atoi(argv[2]) : 1;
  OK(undiffuse_session_new(model, sampler, NULL, &o, &session, E));
  for (i = 0; i < 5; i++) {
    double begin = now();
    OK(undiffuse_session_step(session, E));
    if (now() - begin < call) call = now() - begin;
  }
  for (i = 0; i < rounds; i++) {
    pthread_t thread;
    /* Somewhere within a network call. */
    double after = call * (1.0 + (i + 0.5) / rounds);
    CHECK(pthread_create(&thread, NULL, set_after, &after) == 0);
    FAILS(UNDIFFUSE_CANCELLED, undiffuse_session_run(session, E));
    late[i] = now();
    pthread_join(thread, NULL);
    late[i] -= set_at;
    undiffuse_cancel_reset(cancel);
  }
  qsort(late, (size_t)rounds, sizeof *late, by_size);
  printf("a network call takes %.2f ms; a session returned %.2f ms (median; 90 %%: %.2f ms, most: %.2f ms) after its flag was set, in %d "
         "cancels\n",
         1e3 * call, 1e3 * late[rounds / 2], 1e3 * late[rounds * 9 / 10], 1e3 * late[rounds - 1], rounds);
  undiffuse_session_free(session);
  undiffuse_cancel_free(cancel);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  return 0;
}
