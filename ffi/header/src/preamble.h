/*
 * undiffuse: runs pretrained diffusion models, the reverse chain and posterior-perturbed
 * sampling.
 *
 * This file is generated from ffi/src; see ffi/cbindgen.toml. It needs C99 or C++11, or later.
 *
 * A first program, which draws 36 digits as `undiffuse sample` does, UniPC with 20 steps:
 *
 *     #include <stdio.h>
 *     #include <undiffuse.h>
 *
 *     static float images[36 * 28 * 28];
 *
 *     int main(int argc, char **argv) {
 *       const char *path = argc > 1 ? argv[1] : "digits.safetensors";
 *       undiffuse_model *model = NULL;
 *       undiffuse_session_options options;
 *       undiffuse_error *error = NULL;
 *       int failed;
 *
 *       undiffuse_session_options_init(&options, sizeof options);
 *       options.batch = 16;
 *       failed = undiffuse_model_load(path, NULL, &model, &error) ||
 *                undiffuse_sample(model, NULL, NULL, &options, images, 36 * 28 * 28, &error);
 *       if (failed) fprintf(stderr, "%s\n", undiffuse_error_message(error));
 *       undiffuse_error_free(error);
 *       undiffuse_model_free(model);
 *       if (!failed) {
 *         FILE *out = fopen("digits.f32", "wb");
 *         failed = !out || fwrite(images, sizeof *images, 36 * 28 * 28, out) != 36 * 28 * 28;
 *         if (out) fclose(out);
 *       }
 *       return failed;
 *     }
 *
 * CONVENTIONS
 *
 * Arguments. The object comes first, then inputs, then outputs, and the error last. An array is a
 * pointer followed by its length in elements; it may be NULL if the length is 0. Arrays of floats
 * are row-major with the batch outermost: [count, channels, height, width] for images. Strings are
 * UTF-8.
 *
 * Status. A function that can fail returns an undiffuse_status: 0 for success, positive for an
 * outcome that is not an error, negative for an error. Handles and numbers are written on success
 * only; the contents of arrays that a failed call was to fill are unspecified. Any call may return
 * UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_OUT_OF_MEMORY, UNDIFFUSE_BUSY, UNDIFFUSE_POISONED and
 * UNDIFFUSE_PANIC; each comment names the others to expect. Compilers warn when the status of a
 * function that takes an undiffuse_error is ignored; define UNDIFFUSE_NO_NODISCARD to turn this off.
 *
 * Numbers. NaN and infinity are errors, in what you pass as in what a model or a callback returns:
 * UNDIFFUSE_NON_FINITE for arrays, UNDIFFUSE_INVALID_ARGUMENT for options.
 *
 * Errors. The last argument, undiffuse_error **error, may be NULL. If it is not and the call fails
 * (a negative status), *error is set to a new object that holds a message for people; free it with
 * undiffuse_error_free. If there is no memory for it, *error is set to NULL. The old value of
 * *error is never read, so it need not be initialised, and it is left alone on success. There is no
 * global or per-thread last error.
 *
 * Ownership. You own what a function named _new, _load... or _from... returns, and free it with the
 * _free function of its type, which accepts NULL. You keep ownership of what you pass in; it is not
 * used after the call returns, unless a comment says that it is borrowed for longer. Objects keep
 * alive what they need of one another, so you can free them in any order.
 *
 * Threads. A `const T *` may be used by several threads at once, a `T *` by one thread at a time
 * (any thread); functions that differ say so. A call on an object that another call is changing
 * fails with UNDIFFUSE_BUSY, also from within a callback. There is no global state: objects that
 * share nothing do not affect one another. After a fork the child has only the thread that forked:
 * it must not run a session of its parent that has threads of the library's own.
 *
 * Options. A struct that begins with struct_size can grow. Fill it with its _init function, passing
 * sizeof your struct; where there is no _init function, clear it (= {0}) and set struct_size (each
 * field's comment says what 0 means). Fields that are missing from an older program's struct take
 * their defaults; fields of a newer program that this library does not know must be zero. An enum
 * in a struct is a uint32_t. Numbers that are not among its values are refused, and so are flags
 * other than 0 and 1.
 *
 * Lists and texts. Functions with a buffer and a size_t *len write the required length to *len if
 * the buffer is NULL. Texts that they write are not NUL-terminated.
 *
 * Callbacks. The first argument is your user_data. Callbacks belong to the object that they were
 * given with; none is global. They run on the thread that called the library (except for the tasks
 * of undiffuse_threads) and must not throw or longjmp through it.
 *
 * Memory. Weights and workspaces, the only large blocks, come from malloc or from your allocator or
 * workspace. Handles, tables and texts come from malloc, when handles are made. A session allocates
 * nothing after it is made. If malloc or your allocator fails, the call returns
 * UNDIFFUSE_OUT_OF_MEMORY (without an error object, if there is no memory for one) after freeing
 * what it allocated, and your objects are unchanged. To get that far it reserves 4 MiB of zeroed
 * address space, which takes no physical memory until it is used. A call that makes a handle then
 * also returns UNDIFFUSE_OUT_OF_MEMORY if the call of another thread drew on this reserve meanwhile:
 * the library cannot tell which of the two a block was for, and refuses both. Try again. Two things
 * can still end the process: small allocations of concurrent calls that together exceed
 * the reserve while malloc fails, and an allocation failure while one of the library's own threads
 * starts (with undiffuse_threads, none is started).
 *
 * Bugs. A panic inside the library never unwinds into your code: the call returns UNDIFFUSE_PANIC,
 * and the objects that it was using refuse further calls with UNDIFFUSE_POISONED but can be freed.
 *
 * Unloading. The library installs no signal or exit handlers, keeps no threads except those of
 * sessions that have not been freed, and opens no GPU driver until a GPU backend is requested.
 *
 * Results. On the CPU a sample has the same bits for any batch, number of threads and shard, on all
 * machines where undiffuse_session_describe names the same kernels.
 */
