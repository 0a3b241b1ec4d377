/*
 * What a program without an operating system gives to libundiffuse: three functions, defined by you. Everything else is in undiffuse.h.
 *
 * This build (ffi/freestanding) has no files and no threads of its own: undiffuse_model_load returns UNDIFFUSE_UNSUPPORTED, models come
 * from memory. memcpy, memmove, memset and memcmp are in the library, weakly, and yours are taken if you have them. One thread at a time
 * may be in the library unless your functions are ready for more.
 */
#ifndef UNDIFFUSE_FREESTANDING_H
#define UNDIFFUSE_FREESTANDING_H

#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A block of `size` bytes, above 0, at a multiple of `alignment`, a power of two up to 64; or NULL. It is asked while models, samplers and
 * sessions are made and when an error is described; undiffuse_session_step and undiffuse_session_run ask for nothing unless they fail.
 *
 * Where a large block is refused (weights, workspaces), the call returns UNDIFFUSE_OUT_OF_MEMORY. Where a small one is (a handle, a list,
 * a text), undiffuse_platform_panic is called: without an operating system there is no reserve to go on with.
 */
void *undiffuse_platform_allocate(size_t size, size_t alignment);

/* Takes back a block of undiffuse_platform_allocate, with the same size and alignment; never NULL. */
void undiffuse_platform_deallocate(void *block, size_t size, size_t alignment);

/*
 * The library cannot go on: a bug in it, or a small block was refused. `message` has `len` bytes of UTF-8, at most 256, without a NUL.
 * It must not return: reset the device, or longjmp to where no object of the library is used again.
 */
#ifdef __cplusplus
[[noreturn]]
#elif defined(__GNUC__)
__attribute__((noreturn))
#endif
void undiffuse_platform_panic(const char *message, size_t len);

#ifdef __cplusplus
}
#endif

#endif
