/* The network runs on threads of the program: two that wait for work, and the calling one. The samples are the same bits as on one.
 *
 *     own_threads digits.safetensors
 */
#include <pthread.h>

#include "example.h"

enum { LEN = 28 * 28, WORKERS = 2 };

/* A team runs one loop at a time, and sleeps between them. */
struct team {
  pthread_mutex_t mutex;
  pthread_cond_t work, done;
  undiffuse_task_fn task;
  void *task_data;
  size_t next, count, running;
  int quit;
};

/* Takes tasks while there are any; the mutex is held before and after. */
static void help(struct team *t) {
  while (t->next < t->count) {
    const size_t i = t->next++;
    t->running++;
    pthread_mutex_unlock(&t->mutex);
    t->task(t->task_data, i);
    pthread_mutex_lock(&t->mutex);
    if (--t->running == 0 && t->next == t->count) pthread_cond_signal(&t->done);
  }
}

static void *worker(void *user_data) {
  struct team *t = user_data;
  pthread_mutex_lock(&t->mutex);
  while (!t->quit) {
    help(t);
    if (!t->quit) pthread_cond_wait(&t->work, &t->mutex);
  }
  pthread_mutex_unlock(&t->mutex);
  return NULL;
}

static void parallel_for(void *user_data, size_t count, undiffuse_task_fn task, void *task_data) {
  struct team *t = user_data;
  pthread_mutex_lock(&t->mutex);
  t->task = task, t->task_data = task_data, t->next = 0, t->count = count;
  pthread_cond_broadcast(&t->work);
  help(t);
  while (t->running > 0) pthread_cond_wait(&t->done, &t->mutex);
  pthread_mutex_unlock(&t->mutex);
}

int main(int argc, char **argv) {
  undiffuse_model *model = NULL;
  undiffuse_sampler *sampler = NULL;
  undiffuse_error *error = NULL;
  static float one[LEN], many[LEN];
  static struct team team = {.mutex = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};
  pthread_t threads[WORKERS];
  int result = 1, started = 0;
  if (argc != 2) {
    fprintf(stderr, "usage: %s MODEL\n", argv[0]);
    return 2;
  }
  for (; started < WORKERS; started++)
    if (pthread_create(&threads[started], NULL, worker, &team)) goto end;
  if (failed(undiffuse_model_load(argv[1], NULL, &model, &error), &error)) goto end;
  undiffuse_sampler_options how;
  undiffuse_sampler_options_init(&how, sizeof how);
  how.kind = UNDIFFUSE_SAMPLER_DDIM;
  how.steps = 10;
  if (failed(undiffuse_sampler_from_model(model, &how, &sampler, &error), &error)) goto end;

  undiffuse_session_options options;
  undiffuse_session_options_init(&options, sizeof options);
  options.thread_count = 1;
  if (failed(undiffuse_sample(model, sampler, NULL, &options, one, LEN, &error), &error)) goto end;
  undiffuse_threads ours = {.struct_size = sizeof ours};
  ours.user_data = &team;
  ours.thread_count = WORKERS + 1;
  ours.parallel_for = parallel_for;
  options.threads = &ours;
  if (failed(undiffuse_sample(model, sampler, NULL, &options, many, LEN, &error), &error)) goto end;
  result = memcmp(one, many, sizeof one) != 0;
  printf("one thread and a team of %d: %s bits\n", WORKERS + 1, result ? "other" : "the same");
end:
  pthread_mutex_lock(&team.mutex);
  team.quit = 1;
  pthread_cond_broadcast(&team.work);
  pthread_mutex_unlock(&team.mutex);
  while (started > 0) pthread_join(threads[--started], NULL);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  return result;
}
