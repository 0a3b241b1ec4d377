/* Models: from a path, from memory, embedded, as callbacks. argv[1] is a packed file of a small network. */
#include "check.h"

static void info_is_right(const undiffuse_model *model) {
  undiffuse_model_info info;
  info.struct_size = sizeof info;
  OK(undiffuse_model_get_info(model, &info, E));
  CHECK(info.rank == 3 && info.dims[0] == 1 && info.dims[1] == 8 && info.dims[2] == 8 && info.dims[3] == 0);
  CHECK(info.sample_len == 64 && info.output_len == 64 && info.class_count == 0);
  CHECK(info.parameter_count > 1000 && info.flops > 10000 && info.fingerprint != 0);
  CHECK(info.weight_bytes >= 4 * info.parameter_count && info.has_gradient == 0);
  CHECK(info.sample_scale == 1.0 && info.sample_shift == 0.0);
}

static void texts(const undiffuse_model *model, const char *in_config) {
  char buffer[4096];
  size_t len = 0, needed;
  OK(undiffuse_model_scheduler_json(model, NULL, &len, E));
  needed = len;
  CHECK(needed > 100 && needed < sizeof buffer);
  len = needed - 1;
  FAILS(UNDIFFUSE_BUFFER_TOO_SMALL, undiffuse_model_scheduler_json(model, buffer, &len, E));
  CHECK(len == needed);
  len = sizeof buffer;
  OK(undiffuse_model_scheduler_json(model, buffer, &len, E));
  CHECK(len == needed);
  buffer[len] = 0;
  CHECK(strstr(buffer, "\"DDPMScheduler\"") != NULL);
  len = sizeof buffer;
  OK(undiffuse_model_config_json(model, buffer, &len, E));
  buffer[len] = 0;
  CHECK(in_config ? strstr(buffer, in_config) != NULL : len == 0);
}

int main(int argc, char **argv) {
  undiffuse_model *model = NULL, *other = NULL;
  undiffuse_model_options options;
  undiffuse_denoiser d;
  undiffuse_model_info info;
  unsigned char *bytes;
  size_t len, i;
  CHECK(argc == 2);

  OK(undiffuse_model_load(argv[1], NULL, &model, E));
  info_is_right(model);
  texts(model, "UNet2DModel");
  bytes = read_file(argv[1], &len);
  OK(undiffuse_model_load_memory(bytes, len, NULL, &other, E));
  info_is_right(other);
  undiffuse_model_free(other);

  /* A damaged file at every place of its header is refused or, where only a value changed, loads. */
  for (i = 0; i < 400; i += 7) {
    unsigned char kept = bytes[i];
    undiffuse_status s;
    bytes[i] = (unsigned char)(kept ^ 0x55);
    other = NULL;
    s = undiffuse_model_load_memory(bytes, len, NULL, &other, E);
    CHECK((s == UNDIFFUSE_OK) == (other != NULL) && (s == UNDIFFUSE_OK) == (last_error == NULL));
    undiffuse_model_free(other);
    undiffuse_error_free(last_error);
    last_error = NULL;
    bytes[i] = kept;
  }
  other = NULL;
  FAILS(UNDIFFUSE_WEIGHTS, undiffuse_model_load_memory(bytes, len / 2, NULL, &other, E));
  FAILS(UNDIFFUSE_WEIGHTS, undiffuse_model_load_memory(bytes, 0, NULL, &other, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_load_memory(NULL, len, NULL, &other, E));
  FAILS(UNDIFFUSE_IO, undiffuse_model_load("/does/not/exist", NULL, &other, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_load("\xff", NULL, &other, E));

  OK(undiffuse_model_options_init(&options, sizeof options));
  options.gradient = UNDIFFUSE_GRADIENT_FULL;
  options.height = options.width = 4;
  options.scheduler_json = "{\"_class_name\": \"DDIMScheduler\"} and more";
  options.scheduler_json_len = strlen("{\"_class_name\": \"DDIMScheduler\"}");
  OK(undiffuse_model_load_memory(bytes, len, &options, &other, E));
  info.struct_size = sizeof info;
  OK(undiffuse_model_get_info(other, &info, E));
  CHECK(info.has_gradient == 1 && info.sample_len == 16);
  undiffuse_model_free(other);
  other = NULL;
  options.scheduler_json_len = 0;
  FAILS(UNDIFFUSE_CONFIG, undiffuse_model_load_memory(bytes, len, &options, &other, E));

#define REFUSED(field, value, status)                                                  \
  do {                                                                                 \
    OK(undiffuse_model_options_init(&options, sizeof options));                        \
    options.field = value;                                                             \
    FAILS(status, undiffuse_model_load_memory(bytes, len, &options, &other, E));       \
  } while (0)
  REFUSED(backend, UNDIFFUSE_BACKEND_WGPU, UNDIFFUSE_UNSUPPORTED);
  REFUSED(backend, (undiffuse_backend)99, UNDIFFUSE_INVALID_ARGUMENT);
  REFUSED(device, 1, UNDIFFUSE_INVALID_ARGUMENT);
  REFUSED(height, 8, UNDIFFUSE_INVALID_ARGUMENT);
  REFUSED(gradient, (undiffuse_gradient)99, UNDIFFUSE_INVALID_ARGUMENT);
  REFUSED(precision, UNDIFFUSE_PRECISION_F16, UNDIFFUSE_UNSUPPORTED);
  REFUSED(precision, (undiffuse_precision)99, UNDIFFUSE_INVALID_ARGUMENT);
  CHECK(other == NULL);

  OK(undiffuse_model_options_init(&options, sizeof options));
  options.backend = UNDIFFUSE_BACKEND_REFERENCE;
  OK(undiffuse_model_load_memory(bytes, len, &options, &other, E));
  undiffuse_model_free(other);
  other = NULL;

  {
    undiffuse_status s = undiffuse_model_load_embedded(NULL, &other, E);
    FAILS(s, s);
    CHECK(s == UNDIFFUSE_OK || s == UNDIFFUSE_UNSUPPORTED);
    if (other) {
      OK(undiffuse_model_get_info(other, &info, E));
      CHECK(info.sample_len == 28 * 28);
    }
    undiffuse_model_free(other);
    other = NULL;
    if (s == UNDIFFUSE_OK) {
      const size_t all = info.weight_bytes;
      OK(undiffuse_model_options_init(&options, sizeof options));
      options.precision = UNDIFFUSE_PRECISION_BF16;
      OK(undiffuse_model_load_embedded(&options, &other, E));
      OK(undiffuse_model_get_info(other, &info, E));
      CHECK(info.weight_bytes < all * 3 / 4);
      undiffuse_model_free(other);
      other = NULL;
    }
  }

  other = gaussian_model(NULL, 1, 2, 2);
  OK(undiffuse_model_get_info(other, &info, E));
  CHECK(info.rank == 3 && info.sample_len == 4 && info.has_gradient == 1 && info.parameter_count == 0 && info.fingerprint == 7);
  texts(other, NULL);
  undiffuse_model_free(other);
  other = NULL;

  memset(&d, 0, sizeof d);
  d.struct_size = sizeof d;
  d.rank = 1;
  d.dims[0] = 3;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_from_denoiser(&d, &other, E));
  d.predict = gaussian_predict;
  OK(undiffuse_model_from_denoiser(&d, &other, E));
  undiffuse_model_free(other);
  other = NULL;
  d.output_len = 5;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_from_denoiser(&d, &other, E));
  d.output_len = 6;
  d.rank = 5;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_from_denoiser(&d, &other, E));
  d.rank = 0;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_from_denoiser(&d, &other, E));
  d.rank = 4;
  FAILS(UNDIFFUSE_SHAPE, undiffuse_model_from_denoiser(&d, &other, E));
  d.rank = 1;
  d.scheduler_json = "{}";
  FAILS(UNDIFFUSE_CONFIG, undiffuse_model_from_denoiser(&d, &other, E));
  d.scheduler_json = NULL;
  d.name = "\xc3(";
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_model_from_denoiser(&d, &other, E));
  CHECK(other == NULL);

  free(bytes);
  undiffuse_model_free(model);
  undiffuse_model_free(NULL);
  return 0;
}
