#include "step/changes.h"

#include <algorithm>
#include <atomic>

#include "step/threads.h"

namespace tangential {
namespace {

constexpr int64_t BLOCK = 1 << 16;  // elements that a thread takes at a time; at least one row

struct Work {
  struct Task {
    const WeightChange* weight;
    int64_t first, last;  // rows
  };

  const InstructionSet& set;
  std::vector<Task> tasks;
  std::atomic<size_t> next{0};

  void run() {
    for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks.size();) {
      const auto& [weight, first, last] = tasks[i];
      const WeightChange& w = *weight;
      const int64_t bytes = w.unit_size * (w.dtype == Dtype::float64 ? 8 : 4);
      const auto at = [&](const void* p, int64_t row) {
        return static_cast<const char*>(p) + row * bytes;
      };
      for (int64_t row = first; row < last; row++) {
        const RowChange change{at(w.before, row), at(w.after, row), at(w.g, row), w.unit_size,
                               w.keep};
        w.moments[row] = {};
        set.measure_change(w.dtype)(change, w.moments[row]);
      }
    }
  }
};

}  // namespace

void measure(const std::vector<WeightChange>& weights, const InstructionSet& set, int threads) {
  Work work{set, {}};
  for (const WeightChange& w : weights) {
    const int64_t rows = std::max<int64_t>(1, BLOCK / std::max<int64_t>(1, w.unit_size));
    for (int64_t first = 0; first < w.units; first += rows)
      work.tasks.push_back({&w, first, std::min(first + rows, w.units)});
  }
  const int useful = int(std::min<size_t>(size_t(std::max(threads, 1)), work.tasks.size()));
  in_threads(std::max(useful, 1), [](void* w) { static_cast<Work*>(w)->run(); }, &work);
}

}  // namespace tangential
