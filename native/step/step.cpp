#include <algorithm>
#include <cmath>
#include <utility>

#include "step/plan_impl.h"
#include "step/threads.h"

namespace tangential {
namespace {

// C. Wellons' "lowbias32"
uint32_t hash(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

}  // namespace

// Adam's bias correction, computed only when the step changes: most weights have the same one.
class BiasCorrection {
 public:
  explicit BiasCorrection(const Options& o) : o_(o) {}

  void at(double step) {
    if (o_.rule != Rule::adam || step == step_) return;
    step_ = step;
    scale1 = 1 / (1 - std::pow(o_.beta1, step));
    scale2 = 1 / std::sqrt(1 - std::pow(o_.beta2, step));
  }

  double scale1 = 1, scale2 = 1;

 private:
  const Options& o_;
  double step_ = -1;
};

void Plan::Impl::begin(Weight& w, size_t i, const Workspace& space, BiasCorrection& correction) {
  const Memory& m = memory[i];
  const double step = m.step ? double(*m.step) + 1 : 0;
  if (m.step) *m.step = float(step);
  correction.at(step);
  const uint32_t seed = hash(uint32_t(step) + hash(entries[i].seed + 0x9e3779b9u));
  w.begin(o, set, seed, m, space, correction.scale1, correction.scale2);
}

void Plan::Impl::begin_large() {
  BiasCorrection correction(o);
  size_t block = 0, row = 0;
  for (size_t k = 0; k < large.size(); k++) {
    Weight& w = large[k];
    const size_t cautious_row = o.caution ? row : 0;
    const Workspace space{coefs.data() + row, coefs_g.data() + cautious_row,
                          coefs_new.data() + cautious_row, blocks.data() + block,
                          recorded_rows(large_entries[k])};
    begin(w, large_entries[k], space, correction);
    block += size_t(w.blocks());
    row += size_t(w.layout().units);
  }
}

void Plan::Impl::run(int threads) {
  size_t waiting = groups.empty() ? 0 : groups.size() - 1;
  for (gather(); !tasks.empty() || waiting; gather()) {
    const bool sampling = !tasks.empty() && tasks[0].weight->stage() == Stage::sample;
    small_tasks = sampling ? 0 : std::exchange(waiting, 0);
    next_task = next_thread = 0;
    const int useful = int(std::min<size_t>(size_t(threads), tasks.size() + small_tasks));
    in_threads(useful, [](void* impl) { static_cast<Impl*>(impl)->work(); }, this);
    for (const Task& task : tasks)
      if (task.block == 0) task.weight->next();
  }
}

// The blocks of the next round. Samples come before all else: later stages should use every thread.
void Plan::Impl::gather() {
  const bool sampling = std::any_of(large.begin(), large.end(),
                                    [](const Weight& w) { return w.stage() == Stage::sample; });
  tasks.clear();
  for (Weight& w : large) {
    if (w.stage() == Stage::done || (sampling && w.stage() != Stage::sample)) continue;
    const int64_t count = sampling ? 1 : w.blocks();
    for (int64_t block = 0; block < count; block++) tasks.push_back({&w, block});
  }
}

void Plan::Impl::work() {
  char* const thread_scratch = scratch.get() + next_thread.fetch_add(1) * scratch_per_thread;
  const size_t count = tasks.size() + small_tasks;
  // neighbouring blocks: memory is read faster in long runs
  const size_t run = std::clamp<size_t>(count / 64, 1, 8);
  for (size_t i; (i = next_task.fetch_add(run, std::memory_order_relaxed)) < count;)
    for (const size_t end = std::min(i + run, count); i < end; i++) {
      if (i < tasks.size())
        tasks[i].weight->run(tasks[i].block, thread_scratch);
      else
        run_group(i - tasks.size(), thread_scratch);
    }
}

// All stages of a group of small weights.
void Plan::Impl::run_group(size_t group, char* thread_scratch) {
  BiasCorrection correction(o);
  double* const rows = reinterpret_cast<double*>(thread_scratch + updates_per_thread);
  BlockSums sums;
  Workspace space{rows, rows + most_rows, rows + 2 * most_rows, &sums, nullptr};
  for (size_t k = groups[group]; k < groups[group + 1]; k++) {
    const size_t i = small_entries[k];
    space.recorded = recorded_rows(i);
    Weight w(layouts[entries[i].layout]);
    begin(w, i, space, correction);
    for (; w.stage() != Stage::done; w.next()) w.run(0, thread_scratch);
    if (record) record->decisions[i] = w.decision();
  }
}

}  // namespace tangential
