/* What the examples share: how a failed call ends a program, and a writer of grey PNG pictures. */
#ifndef EXAMPLE_H
#define EXAMPLE_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <undiffuse.h>

/* Prints the error of a call that failed and frees it. Returns whether it failed. It takes the address: C does not say whether the call
 * that sets the error, itself an argument here, comes before another argument is read. */
static inline int failed(undiffuse_status status, undiffuse_error **error) {
  if (status >= 0) return 0;
  fprintf(stderr, "%s: %s\n", undiffuse_status_name(status), *error ? undiffuse_error_message(*error) : "no text");
  undiffuse_error_free(*error);
  *error = NULL;
  return 1;
}

static inline uint32_t png_crc(const unsigned char *bytes, size_t len) {
  uint32_t crc = 0xffffffffu;
  for (size_t i = 0; i < len; i++) {
    crc ^= bytes[i];
    for (int k = 0; k < 8; k++) crc = crc >> 1 ^ (0xedb88320u & (0u - (crc & 1)));
  }
  return ~crc;
}

static inline void put32(unsigned char *at, uint32_t v) {
  for (int i = 0; i < 4; i++) at[i] = (unsigned char)(v >> (24 - 8 * i));
}

/* One chunk: room for 4 bytes of length, then the type and the data, which are at `chunk + 4` already, then the checksum. */
static inline int png_chunk(FILE *file, unsigned char *chunk, uint32_t len) {
  put32(chunk, len);
  put32(chunk + 8 + len, png_crc(chunk + 4, len + 4));
  return fwrite(chunk, 1, len + 12, file) == len + 12;
}

/* Writes `count` images of height x width side by side, values -1 to 1, as a grey PNG without compression. 1 if that went well. */
static inline int write_png(const char *path, const float *images, size_t count, size_t height, size_t width) {
  const size_t row = 1 + count * width, raw = row * height, block = 65535;
  const size_t idat = 2 + raw + 5 * ((raw + block - 1) / block) + 4;
  unsigned char *chunk = malloc(idat + 12), *to = chunk + 8;
  FILE *file = chunk ? fopen(path, "wb") : NULL;
  if (!file) {
    free(chunk);
    return 0;
  }
  int good = fwrite("\x89PNG\r\n\x1a\n", 1, 8, file) == 8;
  memcpy(chunk + 4, "IHDR", 4);
  put32(to, (uint32_t)(count * width));
  put32(to + 4, (uint32_t)height);
  memcpy(to + 8, "\x08\x00\x00\x00\x00", 5); /* 8 bits, grey */
  good = png_chunk(file, chunk, 13) && good;

  uint32_t a = 1, b = 0;
  memcpy(chunk + 4, "IDAT\x78\x01", 6);
  to += 2;
  for (size_t i = 0; i < raw; i++) {
    if (i % block == 0) {
      const size_t len = raw - i < block ? raw - i : block;
      *to++ = i + len == raw;
      *to++ = (unsigned char)len, *to++ = (unsigned char)(len >> 8);
      *to++ = (unsigned char)~len, *to++ = (unsigned char)(~len >> 8);
    }
    unsigned char byte = 0; /* each row begins with its filter: none */
    if (i % row) {
      const size_t x = i % row - 1, y = i / row;
      float v = (images[(x / width * height + y) * width + x % width] + 1) * 127.5f;
      byte = (unsigned char)(v < 0 ? 0 : v > 255 ? 255 : v + 0.5f);
    }
    *to++ = byte;
    a = (a + byte) % 65521;
    b = (b + a) % 65521;
  }
  put32(to, b << 16 | a);
  good = png_chunk(file, chunk, (uint32_t)idat) && good;
  memcpy(chunk + 4, "IEND", 4);
  good = png_chunk(file, chunk, 0) && good;
  free(chunk);
  return fclose(file) == 0 && good;
}

#endif
