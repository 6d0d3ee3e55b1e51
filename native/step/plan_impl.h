// The inside of a plan: plan.cpp builds it, step.cpp runs it.
//
// A step takes rounds. In each round the threads share the blocks of all large weights, every
// weight in its own stage. Small weights come last in the first round, to keep all threads busy to
// its end.
#pragma once

#include <atomic>
#include <cstdlib>
#include <mutex>

#include "step/weight.h"

namespace tangential {

struct Free {
  void operator()(void* p) const { std::free(p); }
};

constexpr size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

class BiasCorrection;

struct Plan::Impl {
  struct Entry {
    uint32_t layout, seed;
  };
  struct Task {
    Weight* weight;
    int64_t block;
  };

  // fixed
  InstructionSet set;
  std::vector<Layout> layouts;  // each once
  std::vector<Entry> entries;   // of every weight
  std::vector<uint32_t> large_entries, small_entries;
  std::vector<uint32_t> groups;    // of small weights: where in small_entries they begin; the end
  std::vector<size_t> first_rows;  // of every weight, in a GateRecord; filled at the first one
  size_t most_rows = 0;            // of a small weight
  size_t updates_per_thread = 0;   // bytes

  // buffers
  std::vector<Weight> large;
  std::vector<BlockSums> blocks;                  // of the large weights
  std::vector<double> coefs, coefs_g, coefs_new;  // of the rows of the large weights
  std::unique_ptr<char, Free> scratch;            // of every thread: updates, and rows' coefs
  size_t scratch_bytes = 0, scratch_per_thread = 0;

  // this step
  std::mutex stepping;
  Options o;
  const Memory* memory = nullptr;
  const GateRecord* record = nullptr;
  std::vector<Task> tasks;  // of this round, before those of the small weights
  size_t small_tasks = 0;
  std::atomic<size_t> next_task{0}, next_thread{0};

  void add(const WeightSpec& spec, uint32_t layout, int64_t& room);
  bool complete(size_t i) const;
  void reserve(int threads);
  void begin(Weight& w, size_t i, const Workspace& space, BiasCorrection& correction);
  void begin_large();
  void run(int threads);
  void gather();
  void work();
  void run_group(size_t group, char* thread_scratch);
  Moments* recorded_rows(size_t i) const { return record ? record->rows + first_rows[i] : nullptr; }
};

}  // namespace tangential
