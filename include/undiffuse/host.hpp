// What the program brings: cancel flags, its memory, its threads; and what devices there are.
//
// Part of undiffuse.hpp, which says what holds for all of it.
#ifndef UNDIFFUSE_HOST_HPP
#define UNDIFFUSE_HOST_HPP

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "core.hpp"

namespace undiffuse {

// A flag that stops the sessions that use it. set, reset and is_set may be called from any thread at any time; in a signal handler call
// undiffuse_cancel_set(flag.get()).
class cancel_flag {
 public:
  cancel_flag() {
    flag_.make([](auto out, auto e) { return undiffuse_cancel_new(out, e); });
  }
  void set() const noexcept { undiffuse_cancel_set(flag_.get()); }
  void reset() const noexcept { undiffuse_cancel_reset(flag_.get()); }
  bool is_set() const noexcept { return undiffuse_cancel_is_set(flag_.get()); }
  undiffuse_cancel *get() const noexcept { return flag_.get(); }

 private:
  detail::object<undiffuse_cancel, undiffuse_cancel_free> flag_;
};

// The devices of a backend; throws if the backend is not built in.
inline std::vector<undiffuse_device_info> devices(undiffuse_backend backend) {
  std::uint32_t count = 0;
  detail::call([&](auto e) { return undiffuse_device_count(backend, &count, e); });
  std::vector<undiffuse_device_info> out(count, detail::sized<undiffuse_device_info>());
  for (std::uint32_t i = 0; i < count; i++)
    detail::call([&](auto e) { return undiffuse_device_get_info(backend, i, &out[i], e); });
  return out;
}

// Your allocator. `allocate(size, alignment)` may throw or give nullptr; `deallocate(block, size, alignment)` must not throw. Both empty:
// malloc.
struct allocator {
  std::function<void *(std::size_t, std::size_t)> allocate;
  std::function<void(void *, std::size_t, std::size_t)> deallocate;
};

// One task of a parallel-for. A small value, to be copied into your threads; it does not throw.
class task {
 public:
  task(undiffuse_task_fn f, void *data) noexcept : f_(f), data_(data) {}
  void operator()(std::size_t index) const noexcept { f_(data_, index); }

 private:
  undiffuse_task_fn f_;
  void *data_;
};

// Your threads: `parallel_for(count, task)` calls task(i) for every i below count and returns when all have returned. Empty with a
// thread_count above 0: all on the calling thread. A thread_count of 0: the library's own threads.
struct threads {
  std::size_t thread_count = 0;
  std::function<void(std::size_t count, task)> parallel_for;
};

namespace detail {

struct allocator_state final : callbacks {
  explicit allocator_state(allocator a) : user(std::move(a)), c(sized<undiffuse_allocator>()) {
    c.user_data = this;
    c.allocate = [](void *self, std::size_t size, std::size_t alignment) noexcept -> void * {
      auto *s = static_cast<allocator_state *>(self);
      void *block = nullptr;
      s->guard([&] { block = s->user.allocate(size, alignment); });
      return block;
    };
    c.deallocate = [](void *self, void *block, std::size_t size, std::size_t alignment) noexcept {
      static_cast<allocator_state *>(self)->user.deallocate(block, size, alignment);
    };
  }
  allocator user;
  undiffuse_allocator c;
};

inline std::shared_ptr<allocator_state> state_of(const allocator &a) {
  if (!a.allocate && !a.deallocate) return nullptr;
  if (!a.allocate || !a.deallocate)
    throw error(UNDIFFUSE_INVALID_ARGUMENT, "undiffuse::allocator has one of its two functions");
  return std::make_shared<allocator_state>(a);
}

struct threads_state final : callbacks {
  explicit threads_state(threads t) : user(std::move(t)), c(sized<undiffuse_threads>()) {
    c.user_data = this;
    c.thread_count = user.thread_count;
    if (user.parallel_for)
      c.parallel_for = [](void *self, std::size_t count, undiffuse_task_fn f, void *data) noexcept {
        auto *s = static_cast<threads_state *>(self);
        s->guard([&] { s->user.parallel_for(count, task(f, data)); });
      };
  }
  threads user;
  undiffuse_threads c;
};

inline std::shared_ptr<threads_state> state_of(const threads &t) {
  if (t.thread_count == 0 && !t.parallel_for) return nullptr;
  return std::make_shared<threads_state>(t);
}

}  // namespace detail

}  // namespace undiffuse

#endif  // UNDIFFUSE_HOST_HPP
