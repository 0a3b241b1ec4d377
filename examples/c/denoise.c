/* Takes noise as strong as the signal out of a digit.
 *
 *     denoise digits.safetensors denoised.png     # truth, noisy, three samples of the posterior
 */
#include "restore.h"

static undiffuse_status identity(undiffuse_operator **op, undiffuse_error **error) {
  const size_t dims[] = {1, SIDE, SIDE};
  return undiffuse_operator_identity(dims, 3, op, error);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL OUTPUT.png\n", argv[0]);
    return 2;
  }
  return restore(argv[1], argv[2], 0.6, identity);
}
