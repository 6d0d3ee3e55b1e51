// A step takes rounds: in each, the threads share the blocks of all large weights, every weight in
// its own stage. Small weights come last in the first round, to keep all threads busy to its end.

#include "step.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <map>
#include <mutex>
#include <new>
#include <stdexcept>
#include <utility>

#include "stages.h"
#include "threads.h"

namespace tangential {
namespace {

constexpr int64_t GROUP = 1 << 14;  // elements of small weights that are one task

uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

void check(const Layout& layout, const InstructionSet& set) {
  if (!set.rows(layout.dtype, layout.state_dtype, Rule::adam, false))
    throw std::invalid_argument(
        "weights: there is no code for the dtypes of a weight and its state");
  if (layout.units < 0 || layout.fan < 0 || layout.size < 0 ||
      (layout.units && (layout.fan > layout.size || layout.units * layout.fan != layout.size)))
    throw std::invalid_argument("weights: units * fan is not the size of a weight");
}

// Whether a step finds all that it reads and writes.
bool complete(const Memory& memory, const Layout& layout, const Options& o) {
  if (!layout.size) return true;
  const bool narrow = layout.dtype == Dtype::bfloat16 || layout.dtype == Dtype::float16;
  return memory.w && memory.g && memory.m && (o.rule != Rule::adam || (memory.v && memory.step)) &&
         (!narrow || o.rounding != Rounding::kahan || memory.low) &&
         (!narrow || o.rounding != Rounding::stochastic || memory.step);
}

constexpr size_t aligned(size_t bytes) { return (bytes + 63) / 64 * 64; }

// Adam's bias corrections at a step, remembered: most weights are at the same.
class Corrections {
 public:
  explicit Corrections(const Options& o) : o_(o) {}

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

}  // namespace

struct Plan::Inside {
  struct Entry {
    uint32_t layout, seed;
  };
  struct Task {
    Weight* weight;
    int64_t block;
  };

  InstructionSet set;
  std::vector<Layout> layouts;  // each once
  std::vector<Entry> entries;   // of every weight
  std::vector<uint32_t> large_entries, small_entries;
  std::vector<Weight> large;
  std::vector<uint32_t> groups;   // of small weights: where in small_entries they begin; the end
  std::vector<Partial> partials;  // of the large weights' blocks
  std::vector<double> coefs, coefs_g, kept_coefs;  // of their rows
  size_t most_rows = 0;                            // of a small weight
  std::unique_ptr<char, Free> scratch;             // for every thread updates, and rows' coefs
  size_t scratch_bytes = 0, scratch_a_thread = 0, updates_a_thread = 0;

  Options o;
  const Memory* memory = nullptr;
  std::vector<Task> tasks;  // of this round, before the small weights'
  size_t small_tasks = 0;
  const Watched* watched = nullptr;
  std::vector<size_t> first_rows;  // of every weight among those watched
  std::atomic<size_t> next_task{0}, next_thread{0};
  std::mutex stepping;

  void begin(Weight& w, size_t i, const Room& room, Corrections& corrections) {
    const Memory& where = memory[i];
    const double step = where.step ? double(*where.step) + 1 : 0;
    if (where.step) *where.step = float(step);
    corrections.at(step);
    const uint32_t seed = mixed(uint32_t(step) + mixed(entries[i].seed + 0x9e3779b9u));
    w.begin(o, set, seed, where, room, corrections.scale1, corrections.scale2);
  }

  Sums* watched_rows(size_t i) const { return watched ? watched->rows + first_rows[i] : nullptr; }

  void begin_large() {
    Corrections corrections(o);
    size_t block = 0, row = 0;
    for (size_t k = 0; k < large.size(); k++) {
      Weight& w = large[k];
      const size_t cautious_row = o.caution ? row : 0;
      const Room room{coefs.data() + row, coefs_g.data() + cautious_row,
                      kept_coefs.data() + cautious_row, partials.data() + block,
                      watched_rows(large_entries[k])};
      begin(w, large_entries[k], room, corrections);
      block += size_t(w.blocks());
      row += size_t(w.layout().units);
    }
  }

  // All stages of some small weights.
  void run_group(size_t group, char* mine) {
    Corrections corrections(o);
    double* const rows = reinterpret_cast<double*>(mine + updates_a_thread);
    Partial partial;
    Room room{rows, rows + most_rows, rows + 2 * most_rows, &partial, nullptr};
    for (size_t k = groups[group]; k < groups[group + 1]; k++) {
      const size_t i = small_entries[k];
      room.watched = watched_rows(i);
      Weight w(layouts[entries[i].layout]);
      begin(w, i, room, corrections);
      for (; w.stage() != Stage::done; w.next()) w.run(0, mine);
      if (watched) watched->verdicts[i] = w.verdict();
    }
  }

  void work() {
    char* const mine = scratch.get() + next_thread.fetch_add(1) * scratch_a_thread;
    const size_t count = tasks.size() + small_tasks;
    for (size_t i; (i = next_task.fetch_add(1, std::memory_order_relaxed)) < count;) {
      if (i < tasks.size())
        tasks[i].weight->run(tasks[i].block, mine);
      else
        run_group(i - tasks.size(), mine);
    }
  }

  // The blocks that come next. Looks come before all else: a guess should use every thread.
  void gather() {
    const bool looking = std::any_of(large.begin(), large.end(),
                                     [](const Weight& w) { return w.stage() == Stage::look; });
    tasks.clear();
    for (Weight& w : large) {
      if (w.stage() == Stage::done || (looking && w.stage() != Stage::look)) continue;
      const int64_t blocks = looking ? 1 : w.blocks();
      for (int64_t block = 0; block < blocks; block++) tasks.push_back({&w, block});
    }
  }

  void run(int threads) {
    size_t waiting = groups.empty() ? 0 : groups.size() - 1;
    for (gather(); !tasks.empty() || waiting; gather()) {
      const bool looking = !tasks.empty() && tasks[0].weight->stage() == Stage::look;
      small_tasks = looking ? 0 : std::exchange(waiting, 0);
      next_task = next_thread = 0;
      const int useful = int(std::min<size_t>(size_t(threads), tasks.size() + small_tasks));
      in_threads(useful, [](void* plan) { static_cast<Inside*>(plan)->work(); }, this);
      for (const Task& task : tasks)
        if (task.block == 0) task.weight->next();
    }
  }

  // All memory that a step needs: nothing has changed if there is none.
  void reserve(int threads) {
    tasks.reserve(partials.size());
    if (watched && first_rows.empty()) {
      first_rows.reserve(entries.size());
      size_t row = 0;
      for (const Entry& entry : entries) {
        first_rows.push_back(row);
        row += size_t(layouts[entry.layout].units);
      }
    }
    if (o.caution) {
      coefs_g.resize(coefs.size());
      kept_coefs.resize(coefs.size());
    }
    scratch_a_thread = updates_a_thread + aligned(3 * most_rows * sizeof(double)) + 64;
    const size_t bytes = scratch_a_thread * size_t(threads);
    if (bytes <= scratch_bytes) return;
    scratch.reset(static_cast<char*>(std::aligned_alloc(64, bytes)));
    scratch_bytes = scratch ? bytes : 0;
    if (!scratch) throw std::bad_alloc();
  }
};

Plan::Plan(const std::vector<Layout>& weights, const std::vector<uint32_t>& seeds,
           const InstructionSet& set)
    : inside_(std::make_unique<Inside>()) {
  for (const Layout& layout : weights) check(layout, set);
  auto& in = *inside_;
  in.set = set;
  std::map<Layout, uint32_t> known;
  size_t blocks = 0, rows = 0;
  int64_t room = 0;  // in the last group
  for (size_t i = 0; i < weights.size(); i++) {
    const Layout& layout = weights[i];
    const auto [at, fresh] = known.try_emplace(layout, uint32_t(in.layouts.size()));
    if (fresh) in.layouts.push_back(layout);
    in.entries.push_back({at->second, seeds[i]});
    const size_t update = aligned(size_t(Weight(layout).longest_update()));
    in.updates_a_thread = std::max(in.updates_a_thread, update);
    if (Weight::small(layout)) {
      if (in.groups.empty() || room < layout.size) {
        in.groups.push_back(uint32_t(in.small_entries.size()));
        room = GROUP;
      }
      room -= layout.size;
      in.small_entries.push_back(uint32_t(i));
      in.most_rows = std::max(in.most_rows, size_t(layout.units));
    } else {
      const Weight& w = in.large.emplace_back(layout);
      in.large_entries.push_back(uint32_t(i));
      blocks += size_t(w.blocks());
      rows += size_t(layout.units);
    }
  }
  if (!in.groups.empty()) in.groups.push_back(uint32_t(in.small_entries.size()));
  in.partials.resize(blocks);
  in.coefs.resize(rows);
}

Plan::~Plan() = default;

void Plan::step(const Memory* memory, const Options& options, int threads, const Watched* watched) {
  auto& in = *inside_;
  const std::unique_lock alone(in.stepping, std::try_to_lock);
  if (!alone) throw std::runtime_error("another thread is in a step of this plan");
  for (size_t i = 0; i < in.entries.size(); i++)
    if (!complete(memory[i], in.layouts[in.entries[i].layout], options))
      throw std::invalid_argument("memory: a weight lacks a buffer that these options need");
  in.watched = watched;
  in.o = options;
  in.memory = memory;
  in.reserve(std::max(threads, 1));
  in.begin_large();
  in.run(std::max(threads, 1));
  for (size_t k = 0; watched && k < in.large.size(); k++)
    watched->verdicts[in.large_entries[k]] = in.large[k].verdict();
}

size_t Plan::size() const { return inside_->entries.size(); }

size_t Plan::rows() const {
  size_t rows = 0;
  for (const auto& entry : inside_->entries) rows += size_t(inside_->layouts[entry.layout].units);
  return rows;
}

size_t Plan::bytes() const {
  const auto& in = *inside_;
  const auto of = [](const auto& list) { return list.capacity() * sizeof list[0]; };
  return of(in.layouts) + of(in.entries) + of(in.large_entries) + of(in.small_entries) +
         of(in.large) + of(in.groups) + of(in.partials) + of(in.coefs) + of(in.coefs_g) +
         of(in.kept_coefs) + of(in.tasks) + of(in.first_rows) + in.scratch_bytes;
}

}  // namespace tangential
