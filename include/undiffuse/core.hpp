// What every part stands on: errors, views, handles, and how callbacks keep their exceptions.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_CORE_HPP
#define UNDIFFUSE_CORE_HPP

#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <thread>
#include <type_traits>
#include <utility>
#include <vector>

#include "../undiffuse.h"

namespace undiffuse {

using level = undiffuse_level;
using call = undiffuse_call;
using progress = undiffuse_progress;

// A status of the library below 0, with its text.
class error : public std::runtime_error {
 public:
  error(undiffuse_status status, const std::string &text) : std::runtime_error(text), status_(status) {}
  undiffuse_status status() const noexcept { return status_; }

 private:
  undiffuse_status status_;
};

// A pointer and a length: what std::span is in C++20. It owns nothing.
template <class T>
class view {
 public:
  view() noexcept = default;
  view(T *data, std::size_t size) noexcept : data_(data), size_(size) {}
  // From what has data() and size(): std::vector, std::array, std::span, another view.
  template <class C, class P = decltype(std::declval<C &>().data()), class = decltype(std::declval<C &>().size()),
            class = std::enable_if_t<std::is_convertible_v<std::remove_pointer_t<P> (*)[], T (*)[]>>>
  view(C &&c) noexcept : data_(c.data()), size_(c.size()) {}

  T *data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }
  T *begin() const noexcept { return data_; }
  T *end() const noexcept { return data_ + size_; }
  // Not checked.
  T &operator[](std::size_t i) const noexcept { return data_[i]; }
  // At most the first `n` elements.
  view first(std::size_t n) const noexcept { return view(data_, n < size_ ? n : size_); }

 private:
  T *data_ = nullptr;
  std::size_t size_ = 0;
};

namespace detail {

// Where callbacks of one object leave their exceptions, each for the thread that called the library.
class callbacks {
 public:
  callbacks() = default;
  callbacks(const callbacks &) = delete;
  callbacks &operator=(const callbacks &) = delete;
  virtual ~callbacks() = default;

  // Runs `f`; 0 if it returned, UNDIFFUSE_CALLBACK if it threw.
  template <class F>
  std::int32_t guard(F &&f) noexcept {
    try {
      f();
      return UNDIFFUSE_OK;
    } catch (...) {
      try {
        std::lock_guard<std::mutex> lock(mutex_);
        thrown_.emplace_back(std::this_thread::get_id(), std::current_exception());
      } catch (...) {  // No memory to keep it: the status still says that the callback failed.
      }
      return UNDIFFUSE_CALLBACK;
    }
  }

  // Takes the first exception of this thread, and drops what others it left.
  std::exception_ptr take() {
    std::lock_guard<std::mutex> lock(mutex_);
    std::exception_ptr first;
    const auto me = std::this_thread::get_id();
    for (auto it = thrown_.begin(); it != thrown_.end();) {
      if (it->first == me) {
        if (!first) first = it->second;
        it = thrown_.erase(it);
      } else {
        ++it;
      }
    }
    return first;
  }

 private:
  std::mutex mutex_;
  std::vector<std::pair<std::thread::id, std::exception_ptr>> thrown_;
};

using kept = std::vector<std::shared_ptr<callbacks>>;

// Throws what a callback threw, else an error if `status` says so. Takes `e`.
inline undiffuse_status check(undiffuse_status status, undiffuse_error *e, const kept &keep) {
  const std::unique_ptr<undiffuse_error, void (*)(undiffuse_error *)> owned(e, undiffuse_error_free);
  std::exception_ptr thrown;
  for (const auto &c : keep) {
    auto t = c->take();
    if (!thrown) thrown = t;
  }
  if (thrown) std::rethrow_exception(thrown);
  if (status < 0) {
    const char *text = undiffuse_error_message(e);
    throw error(status, *text ? text : undiffuse_status_name(status));
  }
  return status;
}

// Calls `f(undiffuse_error **)` and checks.
template <class F>
undiffuse_status call(const kept &keep, F &&f) {
  undiffuse_error *e = nullptr;
  const undiffuse_status status = f(&e);
  return check(status, status < 0 ? e : nullptr, keep);
}

template <class F>
undiffuse_status call(F &&f) {
  return call(kept(), std::forward<F>(f));
}

// The size first, then the content.
template <class C, class F>
C filled(F &&f) {
  std::size_t len = 0;
  call([&](auto e) { return f(static_cast<typename C::value_type *>(nullptr), &len, e); });
  C out(len, typename C::value_type());
  if (len == 0) return out;
  call([&](auto e) { return f(out.data(), &len, e); });
  out.resize(len);
  return out;
}

template <class T>
T sized() {
  T t{};
  t.struct_size = sizeof(T);
  return t;
}

// A handle and the callbacks that must outlive it.
template <class T, void (*Free)(T *)>
class object {
 public:
  object() = default;
  object(object &&) noexcept = default;
  object &operator=(object &&other) noexcept {
    object old(std::move(other));  // The old handle is freed before its callbacks.
    std::swap(keep_, old.keep_);
    std::swap(handle_, old.handle_);
    return *this;
  }

  // The C handle, still owned by this object; NULL once it was moved from.
  T *get() const noexcept { return handle_.get(); }
  const kept &keep() const noexcept { return keep_; }

  // Makes the handle by `f(T **, undiffuse_error **)`.
  template <class F>
  void make(F &&f) {
    T *t = nullptr;
    undiffuse_error *e = nullptr;
    const undiffuse_status status = f(&t, &e);
    handle_.reset(t);
    check(status, status < 0 ? e : nullptr, keep_);
  }

  void also_keep(std::shared_ptr<callbacks> c) {
    if (c) keep_.push_back(std::move(c));
  }
  void also_keep(const kept &others) { keep_.insert(keep_.end(), others.begin(), others.end()); }

 private:
  struct deleter {
    void operator()(T *t) const noexcept { Free(t); }
  };
  kept keep_;
  std::unique_ptr<T, deleter> handle_;
};

// An array of the C structs for dimensions.
inline void copy_dims(const std::vector<std::size_t> &dims, std::size_t &rank, std::size_t (&out)[4]) {
  if (dims.size() > 4) throw error(UNDIFFUSE_INVALID_ARGUMENT, "more than 4 dimensions");
  rank = dims.size();
  for (std::size_t i = 0; i < dims.size(); i++) out[i] = dims[i];
}

inline const char *c_string(const std::string &s) { return s.empty() ? nullptr : s.c_str(); }

}  // namespace detail

// Whether the library that the program runs with has all that this header has, and still runs programs of this header.
inline bool is_compatible() noexcept {
  return undiffuse_abi_version() >= UNDIFFUSE_ABI_VERSION && undiffuse_abi_oldest() <= UNDIFFUSE_ABI_VERSION;
}

}  // namespace undiffuse

#endif  // UNDIFFUSE_CORE_HPP
