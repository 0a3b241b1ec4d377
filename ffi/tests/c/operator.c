/* Every linear operator: A and A^T are adjoint, A A^+ A = A; callbacks and refusals. */
#include "check.h"

enum { MOST = 64 };

static double dot(const float *a, const float *b, size_t n) {
  double sum = 0;
  size_t i;
  for (i = 0; i < n; i++) sum += (double)a[i] * b[i];
  return sum;
}

static void is_linear(undiffuse_operator *op, int has_pseudo_inverse, int has_svd) {
  undiffuse_operator_info info;
  float u[MOST], v[MOST], au[MOST], atv[MOST], back[MOST], again[MOST];
  size_t i, n, m;
  info.struct_size = sizeof info;
  OK(undiffuse_operator_get_info(op, &info, E));
  n = info.input_len;
  m = info.output_len;
  CHECK(n > 0 && n <= MOST && m > 0 && m <= MOST && info.output_rank >= 1 && (int)info.has_svd == has_svd);
  OK(undiffuse_noise_normal(3, 0, 0, u, n, E));
  OK(undiffuse_noise_normal(3, 1, 0, v, m, E));
  OK(undiffuse_operator_apply(op, u, n, au, m, E));
  OK(undiffuse_operator_adjoint(op, v, m, atv, n, E));
  CHECK(fabs(dot(au, v, m) - dot(u, atv, n)) < 1e-4);
  if (has_pseudo_inverse) {
    OK(undiffuse_operator_pseudo_inverse(op, au, m, back, n, E));
    OK(undiffuse_operator_apply(op, back, n, again, m, E));
    for (i = 0; i < m; i++) CHECK(fabs(again[i] - au[i]) < 1e-4);
  } else {
    FAILS(UNDIFFUSE_UNSUPPORTED, undiffuse_operator_pseudo_inverse(op, au, m, back, n, E));
  }
  FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_apply(op, u, n - 1, au, m, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_adjoint(op, v, m, atv, n - 1, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_apply(op, u, n, u, m, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_apply(op, NULL, n, au, m, E));
  undiffuse_operator_free(op);
}

/* y = x_0 + x_1, ... pairwise; the state is what to return. */
static int32_t pairs(void *user_data, const float *from, size_t from_len, float *to, size_t to_len) {
  size_t i;
  CHECK(from_len == 2 * to_len);
  for (i = 0; i < to_len; i++) to[i] = from[2 * i] + from[2 * i + 1];
  return *(int32_t *)user_data;
}

static int32_t spread(void *user_data, const float *from, size_t from_len, float *to, size_t to_len) {
  size_t i;
  CHECK(to_len == 2 * from_len);
  for (i = 0; i < to_len; i++) to[i] = from[i / 2];
  return *(int32_t *)user_data;
}

static int32_t halves(void *user_data, const float *from, size_t from_len, float *to, size_t to_len) {
  size_t i;
  (void)from_len;
  for (i = 0; i < to_len; i++) to[i] = from[i / 2] / 2;
  return *(int32_t *)user_data;
}

static int32_t not_a_number(void *user_data, const float *from, size_t from_len, float *to, size_t to_len) {
  size_t i;
  (void)user_data;
  (void)from;
  (void)from_len;
  for (i = 0; i < to_len; i++) to[i] = NAN;
  return 0;
}

int main(void) {
  size_t image[3] = {3, 4, 4}, grey[3] = {1, 4, 4}, flat[1] = {6}, channels[2] = {2, 0}, too_large[2] = {(size_t)-1, 4}, i;
  unsigned char known[48];
  double weights[3] = {0.299, 0.587, 0.114};
  float taps[3], kernel[4] = {0.5f, 0.25f, 0.25f, 0}, matrix[2 * 6], y[3] = {0}, x[6] = {0};
  undiffuse_operator *op = NULL;
  undiffuse_operator_callbacks c;
  int32_t status = 0;

  OK(undiffuse_operator_identity(image, 3, &op, E));
  is_linear(op, 1, 1);
  for (i = 0; i < 48; i++) known[i] = (unsigned char)(i % 3 == 0 ? 200 : 0);
  OK(undiffuse_operator_mask(image, 3, known, 48, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_mask(image, 3, known, 16, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_without_box(image, 3, 1, 1, 2, 3, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_channels(image, 3, channels, 2, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_grey(image, 3, NULL, 0, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_grey(image, 3, weights, 3, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_block_average(image, 3, 2, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_bicubic(image, 3, 2, UNDIFFUSE_PADDING_CIRCULAR, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_gaussian_kernel(3, 0.8, taps, E));
  CHECK(fabs(taps[0] + taps[1] + taps[2] - 1) < 1e-6 && taps[0] == taps[2]);
  OK(undiffuse_operator_separable_blur(image, 3, taps, 3, taps, 3, UNDIFFUSE_PADDING_ZERO, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_circular_blur(image, 3, kernel, 2, 2, &op, E));
  is_linear(op, 1, 1);
  for (i = 0; i < COUNT(matrix); i++) matrix[i] = (float)((i * 7) % 5) - 2;
  OK(undiffuse_operator_dense(flat, 1, matrix, 2, &op, E));
  is_linear(op, 1, 1);
  OK(undiffuse_operator_hadamard(grey, 3, 8, 9, &op, E));
  is_linear(op, 1, 1);

  memset(&c, 0, sizeof c);
  c.struct_size = sizeof c;
  c.user_data = &status;
  c.apply = pairs;
  c.adjoint = spread;
  c.output_rank = 1;
  c.output_dims[0] = 3;
  OK(undiffuse_operator_from_callbacks(flat, 1, &c, &op, E));
  is_linear(op, 0, 0);
  c.pseudo_inverse = halves;
  OK(undiffuse_operator_from_callbacks(flat, 1, &c, &op, E));
  is_linear(op, 1, 0);
  OK(undiffuse_operator_from_callbacks(flat, 1, &c, &op, E));
  status = 5;
  FAILS(UNDIFFUSE_CALLBACK, undiffuse_operator_apply(op, x, 6, y, 3, E));
  status = UNDIFFUSE_CANCELLED;
  FAILS(UNDIFFUSE_CANCELLED, undiffuse_operator_adjoint(op, y, 3, x, 6, E));
  status = 0;
  undiffuse_operator_free(op);
  c.apply = not_a_number;
  OK(undiffuse_operator_from_callbacks(flat, 1, &c, &op, E));
  FAILS(UNDIFFUSE_NON_FINITE, undiffuse_operator_apply(op, x, 6, y, 3, E));
  undiffuse_operator_free(op);
  op = NULL;
  c.adjoint = NULL;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_from_callbacks(flat, 1, &c, &op, E));
  c.adjoint = spread;
  c.output_rank = 5;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_from_callbacks(flat, 1, &c, &op, E));

  FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_identity(NULL, 0, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_identity(image, 5, &op, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_identity(too_large, 2, &op, E));
  memset(known, 0, sizeof known);
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_mask(image, 3, known, 48, &op, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_mask(image, 3, known, 47, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_without_box(image, 3, 3, 0, (size_t)-1, 1, &op, E));
  channels[1] = 3;
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_channels(image, 3, channels, 2, &op, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_grey(image, 3, weights, 2, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_block_average(image, 3, 3, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_bicubic(image, 3, 2, (undiffuse_padding)99, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_circular_blur(image, 3, kernel, (size_t)-1, 2, &op, E));
  FAILS(UNDIFFUSE_SHAPE, undiffuse_operator_dense(flat, 1, matrix, (size_t)1 << 62, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_operator_hadamard(grey, 3, 17, 9, &op, E));
  FAILS(UNDIFFUSE_INVALID_ARGUMENT, undiffuse_gaussian_kernel(4, 1.0, taps, E));
  CHECK(op == NULL);
  return 0;
}
