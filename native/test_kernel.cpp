// The kernel against its mathematics without Python, for a sanitizer to watch; see CMakeLists.txt.
//
// The reference is tests/oracle.py once more: cut out rows, compare, project, put back, in double.
// Every step starts from what lies in the kernel's memory, so that roundings do not add up.

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <random>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "moved.h"
#include "step.h"

using namespace tangential;

namespace {

using Vector = std::vector<double>;

constexpr double INF = std::numeric_limits<double>::infinity();
constexpr double NOT_A_NUMBER = std::numeric_limits<double>::quiet_NaN();
constexpr double TINY = 1e-30;  // not 0 / 0 where a row is 0

std::string where;
long checks = 0, failures = 0;

void check(bool right, const char* what) {
  checks++;
  if (right) return;
  failures++;
  std::printf("FAILED %s: %s\n", what, where.c_str());
}

// ---- weights in memory

// Numbers are multiples of 2^(exponent - digits), the exponent no less than `least`.
struct Format {
  size_t width;
  int digits, least;
  double tolerance;  // of what is computed on the way to them

  double spacing(double x) const { return std::ldexp(1, std::max(std::ilogb(x), least) - digits); }
};

constexpr Format FORMATS[] = {// in the order of Dtype
                              {4, 23, -126, 2e-6},
                              {8, 52, -1022, 1e-12},
                              {2, 7, -126, 2e-6},
                              {2, 10, -14, 2e-6}};

// Begins one element into memory that ends with it: at odd alignment, and AddressSanitizer sees the
// first byte too far.
class Array {
 public:
  Array(Dtype dtype, int64_t n)
      : format_(FORMATS[int(dtype)]), bytes_(size_t(n + 1) * format_.width) {}

  void* data() { return bytes_.data() + format_.width; }
  const Format& format() const { return format_; }
  bool operator==(const Array& other) const { return bytes_ == other.bytes_; }

  Vector read() const {
    Vector x(bytes_.size() / format_.width - 1);
    const uint8_t* at = bytes_.data();
    for (double& one : x) one = decoded(at += format_.width);
    return x;
  }

  void write(const Vector& x) {
    uint8_t* at = bytes_.data();
    for (double one : x) encode(at += format_.width, one);
  }

 private:
  template <class T>
  static T as(const uint8_t* at) {
    T x;
    std::memcpy(&x, at, sizeof x);
    return x;
  }

  template <class T>
  static void put(uint8_t* at, T x) {
    std::memcpy(at, &x, sizeof x);
  }

  double decoded(const uint8_t* at) const {
    if (format_.width > 2) return format_.width == 8 ? as<double>(at) : as<float>(at);
    const auto [_, digits, least, __] = format_;
    const int bits = as<uint16_t>(at), exponent = (bits & 0x7fff) >> digits;
    const int rest = bits & ((1 << digits) - 1);
    double x = std::ldexp(exponent ? rest + (1 << digits) : rest,
                          std::max(exponent, 1) - 1 + least - digits);
    if (exponent == 0x7fff >> digits) x = rest ? NOT_A_NUMBER : INF;
    return bits & 0x8000 ? -x : x;
  }

  void encode(uint8_t* at, double x) const {
    if (format_.width == 8) return put(at, x);
    if (format_.width == 4) return put(at, float(x));
    const auto [_, digits, least, __] = format_;
    int bits = (0x7fff >> digits << digits) + std::isnan(x);
    if (std::isfinite(x)) {
      bits = (std::max(std::ilogb(x), least) - least) << digits;
      bits += int(std::nearbyint(std::fabs(x) / format_.spacing(x)));
    }
    put(at, uint16_t(bits | (std::signbit(x) ? 0x8000 : 0)));
  }

  Format format_;
  std::vector<uint8_t> bytes_;
};

struct Weight {
  Layout layout;
  uint32_t seed;
  Array w, g, m, v, low;
  float step;

  Weight(const Layout& l, uint32_t s)
      : layout(l),
        seed(s),
        w(l.dtype, l.size),
        g(w),
        m(l.state_dtype, l.size),
        v(m),
        low(w),
        step(float(s % 3)) {}

  int64_t rows() const { return std::max<int64_t>(1, layout.units); }
  int64_t fan() const { return layout.size / rows(); }
  bool operator==(const Weight& o) const {
    return w == o.w && g == o.g && m == o.m && v == o.v && low == o.low && step == o.step;
  }

  Memory memory(const Options& o) {
    const bool adam = o.rule == Rule::adam, counts = adam || o.rounding == Rounding::stochastic;
    return {w.data(),
            g.data(),
            m.data(),
            adam ? v.data() : nullptr,
            o.rounding == Rounding::kahan ? low.data() : nullptr,
            counts ? &step : nullptr};
  }
};

// ---- the reference

struct Expected {
  Vector w, g, m, v;
  Verdict verdict = Verdict::none;
  double most_w = 0, most_m = 0;   // before the step
  std::vector<size_t> doubtful{};  // whose sign, that caution goes by, hangs on rounding
};

// x less its part along w, in every piece of `fan` elements; a part that is not finite stays
void project(Vector& x, const Vector& w, int64_t fan, double eps) {
  for (auto [a, b] = std::pair(x.data(), w.data()); a < x.data() + x.size(); a += fan, b += fan) {
    double squares = 0, radial = 0;
    for (int64_t i = 0; i < fan; i++) squares += b[i] * b[i];
    const double norm = std::sqrt(squares) + eps;
    for (int64_t i = 0; i < fan; i++) radial += a[i] * (b[i] / norm);
    if (!std::isfinite(radial)) continue;
    for (int64_t i = 0; i < fan; i++) a[i] -= radial * (b[i] / norm);
  }
}

bool all_orthogonal(const Vector& x, const Vector& y, int64_t fan, const Options& o) {
  for (auto [a, b] = std::pair(x.data(), y.data()); a < x.data() + x.size(); a += fan, b += fan) {
    double aa = 0, bb = 0, ab = 0;
    for (int64_t i = 0; i < fan; i++) aa += a[i] * a[i], bb += b[i] * b[i], ab += a[i] * b[i];
    const double norms = std::max(std::sqrt(aa), o.eps) * std::max(std::sqrt(bb), o.eps);
    if (!(std::fabs(ab) / norms < o.delta / std::sqrt(double(fan)))) return false;
  }
  return true;
}

Verdict decide(const Weight& weight, const Vector& w, const Vector& g, const Options& o) {
  const int64_t size = weight.layout.size, fan = weight.fan();
  if (!weight.layout.units || o.projection == Projection::off) return Verdict::none;
  if (o.projection == Projection::weight) return size > 1 ? Verdict::weight : Verdict::none;
  if (o.projection == Projection::row) return fan > 1 ? Verdict::row : Verdict::none;
  if (fan > 1 && all_orthogonal(w, g, fan, o)) return Verdict::row;
  return size > 1 && all_orthogonal(w, g, size, o) ? Verdict::weight : Verdict::none;
}

double largest(const Vector& x) {
  double most = TINY;
  for (double one : x) most = std::isfinite(one) ? std::max(most, std::fabs(one)) : most;
  return most;
}

Expected expected(const Weight& weight, const Options& o) {
  Expected e{weight.w.read(), weight.g.read(), weight.m.read(), weight.v.read()};
  const size_t n = e.w.size();
  const bool adam = o.rule == Rule::adam;
  const double scale1 = 1 - std::pow(o.beta1, weight.step + 1);
  const double scale2 = std::sqrt(1 - std::pow(o.beta2, weight.step + 1));
  if (o.rounding == Rounding::kahan) {
    const Vector low = weight.low.read();
    for (size_t i = 0; i < n; i++) e.w[i] += low[i];
  }
  e.most_w = largest(e.w), e.most_m = largest(e.m);
  Vector g(n), u(n);
  for (size_t i = 0; i < n; i++) {
    e.g[i] *= o.unscale;
    g[i] = o.maximize ? -e.g[i] : e.g[i];
    e.m[i] = (o.beta1 == 0 && !adam ? 0 : o.beta1 * e.m[i]) + o.take1 * g[i];
    if (adam) {
      e.v[i] = o.beta2 * e.v[i] + (1 - o.beta2) * g[i] * g[i];
      const double ahead = o.nesterov ? o.beta1 * e.m[i] + o.take1 * g[i] : e.m[i];
      u[i] = ahead / scale1 / (std::sqrt(e.v[i]) / scale2 + o.eps);
    } else {
      u[i] = o.nesterov ? g[i] + o.beta1 * e.m[i] : e.m[i];
    }
  }
  e.verdict = decide(weight, e.w, g, o);
  const auto tangent = [&](Vector& x) {
    if (e.verdict == Verdict::none || x.empty()) return;
    project(x, e.w, e.verdict == Verdict::row ? weight.fan() : weight.layout.size, o.eps);
  };
  tangent(u);
  if (o.project_buffer && !adam && !o.nesterov) e.m = u;
  if (o.caution && n) {
    tangent(g);
    const double most_u = largest(u), most_g = largest(g);
    double agree = 0;
    for (size_t i = 0; i < n; i++) {
      const bool exact = e.g[i] == 0 && e.verdict != Verdict::weight;
      const double least = std::min(std::fabs(u[i]) / most_u, std::fabs(g[i]) / most_g);
      if (least < weight.w.format().tolerance / 4 && !exact) e.doubtful.push_back(i);
      u[i] = u[i] * g[i] > 0 ? u[i] : 0;
      agree += u[i] != 0;
    }
    for (double& x : u) x /= std::max(agree / double(n), 1e-3);
    tangent(u);
  }
  const double decay = o.decay * (e.verdict == Verdict::none ? 1 : o.wd_ratio);
  for (size_t i = 0; i < n; i++) e.w[i] = e.w[i] * (1 - o.lr * decay) - o.lr * u[i];
  return e;
}

// Whether rounding explains all differences: `steps` of a number's spacing, and a little of `most`.
bool near(const Vector& actual, const Vector& wanted, double most, const Format& f, double steps) {
  const double little = f.tolerance * std::max(most, largest(wanted));
  for (size_t i = 0; i < wanted.size(); i++) {
    const double a = actual[i], x = wanted[i];
    if (std::isfinite(x) ? !(std::fabs(a - x) <= little + steps * f.spacing(x))
                         : !(a == x || (std::isnan(a) && std::isnan(x))))
      return false;
  }
  return true;
}

void compare(const Weight& before, const Weight& after, const Expected& e, const Options& o) {
  Format f = before.w.format();
  const Format& state = before.m.format();
  const bool shaken = o.rounding == Rounding::stochastic, adam = o.rule == Rule::adam;
  Vector w = after.w.read();
  check(near(w, e.w, e.most_w, f, shaken ? 1 : .5), "weight");
  if (shaken && w.size() > 9999) {
    double drift = 0, spacing = 0;
    for (size_t i = 0; i < w.size(); i++) {
      if (!std::isfinite(w[i])) continue;
      drift += std::fabs(w[i]) - std::fabs(e.w[i]);
      spacing += f.spacing(e.w[i]);
    }
    check(std::fabs(drift) < .02 * spacing, "drift of stochastic rounding");
  }
  if (o.rounding == Rounding::kahan) {
    const Vector low = after.low.read();
    for (size_t i = 0; i < w.size(); i++) w[i] += low[i];
    f.least += f.digits + 1;
    f.digits += f.digits + 1;
    check(near(w, e.w, e.most_w, f, 1), "weight and what rounding lost");
  }
  check(near(after.m.read(), e.m, e.most_m, state, .5), "first state");
  check(adam ? near(after.v.read(), e.v, 0, state, .5) : after.v == before.v, "second state");
  check(o.unscale == 1 ? after.g == before.g : near(after.g.read(), e.g, 0, f, .5), "gradient");
  check(after.step == before.step + (adam || shaken), "count of steps");
}

// ---- what is stepped

// Orthogonal to every row, to the weight alone, to nothing; or to every row but a late one, which
// shuts the gate of rows, or with its length that of the weight too.
enum class Aim { row, weight, none, late_row, long_row };
constexpr auto AIMS = {Aim::row, Aim::weight, Aim::none, Aim::late_row, Aim::long_row};
constexpr auto ENDS = {Aim::row, Aim::none};

Vector normal(int64_t n) {
  static std::mt19937 bits(1);
  static std::normal_distribution<> one;
  Vector x(static_cast<size_t>(n));
  for (double& each : x) each = one(bits);
  return x;
}

Vector gradient(const Weight& weight, Aim aim) {
  const Vector w = weight.w.read();
  Vector g = normal(weight.layout.size);
  if (!weight.layout.units) return g;
  const size_t fan = size_t(weight.fan()), rows = size_t(weight.rows());
  project(g, w, weight.fan(), TINY);
  for (size_t row = 0; row < rows; row++) {
    double squares = TINY, strength = 0;
    for (size_t i = row * fan; i < (row + 1) * fan; i++) squares += w[i] * w[i];
    if (aim == Aim::none) strength = 1;
    if (aim == Aim::weight) strength = row % 2 ? 1 : -1;
    if (aim == Aim::late_row && row + 2 == rows) strength = .6;
    if (aim == Aim::long_row && row + 2 == rows) strength = 50;
    for (size_t i = row * fan; i < (row + 1) * fan; i++) {
      if (strength != 0) g[i] += strength * w[i] / std::sqrt(squares);
      if (aim == Aim::row && row % 7 == 3) g[i] = 0;
    }
  }
  if (aim == Aim::weight) project(g, w, weight.layout.size, TINY);
  return g;
}

struct Kind {
  Dtype dtype, state;
  Rounding rounding = Rounding::nearest;
};

struct Shape {
  int64_t units, fan, size;
};

struct Bench {
  InstructionSet set;
  Kind kind;
  std::vector<Weight> start;
  Plan plan;  // one for all memory, options and numbers of threads
  static inline long outcomes[3]{};

  Bench(const InstructionSet& s, const Kind& k, const std::vector<Shape>& shapes)
      : set(s), kind(k), start(weights(k, shapes)), plan(layouts(start), seeds(start), s) {}

  static std::vector<Weight> weights(const Kind& kind, const std::vector<Shape>& shapes) {
    std::vector<Weight> all;
    for (const auto& [units, fan, size] : shapes) {
      const Layout layout{kind.dtype, kind.state, units, fan, size};
      Weight& one = all.emplace_back(layout, uint32_t(all.size()));
      Vector x = normal(size);
      for (int64_t i = 0; i < size; i++) x[size_t(i)] *= i / one.fan() % 11 != 5;
      one.w.write(x);
    }
    return all;
  }

  static std::vector<Layout> layouts(const std::vector<Weight>& weights) {
    std::vector<Layout> all;
    for (const Weight& one : weights) all.push_back(one.layout);
    return all;
  }

  static std::vector<uint32_t> seeds(const std::vector<Weight>& weights) {
    std::vector<uint32_t> all;
    for (const Weight& one : weights) all.push_back(one.seed);
    return all;
  }

  void step(std::vector<Weight>& weights, const Options& o, int threads,
            const Watched* watched = nullptr) {
    std::vector<Memory> memory;
    for (Weight& one : weights) memory.push_back(one.memory(o));
    plan.step(memory.data(), o, threads, watched);
  }

  // What a watched step has seen is what it has done, and of the weights as they were.
  void check_watched(const std::vector<Weight>& weights, const std::vector<Expected>& wanted,
                     const Watched& watched) const {
    const Sums* row = watched.rows;
    for (size_t i = 0; i < weights.size(); i++) {
      check(watched.verdicts[i] == wanted[i].verdict, "a verdict that was not acted upon");
      Vector w = weights[i].w.read();
      if (kind.rounding == Rounding::kahan) {
        const Vector low = weights[i].low.read();
        for (size_t k = 0; k < w.size(); k++) w[k] += low[k];
      }
      for (int64_t r = 0; r < weights[i].layout.units; r++, row++) {
        double ww = 0;
        for (int64_t k = 0; k < weights[i].fan(); k++) {
          const double x = w[size_t(r * weights[i].fan() + k)];
          ww += x * x;
        }
        // also where neither is finite
        check(!(std::fabs(row->ww - ww) > 1e-4 * ww), "the squared norm of a watched row");
        check(row->uu >= 0 || std::isnan(row->uu), "the square of a watched update");
      }
    }
  }

  void describe(const Options& o, Aim aim, const Weight& weight) const {
    char text[300];
    std::snprintf(text, sizeof text,
                  "%s dtypes %d %d rounding %d rule %d projection %d nesterov %d caution %d "
                  "buffer %d maximize %d unscale %g beta1 %g lr %g decay %g aim %d step %g "
                  "weight %u of %ld rows %ld elements",
                  set.name, int(kind.dtype), int(kind.state), int(o.rounding), int(o.rule),
                  int(o.projection), o.nesterov, o.caution, o.project_buffer, o.maximize, o.unscale,
                  o.beta1, o.lr, o.decay, int(aim), double(weight.step), weight.seed,
                  long(weight.layout.units), long(weight.layout.size));
    where = text;
  }

  // A step under a gradient of each aim, with 1, 2 and 3 threads; `poison` stands late in it.
  void run(Options o, std::initializer_list<Aim> aims, double poison = 0) {
    o.rounding = kind.rounding;
    std::vector<Weight> weights = start;
    if (o.rule == Rule::sgd && o.beta1 == 0) {  // a bad gradient of the past is forgotten
      for (Weight& one : weights) one.m.write(Vector(size_t(one.layout.size), INF));
    }
    for (Aim aim : aims) {
      std::vector<Expected> wanted;
      for (Weight& one : weights) {
        Vector g = gradient(one, aim);
        for (double& x : g) x /= o.unscale;
        if (poison != 0) g[g.size() * 3 / 4] = poison;
        Expected e;
        for (int tries = 0; tries == 0 || (tries < 9 && !e.doubtful.empty()); tries++) {
          for (size_t i : e.doubtful) g[i] += .125;
          one.g.write(g);
          e = expected(one, o);
        }
        wanted.push_back(std::move(e));
      }
      std::vector<Weight> after[3] = {weights, weights, weights};
      std::vector<Sums> rows(plan.rows());
      std::vector<Verdict> verdicts(plan.size());
      const Watched watched{rows.data(), verdicts.data()};
      for (int threads : {3, 1, 2})
        step(after[threads - 1], o, threads, threads == 3 ? &watched : nullptr);
      check_watched(weights, wanted, watched);
      for (size_t i = 0; i < weights.size(); i++) {
        describe(o, aim, weights[i]);
        compare(weights[i], after[0][i], wanted[i], o);
        check(after[0][i] == after[1][i] && after[0][i] == after[2][i], "threads change bits");
        outcomes[int(wanted[i].verdict)]++;
      }
      weights = std::move(after[0]);
    }
  }
};

const std::vector<Shape> SMALL{{0, 0, 0},     {0, 0, 1},      {0, 0, 7},  {1, 128, 128},
                               {128, 1, 128}, {64, 27, 1728}, {5, 14, 70}};
// of more than one block: blocks of rows, rows of blocks, rows that end within a vector
const std::vector<Shape> LARGE[]{
    {{0, 0, 40000}, {100, 700, 70000}, {64, 27, 1728}, {3, 40001, 120003}},
    {{5, 14, 70}, {40000, 2, 80000}, {100, 700, 70000}, {0, 0, 70001}}};

uint32_t below(uint32_t n) {
  static std::mt19937 bits(2);
  return uint32_t(bits() % n);
}

Options options(Rule rule, Projection projection, bool caution) {
  Options o;
  o.rule = rule, o.projection = projection, o.caution = caution;
  // a step so long that narrow weights show every term of it
  o.lr = .25, o.beta1 = below(5) ? .9 : 0, o.beta2 = .95, o.eps = 1e-8, o.delta = .1;
  o.take1 = rule == Rule::adam ? 1 - o.beta1 : .75;
  o.decay = below(7) ? .1 : 3, o.wd_ratio = .3, o.unscale = below(3) ? 1 : .5;
  o.nesterov = below(2), o.maximize = below(2), o.project_buffer = rule == Rule::sgd && below(2);
  return o;
}

// ---- tests

void test_grid(const std::vector<InstructionSet>& sets) {
  std::vector<Kind> kinds{{Dtype::float32, Dtype::float32}, {Dtype::float64, Dtype::float64}};
  for (Dtype d : {Dtype::bfloat16, Dtype::float16})
    for (Dtype state : {d, Dtype::float32})
      for (Rounding r : {Rounding::nearest, Rounding::stochastic, Rounding::kahan})
        kinds.push_back({d, state, r});
  for (size_t k = 0; k < kinds.size(); k++) {
    for (size_t s = 0; s < sets.size(); s++) {
      Bench small(sets[s], kinds[k], SMALL), large(sets[s], kinds[k], LARGE[(k + s) % 2]);
      for (Rule rule : {Rule::adam, Rule::sgd})
        for (int i = 0; i < 8; i++)
          small.run(options(rule, Projection(i / 2), i % 2), i < 2 ? AIMS : ENDS);
      // large weights are slow: rules take turns, and sets where no verdict is guessed
      const Rule one = Rule((k + s / 2) % 2), other = Rule(1 - int(one));
      if (k < 2) {
        Options guessed = options(one, Projection::automatic, false);
        guessed.decay = .1, guessed.project_buffer = false;
        guessed.unscale = s % 2 ? 1 : .5, guessed.maximize = (k + s) % 2;
        large.run(guessed, AIMS);
      }
      if ((k + s) % sets.size()) continue;
      Options certain = options(one, Projection::row, false);
      certain.project_buffer = false;
      large.run(certain, {Aim::none});
      large.run(options(other, Projection(below(4)), below(2)), {Aim::row});
    }
  }
  where = "grid";
  check(Bench::outcomes[0] && Bench::outcomes[1] && Bench::outcomes[2], "a verdict never came");
}

void test_poison(const std::vector<InstructionSet>& sets) {
  size_t turn = 0;
  for (Dtype d : {Dtype::float32, Dtype::float64, Dtype::bfloat16, Dtype::float16})
    for (double poison : {INF, NOT_A_NUMBER}) {
      const auto rounding = FORMATS[int(d)].width > 2 ? Rounding::nearest : Rounding(turn % 3);
      Bench bench(sets[turn++ % sets.size()], {d, d, rounding}, {{100, 700, 70000}, {5, 14, 70}});
      for (Rule rule : {Rule::adam, Rule::sgd})
        for (Projection projection : {Projection::automatic, Projection::row}) {
          Options o = options(rule, projection, false);
          o.project_buffer = false;
          bench.run(o, {Aim::row, Aim::row}, poison);
        }
    }
}

// Factors of exactly 0 on the rows without a gradient: no division has their weights back.
void test_zero_factor(const InstructionSet& set) {
  Bench bench(set, {Dtype::float32, Dtype::float32}, {{100, 700, 70000}});
  Options o = options(Rule::adam, Projection::automatic, false);
  o.lr = 1, o.decay = 2, o.wd_ratio = .5;
  bench.run(o, {Aim::row});
}

void test_gate() {
  where = "gate";
  const auto automatic = Projection::automatic;
  const Sums sound{4, 4, 0, 1};
  check(gate(0, sound, 2, 4, automatic, .1, 1e-8) == Verdict::row, "orthogonal rows");
  check(gate(1, sound, 2, 4, automatic, .1, 1e-8) == Verdict::weight, "an orthogonal weight");
  for (double Sums::* sum : {&Sums::ww, &Sums::gg, &Sums::gw}) {
    Sums bad = sound;
    bad.*sum = NOT_A_NUMBER;
    check(!orthogonal(bad, threshold(.1, 2), 1e-8), "a row of NaN");
    check(gate(1, bad, 2, 4, automatic, .1, 1e-8) == Verdict::none, "a weight of NaN");
  }
  check(coef(NOT_A_NUMBER, 1, 1e-8) == 0 && coef(1, INF, 1e-8) == 0, "a part that is not finite");
}

// A copy, what became of it, and a gradient, in rows that end within a vector or not.
template <class Real>
void test_moved(const InstructionSet& set, Dtype dtype) {
  where = std::string("moved ") + set.name;
  constexpr int64_t ROWS = 40, FAN = 5003;
  std::vector<Real> all[3];
  for (auto& one : all)
    for (double x : normal(ROWS * FAN)) one.push_back(Real(x));
  std::vector<Sums> found[3];
  for (int threads : {1, 2, 3}) {
    auto& sums = found[threads - 1];
    sums.resize(ROWS);
    measure({{dtype, ROWS, FAN, all[0].data(), all[1].data(), all[2].data(), .5, sums.data()}}, set,
            threads);
    check(!std::memcmp(sums.data(), found[0].data(), ROWS * sizeof(Sums)), "threads change sums");
  }
  for (int64_t row = 0; row < ROWS; row++) {
    double ww = 0, gg = 0, gw = 0, ew = 0, ee = 0;
    for (int64_t i = row * FAN; i < (row + 1) * FAN; i++) {
      const double w = all[0][size_t(i)], g = all[2][size_t(i)], e = all[1][size_t(i)] - .5 * w;
      ww += w * w, gg += g * g, gw += g * w, ew += e * w, ee += e * e;
    }
    const Sums& s = found[0][size_t(row)];
    const double near = FAN * (dtype == Dtype::float64 ? 1e-13 : 1e-6);
    for (auto [x, y] : {std::pair(s.ww, ww), {s.gg, gg}, {s.gw, gw}, {s.uw, ew}, {s.uu, ee}})
      check(std::fabs(x - y) < near, "a sum of a moved row");
  }
}

void test_fork(const InstructionSet& set) {
  where = "fork";
  Bench bench(set, {Dtype::float32, Dtype::float32}, LARGE[0]);
  const Options o = options(Rule::adam, Projection::automatic, false);
  std::vector<Weight> threaded = bench.start, alone = bench.start;
  bench.step(threaded, o, 2);
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    bench.step(threaded, o, 2);
    for (int i = 0; i < 2; i++) bench.step(alone, o, 1);
    _exit(threaded == alone ? 0 : 1);
  }
  int status = -1;
  check(waitpid(child, &status, 0) == child && status == 0, "a step in the child");
}

template <class F>
void check_refused(F f, const char* what) {
  bool refused = false;
  try {
    f();
  } catch (const std::exception&) {
    refused = true;
  }
  check(refused, what);
}

void test_refusals(const InstructionSet& set) {
  where = "refusals";
  using enum Dtype;
  for (auto [dtype, state] : {std::pair(float64, float32), {float32, float64}, {float16, bfloat16}})
    check_refused([&] { Plan({{dtype, state, 2, 3, 6}}, {0}, set); }, "dtypes without code");
  for (auto [units, fan, size] : {Shape{2, 3, 7}, {-1, 3, 6}, {2, 4, 6}, {1, -6, -6}})
    check_refused([&] { Plan({{float32, float32, units, fan, size}}, {0}, set); }, "a shape");

  Bench bench(set, {float32, float32}, LARGE[0]);
  std::vector<Weight> weights = bench.start;
  const Options sgd = options(Rule::sgd, Projection::automatic, false);
  const Options adam = options(Rule::adam, Projection::automatic, false);
  std::vector<Memory> memory;
  for (Weight& one : weights) memory.push_back(one.memory(sgd));
  memory.back().v = nullptr;
  check_refused([&] { bench.plan.step(memory.data(), adam, 1); }, "Adam without a second moment");
  memory.back().g = nullptr;
  check_refused([&] { bench.plan.step(memory.data(), sgd, 1); }, "no gradient");
  check(weights == bench.start, "a refused step changes nothing");

  std::atomic<int> refused = 0;  // two threads that step one plan: one steps, or one after another
  const auto steps = [&](std::vector<Weight>& mine) {
    for (int i = 0; i < 20; i++) try {
        bench.step(mine, sgd, 1);
      } catch (const std::runtime_error&) {
        refused++;
      }
  };
  std::vector<Weight> other = bench.start;
  std::thread thread([&] { steps(other); });
  steps(weights);
  thread.join();
  check(refused < 40, "two threads step one plan");
}

}  // namespace

int main() {
  const std::vector<InstructionSet> sets = instruction_sets();
  test_grid(sets);
  test_poison(sets);
  test_zero_factor(sets[0]);
  test_gate();
  for (const InstructionSet& set : sets) {
    test_moved<float>(set, Dtype::float32);
    test_moved<double>(set, Dtype::float64);
  }
  test_refusals(sets[0]);
  test_fork(sets[0]);
  Plan({}, {}, sets[0]).step(nullptr, Options(), 2);
  if (failures) return std::printf("kernel: %ld of %ld checks failed\n", failures, checks), 1;
  std::printf("kernel: %ld checks passed\n", checks);
}
