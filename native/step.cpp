// A weight goes through stages; its blocks share a stage, and all weights' blocks a round of
// threads.
//
//   look -> guess ( -> amend)             large weights: guess the gate's verdict from a few rows,
//                                         apply every row while it is in cache, mend what was wrong
//   measure ( -> weigh) -> finish         the rest: sums first; `weigh` for cautious updates
//
// A small weight goes through its stages in one thread, in cache. Blocks and the order of every sum
// depend on the layout alone, so the result does not depend on the number of threads.

#include "step.h"

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <new>

#include "threads.h"

namespace tangential {
namespace {

constexpr int64_t BLOCK = 1 << 15;   // elements that one thread takes at a time
constexpr int64_t LOOKS = 4;         // rows with a gradient that a guess is made from: a row of a
constexpr int64_t CANDIDATES = 32;   // scale-variant weight is orthogonal by chance in 8 of 100
constexpr double LEAST_KEPT = 1e-3;  // as in tangential.maths
constexpr double LEAST = .5, MOST = 4;  // 1 + r with which what w was can be had back from w

enum class Stage : uint8_t { look, guess, amend, measure, weigh, finish, done };

struct alignas(64) Partial {  // of a block
  Sums sums;
  int64_t failing, pending, kept;
  double kw;
};

struct Weight {
  Layout layout;
  Memory memory;
  const RowFunctions* rows;
  double scale1, scale2;
  double coef, coef_g, kept_coef, enlarged;  // of the whole weight; the last two with caution
  size_t first_block, first_row;             // where its blocks and rows begin in the plan's lists
  int64_t blocks, rows_a_block, blocks_a_row;
  uint32_t seed;
  Stage stage;
  Verdict verdict, guess;

  bool gated() const { return layout.units > 0; }
  int64_t units() const { return gated() ? layout.units : 1; }
  int64_t fan() const { return gated() ? layout.fan : layout.size; }
  bool whole_rows() const { return blocks_a_row == 1; }
  bool in_one_thread() const { return layout.size <= BLOCK; }
};

constexpr size_t width(Dtype dtype) {
  return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2;
}

uint32_t mixed(uint32_t x) {
  x = (x ^ (x >> 16)) * 0x7feb352du;
  x = (x ^ (x >> 15)) * 0x846ca68bu;
  return x ^ (x >> 16);
}

struct Free {
  void operator()(void* p) const { std::free(p); }
};

}  // namespace

struct Plan::Inside {
  InstructionSet set;
  std::vector<Weight> weights;
  std::vector<Partial> partials;                   // of every block of every large weight
  std::vector<double> coefs, coefs_g, kept_coefs;  // of every row; the last two with caution
  std::unique_ptr<char, Free> scratch;
  size_t scratch_bytes = 0, scratch_a_thread = 0;
  Options o;

  // ---- one block of a weight in its present stage

  Segment segment(const Weight& w, int64_t start, int64_t n) const {
    const auto at = [&](void* p, size_t size) {
      return p ? static_cast<char*>(p) + static_cast<size_t>(start) * size : nullptr;
    };
    const size_t weight = width(w.layout.dtype), state = width(w.layout.state_dtype);
    return {at(w.memory.w, weight),
            at(w.memory.g, weight),
            at(w.memory.m, state),
            at(w.memory.v, state),
            at(w.memory.low, weight),
            n,
            start};
  }

  // f(row, its piece in this block)
  template <class F>
  void for_rows(const Weight& w, int64_t block, F f) const {
    const int64_t fan = w.fan();
    if (!w.whole_rows()) {
      const int64_t row = block / w.blocks_a_row, start = block % w.blocks_a_row * BLOCK;
      return f(row, segment(w, row * fan + start, std::min(BLOCK, fan - start)));
    }
    const int64_t first = block * w.rows_a_block;
    const int64_t last = std::min(first + w.rows_a_block, w.units());
    for (int64_t row = first; row < last; row++) f(row, segment(w, row * fan, fan));
  }

  Constants constants(const Weight& w) const {
    const auto in = [&](auto zero) {
      using Real = decltype(zero);
      return Scalars<Real>{Real(o.beta1),     Real(o.take1),  Real(o.beta2),
                           Real(1 - o.beta2), Real(w.scale1), Real(w.scale2),
                           Real(o.eps),       Real(o.lr),     Real(o.unscale)};
    };
    return {in(0.f), in(0.), o.rounding, w.seed, o.beta1 == 0, o.unscale != 1, o.maximize};
  }

  // r of a row in w <- w + (r w - lr u)
  double share(const Weight& w, Verdict verdict, int64_t row) const {
    if (verdict == Verdict::none) return -o.lr * o.decay;
    const double c = verdict == Verdict::row ? coefs[w.first_row + size_t(row)] : w.coef;
    return -o.lr * (o.decay * o.wd_ratio - c);
  }

  static bool reversible(double r) { return LEAST <= std::fabs(1 + r) && std::fabs(1 + r) <= MOST; }

  bool orthogonal_row(const Weight& w, const Sums& sums) const {
    return orthogonal(sums, double(w.fan()), o.delta, o.eps);
  }

  void note_row(const Weight& w, int64_t row, const Sums& sums, Partial& partial) {
    if (w.whole_rows()) {
      coefs[w.first_row + size_t(row)] = tangential::coef(sums.ww, sums.uw, o.eps);
      if (o.caution) coefs_g[w.first_row + size_t(row)] = tangential::coef(sums.ww, sums.gw, o.eps);
      partial.failing += !orthogonal_row(w, sums);
    }
    add(partial.sums, sums);
  }

  static void add(Sums& to, const Sums& more) {
    to.ww += more.ww;
    to.gg += more.gg;
    to.gw += more.gw;
    to.uw += more.uw;
  }

  // What most rows will say: a few that have a gradient speak for all.
  void look(Weight& w) const {
    const Constants c = constants(w);
    const int64_t candidates = std::min(CANDIDATES, w.units());
    int64_t seen = 0;
    w.guess = Verdict::none;
    for (int64_t i = 0; i < candidates && seen < LOOKS && w.fan() > 1; i++) {
      // multiples of the golden ratio: however few are seen, they are spread over the weight
      const int64_t row = w.units() * int64_t(uint32_t(i + 1) * 0x9e3779b9u) >> 32;
      Sums sums;
      w.rows->measure(segment(w, row * w.fan(), w.fan()), c, sums);
      if (sums.gg == 0) continue;
      if (!orthogonal_row(w, sums)) return;
      seen++;
    }
    if (seen) w.guess = Verdict::row;
  }

  void run_block(Weight& w, int64_t block, Partial& partial, void* u) {
    const Constants c = constants(w);
    const RowFunctions& rows = *w.rows;
    switch (w.stage) {
      case Stage::look: look(w); break;
      case Stage::guess: {
        partial = {};
        const bool certain = o.projection == Projection::row;
        for_rows(w, block, [&](int64_t row, const Segment& s) {
          Sums sums;
          if (w.guess == Verdict::row) {
            rows.advance(s, c, u, sums);
            note_row(w, row, sums, partial);
            const double r = share(w, Verdict::row, row);
            if (certain || reversible(r))
              rows.apply(s, c, r, u, std::isfinite(sums.ww));
            else
              partial.pending++;
          } else {
            rows.advance_apply(s, c, share(w, Verdict::none, row), sums);
            note_row(w, row, sums, partial);
          }
        });
        break;
      }
      case Stage::amend:
        for_rows(w, block, [&](int64_t row, const Segment& s) {
          const double r = share(w, w.verdict, row);
          const double was = share(w, w.guess, row);
          const bool pending = !reversible(was);
          if (pending || r != was) rows.amend(s, c, pending ? -1 : was, r);
        });
        break;
      case Stage::measure:
        partial = {};
        for_rows(w, block, [&](int64_t row, const Segment& s) {
          Sums sums;
          rows.measure(s, c, sums);
          note_row(w, row, sums, partial);
        });
        break;
      case Stage::weigh:
        partial.kept = 0;
        partial.kw = 0;
        for_rows(w, block, [&](int64_t row, const Segment& s) {
          Kept kept;
          rows.weigh(s, c, row_coef(w, coefs, w.coef, row), row_coef(w, coefs_g, w.coef_g, row),
                     kept);
          if (w.gated() && w.whole_rows())
            kept_coefs[w.first_row + size_t(row)] = tangential::coef(kept.ww, kept.kw, o.eps);
          partial.kept += kept.count;
          partial.kw += kept.kw;
        });
        break;
      case Stage::finish:
        for_rows(w, block, [&](int64_t row, const Segment& s) { finish(w, row, s, c); });
        break;
      case Stage::done: break;
    }
  }

  double row_coef(const Weight& w, const std::vector<double>& by_row, double by_weight,
                  int64_t row) const {
    if (w.verdict == Verdict::none) return 0;
    return w.verdict == Verdict::row ? by_row[w.first_row + size_t(row)] : by_weight;
  }

  void finish(const Weight& w, int64_t row, const Segment& s, const Constants& c) const {
    const bool keep = o.project_buffer && o.rule == Rule::sgd && !o.nesterov;
    if (!o.caution && (!keep || w.verdict == Verdict::none)) {
      return w.rows->step(s, c, share(w, w.verdict, row));
    }
    // the tangent step: the share has the decay alone, and what caution brought back of w
    const double cu = row_coef(w, coefs, w.coef, row);
    const double cg = o.caution ? row_coef(w, coefs_g, w.coef_g, row) : 0;
    const double damp = w.verdict == Verdict::none ? 1 : o.wd_ratio;
    const double back = o.caution ? row_coef(w, kept_coefs, w.kept_coef, row) * w.enlarged : 0;
    const double r = -o.lr * (o.decay * damp - back);
    w.rows->step_tangent(s, c, r, cu, cg, o.caution ? w.enlarged : 0, keep);
  }

  // ---- between the stages of a weight

  void judge(Weight& w, const Partial* partials) {
    Sums whole;
    int64_t failing = 0;
    if (w.whole_rows()) {
      for (int64_t i = 0; i < w.blocks; i++) {
        add(whole, partials[i].sums);
        failing += partials[i].failing;
      }
    } else {
      for (int64_t row = 0; row < w.units(); row++) {
        Sums sums;
        for (int64_t i = 0; i < w.blocks_a_row; i++)
          add(sums, partials[row * w.blocks_a_row + i].sums);
        coefs[w.first_row + size_t(row)] = tangential::coef(sums.ww, sums.uw, o.eps);
        if (o.caution)
          coefs_g[w.first_row + size_t(row)] = tangential::coef(sums.ww, sums.gw, o.eps);
        failing += !orthogonal_row(w, sums);
        add(whole, sums);
      }
    }
    w.verdict = gate(failing, whole, w.fan(), w.layout.size, o.projection, o.delta, o.eps);
    w.coef = tangential::coef(whole.ww, whole.uw, o.eps);
    w.coef_g = tangential::coef(whole.ww, whole.gw, o.eps);
  }

  void judge_kept(Weight& w, const Partial* partials) {
    double kw = 0, ww = 0;
    int64_t kept = 0;
    for (int64_t i = 0; i < w.blocks; i++) {
      kw += partials[i].kw;
      ww += partials[i].sums.ww;
      kept += partials[i].kept;
    }
    w.kept_coef = w.gated() ? tangential::coef(ww, kw, o.eps) : 0;
    if (w.gated() && !w.whole_rows()) {
      for (int64_t row = 0; row < w.units(); row++) {
        double row_ww = 0, row_kw = 0;
        for (int64_t i = row * w.blocks_a_row; i < (row + 1) * w.blocks_a_row; i++) {
          row_ww += partials[i].sums.ww;
          row_kw += partials[i].kw;
        }
        kept_coefs[w.first_row + size_t(row)] = tangential::coef(row_ww, row_kw, o.eps);
      }
    }
    w.enlarged = 1 / std::max(double(kept) / double(w.layout.size), LEAST_KEPT);
  }

  Stage first_stage(const Weight& w) const {
    if (w.layout.size == 0) return Stage::done;
    if (!w.gated()) return o.caution ? Stage::weigh : Stage::finish;
    if (w.in_one_thread() || !w.whole_rows() || o.caution || o.project_buffer)
      return Stage::measure;
    if (o.projection == Projection::row && w.fan() > 1) return Stage::guess;
    const bool exact = width(w.layout.dtype) >= 4;  // what w was can be had back
    return o.projection == Projection::automatic && exact && reversible(-o.lr * o.decay)
               ? Stage::look
               : Stage::measure;
  }

  void advance(Weight& w, const Partial* partials) {
    switch (w.stage) {
      case Stage::look: w.stage = Stage::guess; break;
      case Stage::guess: {
        judge(w, partials);
        const auto pending = [](const Partial& p) { return p.pending > 0; };
        const bool right =
            w.verdict == w.guess && std::none_of(partials, partials + w.blocks, pending);
        w.stage = right ? Stage::done : Stage::amend;
        break;
      }
      case Stage::measure:
        judge(w, partials);
        w.stage = o.caution ? Stage::weigh : Stage::finish;
        break;
      case Stage::weigh:
        judge_kept(w, partials);
        w.stage = Stage::finish;
        break;
      default: w.stage = Stage::done;
    }
  }

  void run_whole(Weight& w, Partial& partial) {
    while (w.stage != Stage::done) {
      run_block(w, 0, partial, nullptr);
      advance(w, &partial);
    }
  }

  // ---- rounds

  struct Task {
    Weight* weight;
    int64_t block;  // -1: a small weight, through all its stages
  };

  struct Round {
    Inside* plan;
    std::vector<Task> tasks;
    std::atomic<size_t> next{0};
    std::atomic<size_t> threads{0};

    void work() {
      char* u = plan->scratch.get() + threads.fetch_add(1) * plan->scratch_a_thread;
      for (size_t i; (i = next.fetch_add(1, std::memory_order_relaxed)) < tasks.size();) {
        Weight& w = *tasks[i].weight;
        if (tasks[i].block < 0) {
          Partial partial{};
          plan->run_whole(w, partial);
        } else {
          plan->run_block(w, tasks[i].block, plan->partials[w.first_block + size_t(tasks[i].block)],
                          u);
        }
      }
    }
  };

  bool any(Stage stage) const {
    return std::any_of(weights.begin(), weights.end(),
                       [=](const Weight& w) { return w.stage == stage; });
  }

  // Tasks of the next round; small weights come last, to keep all threads busy to the end.
  void gather(Round& round) {
    const bool looking = any(Stage::look);
    for (Weight& w : weights) {
      if (w.in_one_thread() || w.stage == Stage::done || (looking && w.stage != Stage::look))
        continue;
      const int64_t blocks = looking ? 1 : w.blocks;
      for (int64_t block = 0; block < blocks; block++) round.tasks.push_back({&w, block});
    }
    if (looking) return;
    for (Weight& w : weights) {
      if (w.in_one_thread() && w.stage != Stage::done) round.tasks.push_back({&w, -1});
    }
  }

  void run(Round& round, int threads) {
    for (gather(round); !round.tasks.empty(); gather(round)) {
      round.next = round.threads = 0;
      const int useful = int(std::min<size_t>(size_t(threads), round.tasks.size()));
      in_threads(useful, [](void* r) { static_cast<Round*>(r)->work(); }, &round);
      for (const Task& task : round.tasks) {
        Weight& w = *task.weight;
        if (task.block == 0) advance(w, &partials[w.first_block]);
      }
      round.tasks.clear();
    }
  }

  // All memory that a step needs: nothing has changed if there is none.
  void reserve(Round& round, int threads) {
    round.tasks.reserve(partials.size() + weights.size());
    if (o.caution) {
      coefs_g.resize(coefs.size());
      kept_coefs.resize(coefs.size());
    }
    size_t longest = 0;  // row whose updates are kept between advance and apply
    for (const Weight& w : weights) {
      if (w.gated() && w.whole_rows() && !w.in_one_thread()) {
        longest = std::max(longest, size_t(w.fan()) * std::max<size_t>(width(w.layout.dtype), 4));
      }
    }
    scratch_a_thread = (longest + 127) / 64 * 64;
    const size_t bytes = scratch_a_thread * size_t(threads);
    if (bytes <= scratch_bytes) return;
    scratch.reset(static_cast<char*>(std::aligned_alloc(64, bytes)));
    scratch_bytes = scratch ? bytes : 0;
    if (!scratch) throw std::bad_alloc();
  }
};

Plan::Plan(const std::vector<Layout>& layouts, const InstructionSet& set)
    : inside_(std::make_unique<Inside>()) {
  auto& in = *inside_;
  in.set = set;
  size_t blocks = 0, rows = 0;
  for (const Layout& layout : layouts) {
    Weight w{};
    w.layout = layout;
    w.first_row = rows;
    if (w.gated()) rows += size_t(layout.units);
    w.blocks_a_row = w.in_one_thread() ? 1 : std::max<int64_t>(1, (w.fan() + BLOCK - 1) / BLOCK);
    w.rows_a_block =
        w.in_one_thread() ? w.units() : std::max<int64_t>(1, BLOCK / std::max<int64_t>(1, w.fan()));
    w.blocks = w.whole_rows() ? (w.units() + w.rows_a_block - 1) / w.rows_a_block
                              : w.units() * w.blocks_a_row;
    w.first_block = blocks;
    if (!w.in_one_thread()) blocks += size_t(w.blocks);
    in.weights.push_back(w);
  }
  in.weights.shrink_to_fit();
  in.partials.resize(blocks);
  in.coefs.resize(rows);
}

Plan::~Plan() = default;

void Plan::step(const Memory* memory, const Options& options, int threads) {
  auto& in = *inside_;
  in.o = options;
  threads = std::max(threads, 1);
  Inside::Round round{&in, {}};
  in.reserve(round, threads);
  double last = -1, scale1 = 1, scale2 = 1;
  for (size_t i = 0; i < in.weights.size(); i++) {
    Weight& w = in.weights[i];
    w.memory = memory[i];
    w.rows = in.set.rows(w.layout.dtype, w.layout.state_dtype, options.rule, options.nesterov);
    const double step = w.memory.step ? double(*w.memory.step) + 1 : 0;
    if (w.memory.step) *w.memory.step = float(step);
    if (options.rule == Rule::adam && step != last) {
      last = step;
      scale1 = 1 / (1 - std::pow(options.beta1, step));
      scale2 = 1 / std::sqrt(1 - std::pow(options.beta2, step));
    }
    w.scale1 = scale1;
    w.scale2 = scale2;
    w.seed = mixed(uint32_t(step) + mixed(w.layout.seed + 0x9e3779b9u));
    w.verdict = Verdict::none;
    w.guess = Verdict::row;
    w.stage = in.first_stage(w);
  }
  in.run(round, threads);
}

size_t Plan::size() const { return inside_->weights.size(); }

size_t Plan::bytes() const {
  const auto& in = *inside_;
  return in.weights.size() * sizeof(Weight) + in.partials.size() * sizeof(Partial) +
         (in.coefs.size() + in.coefs_g.size() + in.kept_coefs.size()) * sizeof(double) +
         in.scratch_bytes;
}

}  // namespace tangential
