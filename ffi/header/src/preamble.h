/*
 * undiffuse: runs pretrained diffusion models, the reverse chain and posterior-perturbed
 * sampling.
 *
 * This file is generated from ffi/src; see ffi/cbindgen.toml.
 *
 * A first program:
 *
 *     undiffuse_model *model = NULL;
 *     undiffuse_session_options options;
 *     undiffuse_error *error = NULL;
 *     float image[28 * 28];
 *
 *     undiffuse_session_options_init(&options, sizeof options);
 *     options.seed = 42;
 *     if (undiffuse_model_load("digits.safetensors", NULL, &model, &error) ||
 *         undiffuse_sample(model, NULL, NULL, &options, image, 28 * 28, &error))
 *       fprintf(stderr, "%s\n", undiffuse_error_message(error));
 *     undiffuse_error_free(error);
 *     undiffuse_model_free(model);
 *
 * CONVENTIONS
 *
 * Arguments. First the object, then inputs, then outputs, last the error. An array is a pointer
 * and, after it, its length in elements; it may be NULL if the length is 0. Arrays of floats are
 * row by row, the batch outermost: [count, channels, height, width] for images. Strings are
 * UTF-8.
 *
 * Status. A function that can fail returns an undiffuse_status: 0 for success, above 0 for an
 * outcome that is no error, below 0 for an error. Handles and numbers are written on success
 * alone; arrays that a failed call was to fill are unspecified. Any call may return
 * UNDIFFUSE_INVALID_ARGUMENT, UNDIFFUSE_OUT_OF_MEMORY, UNDIFFUSE_BUSY, UNDIFFUSE_POISONED and
 * UNDIFFUSE_PANIC; comments name what is to be expected beside.
 *
 * Errors. The last argument, undiffuse_error **error, may be NULL. If the call fails (below 0)
 * and it is not, *error becomes a new object with a text for a person, which you free with
 * undiffuse_error_free; in the worst case, NULL. It is not read, so it need not be initialised,
 * and on success it is left as it is. There is no global or per-thread last error.
 *
 * Ownership. What a function named _new, _load... or _from... gives is yours; the function named
 * _free of its type frees it and accepts NULL. What you pass in stays yours; unless a comment
 * says that it is borrowed longer, it is not used after the call has returned. Objects keep what
 * they need of one another, so the order in which you free them does not matter.
 *
 * Threads. A `const T *` may be used by several threads at once, a `T *` by one thread at a time,
 * by any; functions that differ say so. A call on an object that another call is changing is
 * refused with UNDIFFUSE_BUSY, also from within a callback. Nothing is global: objects that share
 * nothing do not know of one another. The child of a fork has no threads but the one that forked:
 * it must not run a session of its parent that has threads of the library's own.
 *
 * Options. A struct that begins with struct_size can grow. Fill it by its _init function with
 * sizeof of your struct, or clear it (= {0}) and set struct_size yourself where it has no _init
 * function (then a 0 stands for what the field's comment says of 0). Fields that a struct of an older
 * program lacks have their defaults; fields of a newer program that this library does not know
 * must be zero. An enum in a struct is a uint32_t; a number that is none of its values is
 * refused, as are flags other than 0 and 1.
 *
 * Lists and texts. Functions with a buffer and a size_t *len: with a NULL buffer they write the
 * length that is needed to *len. Texts that they fill have no NUL at the end.
 *
 * Callbacks. The first argument is your user_data. None is global; each belongs to the object
 * that it was given with. They run on the thread that called the library (tasks of
 * undiffuse_threads excepted) and must not throw or longjmp through it.
 *
 * Memory. Weights and workspaces, which is all that is large, come from malloc or from your
 * allocator or workspace; handles, tables and texts from malloc, when handles are made. A session
 * allocates nothing once it is made. If malloc or your allocator refuses, the call returns
 * UNDIFFUSE_OUT_OF_MEMORY (without an error object, if there is none for that), has freed what it
 * made, and your objects are as they were. To come that far it has 4 MiB of zeroed memory of its
 * own, which no page stands behind before. A call that makes a handle then returns
 * UNDIFFUSE_OUT_OF_MEMORY also if it was another thread's call that had to draw on that memory
 * meanwhile: the library does not know which of them a block was for, and refuses both. Try again.
 * Two things can still end the process: calls that
 * together need more than that for what is small while malloc refuses all of it, and a refusal
 * within the start of a thread of the library's own (of undiffuse_threads, none is started).
 *
 * Bugs. A panic inside the library does not cross into your code: the call returns
 * UNDIFFUSE_PANIC, and the objects it was using refuse further calls with UNDIFFUSE_POISONED but
 * can be freed.
 *
 * Unloading. The library installs no signal or exit handler, keeps no thread but those of
 * sessions that are not freed, and opens no GPU driver until a GPU backend is asked for.
 *
 * Results. On the CPU a sample is the same bits for any batch, number of threads and shard, on all
 * machines where undiffuse_session_describe names the same kernels.
 */
