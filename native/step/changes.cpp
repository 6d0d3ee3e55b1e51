#include "step/changes.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>
#include <numeric>
#include <type_traits>

#include "step/threads.h"

namespace tangential {
namespace {

constexpr int64_t BLOCK = 1 << 16;  // elements that a thread takes at a time; at least one row
constexpr int64_t PIECE = 1 << 14;  // elements that stay in cache; a multiple of PIECE in loops.h

int64_t bytes_of(Dtype dtype) { return dtype == Dtype::float64 ? 8 : 4; }

// Calls body(weight, row) for every row of all weights, in threads.
template <class Weight, class Body>
void for_rows(const std::vector<Weight>& weights, int threads, const Body& body) {
  struct Task {
    const Weight* weight;
    int64_t first, last;
  };
  struct Work {
    const Body& body;
    std::vector<Task> tasks;
    std::atomic<size_t> next{0};
  } work{body, {}};
  for (const Weight& w : weights) {
    const int64_t rows = std::max<int64_t>(1, BLOCK / std::max<int64_t>(1, w.unit_size));
    for (int64_t first = 0; first < w.units; first += rows)
      work.tasks.push_back({&w, first, std::min(first + rows, w.units)});
  }
  const int useful = int(std::min<size_t>(size_t(std::max(threads, 1)), work.tasks.size()));
  in_threads(
      std::max(useful, 1),
      [](void* p) {
        Work& work = *static_cast<Work*>(p);
        for (size_t i; (i = work.next.fetch_add(1, std::memory_order_relaxed)) < work.tasks.size();)
          for (int64_t row = work.tasks[i].first; row < work.tasks[i].last; row++)
            work.body(*work.tasks[i].weight, row);
      },
      &work);
}

// Where element `i` of a row is.
template <class Pointer, class Weight>
Pointer at(Pointer p, const Weight& w, int64_t row, int64_t i = 0) {
  using Byte =
      std::conditional_t<std::is_const_v<std::remove_pointer_t<Pointer>>, const char, char>;
  return static_cast<Byte*>(p) + (row * w.unit_size + i) * bytes_of(w.dtype);
}

template <bool copies>
void measure_rows(const std::vector<WeightChange>& weights, const InstructionSet& set,
                  int threads) {
  for_rows(weights, threads, [&set](const WeightChange& w, int64_t row) {
    w.moments[row] = {};
    for (int64_t i = 0; i < w.unit_size; i += PIECE) {
      const int64_t n = std::min(PIECE, w.unit_size - i);
      const RowChange change{at(w.before, w, row, i), at(w.after, w, row, i), at(w.g, w, row, i), n,
                             w.keep};
      if (copies) std::memcpy(at(w.after, w, row, i), change.before, size_t(n * bytes_of(w.dtype)));
      set.measure_change(w.dtype)(change, w.moments[row]);
    }
  });
}

// e.before of a row
double radial(const WeightAmends& w, int64_t row, const InstructionSet& set) {
  const void* before = at(w.before, w, row);
  Moments moments;
  set.measure_change(w.dtype)({before, at(w.after, w, row), before, w.unit_size, 1}, moments);
  return moments.uw;
}

double finite(double x) { return std::isfinite(x) ? x : 0; }

}  // namespace

void measure(const std::vector<WeightChange>& weights, const InstructionSet& set, int threads) {
  measure_rows<false>(weights, set, threads);
}

void copy(const std::vector<WeightChange>& weights, const InstructionSet& set, int threads) {
  measure_rows<true>(weights, set, threads);
}

void amend(const std::vector<WeightAmends>& weights, const InstructionSet& set, int threads) {
  std::vector<std::vector<double>> sums(weights.size());  // e.before of rows, per whole weight
  std::vector<double> totals(weights.size());
  const auto number = [&](const WeightAmends& w) { return size_t(&w - weights.data()); };
  for (const WeightAmends& w : weights)
    if (w.slope && w.whole) sums[number(w)].resize(size_t(w.units));
  for_rows(weights, threads, [&](const WeightAmends& w, int64_t row) {
    if (!sums[number(w)].empty()) sums[number(w)][size_t(row)] = radial(w, row, set);
  });
  for (size_t i = 0; i < weights.size(); i++)
    totals[i] = std::accumulate(sums[i].begin(), sums[i].end(), 0.0);
  for_rows(weights, threads, [&](const WeightAmends& w, int64_t row) {
    const double scale = w.scale ? w.scale[row] : 1, slope = w.slope ? w.slope[row] : 0;
    double shrink = w.shrink[row];
    if (slope != 0) shrink += finite(slope * (w.whole ? totals[number(w)] : radial(w, row, set)));
    if (scale == 1 && shrink == 0) return;
    set.mix_row(w.dtype)({at(w.before, w, row), at(w.after, w, row), w.unit_size, scale, shrink});
  });
}

}  // namespace tangential
