/* Fills in the lower half of a digit.
 *
 *     inpaint digits.safetensors completed.png     # truth, what is known, three samples of the posterior
 */
#include "restore.h"

static undiffuse_status upper_half(undiffuse_operator **op, undiffuse_error **error) {
  const size_t dims[] = {1, SIDE, SIDE};
  uint8_t known[LEN];
  for (int i = 0; i < LEN; i++) known[i] = i < LEN / 2;
  return undiffuse_operator_mask(dims, 3, known, LEN, op, error);
}

int main(int argc, char **argv) {
  if (argc != 3) {
    fprintf(stderr, "usage: %s MODEL OUTPUT.png\n", argv[0]);
    return 2;
  }
  return restore(argv[1], argv[2], 0.05, upper_half);
}
