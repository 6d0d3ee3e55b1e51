// What each stage does to a block of a weight.

#include "step/weight.h"

namespace tangential {
namespace {

// A prediction samples rows with a gradient. Several: a row of a weight that is not scale-invariant
// is orthogonal to its gradient by chance in 8 of 100 cases.
constexpr int64_t SAMPLES = 4;
constexpr int64_t CANDIDATES = 32;  // rows to try, because some have no gradient

void coefs(double* c, const double* ww, const double* xw, int64_t rows, double eps) {
  for (int64_t i = 0; i < rows; i++) c[i] = coef(ww[i], xw[i], eps);
}

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

// f(first row, a few rows of this block that stay in the first cache)
template <class F>
void Weight::for_chunks(int64_t block, F f) const {
  const int64_t first = block * rows_per_block_;
  const int64_t last = std::min(first + rows_per_block_, rows());
  for (int64_t row = first, n; row < last; row += n) {
    n = std::min(chunk_rows(), last - row);
    Segment s = segment(row * row_size(), n * row_size());
    s.rows = n;
    f(row, s);
  }
}

void Weight::sample(void* u) {
  const Constants c = constants();
  const int64_t candidates = std::min(CANDIDATES, rows());
  Moments moments[SAMPLES];
  int64_t n = 0;
  predicted_ = Decision::row;
  for (int64_t i = 0; i < candidates && n < SAMPLES && predicted_ == Decision::row; i++) {
    // multiples of the golden ratio spread even a few rows over the whole weight
    const int64_t row = rows() * int64_t(uint32_t(i + 1) * 0x9e3779b9u) >> 32;
    functions_->measure(segment(row * row_size(), row_size()), c, u, &moments[n]);
    if (moments[n].gg != 0) predicted_ = guess(moments, ++n);
  }
  if (!n) predicted_ = Decision::none;
}

// What the gate will decide, judged by some rows.
Decision Weight::guess(const Moments* moments, int64_t rows) const {
  int64_t orthogonal = 0;
  for (int64_t i = 0; i < rows && row_size() > 1; i++) {
    if (moments[i].gg == 0) continue;
    if (!orthogonal_row(moments[i])) return Decision::none;
    orthogonal++;
  }
  return orthogonal ? Decision::row : Decision::none;
}

// Rows are applied while the next ones are advanced.
void Weight::speculate(int64_t block, void* u) {
  const Constants c = constants();
  BlockSums& sums = space_.blocks[block] = {};
  Moments moments[CHUNK_ROWS];
  double r[2][CHUNK_ROWS];
  Pending pending{};
  int64_t turn = 0;
  for_chunks(block, [&](int64_t row, const Segment& s) {
    void* const updates = update(u, turn * chunk_rows() * row_size());
    functions_->advance(s, c, updates, moments, pending.r ? &pending : nullptr);
    if (space_.recorded) functions_->add_squares(s, updates, true, moments);
    if (blocks_ == 1 && row == 0 && o_->projection == Projection::automatic)
      predicted_ = guess(moments, s.rows);
    const bool finite = collect(row, moments, s.rows, sums);
    pending = {s, r[turn], updates, finite};
    const int64_t postponed = factors(predicted_, row, s.rows, r[turn]);
    if (postponed && o_->projection != Projection::row) {
      sums.postponed += postponed;
      apply_reversible(pending, c);
      pending = {};
    }
    turn = !turn;
  });
  if (pending.r) functions_->apply(pending, c);
}

// The factors of consecutive rows; how many of them cannot be reversed.
int64_t Weight::factors(Decision decision, int64_t row, int64_t rows, double* r) const {
  if (decision == Decision::row) {
    const double lr = o_->lr, decay = damped_decay_;
    for (int64_t i = 0; i < rows; i++) r[i] = -lr * (decay - space_.coefs[row + i]);
  } else {
    std::fill(r, r + rows, factor(decision, row));
  }
  return std::count_if(r, r + rows, [](double x) { return !reversible(x); });
}

// `correct` will apply the others.
void Weight::apply_reversible(const Pending& rows, const Constants& c) const {
  for (int64_t i = 0; i < rows.s.rows; i++) {
    const int64_t start = i * row_size();
    if (!reversible(rows.r[i])) continue;
    functions_->apply({segment(rows.s.index + start, row_size()), rows.r + i,
                       update(const_cast<void*>(rows.u), start), rows.finite},
                      c);
  }
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
  Moments moments[CHUNK_ROWS];
  for_chunks(0, [&](int64_t row, const Segment& s) {
    functions_->advance(s, c, update(u, s.index), moments, nullptr);
    if (space_.recorded) functions_->add_squares(s, update(u, s.index), true, moments);
    collect(row, moments, s.rows, sums);
  });
}

void Weight::apply(void* u) const {
  const Constants c = constants();
  const bool finite = std::isfinite(space_.blocks[0].moments.ww);
  double r[CHUNK_ROWS];
  for_chunks(0, [&](int64_t row, const Segment& s) {
    factors(decision_, row, s.rows, r);
    functions_->apply({s, r, update(u, s.index), finite}, c);
  });
}

void Weight::measure(int64_t block, void* u) {
  const Constants c = constants();
  BlockSums& sums = space_.blocks[block] = {};
  Moments moments[CHUNK_ROWS];
  if (whole_rows()) {
    for_chunks(block, [&](int64_t row, const Segment& s) {
      functions_->measure(s, c, u, moments);
      if (space_.recorded) functions_->add_squares(s, u, false, moments);
      collect(row, moments, s.rows, sums);
    });
    return;
  }
  const int64_t row = block / blocks_per_row_, start = block % blocks_per_row_ * BLOCK;
  const int64_t end = std::min(start + BLOCK, row_size());
  for (int64_t at = start; at < end; at += CHUNK) {
    const Segment s = segment(row * row_size() + at, std::min(CHUNK, end - at));
    functions_->measure(s, c, u, moments);
    if (space_.recorded) functions_->add_squares(s, u, false, moments);
    add(sums.moments, moments[0]);
  }
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

// Store what later stages need of consecutive rows; whether all their weights are finite.
bool Weight::collect(int64_t row, const Moments* moments, int64_t rows, BlockSums& sums) const {
  Moments all;
  for (int64_t i = 0; i < rows; i++) add(all, moments[i]);
  add(sums.moments, all);
  if (space_.recorded) std::copy(moments, moments + rows, space_.recorded + row);
  // one row that is not orthogonal decides
  if (o_->projection == Projection::automatic)
    for (int64_t i = 0; i < rows && !sums.failing; i++) sums.failing = !orthogonal_row(moments[i]);
  // what `speculate` applies needs coefs even if rows fail
  if ((o_->projection == Projection::automatic && !sums.failing) ||
      o_->projection == Projection::row ||
      (stage_ == Stage::speculate && predicted_ == Decision::row))
    store_coefs(row, moments, rows);
  return std::isfinite(all.ww);
}

void Weight::store_coefs(int64_t row, const Moments* moments, int64_t rows) const {
  double ww[CHUNK_ROWS], xw[CHUNK_ROWS];  // for the compiler, which steps through both in vectors
  for (int64_t i = 0; i < rows; i++) ww[i] = moments[i].ww;
  for (int64_t i = 0; i < rows; i++) xw[i] = moments[i].uw;
  coefs(space_.coefs + row, ww, xw, rows, o_->eps);
  if (!o_->caution) return;
  for (int64_t i = 0; i < rows; i++) xw[i] = moments[i].gw;
  coefs(space_.coefs_g + row, ww, xw, rows, o_->eps);
}

double Weight::chosen(const double* of_rows, double of_weight, int64_t row) const {
  if (decision_ == Decision::none) return 0;
  return decision_ == Decision::row ? of_rows[row] : of_weight;
}

// r in w <- w + (r w - lr u) of a row
double Weight::factor(Decision decision, int64_t row) const {
  if (decision == Decision::none) return -o_->lr * o_->decay;
  const double c = decision == Decision::row ? space_.coefs[row] : coef_;
  return -o_->lr * (damped_decay_ - c);
}

}  // namespace tangential
