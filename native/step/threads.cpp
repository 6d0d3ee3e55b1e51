#include "step/threads.h"

#include <dlfcn.h>
#include <pthread.h>

#include <system_error>
#include <thread>
#include <vector>

namespace tangential {
namespace {

// torch loads an OpenMP runtime. We use its threads: a second runtime would have idle threads that
// spin and slow down torch's. LLVM's and Intel's runtimes export this symbol, too.
using Parallel = void (*)(void (*)(void*), void*, unsigned threads, unsigned flags);

Parallel runtime() {
  static const auto parallel = reinterpret_cast<Parallel>(dlsym(RTLD_DEFAULT, "GOMP_parallel"));
  return parallel;
}

// The threads of an OpenMP runtime do not survive fork(), and waiting for them would never end. A
// child process uses one thread: the results are the same.
bool forked = false;
[[maybe_unused]] const int registered = pthread_atfork(nullptr, nullptr, [] { forked = true; });

}  // namespace

void in_threads(int threads, void (*body)(void*), void* context) {
  if (threads <= 1 || forked) return body(context);
  if (const Parallel parallel = runtime()) {
    return parallel(body, context, static_cast<unsigned>(threads), 0);
  }
  std::vector<std::thread> others;
  others.reserve(static_cast<size_t>(threads) - 1);
  try {
    while (others.size() + 1 < static_cast<size_t>(threads)) others.emplace_back(body, context);
  } catch (const std::system_error&) {  // no more threads: those that started are enough
  }
  body(context);
  for (auto& other : others) other.join();
}

}  // namespace tangential
