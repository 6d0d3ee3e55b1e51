#include "step/weight.h"

namespace tangential {
namespace {

constexpr double LEAST_KEPT = 1e-3;  // as in tangential.maths

}  // namespace

Weight::Weight(const Layout& layout) : layout_(layout) {
  const int64_t row = std::max<int64_t>(1, row_size());
  blocks_per_row_ = small(layout) ? 1 : (row + BLOCK - 1) / BLOCK;
  rows_per_block_ = small(layout) ? rows() : std::max<int64_t>(1, BLOCK / row);
  blocks_ =
      whole_rows() ? (rows() + rows_per_block_ - 1) / rows_per_block_ : rows() * blocks_per_row_;
}

int64_t Weight::update_bytes() const {
  const int64_t stored = small(layout_) ? layout_.size
                         : whole_rows() ? 2 * std::max(row_size(), CHUNK)
                                        : CHUNK;
  return gated() ? stored * std::max<int64_t>(width(layout_.dtype), 4) : 0;
}

void Weight::begin(const Options& options, const InstructionSet& set, uint32_t seed,
                   const Memory& memory, const Workspace& space, double scale1, double scale2) {
  o_ = &options;
  functions_ = set.rows(layout_.dtype, layout_.state_dtype, options.rule, options.nesterov);
  memory_ = memory;
  space_ = space;
  seed_ = seed;
  scale1_ = scale1;
  scale2_ = scale2;
  threshold_ = threshold(options.delta, row_size());
  damped_decay_ = options.decay * options.wd_ratio;
  decision_ = Decision::none;
  predicted_ = Decision::row;
  stage_ = first_stage();
}

Stage Weight::first_stage() const {
  if (layout_.size == 0) return Stage::done;
  if (!gated()) return o_->caution ? Stage::agree : Stage::finish;
  if (o_->caution || o_->project_buffer) return Stage::measure;
  const bool row = o_->projection == Projection::row && row_size() > 1;
  const bool exact = width(layout_.dtype) >= 4;  // narrower weights cannot be reversed
  const bool guess = o_->projection == Projection::automatic && exact &&
                     reversible(-o_->lr * o_->decay) && layout_.size > CHUNK;
  if (whole_rows() && (row || guess))
    return blocks_ > 1 && guess ? Stage::sample : Stage::speculate;
  return small(layout_) ? Stage::advance : Stage::measure;
}

void Weight::run(int64_t block, void* u) {
  switch (stage_) {
    case Stage::sample: return sample(u);
    case Stage::speculate: return speculate(block, u);
    case Stage::correct: return correct(block);
    case Stage::advance: return advance(u);
    case Stage::apply: return apply(u);
    case Stage::measure: return measure(block, u);
    case Stage::agree: return agree(block);
    case Stage::finish: return finish(block);
    case Stage::done: return;
  }
}

void Weight::next() {
  switch (stage_) {
    case Stage::sample: stage_ = Stage::speculate; break;
    case Stage::speculate: {
      decide();
      const auto postponed = [](const BlockSums& sums) { return sums.postponed > 0; };
      const bool right = decision_ == predicted_ &&
                         std::none_of(space_.blocks, space_.blocks + blocks_, postponed);
      stage_ = right ? Stage::done : Stage::correct;
      break;
    }
    case Stage::advance:
      decide();
      stage_ = Stage::apply;
      break;
    case Stage::measure:
      decide();
      stage_ = o_->caution ? Stage::agree : Stage::finish;
      break;
    case Stage::agree:
      decide_caution();
      stage_ = Stage::finish;
      break;
    default: stage_ = Stage::done;
  }
}

void Weight::decide() {
  Moments whole;
  int64_t failing = 0;
  if (whole_rows()) {
    for (int64_t i = 0; i < blocks_; i++) {
      add(whole, space_.blocks[i].moments);
      failing += space_.blocks[i].failing;
    }
  } else {
    for (int64_t row = 0; row < rows(); row++) {
      Moments moments;
      for (int64_t i = 0; i < blocks_per_row_; i++)
        add(moments, space_.blocks[row * blocks_per_row_ + i].moments);
      if (space_.recorded) space_.recorded[row] = moments;
      store_coefs(row, &moments, 1);
      failing += !orthogonal_row(moments);
      add(whole, moments);
    }
  }
  decision_ = gate(failing, whole, row_size(), layout_.size, o_->projection, o_->delta, o_->eps);
  coef_ = coef_of(whole.ww, whole.uw);
  coef_g_ = coef_of(whole.ww, whole.gw);
}

void Weight::decide_caution() {
  double uw = 0, ww = 0;
  int64_t agreeing = 0;
  for (int64_t i = 0; i < blocks_; i++) {
    uw += space_.blocks[i].agreeing_uw;
    ww += space_.blocks[i].moments.ww;
    agreeing += space_.blocks[i].agreeing;
  }
  coef_new_ = gated() ? coef_of(ww, uw) : 0;
  if (gated() && !whole_rows()) decide_caution_of_rows();
  enlarge_ = 1 / std::max(double(agreeing) / double(layout_.size), LEAST_KEPT);
}

void Weight::decide_caution_of_rows() const {
  for (int64_t row = 0; row < rows(); row++) {
    double ww = 0, uw = 0;
    for (int64_t i = row * blocks_per_row_; i < (row + 1) * blocks_per_row_; i++) {
      ww += space_.blocks[i].moments.ww;
      uw += space_.blocks[i].agreeing_uw;
    }
    space_.coefs_new[row] = coef_of(ww, uw);
  }
}

}  // namespace tangential
