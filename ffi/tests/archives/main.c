/* Uses both libraries: errors, samples, threads and panics. argv[1]: a small network. */
#include <stdio.h>
#include <undiffuse.h>

uint32_t other_sum(uint32_t n);

int main(int argc, char **argv) {
  undiffuse_model *model = NULL;
  undiffuse_error *error = NULL;
  float x[64];
  if (argc != 2 || undiffuse_model_load("/nowhere", NULL, &model, &error) != UNDIFFUSE_IO) return 1;
  undiffuse_error_free(error);
  if (other_sum(0) != 45) return 2;
  if (undiffuse_model_load(argv[1], NULL, &model, &error) || undiffuse_sample(model, NULL, NULL, NULL, x, 64, &error)) {
    fprintf(stderr, "%s\n", undiffuse_error_message(error));
    return 3;
  }
  undiffuse_model_free(model);
  printf("x = %.3f, sum %u\n", x[0], (unsigned)other_sum(5));
  return other_sum(5) != 10;
}
