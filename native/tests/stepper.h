// Steps of one plan under many options, each compared with the reference.
#pragma once

#include <initializer_list>
#include <random>
#include <utility>

#include "tests/reference.h"

namespace tangential::test {

// What a gradient is orthogonal to: every row, only the whole weight, nothing; or every row except
// a late one. That row shuts the gate by row, or, if it is long, also the gate by weight.
enum class Aim { row, weight, none, late_row, long_row };
constexpr auto AIMS = {Aim::row, Aim::weight, Aim::none, Aim::late_row, Aim::long_row};
constexpr auto ENDS = {Aim::row, Aim::none};

inline Vector normal(int64_t n) {
  static std::mt19937 bits(1);
  static std::normal_distribution<> gaussian;
  Vector x(static_cast<size_t>(n));
  for (double& value : x) value = gaussian(bits);
  return x;
}

inline Vector gradient(const TestWeight& weight, Aim aim) {
  const Vector w = weight.w.read();
  Vector g = normal(weight.layout.size);
  if (!weight.layout.units) return g;
  const size_t unit_size = size_t(weight.unit_size()), rows = size_t(weight.rows());
  project(g, w, weight.unit_size(), TINY);
  for (size_t row = 0; row < rows; row++) {
    double squares = TINY, strength = 0;
    for (size_t i = row * unit_size; i < (row + 1) * unit_size; i++) squares += w[i] * w[i];
    if (aim == Aim::none) strength = 1;
    if (aim == Aim::weight) strength = row % 2 ? 1 : -1;
    if (aim == Aim::late_row && row + 2 == rows) strength = .6;
    if (aim == Aim::long_row && row + 2 == rows) strength = 50;
    for (size_t i = row * unit_size; i < (row + 1) * unit_size; i++) {
      if (strength != 0) g[i] += strength * w[i] / std::sqrt(squares);
      if (aim == Aim::row && row % 7 == 3) g[i] = 0;
    }
  }
  if (aim == Aim::weight) project(g, w, weight.layout.size, TINY);
  return g;
}

// Dtypes of a weight and its state.
struct Kind {
  Dtype dtype, state;
  Rounding rounding = Rounding::nearest;
};

struct Shape {
  int64_t units, unit_size, size;
};

struct Stepper {
  InstructionSet set;
  Kind kind;
  std::vector<TestWeight> start;
  Plan plan;  // the same for all memory, options and numbers of threads
  static inline long outcomes[3]{};

  Stepper(const InstructionSet& s, const Kind& k, const std::vector<Shape>& shapes)
      : set(s), kind(k), start(weights(k, shapes)), plan(specs(start), s) {}

  static std::vector<TestWeight> weights(const Kind& kind, const std::vector<Shape>& shapes) {
    std::vector<TestWeight> all;
    for (const auto& [units, unit_size, size] : shapes) {
      const Layout layout{kind.dtype, kind.state, units, unit_size, size};
      TestWeight& weight = all.emplace_back(layout, uint32_t(all.size()));
      Vector x = normal(size);
      for (int64_t i = 0; i < size; i++) x[size_t(i)] *= i / weight.unit_size() % 11 != 5;
      weight.w.write(x);
    }
    return all;
  }

  static std::vector<WeightSpec> specs(const std::vector<TestWeight>& weights) {
    std::vector<WeightSpec> all;
    for (const TestWeight& weight : weights) all.push_back({weight.layout, weight.seed});
    return all;
  }

  void step(std::vector<TestWeight>& weights, const Options& o, int threads,
            const GateRecord* record = nullptr) {
    std::vector<Memory> memory;
    for (TestWeight& weight : weights) memory.push_back(weight.memory(o));
    plan.step(memory.data(), o, threads, record);
  }

  // A record has the decisions of the step, and moments from before it.
  void check_record(const std::vector<TestWeight>& weights, const std::vector<Expected>& wanted,
                    const GateRecord& record) const {
    const Moments* row = record.rows;
    for (size_t i = 0; i < weights.size(); i++) {
      check(record.decisions[i] == wanted[i].decision, "a recorded decision");
      Vector w = weights[i].w.read();
      if (kind.rounding == Rounding::kahan) {
        const Vector low = weights[i].low.read();
        for (size_t k = 0; k < w.size(); k++) w[k] += low[k];
      }
      const Vector &g = wanted[i].signed_g, &u = wanted[i].u;
      for (int64_t r = 0; r < weights[i].layout.units; r++, row++) {
        double ww = 0, gg = 0, gw = 0, uw = 0, uu = 0;
        for (int64_t k = 0; k < weights[i].unit_size(); k++) {
          const size_t at = size_t(r * weights[i].unit_size() + k);
          ww += w[at] * w[at], gg += g[at] * g[at], uu += u[at] * u[at];
          gw += g[at] * w[at], uw += u[at] * w[at];
        }
        // true also if neither is finite; u may be a small difference of large numbers
        const auto near = [](double x, double exact, double scale) {
          return !(std::fabs(x - exact) > scale);
        };
        check(near(row->ww, ww, 1e-4 * ww) && near(row->gg, gg, 1e-4 * gg) &&
                  near(row->uu, uu, .01 * uu),
              "a square of a recorded row");
        check(near(row->gw, gw, 1e-4 * std::sqrt(gg * ww)) &&
                  near(row->uw, uw, .01 * std::sqrt(uu * ww)),
              "a product of a recorded row");
      }
    }
  }

  void describe(const Options& o, Aim aim, const TestWeight& weight) const {
    char text[300];
    std::snprintf(text, sizeof text,
                  "%s dtypes %d %d rounding %d rule %d projection %d nesterov %d caution %d "
                  "buffer %d maximize %d unscale %g beta1 %g lr %g decay %g aim %d step %g "
                  "weight %u of %ld rows %ld elements",
                  set.name, int(kind.dtype), int(kind.state), int(o.rounding), int(o.rule),
                  int(o.projection), o.nesterov, o.caution, o.project_buffer, o.maximize, o.unscale,
                  o.beta1, o.lr, o.decay, int(aim), double(weight.step), weight.seed,
                  long(weight.layout.units), long(weight.layout.size));
    context = text;
  }

  // A step for every aim, with 1, 2 and 3 threads; `poison` is a late element of the gradient.
  void run(Options o, std::initializer_list<Aim> aims, double poison = 0) {
    o.rounding = kind.rounding;
    std::vector<TestWeight> weights = start;
    if (o.rule == Rule::sgd && o.beta1 == 0) {  // a bad gradient from before is forgotten
      for (TestWeight& weight : weights) weight.m.write(Vector(size_t(weight.layout.size), INF));
    }
    for (Aim aim : aims) {
      std::vector<Expected> wanted;
      for (TestWeight& weight : weights) {
        Vector g = gradient(weight, aim);
        for (double& x : g) x /= o.unscale;
        if (poison != 0) g[g.size() * 3 / 4] = poison;
        Expected e;
        for (int tries = 0; tries == 0 || (tries < 9 && !e.doubtful.empty()); tries++) {
          for (size_t i : e.doubtful) g[i] += .125;
          weight.g.write(g);
          e = expected(weight, o);
        }
        wanted.push_back(std::move(e));
      }
      std::vector<TestWeight> after[3] = {weights, weights, weights};
      std::vector<Moments> rows(plan.rows());
      std::vector<Decision> decisions(plan.size());
      const GateRecord record{rows.data(), decisions.data()};
      for (int threads : {3, 1, 2})
        step(after[threads - 1], o, threads, threads == 3 ? &record : nullptr);
      check_record(weights, wanted, record);
      for (size_t i = 0; i < weights.size(); i++) {
        describe(o, aim, weights[i]);
        compare(weights[i], after[0][i], wanted[i], o);
        check(after[0][i] == after[1][i] && after[0][i] == after[2][i], "threads change bits");
        outcomes[int(wanted[i].decision)]++;
      }
      weights = std::move(after[0]);
    }
  }
};

// nothing to project; one chunk; several, of rows within a vector, of whole packs, and of neither
inline const std::vector<Shape> SMALL{
    {0, 0, 0},      {0, 0, 1},       {0, 0, 7},      {1, 128, 128},  {128, 1, 128},  {5, 14, 70},
    {300, 9, 2700}, {150, 16, 2400}, {7, 480, 3360}, {64, 27, 1728}, {3, 1100, 3300}};
// more than one block: blocks of rows, rows of blocks, rows that end within a vector
inline const std::vector<Shape> LARGE[]{
    {{0, 0, 40000}, {100, 700, 70000}, {64, 27, 1728}, {3, 40001, 120003}},
    {{5, 14, 70}, {40000, 2, 80000}, {100, 700, 70000}, {0, 0, 70001}}};

inline uint32_t below(uint32_t n) {
  static std::mt19937 bits(2);
  return uint32_t(bits() % n);
}

inline Options options(Rule rule, Projection projection, bool caution) {
  Options o;
  o.rule = rule, o.projection = projection, o.caution = caution;
  // a step so long that every term changes even narrow weights
  o.lr = .25, o.beta1 = below(5) ? .9 : 0, o.beta2 = .95, o.eps = 1e-8, o.delta = .1;
  o.take1 = rule == Rule::adam ? 1 - o.beta1 : .75;
  o.decay = below(7) ? .1 : 3, o.wd_ratio = .3, o.unscale = below(3) ? 1 : .5;
  o.nesterov = below(2), o.maximize = below(2), o.project_buffer = rule == Rule::sgd && below(2);
  return o;
}

}  // namespace tangential::test
