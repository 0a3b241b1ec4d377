
/**
 * Stands before every function. Define UNDIFFUSE_SHARED where a Windows program uses the DLL, or
 * define this macro yourself.
 */
#ifndef UNDIFFUSE_API
#if defined(_WIN32) && defined(UNDIFFUSE_SHARED)
#define UNDIFFUSE_API __declspec(dllimport)
#elif defined(__GNUC__) && !defined(_WIN32)
#define UNDIFFUSE_API __attribute__((visibility("default")))
#else
#define UNDIFFUSE_API
#endif
#endif

/** Stands before every function whose status must not be ignored. */
#if defined(UNDIFFUSE_NO_NODISCARD)
#define UNDIFFUSE_NODISCARD
#elif defined(__cplusplus) && __cplusplus >= 201703L
#define UNDIFFUSE_NODISCARD [[nodiscard]]
#elif defined(__GNUC__) || defined(__clang__)
#define UNDIFFUSE_NODISCARD __attribute__((warn_unused_result))
#elif defined(_Check_return_)
#define UNDIFFUSE_NODISCARD _Check_return_
#else
#define UNDIFFUSE_NODISCARD
#endif

/**
 * Begins an enum that is as wide as `type`: by the language in C++ and C23; in older C, the name
 * stands for the integer type.
 */
#if defined(__cplusplus)
#define UNDIFFUSE_ENUM(name, type) enum name : type
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 202311L
#define UNDIFFUSE_ENUM(name, type) \
  enum name : type;                \
  typedef enum name name;          \
  enum name : type
#else
#define UNDIFFUSE_ENUM(name, type) \
  typedef type name;               \
  enum name
#endif
