/* What a session is given: the caller's memory, threads, noise and generators. argv[1]: a small network. */
#include "session.h"

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

/* Draws by hand. Of a generator that another program also samples an encoder's distributions with, the encoder's draw is the first; a run
   that begins at a later step has the draws of no step before. */
static void draws(void) {
  undiffuse_session_options o = session_options(4, 0);
  undiffuse_session *session;
  undiffuse_noise n;
  float all[4 * N], z[4 * N], y[4 * N];
  const float *x_t;
  size_t len;
  session = open_session(&o); /* the seed's own */
  OK(undiffuse_session_noise(session, 2, UNDIFFUSE_ENCODER_DRAW, z, N, E));
  OK(undiffuse_noise_normal(o.seed, 2, UNDIFFUSE_ENCODER_DRAW, y, N, E));
  CHECK(same_floats(z, y, N));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_session_noise(session, 0, 0, z, N - 1, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_session_noise(session, 0, 0, z, 0, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_noise(session, 0, 0, NULL, N, E));
  undiffuse_session_free(session);
  memset(&n, 0, sizeof n);
  n.struct_size = sizeof n;
  n.encoded_images = 2;
  o.noise = &n;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, 4 * N, E));
  n.encoded_images = 0;
  n.generator = UNDIFFUSE_GENERATOR_NUMPY;
  n.samples = 4;
  session = open_session(&o);
  OK(undiffuse_session_noise(session, 0, 0, all, 4 * N, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_noise(session, 0, UNDIFFUSE_ENCODER_DRAW, z, N, E));
  undiffuse_session_free(session);
  n.encoded_images = 2;
  session = open_session(&o);
  OK(undiffuse_session_noise(session, 0, UNDIFFUSE_ENCODER_DRAW, z, 2 * N, E));
  CHECK(same_floats(z, all, 2 * N)); /* what was the start of x_T */
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_noise(session, 2, UNDIFFUSE_ENCODER_DRAW, z, N, E));
  OK(undiffuse_session_noise(session, 0, 0, y, 4 * N, E));
  CHECK(same_floats(y, all + 2 * N, 2 * N));
  OK(undiffuse_session_x(session, &x_t, &len, E));
  CHECK(same_floats(x_t, y, 4 * N)); /* nothing moved, and the session draws the same */
  undiffuse_session_free(session);
  n.encoded_images = 5;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, 4 * N, E));
  n.encoded_images = 0;
  session = open_session(&o);
  OK(undiffuse_session_noise(session, 0, 1, all, 4 * N, E));
  undiffuse_session_free(session);
  n.first_step = 1; /* the first noise of a step is now step 1's */
  session = open_session(&o);
  OK(undiffuse_session_noise(session, 0, 2, y, 4 * N, E));
  CHECK(same_floats(y, all, 4 * N));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_session_noise(session, 0, 1, y, 4 * N, E));
  undiffuse_session_free(session);
  n.first_step = STEPS + 1;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sampler, NULL, &o, y, 4 * N, E));
}

/* diffusers gives DPMSolverSDEScheduler torchsde's Brownian tree, which no batch changes, and which is drawn in f32. */
static void tree(void) {
  undiffuse_sampler_options how;
  undiffuse_sampler *sde = NULL;
  undiffuse_session_options o = session_options(4, 0);
  undiffuse_noise n;
  float x[4 * N], y[4 * N];
  OK(undiffuse_sampler_options_init(&how, sizeof how));
  how.kind = UNDIFFUSE_SAMPLER_DPM_SOLVER_SDE;
  how.steps = STEPS;
  OK(undiffuse_sampler_from_model(model, &how, &sde, E));
  memset(&n, 0, sizeof n);
  n.struct_size = sizeof n;
  n.generator = UNDIFFUSE_GENERATOR_TORCH_CPU;
  n.samples = 4;
  o.noise = &n;
  OK(undiffuse_sample(model, sde, NULL, &o, x, 4 * N, E));
  o.batch = 3;
  OK(undiffuse_sample(model, sde, NULL, &o, y, 4 * N, E));
  CHECK(same_floats(x, y, 4 * N));
  n.drawn_in = UNDIFFUSE_DRAWN_IN_F16;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_sample(model, sde, NULL, &o, y, 4 * N, E));
  undiffuse_sampler_free(sde);
}

int main(int argc, char **argv) {
  static float wanted[4 * N];
  CHECK(argc == 2);
  load(argv[1], wanted);
  memory(wanted, argv[1]);
  host_threads(wanted);
  own_noise(wanted);
  generators();
  draws();
  tree();
  undiffuse_model_free(model);
  undiffuse_sampler_free(sampler);
  return 0;
}
