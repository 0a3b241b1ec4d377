/* An allocator that refuses its n-th call, for every n of loading a model and running a session: an error each time, and nothing left. */
#include "check.h"

typedef struct stingy {
  size_t calls, refuse_at, blocks;
} stingy;

static void *allocate(void *user_data, size_t size, size_t alignment) {
  stingy *s = (stingy *)user_data;
  void *block = NULL;
  if (++s->calls == s->refuse_at || posix_memalign(&block, alignment, size)) return NULL;
  s->blocks++;
  return block;
}

static void deallocate(void *user_data, void *block, size_t size, size_t alignment) {
  (void)size;
  (void)alignment;
  ((stingy *)user_data)->blocks--;
  free(block);
}

/* Loads, makes a session, runs it; gives the status of what failed. */
static undiffuse_status all_of_it(const char *path, stingy *state, uint32_t gradient) {
  undiffuse_allocator a;
  undiffuse_model_options mo;
  undiffuse_session_options o = session_options(2, 1);
  undiffuse_model *model = NULL;
  undiffuse_sampler *sampler = NULL;
  undiffuse_session *session = NULL;
  undiffuse_status status;
  memset(&a, 0, sizeof a);
  a.struct_size = sizeof a;
  a.user_data = state;
  a.allocate = allocate;
  a.deallocate = deallocate;
  OK(undiffuse_model_options_init(&mo, sizeof mo));
  mo.allocator = &a;
  mo.gradient = (undiffuse_gradient)gradient;
  o.allocator = &a;
  status = undiffuse_model_load(path, &mo, &model, E);
  if (!status) {
    sampler = ddim_of(model, 2, 0.0);
    status = undiffuse_session_new(model, sampler, NULL, &o, &session, E);
  }
  if (!status) status = undiffuse_session_run(session, E);
  CHECK((status == UNDIFFUSE_OK) == (session != NULL));
  FAILS(status, status);
  undiffuse_session_free(session);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  CHECK(state->blocks == 0);
  return status;
}

int main(int argc, char **argv) {
  uint32_t gradient;
  CHECK(argc == 2);
  for (gradient = 0; gradient < (BRIEF ? 1 : 2); gradient++) {
    stingy state = {0, 0, 0};
    size_t calls, n;
    CHECK(all_of_it(argv[1], &state, gradient) == UNDIFFUSE_OK);
    calls = state.calls;
    CHECK(calls > 50);
    for (n = 1; n <= calls; n++) {
      state.calls = 0;
      state.refuse_at = n;
      CHECK(all_of_it(argv[1], &state, gradient) == UNDIFFUSE_OUT_OF_MEMORY);
    }
    printf("%d refused calls, each an error\n", (int)calls);
  }
  return 0;
}
