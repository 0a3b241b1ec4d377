/* Cancels a run from another thread, then goes on with it: the result is that of a run that was never stopped.
 *
 *     cancel digits.safetensors
 */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <time.h>

#include "example.h"

enum { LEN = 28 * 28 };

static void *soon(void *flag) {
  const struct timespec a_while = {.tv_nsec = 5000000};
  nanosleep(&a_while, NULL);
  undiffuse_cancel_set(flag); /* one atomic store: a signal handler may do it too */
  return NULL;
}

int main(int argc, char **argv) {
  undiffuse_model *model = NULL;
  undiffuse_session *session = NULL;
  undiffuse_cancel *cancel = NULL;
  undiffuse_error *error = NULL;
  static float whole[LEN];
  pthread_t thread;
  int result = 1;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  if (failed(undiffuse_model_load(argv[1], NULL, &model, &error), &error)) goto end;
  if (failed(undiffuse_cancel_new(&cancel, &error), &error)) goto end;
  undiffuse_session_options options;
  undiffuse_session_options_init(&options, sizeof options);
  options.cancel = cancel;
  if (failed(undiffuse_session_new(model, NULL, NULL, &options, &session, &error), &error)) goto end;

  if (pthread_create(&thread, NULL, soon, cancel)) goto end;
  const undiffuse_status status = undiffuse_session_run(session, NULL); /* an error of no interest needs no object */
  pthread_join(thread, NULL);
  undiffuse_session_info info = {.struct_size = sizeof info};
  if (failed(undiffuse_session_get_info(session, &info, &error), &error)) goto end;
  printf("%s after step %zu of %zu\n", undiffuse_status_name(status), info.step, info.step_count);

  undiffuse_cancel_reset(cancel);
  if (failed(undiffuse_session_run(session, &error), &error)) goto end;
  const float *x;
  if (failed(undiffuse_session_x(session, &x, NULL, &error), &error)) goto end;
  if (failed(undiffuse_sample(model, NULL, NULL, &options, whole, LEN, &error), &error)) goto end;
  result = memcmp(x, whole, sizeof whole) != 0 || status != UNDIFFUSE_CANCELLED;
  printf("gone on with: %s bits as a run that was not stopped\n", result ? "other" : "the same");
end:
  undiffuse_session_free(session);
  undiffuse_cancel_free(cancel);
  undiffuse_model_free(model);
  return result;
}
