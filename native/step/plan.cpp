#include "step/plan.h"

#include <algorithm>
#include <map>
#include <new>
#include <stdexcept>

#include "step/plan_impl.h"

namespace tangential {
namespace {

constexpr int64_t GROUP = 1 << 14;  // elements of small weights that are one task

void check(const Layout& layout, const InstructionSet& set) {
  if (!set.rows(layout.dtype, layout.state_dtype, Rule::adam, false))
    throw std::invalid_argument(
        "weights: there is no code for the dtypes of a weight and its state");
  if (layout.units < 0 || layout.unit_size < 0 || layout.size < 0 ||
      (layout.units &&
       (layout.unit_size > layout.size || layout.units * layout.unit_size != layout.size)))
    throw std::invalid_argument("weights: units * unit_size must be the size of the weight");
}

}  // namespace

Plan::Plan(const std::vector<WeightSpec>& weights, const InstructionSet& set)
    : impl_(std::make_unique<Impl>()) {
  for (const WeightSpec& spec : weights) check(spec.layout, set);
  auto& impl = *impl_;
  impl.set = set;
  std::map<Layout, uint32_t> known;
  int64_t room = 0;
  size_t blocks = 0, rows = 0;
  for (const WeightSpec& spec : weights) {
    const auto [at, is_new] = known.try_emplace(spec.layout, uint32_t(impl.layouts.size()));
    if (is_new) impl.layouts.push_back(spec.layout);
    impl.add(spec, at->second, room);
  }
  for (const Weight& w : impl.large) {
    blocks += size_t(w.blocks());
    rows += size_t(w.layout().units);
  }
  if (!impl.groups.empty()) impl.groups.push_back(uint32_t(impl.small_entries.size()));
  impl.blocks.resize(blocks);
  impl.coefs.resize(rows);
}

// room: elements that the last group of small weights may still take
void Plan::Impl::add(const WeightSpec& spec, uint32_t layout, int64_t& room) {
  const auto i = uint32_t(entries.size());
  entries.push_back({layout, spec.seed});
  const Weight weight(spec.layout);
  updates_per_thread = std::max(updates_per_thread, aligned(size_t(weight.update_bytes())));
  if (!Weight::small(spec.layout)) {
    large.push_back(weight);
    large_entries.push_back(i);
    return;
  }
  if (groups.empty() || room < spec.layout.size) {
    groups.push_back(uint32_t(small_entries.size()));
    room = GROUP;
  }
  room -= spec.layout.size;
  small_entries.push_back(i);
  most_rows = std::max(most_rows, size_t(spec.layout.units));
}

Plan::~Plan() = default;

void Plan::step(const Memory* memory, const Options& options, int threads,
                const GateRecord* record) {
  auto& impl = *impl_;
  const std::unique_lock lock(impl.stepping, std::try_to_lock);
  if (!lock) throw std::runtime_error("another thread is in a step of this plan");
  impl.o = options;
  impl.memory = memory;
  impl.record = record;
  for (size_t i = 0; i < impl.entries.size(); i++)
    if (!impl.complete(i))
      throw std::invalid_argument("memory: a weight lacks a buffer that these options need");
  impl.reserve(std::max(threads, 1));
  impl.begin_large();
  impl.run(std::max(threads, 1));
  for (size_t k = 0; record && k < impl.large.size(); k++)
    record->decisions[impl.large_entries[k]] = impl.large[k].decision();
}

// Whether a step has all buffers that it reads and writes.
bool Plan::Impl::complete(size_t i) const {
  const Layout& layout = layouts[entries[i].layout];
  const Memory& m = memory[i];
  if (!layout.size) return true;
  const bool narrow = layout.dtype == Dtype::bfloat16 || layout.dtype == Dtype::float16;
  return m.w && m.g && m.m && (o.rule != Rule::adam || (m.v && m.step)) &&
         (!narrow || o.rounding != Rounding::kahan || m.low) &&
         (!narrow || o.rounding != Rounding::stochastic || m.step);
}

// Allocate all memory that a step needs, before anything changes.
void Plan::Impl::reserve(int threads) {
  tasks.reserve(blocks.size());
  if (record && first_rows.empty()) {
    first_rows.reserve(entries.size());
    size_t row = 0;
    for (const Entry& entry : entries) {
      first_rows.push_back(row);
      row += size_t(layouts[entry.layout].units);
    }
  }
  if (o.caution) {
    coefs_g.resize(coefs.size());
    coefs_new.resize(coefs.size());
  }
  scratch_per_thread = updates_per_thread + aligned(3 * most_rows * sizeof(double)) + 64;
  const size_t bytes = scratch_per_thread * size_t(threads);
  if (bytes <= scratch_bytes) return;
  scratch.reset(static_cast<char*>(std::aligned_alloc(64, bytes)));
  scratch_bytes = scratch ? bytes : 0;
  if (!scratch) throw std::bad_alloc();
}

size_t Plan::size() const { return impl_->entries.size(); }

size_t Plan::rows() const {
  size_t rows = 0;
  for (const auto& entry : impl_->entries) rows += size_t(impl_->layouts[entry.layout].units);
  return rows;
}

size_t Plan::bytes() const {
  const auto& impl = *impl_;
  const auto of = [](const auto& list) { return list.capacity() * sizeof list[0]; };
  return of(impl.layouts) + of(impl.entries) + of(impl.large_entries) + of(impl.small_entries) +
         of(impl.groups) + of(impl.first_rows) + of(impl.large) + of(impl.blocks) + of(impl.coefs) +
         of(impl.coefs_g) + of(impl.coefs_new) + of(impl.tasks) + impl.scratch_bytes;
}

}  // namespace tangential
