/*
 * Points of a swiss roll and small images on a microcontroller: no operating system, no C library, the models are C arrays in flash, the
 * workspace is one static array. Once a session is made the allocator refuses everything.
 *
 * `tests/no_std/run.sh c` builds this for a Cortex-M4 and runs it in QEMU; the checksums are those of the host.
 */
#include <stdint.h>

#include "board.h"
#include "undiffuse.h"
#include "undiffuse_freestanding.h"

extern const unsigned char swiss_roll[], tiny[];
extern const size_t swiss_roll_len, tiny_len;

/* Memory for models, samplers and sessions: given in order, and given again when all of it has come back. */
static unsigned char heap[2 << 20] __attribute__((aligned(64)));
static size_t heap_used, heap_most, heap_blocks;
static bool armed;

void *undiffuse_platform_allocate(size_t size, size_t alignment) {
  const size_t at = (heap_used + alignment - 1) & ~(alignment - 1);
  if (armed || at > sizeof heap || size > sizeof heap - at) return NULL;
  heap_used = at + size;
  heap_blocks++;
  if (heap_used > heap_most) heap_most = heap_used;
  return heap + at;
}

void undiffuse_platform_deallocate(void *block, size_t size, size_t alignment) {
  (void)alignment;
  if ((unsigned char *)block + size == heap + heap_used) heap_used -= size; /* the last one */
  if (--heap_blocks == 0) heap_used = 0;
}

void undiffuse_platform_panic(const char *message, size_t len) {
  board_write(message, len);
  board_exit(1);
}

/* The workspace of every session. */
static unsigned char workspace[64 << 10] __attribute__((aligned(64)));

static void text(const char *s) {
  size_t len = 0;
  while (s[len]) len++;
  board_write(s, len);
}

static void hex(uint64_t value) {
  char digits[16];
  for (int i = 15; i >= 0; i--, value >>= 4) digits[i] = "0123456789abcdef"[value & 15];
  board_write(digits, sizeof digits);
}

static void decimal(uint64_t value) {
  char digits[20];
  int i = 20;
  do digits[--i] = (char)('0' + value % 10);
  while (value /= 10);
  board_write(digits + i, 20 - (size_t)i);
}

/* FNV-1a over the bytes of the samples. */
static uint64_t checksum(const float *x, size_t len) {
  const unsigned char *bytes = (const unsigned char *)x;
  uint64_t h = 0xcbf29ce484222325;
  for (size_t i = 0; i < len * sizeof *x; i++) h = (h ^ bytes[i]) * 0x100000001b3;
  return h;
}

/* The status of all calls so far; prints what went wrong. */
static bool failed(undiffuse_status status, undiffuse_error **error) {
  if (status == UNDIFFUSE_OK) return false;
  text(undiffuse_error_message(*error));
  text("\n");
  undiffuse_error_free(*error);
  *error = NULL;
  return true;
}

static bool sample(const char *name, const unsigned char *data, size_t len, const undiffuse_sampler_options *with, size_t batch) {
  undiffuse_model *model = NULL;
  undiffuse_sampler *sampler = NULL;
  undiffuse_session *session = NULL;
  undiffuse_error *error = NULL;
  undiffuse_session_options options;
  size_t need = 0, values = 0;
  const float *x = NULL;
  bool good = false;

  if (failed(undiffuse_model_load_memory(data, len, NULL, &model, &error), &error)) goto end;
  if (failed(undiffuse_sampler_from_model(model, with, &sampler, &error), &error)) goto end;
  undiffuse_session_options_init(&options, sizeof options);
  options.batch = batch;
  options.seed = 42;
  options.thread_count = 1;
  if (failed(undiffuse_session_required_bytes(model, sampler, NULL, &options, &need, &error), &error)) goto end;

  /* One byte less is refused. */
  options.workspace = workspace;
  options.workspace_bytes = need - 1;
  text(name);
  text(": ");
  if (!failed(undiffuse_session_new(model, sampler, NULL, &options, &session, &error), &error)) goto end;

  options.workspace_bytes = sizeof workspace;
  if (failed(undiffuse_session_new(model, sampler, NULL, &options, &session, &error), &error)) goto end;
  armed = true;
  if (failed(undiffuse_session_run(session, &error), &error)) goto end;
  if (failed(undiffuse_session_x(session, &x, &values, &error), &error)) goto end;
  text(name);
  text(": ");
  hex(checksum(x, values));
  text("\n# ");
  text(name);
  text(": workspace ");
  decimal(need);
  text(" bytes, heap at most ");
  decimal(heap_most);
  text(", stack ");
  decimal(board_stack());
  text("\n");
  good = true;
end:
  armed = false;
  undiffuse_session_free(session);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  heap_most = 0;
  return good;
}

int main(void) {
  undiffuse_sampler_options options;
  undiffuse_sampler_options_init(&options, sizeof options);
  if (!sample("swiss roll", swiss_roll, swiss_roll_len, &options, 4)) return 1;
  options.kind = UNDIFFUSE_SAMPLER_DDIM;
  options.steps = 4;
  options.eta = 1.0;
  return !sample("tiny U-Net", tiny, tiny_len, &options, 2);
}
