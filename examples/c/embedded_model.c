/* A model that is part of the program: no file is opened. CMakeLists.txt makes digits.c of the packed file. */
#include "example.h"

extern const unsigned char digits[];
extern const size_t digits_len;

int main(void) {
  undiffuse_model *model = NULL;
  undiffuse_error *error = NULL;
  static float image[28 * 28];
  int result = 1;
  if (failed(undiffuse_model_load_memory(digits, digits_len, NULL, &model, &error), &error)) goto end;
  undiffuse_session_options options;
  undiffuse_session_options_init(&options, sizeof options);
  options.seed = 1;
  if (failed(undiffuse_sample(model, NULL, NULL, &options, image, 28 * 28, &error), &error)) goto end;
  for (int y = 0; y < 28; y += 2) {
    for (int x = 0; x < 28; x++) putchar(" .:-=+*#%@"[(int)((image[y * 28 + x] < -1 ? 0 : image[y * 28 + x] + 1) * 4.5f)]);
    putchar('\n');
  }
  result = 0;
end:
  undiffuse_model_free(model);
  return result;
}
