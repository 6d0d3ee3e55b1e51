#include "stages.h"

#include <algorithm>
#include <cmath>

namespace tangential {
namespace {

constexpr int64_t BLOCK = 1 << 15;   // elements that one thread takes at a time
constexpr int64_t LOOKS = 4;         // rows with a gradient that a guess is made from: a row of
constexpr int64_t CANDIDATES = 32;   // a scale-variant weight is orthogonal by chance in 8 of 100
constexpr double LEAST_KEPT = 1e-3;  // as in tangential.maths
constexpr double LEAST = .5, MOST = 4;  // 1 + r with which what w was can be had back from w

constexpr int64_t width(Dtype dtype) {
  return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2;
}

bool reversible(double r) { return LEAST <= std::fabs(1 + r) && std::fabs(1 + r) <= MOST; }

void add(Sums& to, const Sums& more) {
  to.ww += more.ww;
  to.gg += more.gg;
  to.gw += more.gw;
  to.uw += more.uw;
  to.uu += more.uu;
}

}  // namespace

bool Weight::small(const Layout& layout) { return layout.size <= BLOCK; }

Weight::Weight(const Layout& layout) : layout_(layout) {
  const int64_t row = std::max<int64_t>(1, fan());
  blocks_a_row_ = small(layout) ? 1 : (row + BLOCK - 1) / BLOCK;
  rows_a_block_ = small(layout) ? units() : std::max<int64_t>(1, BLOCK / row);
  blocks_ = whole_rows() ? (units() + rows_a_block_ - 1) / rows_a_block_ : units() * blocks_a_row_;
}

int64_t Weight::longest_update() const {
  const int64_t kept = small(layout_) ? layout_.size : whole_rows() ? 2 * fan() : 0;
  return gated() ? kept * std::max<int64_t>(width(layout_.dtype), 4) : 0;
}

void Weight::begin(const Options& options, const InstructionSet& set, uint32_t seed,
                   const Memory& memory, const Room& room, double scale1, double scale2) {
  o_ = &options;
  rows_ = set.rows(layout_.dtype, layout_.state_dtype, options.rule, options.nesterov);
  memory_ = memory;
  room_ = room;
  seed_ = seed;
  scale1_ = scale1;
  scale2_ = scale2;
  threshold_ = threshold(options.delta, fan());
  verdict_ = Verdict::none;
  guess_ = Verdict::row;
  stage_ = first_stage();
}

Stage Weight::first_stage() const {
  if (layout_.size == 0) return Stage::done;
  if (!gated()) return o_->caution ? Stage::weigh : Stage::finish;
  if (o_->caution || o_->project_buffer) return Stage::measure;
  if (small(layout_)) return Stage::advance;
  if (!whole_rows()) return Stage::measure;
  if (o_->projection == Projection::row && fan() > 1) return Stage::guess;
  const bool exact = width(layout_.dtype) >= 4;  // what w was can be had back
  return o_->projection == Projection::automatic && exact && reversible(-o_->lr * o_->decay)
             ? Stage::look
             : Stage::measure;
}

void Weight::run(int64_t block, void* u) {
  switch (stage_) {
    case Stage::look: return look();
    case Stage::guess: return guess(block, u);
    case Stage::amend: return amend(block);
    case Stage::advance: return advance(u);
    case Stage::apply: return apply(u);
    case Stage::measure: return measure(block);
    case Stage::weigh: return weigh(block);
    case Stage::finish: return finish(block);
    case Stage::done: return;
  }
}

void Weight::next() {
  switch (stage_) {
    case Stage::look: stage_ = Stage::guess; break;
    case Stage::guess: {
      judge();
      const auto pending = [](const Partial& p) { return p.pending > 0; };
      const bool right =
          verdict_ == guess_ && std::none_of(room_.partials, room_.partials + blocks_, pending);
      stage_ = right ? Stage::done : Stage::amend;
      break;
    }
    case Stage::advance:
      judge();
      stage_ = Stage::apply;
      break;
    case Stage::measure:
      judge();
      stage_ = o_->caution ? Stage::weigh : Stage::finish;
      break;
    case Stage::weigh:
      judge_kept();
      stage_ = Stage::finish;
      break;
    default: stage_ = Stage::done;
  }
}

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

// f(row, its piece in this block)
template <class F>
void Weight::for_rows(int64_t block, F f) const {
  if (!whole_rows()) {
    const int64_t row = block / blocks_a_row_, start = block % blocks_a_row_ * BLOCK;
    return f(row, segment(row * fan() + start, std::min(BLOCK, fan() - start)));
  }
  const int64_t first = block * rows_a_block_;
  const int64_t last = std::min(first + rows_a_block_, units());
  for (int64_t row = first; row < last; row++) f(row, segment(row * fan(), fan()));
}

// What most rows will say: a few that have a gradient speak for all.
void Weight::look() {
  const Constants c = constants();
  const int64_t candidates = std::min(CANDIDATES, units());
  int64_t seen = 0;
  guess_ = Verdict::none;
  for (int64_t i = 0; i < candidates && seen < LOOKS && fan() > 1; i++) {
    // multiples of the golden ratio: however few are seen, they are spread over the weight
    const int64_t row = units() * int64_t(uint32_t(i + 1) * 0x9e3779b9u) >> 32;
    Sums sums;
    rows_->measure(segment(row * fan(), fan()), c, sums);
    if (sums.gg == 0) continue;
    if (!orthogonal_row(sums)) return;
    seen++;
  }
  if (seen) guess_ = Verdict::row;
}

void Weight::guess(int64_t block, void* u) {
  Partial& partial = room_.partials[block] = {};
  if (guess_ == Verdict::row) return guess_row(block, u, partial);
  const Constants c = constants();
  for_rows(block, [&](int64_t row, const Segment& s) {
    Sums sums;
    rows_->advance_apply(s, c, share(Verdict::none, row), sums);
    note_row(row, sums, partial);
  });
}

// Every row is projected while the next one is advanced: memory is read all the time.
void Weight::guess_row(int64_t block, void* u, Partial& partial) {
  const Constants c = constants();
  const bool certain = o_->projection == Projection::row;
  Waiting last{};
  bool waits = false;
  for_rows(block, [&](int64_t row, const Segment& s) {
    void* const mine = update(u, row % 2 * fan());
    Sums sums;
    if (waits)
      rows_->advance_and_apply(s, c, mine, sums, last);
    else
      rows_->advance(s, c, mine, sums);
    note_row(row, sums, partial);
    const double r = share(Verdict::row, row);
    waits = certain || reversible(r);
    partial.pending += !waits;
    last = {s, r, mine, std::isfinite(sums.ww)};
  });
  if (waits) rows_->apply(last.s, c, last.r, last.u, last.finite);
}

void Weight::amend(int64_t block) const {
  const Constants c = constants();
  for_rows(block, [&](int64_t row, const Segment& s) {
    const double r = share(verdict_, row), was = share(guess_, row);
    const bool pending = !reversible(was);
    if (pending || r != was) rows_->amend(s, c, pending ? -1 : was, r);
  });
}

void Weight::advance(void* u) {
  const Constants c = constants();
  Partial& partial = room_.partials[0] = {};
  for_rows(0, [&](int64_t row, const Segment& s) {
    Sums sums;
    rows_->advance(s, c, update(u, s.index), sums);
    note_row(row, sums, partial);
  });
}

void Weight::apply(void* u) const {
  const Constants c = constants();
  const bool finite = std::isfinite(room_.partials[0].sums.ww);
  if (verdict_ != Verdict::row)
    return rows_->apply(segment(0, layout_.size), c, share(verdict_, 0), u, finite);
  for_rows(0, [&](int64_t row, const Segment& s) {
    rows_->apply(s, c, share(verdict_, row), update(u, s.index), finite);
  });
}

void Weight::measure(int64_t block) {
  const Constants c = constants();
  Partial& partial = room_.partials[block] = {};
  for_rows(block, [&](int64_t row, const Segment& s) {
    Sums sums;
    rows_->measure(s, c, sums);
    note_row(row, sums, partial);
  });
}

void Weight::weigh(int64_t block) {
  const Constants c = constants();
  Partial& partial = room_.partials[block];
  partial.kept = 0;
  partial.kw = 0;
  for_rows(block, [&](int64_t row, const Segment& s) {
    Kept kept;
    rows_->weigh(s, c, chosen(room_.coefs, coef_, row), chosen(room_.coefs_g, coef_g_, row), kept);
    if (gated() && whole_rows()) room_.kept_coefs[row] = coef_of(kept.ww, kept.kw);
    partial.kept += kept.count;
    partial.kw += kept.kw;
  });
}

void Weight::finish(int64_t block) const {
  const Constants c = constants();
  for_rows(block, [&](int64_t row, const Segment& s) { finish_row(row, s, c); });
}

void Weight::finish_row(int64_t row, const Segment& s, const Constants& c) const {
  const bool keep = o_->project_buffer && o_->rule == Rule::sgd && !o_->nesterov;
  if (!o_->caution && (!keep || verdict_ == Verdict::none))
    return rows_->step(s, c, share(verdict_, row));
  // the tangent step: the share has the decay alone, and what caution brought back of w
  const double cu = chosen(room_.coefs, coef_, row);
  const double cg = o_->caution ? chosen(room_.coefs_g, coef_g_, row) : 0;
  const double damp = verdict_ == Verdict::none ? 1 : o_->wd_ratio;
  const double back = o_->caution ? chosen(room_.kept_coefs, kept_coef_, row) * enlarged_ : 0;
  const double r = -o_->lr * (o_->decay * damp - back);
  rows_->step_tangent(s, c, r, cu, cg, o_->caution ? enlarged_ : 0, keep);
}

void Weight::note_row(int64_t row, const Sums& sums, Partial& partial) const {
  if (whole_rows()) partial.failing += !judge_row(row, sums);
  add(partial.sums, sums);
}

// All that is kept of a row's sums; whether it is orthogonal to its gradient.
bool Weight::judge_row(int64_t row, const Sums& sums) const {
  room_.coefs[row] = coef_of(sums.ww, sums.uw);
  if (o_->caution) room_.coefs_g[row] = coef_of(sums.ww, sums.gw);
  if (room_.watched) room_.watched[row] = sums;
  return orthogonal_row(sums);
}

void Weight::judge() {
  Sums whole;
  int64_t failing = 0;
  if (whole_rows()) {
    for (int64_t i = 0; i < blocks_; i++) {
      add(whole, room_.partials[i].sums);
      failing += room_.partials[i].failing;
    }
  } else {
    for (int64_t row = 0; row < units(); row++) {
      Sums sums;
      for (int64_t i = 0; i < blocks_a_row_; i++)
        add(sums, room_.partials[row * blocks_a_row_ + i].sums);
      failing += !judge_row(row, sums);
      add(whole, sums);
    }
  }
  verdict_ = gate(failing, whole, fan(), layout_.size, o_->projection, o_->delta, o_->eps);
  coef_ = coef_of(whole.ww, whole.uw);
  coef_g_ = coef_of(whole.ww, whole.gw);
}

void Weight::judge_kept() {
  double kw = 0, ww = 0;
  int64_t kept = 0;
  for (int64_t i = 0; i < blocks_; i++) {
    kw += room_.partials[i].kw;
    ww += room_.partials[i].sums.ww;
    kept += room_.partials[i].kept;
  }
  kept_coef_ = gated() ? coef_of(ww, kw) : 0;
  if (gated() && !whole_rows()) judge_kept_rows();
  enlarged_ = 1 / std::max(double(kept) / double(layout_.size), LEAST_KEPT);
}

void Weight::judge_kept_rows() const {
  for (int64_t row = 0; row < units(); row++) {
    double ww = 0, kw = 0;
    for (int64_t i = row * blocks_a_row_; i < (row + 1) * blocks_a_row_; i++) {
      ww += room_.partials[i].sums.ww;
      kw += room_.partials[i].kw;
    }
    room_.kept_coefs[row] = coef_of(ww, kw);
  }
}

bool Weight::orthogonal_row(const Sums& sums) const {
  return orthogonal(sums, threshold_, o_->eps);
}

double Weight::coef_of(double ww, double xw) const { return coef(ww, xw, o_->eps); }

double Weight::chosen(const double* by_row, double by_weight, int64_t row) const {
  if (verdict_ == Verdict::none) return 0;
  return verdict_ == Verdict::row ? by_row[row] : by_weight;
}

// r of a row in w <- w + (r w - lr u)
double Weight::share(Verdict verdict, int64_t row) const {
  if (verdict == Verdict::none) return -o_->lr * o_->decay;
  const double c = verdict == Verdict::row ? room_.coefs[row] : coef_;
  return -o_->lr * (o_->decay * o_->wd_ratio - c);
}

}  // namespace tangential
