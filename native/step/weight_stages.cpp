// What each stage does to a block of a weight.

#include "step/weight.h"

namespace tangential {
namespace {

// A prediction samples rows with a gradient. Several: a row of a weight that is not scale-invariant
// is orthogonal to its gradient by chance in 8 of 100 cases.
constexpr int64_t SAMPLES = 4;
constexpr int64_t CANDIDATES = 32;  // rows to try, because some have no gradient

}  // namespace

Constants Weight::constants() const {
  const auto in = [&](auto zero) {
    using Real = decltype(zero);
    return Scalars<Real>{Real(o_->beta1),     Real(o_->take1), Real(o_->beta2),
                         Real(1 - o_->beta2), Real(scale1_),   Real(scale2_),
                         Real(o_->eps),       Real(o_->lr),    Real(o_->unscale)};
  };
  return {in(0.f), in(0.), o_->rounding, seed_, o_->beta1 == 0, o_->unscale != 1, o_->maximize};
}

Segment Weight::segment(int64_t start, int64_t n) const {
  const auto at = [&](void* p, Dtype dtype) {
    return p ? static_cast<char*>(p) + start * width(dtype) : nullptr;
  };
  return {at(memory_.w, layout_.dtype),
          at(memory_.g, layout_.dtype),
          at(memory_.m, layout_.state_dtype),
          at(memory_.v, layout_.state_dtype),
          at(memory_.low, layout_.dtype),
          n,
          start};
}

void* Weight::update(void* u, int64_t index) const {
  return static_cast<char*>(u) + index * std::max<int64_t>(width(layout_.dtype), 4);
}

// f(row, its segment in this block)
template <class F>
void Weight::for_rows(int64_t block, F f) const {
  if (!whole_rows()) {
    const int64_t row = block / blocks_per_row_, start = block % blocks_per_row_ * BLOCK;
    return f(row, segment(row * row_size() + start, std::min(BLOCK, row_size() - start)));
  }
  const int64_t first = block * rows_per_block_;
  const int64_t last = std::min(first + rows_per_block_, rows());
  for (int64_t row = first; row < last; row++) f(row, segment(row * row_size(), row_size()));
}

void Weight::sample() {
  const Constants c = constants();
  const int64_t candidates = std::min(CANDIDATES, rows());
  int64_t orthogonal = 0;
  predicted_ = Decision::none;
  for (int64_t i = 0; i < candidates && orthogonal < SAMPLES && row_size() > 1; i++) {
    // multiples of the golden ratio spread even a few rows over the whole weight
    const int64_t row = rows() * int64_t(uint32_t(i + 1) * 0x9e3779b9u) >> 32;
    Moments moments;
    functions_->measure(segment(row * row_size(), row_size()), c, moments);
    if (moments.gg == 0) continue;
    if (!orthogonal_row(moments)) return;
    orthogonal++;
  }
  if (orthogonal) predicted_ = Decision::row;
}

void Weight::speculate(int64_t block, void* u) {
  BlockSums& sums = space_.blocks[block] = {};
  if (predicted_ == Decision::row) return project_rows(block, u, sums);
  const Constants c = constants();
  for_rows(block, [&](int64_t row, const Segment& s) {
    Moments moments;
    functions_->advance_apply(s, c, factor(Decision::none, row), moments);
    collect_row(row, moments, sums);
  });
}

// Each row is projected while the next one is advanced, so that memory is read all the time.
void Weight::project_rows(int64_t block, void* u, BlockSums& sums) {
  const Constants c = constants();
  const bool certain = o_->projection == Projection::row;
  PendingRow pending{};
  bool waits = false;
  for_rows(block, [&](int64_t row, const Segment& s) {
    void* const row_update = update(u, row % 2 * row_size());
    Moments moments;
    if (waits)
      functions_->advance_and_apply(s, c, row_update, moments, pending);
    else
      functions_->advance(s, c, row_update, moments);
    collect_row(row, moments, sums);
    const double r = factor(Decision::row, row);
    waits = certain || reversible(r);
    sums.postponed += !waits;
    pending = {s, r, row_update, std::isfinite(moments.ww)};
  });
  if (waits) functions_->apply(pending.s, c, pending.r, pending.u, pending.finite);
}

void Weight::correct(int64_t block) const {
  const Constants c = constants();
  for_rows(block, [&](int64_t row, const Segment& s) {
    const double r = factor(decision_, row), previous = factor(predicted_, row);
    const bool postponed = !reversible(previous);
    if (postponed || r != previous) functions_->correct(s, c, postponed ? -1 : previous, r);
  });
}

void Weight::advance(void* u) {
  const Constants c = constants();
  BlockSums& sums = space_.blocks[0] = {};
  for_rows(0, [&](int64_t row, const Segment& s) {
    Moments moments;
    functions_->advance(s, c, update(u, s.index), moments);
    collect_row(row, moments, sums);
  });
}

void Weight::apply(void* u) const {
  const Constants c = constants();
  const bool finite = std::isfinite(space_.blocks[0].moments.ww);
  if (decision_ != Decision::row)
    return functions_->apply(segment(0, layout_.size), c, factor(decision_, 0), u, finite);
  for_rows(0, [&](int64_t row, const Segment& s) {
    functions_->apply(s, c, factor(decision_, row), update(u, s.index), finite);
  });
}

void Weight::measure(int64_t block) {
  const Constants c = constants();
  BlockSums& sums = space_.blocks[block] = {};
  for_rows(block, [&](int64_t row, const Segment& s) {
    Moments moments;
    functions_->measure(s, c, moments);
    collect_row(row, moments, sums);
  });
}

void Weight::agree(int64_t block) {
  const Constants c = constants();
  BlockSums& sums = space_.blocks[block];
  sums.agreeing = 0;
  sums.agreeing_uw = 0;
  for_rows(block, [&](int64_t row, const Segment& s) {
    const double cu = chosen(space_.coefs, coef_, row), cg = chosen(space_.coefs_g, coef_g_, row);
    Agreement agreement;
    functions_->agree(s, c, cu, cg, agreement);
    if (gated() && whole_rows()) space_.coefs_new[row] = coef_of(agreement.ww, agreement.uw);
    sums.agreeing += agreement.count;
    sums.agreeing_uw += agreement.uw;
  });
}

void Weight::finish(int64_t block) const {
  const Constants c = constants();
  for_rows(block, [&](int64_t row, const Segment& s) { finish_row(row, s, c); });
}

void Weight::finish_row(int64_t row, const Segment& s, const Constants& c) const {
  const bool keep = o_->project_buffer && o_->rule == Rule::sgd && !o_->nesterov;
  if (!o_->caution && (!keep || decision_ == Decision::none))
    return functions_->step(s, c, factor(decision_, row));
  // u is projected, so r has only the decay, and the radial part that caution added to u
  const double cu = chosen(space_.coefs, coef_, row);
  const double cg = o_->caution ? chosen(space_.coefs_g, coef_g_, row) : 0;
  const double damp = decision_ == Decision::none ? 1 : o_->wd_ratio;
  const double added = o_->caution ? chosen(space_.coefs_new, coef_new_, row) * enlarge_ : 0;
  const double r = -o_->lr * (o_->decay * damp - added);
  functions_->step_tangent(s, c, r, cu, cg, o_->caution ? enlarge_ : 0, keep);
}

void Weight::collect_row(int64_t row, const Moments& moments, BlockSums& sums) const {
  if (whole_rows()) sums.failing += !record_row(row, moments);
  add(sums.moments, moments);
}

// Store what later stages need of a row; whether it is orthogonal to its gradient.
bool Weight::record_row(int64_t row, const Moments& moments) const {
  space_.coefs[row] = coef_of(moments.ww, moments.uw);
  if (o_->caution) space_.coefs_g[row] = coef_of(moments.ww, moments.gw);
  if (space_.recorded) space_.recorded[row] = moments;
  return orthogonal_row(moments);
}

double Weight::chosen(const double* of_rows, double of_weight, int64_t row) const {
  if (decision_ == Decision::none) return 0;
  return decision_ == Decision::row ? of_rows[row] : of_weight;
}

// r in w <- w + (r w - lr u) of a row
double Weight::factor(Decision decision, int64_t row) const {
  if (decision == Decision::none) return -o_->lr * o_->decay;
  const double c = decision == Decision::row ? space_.coefs[row] : coef_;
  return -o_->lr * (o_->decay * o_->wd_ratio - c);
}

}  // namespace tangential
