// One weight on its way through a step.
//
//   sample -> speculate ( -> correct)   predict the gate's decision from a few rows, apply every
//                                       row while it is in cache, correct mistakes; a weight of
//                                       one block is its own sample
//   advance -> apply                    weights of one chunk, and small ones that cannot be
//                                       corrected: all updates are stored until the decision
//   measure ( -> agree) -> finish       the rest: first the moments, then all updates once more;
//                                       `agree` for cautious steps
//
// Blocks and the order of every sum depend on the layout alone, so the result does not depend on
// which thread takes which block.
#pragma once

#include <algorithm>
#include <cmath>

#include "step/plan.h"

namespace tangential {

enum class Stage : uint8_t {
  sample,
  speculate,
  correct,
  advance,
  apply,
  measure,
  agree,
  finish,
  done
};

struct alignas(64) BlockSums {
  Moments moments;
  int64_t failing;    // rows that are not orthogonal
  int64_t postponed;  // rows that were advanced but not applied
  int64_t agreeing;   // elements
  double agreeing_uw;
};

// Memory that a weight uses during one step.
struct Workspace {
  double* coefs;      // [rows], of the update
  double* coefs_g;    // [rows], of the gradient; these two only for cautious steps
  double* coefs_new;  // [rows], of the update after caution
  BlockSums* blocks;  // [blocks]
  Moments* recorded;  // [rows], for a monitor; or null
};

constexpr int64_t BLOCK = 1 << 15;  // elements that a thread takes at a time
constexpr int64_t CHUNK = 1 << 10;  // elements that are applied while they are in the first cache
constexpr int64_t CHUNK_ROWS = 128;

class Weight {
 public:
  explicit Weight(const Layout& layout);

  // A small weight has one block: a single thread takes it through all stages, in cache.
  static bool small(const Layout& layout) { return layout.size <= BLOCK; }

  const Layout& layout() const { return layout_; }
  int64_t blocks() const { return blocks_; }
  Stage stage() const { return stage_; }
  Decision decision() const { return decision_; }
  int64_t update_bytes() const;  // that `run` needs at `u`

  void begin(const Options& options, const InstructionSet& set, uint32_t seed, const Memory& memory,
             const Workspace& space, double scale1, double scale2);
  void run(int64_t block, void* u);  // the present stage
  void next();                       // after all blocks of a stage

 private:
  bool gated() const { return layout_.units > 0; }
  int64_t rows() const { return gated() ? layout_.units : 1; }
  int64_t row_size() const { return gated() ? layout_.unit_size : layout_.size; }
  int64_t chunk_rows() const {
    return std::clamp<int64_t>(CHUNK / std::max<int64_t>(1, row_size()), 1, CHUNK_ROWS);
  }
  bool whole_rows() const { return blocks_per_row_ == 1; }  // a block has no parts of rows

  Stage first_stage() const;
  Constants constants() const;
  Segment segment(int64_t start, int64_t n) const;
  void* update(void* u, int64_t index) const;
  template <class F>
  void for_rows(int64_t block, F f) const;
  template <class F>
  void for_chunks(int64_t block, F f) const;

  void sample(void* u);
  Decision guess(const Moments* moments, int64_t rows) const;
  void speculate(int64_t block, void* u);
  int64_t factors(Decision decision, int64_t row, int64_t rows, double* r) const;
  void apply_reversible(const Pending& rows, const Constants& c) const;
  void correct(int64_t block) const;
  void advance(void* u);
  void apply(void* u) const;
  void measure(int64_t block, void* u);
  void agree(int64_t block);
  void finish(int64_t block) const;
  void finish_row(int64_t row, const Segment& s, const Constants& c) const;

  bool collect(int64_t row, const Moments* moments, int64_t rows, BlockSums& sums) const;
  void store_coefs(int64_t row, const Moments* moments, int64_t rows) const;
  void decide();
  void decide_caution();
  void decide_caution_of_rows() const;

  bool orthogonal_row(const Moments& moments) const {
    return orthogonal(moments, threshold_, o_->eps);
  }
  double coef_of(double ww, double xw) const { return coef(ww, xw, o_->eps); }
  double chosen(const double* of_rows, double of_weight, int64_t row) const;
  double factor(Decision decision, int64_t row) const;

  Layout layout_;
  int64_t blocks_per_row_, rows_per_block_, blocks_;
  const Options* o_ = nullptr;
  const RowFunctions* functions_ = nullptr;
  Memory memory_{};
  Workspace space_{};
  double scale1_ = 1, scale2_ = 1, threshold_ = 0, damped_decay_ = 0;
  double coef_ = 0, coef_g_ = 0, coef_new_ = 0;  // of the whole weight, as those in Workspace
  double enlarge_ = 0;                           // 1 / the share of elements that agree
  uint32_t seed_ = 0;
  Stage stage_ = Stage::done;
  Decision decision_ = Decision::none, predicted_ = Decision::none;
};

inline void add(Moments& to, const Moments& more) {
  to.ww += more.ww;
  to.gg += more.gg;
  to.gw += more.gw;
  to.uw += more.uw;
  to.uu += more.uu;
}

constexpr int64_t width(Dtype dtype) {
  return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2;
}

// Whether w from before a step can be computed from w after it: 1 + r is neither tiny nor huge.
inline bool reversible(double r) { return .5 <= std::fabs(1 + r) && std::fabs(1 + r) <= 4; }

}  // namespace tangential
