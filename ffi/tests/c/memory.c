/* Malloc refuses, at every place of a run where it is called, once or from there on: each call then succeeds or returns
 * UNDIFFUSE_OUT_OF_MEMORY, the process goes on, and nothing leaks. The program has glibc's malloc in its hands, so no tool that has a
 * malloc of its own can run it. Argument: a small packed model. */
#include <errno.h>
#include <features.h>

#include "check.h"

#ifndef __GLIBC__

int main(void) {
  puts("skipped: malloc that refuses: this needs glibc");
  return 0;
}

#else

void *__libc_malloc(size_t size);
void *__libc_calloc(size_t count, size_t size);
void *__libc_realloc(void *block, size_t size);
void *__libc_memalign(size_t alignment, size_t size);
void __libc_free(void *block);

/* Calls of malloc so far, the one that refuses (0: none), whether those after it do too, and blocks that are out. */
static long calls, fail_at, live;
static int from_there_on;

static int refuses(void) {
  long n = __atomic_add_fetch(&calls, 1, __ATOMIC_SEQ_CST);
  if (fail_at == 0 || n < fail_at || (n > fail_at && !from_there_on)) return 0;
  errno = ENOMEM;
  return 1;
}

static void *counted(void *block) {
  if (block != NULL) __atomic_add_fetch(&live, 1, __ATOMIC_SEQ_CST);
  return block;
}

void *malloc(size_t size) { return refuses() ? NULL : counted(__libc_malloc(size)); }

void *calloc(size_t count, size_t size) { return refuses() ? NULL : counted(__libc_calloc(count, size)); }

void *realloc(void *block, size_t size) {
  if (block == NULL) return malloc(size);
  return refuses() ? NULL : __libc_realloc(block, size);
}

int posix_memalign(void **block, size_t alignment, size_t size) {
  if (refuses()) return ENOMEM;
  *block = counted(__libc_memalign(alignment, size));
  return *block == NULL ? ENOMEM : 0;
}

void *aligned_alloc(size_t alignment, size_t size) { return refuses() ? NULL : counted(__libc_memalign(alignment, size)); }

void *memalign(size_t alignment, size_t size) { return aligned_alloc(alignment, size); }

void free(void *block) {
  if (block != NULL) __atomic_sub_fetch(&live, 1, __ATOMIC_SEQ_CST);
  __libc_free(block);
}

#define BATCH 2

static const char *path;
static unsigned char *file;
static size_t file_len;
/* What the runs share; it was made while malloc gave. */
static undiffuse_model *shared;
static float expected[4096];

static undiffuse_status first;

/* Notes what a call returned; an error has a text or, if there was no memory for one, no object. */
static int done(undiffuse_status status, undiffuse_error **error) {
  if (status == UNDIFFUSE_OK) return 1;
  if (*error != NULL) CHECK(undiffuse_error_status(*error) == status && undiffuse_error_message(*error)[0] != 0);
  undiffuse_error_free(*error);
  *error = NULL;
  if (first == UNDIFFUSE_OK) first = status;
  return 0;
}

#define GOES(call) done((call), &error)

/* A model from a file. */
static undiffuse_status load(void) {
  undiffuse_error *error = NULL;
  undiffuse_model *model = NULL;
  first = UNDIFFUSE_OK;
  if (!GOES(undiffuse_model_load(path, NULL, &model, &error))) CHECK(model == NULL);
  undiffuse_model_free(model);
  return first;
}

/* A model from memory, with its gradient. */
static undiffuse_status load_memory(void) {
  undiffuse_error *error = NULL;
  undiffuse_model *model = NULL;
  undiffuse_model_options options;
  first = UNDIFFUSE_OK;
  undiffuse_model_options_init(&options, sizeof options);
  options.gradient = UNDIFFUSE_GRADIENT_FULL;
  if (!GOES(undiffuse_model_load_memory(file, file_len, &options, &model, &error))) CHECK(model == NULL);
  undiffuse_model_free(model);
  return first;
}

/* A sampler from a text, evidence, a session that runs, saves and restores, samples in one call, and a bound. Ends at the first call that
 * fails and returns what it returned. */
static undiffuse_status run(void) {
  undiffuse_error *error = NULL;
  undiffuse_sampler *sampler = NULL;
  undiffuse_operator *op = NULL;
  undiffuse_evidence *evidence = NULL;
  undiffuse_session *session = NULL;
  undiffuse_cancel *cancel = NULL;
  undiffuse_bound *bound = NULL;
  undiffuse_model_info info;
  undiffuse_sampler_options so;
  undiffuse_session_options o;
  undiffuse_bound_options bo;
  undiffuse_measurement m;
  static float y[4096], out[4096];
  static unsigned char known[4096], saved[1 << 20];
  static char text[8192];
  const float *x = NULL;
  size_t len;

  first = UNDIFFUSE_OK;
  undiffuse_sampler_options_init(&so, sizeof so);
  so.kind = UNDIFFUSE_SAMPLER_DDIM;
  so.steps = 3;
  so.eta = 1;
  undiffuse_session_options_init(&o, sizeof o);
  o.batch = BATCH;
  o.seed = 5;
  o.thread_count = 1;
  undiffuse_bound_options_init(&bo, sizeof bo);
  bo.sampled_steps = 1;
  bo.thread_count = 1;
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.y = y;
  m.sigma = 0.1;
  memset(&info, 0, sizeof info);
  info.struct_size = sizeof info;

  if (!GOES(undiffuse_model_get_info(shared, &info, &error))) goto end;
  CHECK(BATCH * info.sample_len <= COUNT(out) && info.rank == 3);
  len = sizeof text;
  if (!GOES(undiffuse_model_scheduler_json(shared, text, &len, &error))) goto end;
  if (!GOES(undiffuse_sampler_from_json(text, len, &so, &sampler, &error))) goto end;
  memset(known, 1, info.sample_len / 2);
  if (!GOES(undiffuse_operator_mask(info.dims, info.rank, known, info.sample_len, &op, &error))) goto end;
  m.op = op;
  m.y_len = info.sample_len / 2;
  if (!GOES(undiffuse_evidence_from_measurement(&m, NULL, &evidence, &error))) goto end;
  if (!GOES(undiffuse_cancel_new(&cancel, &error))) goto end;
  o.cancel = cancel;
  if (!GOES(undiffuse_session_new(shared, sampler, evidence, &o, &session, &error))) goto end;
  if (!GOES(undiffuse_session_step(session, &error))) goto end;
  len = sizeof saved;
  if (!GOES(undiffuse_session_save(session, saved, &len, &error))) goto end;
  if (!GOES(undiffuse_session_run(session, &error))) goto end;
  if (!GOES(undiffuse_session_restore(session, saved, len, &error))) goto end;
  if (!GOES(undiffuse_session_run(session, &error))) goto end;
  if (!GOES(undiffuse_session_x(session, &x, &len, &error))) goto end;
  if (!GOES(undiffuse_sample(shared, sampler, evidence, &o, out, BATCH * info.sample_len, &error))) goto end;
  CHECK(len == BATCH * info.sample_len && same_floats(x, out, len));
  if (fail_at == 0) memcpy(expected, out, len * sizeof *out);
  CHECK(same_floats(x, expected, len));
  if (!GOES(undiffuse_bound_new(shared, NULL, &bo, out, info.sample_len, &bound, &error))) goto end;
end:
  undiffuse_bound_free(bound);
  undiffuse_session_free(session);
  undiffuse_cancel_free(cancel);
  undiffuse_evidence_free(evidence);
  undiffuse_operator_free(op);
  undiffuse_sampler_free(sampler);
  return first;
}

/* Refuses at all places of `f`, one after another; at one in `every` where there are thousands. */
static void refuse(const char *name, undiffuse_status (*f)(void), int on, long every) {
  long place, refused = 0, went_on = 0;
  CHECK(f() == UNDIFFUSE_OK); /* What the C library keeps from its first use on is there now. */
  for (place = 1;; place += every) {
    long before = live;
    undiffuse_status status;
    calls = 0;
    from_there_on = on;
    fail_at = place;
    status = f();
    fail_at = 0;
    if (live != before) {
      fprintf(stderr, "%s: %ld blocks leak where call %ld of malloc refuses\n", name, live - before, place);
      exit(1);
    }
    if (calls < place) break;
    if (status != UNDIFFUSE_OK && status != UNDIFFUSE_OUT_OF_MEMORY) {
      fprintf(stderr, "%s: call %ld of malloc refuses: %s\n", name, place, undiffuse_status_name(status));
      exit(1);
    }
    *(status == UNDIFFUSE_OK ? &went_on : &refused) += 1;
  }
  CHECK(refused > went_on);
  printf("malloc refuses %s in %s, at every %ld. of %ld calls: %ld times out of memory, %ld went on, no leak\n",
         on ? "from there on" : "once", name, every, calls, refused, went_on);
}

int main(int argc, char **argv) {
  undiffuse_model_options options;
  int on;
  CHECK(argc == 2);
  path = argv[1];
  file = read_file(path, &file_len);
  OK(undiffuse_model_options_init(&options, sizeof options));
  options.gradient = UNDIFFUSE_GRADIENT_FULL;
  OK(undiffuse_model_load_memory(file, file_len, &options, &shared, E));
  for (on = 0; on <= 1; on++) {
    refuse("undiffuse_model_load", load, on, on ? 7 : 1);
    refuse("undiffuse_model_load_memory", load_memory, on, 19);
    refuse("a run", run, on, 1);
  }
  undiffuse_model_free(shared);
  free(file);
  return 0;
}

#endif
