// One weight on its way through a step.
//
//   look -> guess ( -> amend)             large weights: guess the gate's verdict from a few rows,
//                                         apply every row while it is in cache, mend what was wrong
//   advance -> apply                      small ones: all updates are kept until the verdict
//   measure ( -> weigh) -> finish         the rest: sums first, and all updates once more; `weigh`
//                                         for cautious ones
//
// Blocks and the order of every sum depend on the layout alone, so the result does not depend on
// which thread takes which block.
#pragma once

#include "step.h"

namespace tangential {

enum class Stage : uint8_t { look, guess, amend, advance, apply, measure, weigh, finish, done };

struct alignas(64) Partial {  // of a block
  Sums sums;
  int64_t failing, pending, kept;
  double kw;
};

// Where a weight finds room, for as long as a step: for every row, and for every block.
struct Room {
  double *coefs, *coefs_g, *kept_coefs;  // the last two with caution alone
  Partial* partials;
  Sums* watched;  // the sums of every row, for whoever wants to see them; or null
};

class Weight {
 public:
  explicit Weight(const Layout& layout);

  // A small weight has one block: a single thread takes it through all stages, in cache.
  static bool small(const Layout& layout);

  const Layout& layout() const { return layout_; }
  int64_t blocks() const { return blocks_; }
  Stage stage() const { return stage_; }
  Verdict verdict() const { return verdict_; }
  int64_t longest_update() const;  // bytes that `run` needs at `u`

  void begin(const Options& options, const InstructionSet& set, uint32_t seed, const Memory& memory,
             const Room& room, double scale1, double scale2);
  void run(int64_t block, void* u);  // of the present stage
  void next();                       // after all its blocks

 private:
  bool gated() const { return layout_.units > 0; }
  int64_t units() const { return gated() ? layout_.units : 1; }
  int64_t fan() const { return gated() ? layout_.fan : layout_.size; }
  bool whole_rows() const { return blocks_a_row_ == 1; }

  Stage first_stage() const;
  Constants constants() const;
  Segment segment(int64_t start, int64_t n) const;
  void* update(void* u, int64_t index) const;
  template <class F>
  void for_rows(int64_t block, F f) const;

  void look();
  void guess(int64_t block, void* u);
  void guess_row(int64_t block, void* u, Partial& partial);
  void amend(int64_t block) const;
  void advance(void* u);
  void apply(void* u) const;
  void measure(int64_t block);
  void weigh(int64_t block);
  void finish(int64_t block) const;
  void finish_row(int64_t row, const Segment& s, const Constants& c) const;
  void note_row(int64_t row, const Sums& sums, Partial& partial) const;
  bool judge_row(int64_t row, const Sums& sums) const;
  void judge();
  void judge_kept();
  void judge_kept_rows() const;

  bool orthogonal_row(const Sums& sums) const;
  double coef_of(double ww, double xw) const;
  double chosen(const double* by_row, double by_weight, int64_t row) const;
  double share(Verdict verdict, int64_t row) const;

  Layout layout_;
  int64_t blocks_a_row_, rows_a_block_, blocks_;
  const Options* o_ = nullptr;
  const RowFunctions* rows_ = nullptr;
  Memory memory_{};
  Room room_{};
  double scale1_ = 1, scale2_ = 1, threshold_ = 0;
  double coef_ = 0, coef_g_ = 0, kept_coef_ = 0, enlarged_ = 0;  // of the whole weight
  uint32_t seed_ = 0;
  Stage stage_ = Stage::done;
  Verdict verdict_ = Verdict::none, guess_ = Verdict::none;
};

}  // namespace tangential
