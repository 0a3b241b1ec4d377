/* Versions, errors, cancel flags, devices, and the rules of structs that grow. */
#include "check.h"

/* A struct of options with room behind it, as a newer program would have. */
typedef union larger {
  size_t struct_size;
  unsigned char bytes[1024];
} larger;

/* Every size of a struct that a program may state: `call` gives the status for the struct at `at`. */
static void sizes(size_t size, undiffuse_status (*init)(void *, size_t), undiffuse_status (*call)(const void *)) {
  larger l;
  size_t bad[] = {0, 1, 7, 8, 12, 17, 4104, (size_t)1 << 40, (size_t)-1, (size_t)-8}, i;
  CHECK(size % 8 == 0 && size + 64 < sizeof l);
  memset(&l, 0xff, sizeof l);
  if (init) {
    CHECK(init(NULL, size) == UNDIFFUSE_INVALID_ARGUMENT);
    for (i = 0; i < COUNT(bad); i++) CHECK(init(&l, bad[i]) == UNDIFFUSE_INVALID_ARGUMENT);
    CHECK(l.bytes[0] == 0xff);
    /* A newer program: what this library does not know is zero, what is beyond the struct stays. */
    CHECK(init(&l, size + 32) == UNDIFFUSE_OK && l.struct_size == size + 32);
    for (i = size; i < size + 32; i++) CHECK(l.bytes[i] == 0);
    CHECK(l.bytes[size + 32] == 0xff);
    FAILS(UNDIFFUSE_OK, call(&l));
    l.bytes[size + 3] = 1;
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, call(&l));
    /* An older program. */
    memset(&l, 0xff, sizeof l);
    CHECK(init(&l, 16) == UNDIFFUSE_OK && l.struct_size == 16 && l.bytes[16] == 0xff);
    FAILS(UNDIFFUSE_OK, call(&l));
    CHECK(init(&l, size) == UNDIFFUSE_OK && l.bytes[size] == 0xff);
    FAILS(UNDIFFUSE_OK, call(&l));
  }
  for (i = 0; i < COUNT(bad); i++) {
    l.struct_size = bad[i];
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, call(&l));
  }
}

static undiffuse_model *model;
static undiffuse_sampler *sampler;
static undiffuse_session *session;
static undiffuse_operator *op;
static undiffuse_bound *bound;

#define INIT(type)                                                           \
  static undiffuse_status init_##type(void *at, size_t size) {               \
    return undiffuse_##type##_init((undiffuse_##type *)at, size);            \
  }
INIT(model_options)
INIT(schedule_options)
INIT(sampler_options)
INIT(session_options)
INIT(method_options)
INIT(bound_options)

/* Each frees what it made, and leaves last_error to the caller. */
static undiffuse_status use_model_options(const void *o) {
  undiffuse_model *m = NULL;
  undiffuse_status s = undiffuse_model_load("/does/not/exist", (const undiffuse_model_options *)o, &m, E);
  CHECK(m == NULL);
  /* The options come before the file. */
  if (s != UNDIFFUSE_IO) return s;
  undiffuse_error_free(last_error);
  last_error = NULL;
  return UNDIFFUSE_OK;
}

static undiffuse_status use_schedule_options(const void *o) {
  undiffuse_sampler *s = NULL;
  undiffuse_status status = undiffuse_sampler_new((const undiffuse_schedule_options *)o, NULL, &s, E);
  undiffuse_sampler_free(s);
  return status;
}

static undiffuse_status use_sampler_options(const void *o) {
  undiffuse_sampler *s = NULL;
  undiffuse_status status = undiffuse_sampler_new(NULL, (const undiffuse_sampler_options *)o, &s, E);
  undiffuse_sampler_free(s);
  return status;
}

static undiffuse_status use_session_options(const void *o) {
  undiffuse_session *s = NULL;
  undiffuse_status status =
      undiffuse_session_new(model, sampler, NULL, (const undiffuse_session_options *)o, &s, E);
  undiffuse_session_free(s);
  return status;
}

static undiffuse_status use_method_options(const void *o) {
  undiffuse_evidence *e = NULL;
  undiffuse_measurement m;
  float y[16] = {0};
  undiffuse_status status;
  memset(&m, 0, sizeof m);
  m.struct_size = sizeof m;
  m.op = op;
  m.y = y;
  m.y_len = 16;
  m.sigma = 0.5;
  status = undiffuse_evidence_from_measurement(&m, (const undiffuse_method_options *)o, &e, E);
  undiffuse_evidence_free(e);
  return status;
}

static undiffuse_status use_bound_options(const void *o) {
  undiffuse_bound *b = NULL;
  float data[16] = {0};
  undiffuse_status status =
      undiffuse_bound_new(model, NULL, (const undiffuse_bound_options *)o, data, 16, &b, E);
  undiffuse_bound_free(b);
  return status;
}

static undiffuse_status use_allocator(const void *o) {
  undiffuse_session_options s = session_options(1, 1);
  undiffuse_session *made = NULL;
  s.allocator = (const undiffuse_allocator *)o;
  return undiffuse_session_new(model, NULL, NULL, &s, &made, E);
}

static undiffuse_status use_threads(const void *o) {
  undiffuse_session_options s = session_options(1, 1);
  undiffuse_session *made = NULL;
  s.threads = (const undiffuse_threads *)o;
  return undiffuse_session_new(model, NULL, NULL, &s, &made, E);
}

static undiffuse_status use_noise(const void *o) {
  undiffuse_session_options s = session_options(1, 1);
  undiffuse_session *made = NULL;
  s.noise = (const undiffuse_noise *)o;
  return undiffuse_session_new(model, NULL, NULL, &s, &made, E);
}

static undiffuse_status use_denoiser(const void *o) {
  undiffuse_model *m = NULL;
  return undiffuse_model_from_denoiser((const undiffuse_denoiser *)o, &m, E);
}

static undiffuse_status use_step_io(const void *o) {
  return undiffuse_sampler_step(sampler, 0, (const undiffuse_step_io *)o, E);
}

static undiffuse_status use_operator_callbacks(const void *o) {
  size_t dims[1] = {4};
  undiffuse_operator *made = NULL;
  return undiffuse_operator_from_callbacks(dims, 1, (const undiffuse_operator_callbacks *)o, &made, E);
}

static undiffuse_status use_measurement(const void *o) {
  undiffuse_evidence *e = NULL;
  return undiffuse_evidence_from_measurement((const undiffuse_measurement *)o, NULL, &e, E);
}

static undiffuse_status use_gradient(const void *o) {
  undiffuse_evidence *e = NULL;
  return undiffuse_evidence_from_gradient((const undiffuse_gradient_evidence *)o, &e, E);
}

static undiffuse_status use_bits(const void *o) {
  undiffuse_evidence *e = NULL;
  return undiffuse_evidence_from_bits((const undiffuse_bit_evidence *)o, &e, E);
}

static undiffuse_status use_classes(const void *o) {
  undiffuse_evidence *e = NULL;
  return undiffuse_evidence_from_classes((const undiffuse_class_evidence *)o, &e, E);
}

/* Structs that the library fills: the size is the caller's and is kept, and nothing beyond it is written. */
#define INFO(type, ...)                                                      \
  do {                                                                       \
    larger l;                                                                \
    size_t size = sizeof(undiffuse_##type);                                  \
    memset(&l, 0xee, sizeof l);                                              \
    l.struct_size = 0;                                                       \
    FAILS(UNDIFFUSE_INVALID_ARGUMENT, __VA_ARGS__);                          \
    l.struct_size = 16;                                                      \
    OK(__VA_ARGS__);                                                         \
    CHECK(l.struct_size == 16 && l.bytes[16] == 0xee);                       \
    l.struct_size = size;                                                    \
    OK(__VA_ARGS__);                                                         \
    CHECK(l.struct_size == size && l.bytes[size] == 0xee);                   \
    l.struct_size = size + 16;                                               \
    OK(__VA_ARGS__);                                                         \
    CHECK(l.struct_size == size + 16 && l.bytes[size + 15] == 0 && l.bytes[size + 16] == 0xee); \
  } while (0)
#define AT(type) ((undiffuse_##type *)(void *)&l)

int main(void) {
  undiffuse_cancel *cancel = NULL;
  uint32_t count = 99;
  size_t dims[3] = {1, 4, 4};
  undiffuse_device_info device;
  float data[16] = {0};
  int status;

  CHECK(undiffuse_abi_version() == UNDIFFUSE_ABI_VERSION && undiffuse_abi_oldest() <= UNDIFFUSE_ABI_VERSION);
  CHECK(undiffuse_version() == UNDIFFUSE_VERSION);
  CHECK(undiffuse_version_string()[0] == '0' + (char)(UNDIFFUSE_VERSION / 1000000));

  for (status = 1; status >= UNDIFFUSE_DEVICE; status--) {
    int other;
    CHECK(strcmp(undiffuse_status_name(status), "unknown status") != 0);
    for (other = 1; other > status; other--) CHECK(strcmp(undiffuse_status_name(status), undiffuse_status_name(other)) != 0);
  }
  CHECK(strcmp(undiffuse_status_name(UNDIFFUSE_DEVICE - 1), "unknown status") == 0 && strcmp(undiffuse_status_name(2), "unknown status") == 0);

  CHECK(undiffuse_error_status(NULL) == UNDIFFUSE_OK && undiffuse_error_message(NULL)[0] == 0);
  undiffuse_error_free(NULL);

  /* Without an error argument; with one that holds nonsense, which is not read. */
  CHECK(undiffuse_model_load(NULL, NULL, &model, NULL) == UNDIFFUSE_INVALID_ARGUMENT && model == NULL);
  memset(&last_error, 0x5a, sizeof last_error);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_load(NULL, NULL, &model, E));

  OK(undiffuse_cancel_new(&cancel, E));
  CHECK(!undiffuse_cancel_is_set(cancel));
  undiffuse_cancel_set(cancel);
  CHECK(undiffuse_cancel_is_set(cancel));
  undiffuse_cancel_reset(cancel);
  CHECK(!undiffuse_cancel_is_set(cancel));
  undiffuse_cancel_free(cancel);
  undiffuse_cancel_set(NULL);
  undiffuse_cancel_reset(NULL);
  CHECK(!undiffuse_cancel_is_set(NULL));
  undiffuse_cancel_free(NULL);

  OK(undiffuse_device_count(UNDIFFUSE_BACKEND_CPU, &count, E));
  CHECK(count == 1);
  device.struct_size = sizeof device;
  OK(undiffuse_device_get_info(UNDIFFUSE_BACKEND_CPU, 0, &device, E));
  CHECK(strncmp(device.name, "cpu ", 4) == 0 && device.thread_count >= 1);
  OK(undiffuse_device_get_info(UNDIFFUSE_BACKEND_REFERENCE, 0, &device, E));
  CHECK(strcmp(device.name, "reference") == 0);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_device_get_info(UNDIFFUSE_BACKEND_CPU, 1, &device, E));
  count = 99;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_device_count((undiffuse_backend)77, &count, E));
  CHECK(count == 99);

  model = gaussian_model(NULL, 1, 4, 4);
  sampler = ddim_of(model, 5, 0.0);
  OK(undiffuse_operator_identity(dims, 3, &op, E));
  OK(undiffuse_bound_new(model, NULL, NULL, data, 16, &bound, E));
  OK(undiffuse_session_new(model, sampler, NULL, NULL, &session, E));

#define SIZES(type) sizes(sizeof(undiffuse_##type), init_##type, use_##type)
  SIZES(schedule_options);
  SIZES(sampler_options);
  SIZES(session_options);
  SIZES(bound_options);
  SIZES(model_options);
  {
    /* The default method needs a vector-Jacobian product, which is found when a session is made. */
    SIZES(method_options);
  }
  sizes(sizeof(undiffuse_allocator), NULL, use_allocator);
  sizes(sizeof(undiffuse_threads), NULL, use_threads);
  sizes(sizeof(undiffuse_noise), NULL, use_noise);
  sizes(sizeof(undiffuse_denoiser), NULL, use_denoiser);
  sizes(sizeof(undiffuse_step_io), NULL, use_step_io);
  sizes(sizeof(undiffuse_operator_callbacks), NULL, use_operator_callbacks);
  sizes(sizeof(undiffuse_measurement), NULL, use_measurement);
  sizes(sizeof(undiffuse_gradient_evidence), NULL, use_gradient);
  sizes(sizeof(undiffuse_bit_evidence), NULL, use_bits);
  sizes(sizeof(undiffuse_class_evidence), NULL, use_classes);

  INFO(model_info, undiffuse_model_get_info(model, AT(model_info), E));
  INFO(sampler_info, undiffuse_sampler_get_info(sampler, AT(sampler_info), E));
  INFO(step_info, undiffuse_sampler_get_step_info(sampler, 0, AT(step_info), E));
  INFO(operator_info, undiffuse_operator_get_info(op, AT(operator_info), E));
  INFO(session_info, undiffuse_session_get_info(session, AT(session_info), E));
  INFO(bound_info, undiffuse_bound_get_info(bound, AT(bound_info), E));
  INFO(device_info, undiffuse_device_get_info(UNDIFFUSE_BACKEND_CPU, 0, AT(device_info), E));

  undiffuse_bound_free(bound);
  undiffuse_operator_free(op);
  undiffuse_session_free(session);
  undiffuse_sampler_free(sampler);
  undiffuse_model_free(model);
  return 0;
}
