// The kernel against its mathematics without Python, to be run under a sanitizer; see
// CMakeLists.txt.
//
// Every step starts from the values in the kernel's memory, so that rounding errors do not add up.

#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <stdexcept>
#include <thread>

#include "step/changes.h"
#include "tests/stepper.h"

using namespace tangential;
using namespace tangential::test;

namespace {

void test_grid(const std::vector<InstructionSet>& sets) {
  std::vector<Kind> kinds{{Dtype::float32, Dtype::float32}, {Dtype::float64, Dtype::float64}};
  for (Dtype d : {Dtype::bfloat16, Dtype::float16})
    for (Dtype state : {d, Dtype::float32})
      for (Rounding r : {Rounding::nearest, Rounding::stochastic, Rounding::kahan})
        kinds.push_back({d, state, r});
  for (size_t k = 0; k < kinds.size(); k++) {
    for (size_t s = 0; s < sets.size(); s++) {
      Stepper small(sets[s], kinds[k], SMALL), large(sets[s], kinds[k], LARGE[(k + s) % 2]);
      for (Rule rule : {Rule::adam, Rule::sgd})
        for (int i = 0; i < 8; i++)
          small.run(options(rule, Projection(i / 2), i % 2), i < 2 ? AIMS : ENDS);
      // large weights are slow: rules take turns, and so do instruction sets without prediction
      const Rule rule = Rule((k + s / 2) % 2), other = Rule(1 - int(rule));
      if (k < 2) {
        Options predicted = options(rule, Projection::automatic, false);
        predicted.decay = .1, predicted.project_buffer = false;
        predicted.unscale = s % 2 ? 1 : .5, predicted.maximize = (k + s) % 2;
        large.run(predicted, AIMS);
      }
      if ((k + s) % sets.size()) continue;
      Options certain = options(rule, Projection::row, false);
      certain.project_buffer = false;
      large.run(certain, {Aim::none});
      large.run(options(other, Projection(below(4)), below(2)), {Aim::row});
    }
  }
  context = "grid";
  check(Stepper::outcomes[0] && Stepper::outcomes[1] && Stepper::outcomes[2],
        "a decision never came");
}

// Each in a plan of its own, whose scratch is no larger than this weight needs.
void test_alone(const std::vector<InstructionSet>& sets) {
  size_t turn = 0;
  for (const Shape& shape : std::initializer_list<Shape>{{2, 600, 1200},
                                                         {3, 400, 1200},
                                                         {550, 2, 1100},
                                                         {200, 3, 600},
                                                         {2, 520, 1040},
                                                         {130, 8, 1040},
                                                         {3, 1008, 3024},
                                                         {2, 40000, 80000},
                                                         {40, 1040, 41600}})
    for (Dtype d : {Dtype::float32, Dtype::float64, Dtype::float16}) {
      Stepper stepper(sets[turn % sets.size()], {d, d}, {shape});
      for (Projection projection : {Projection::automatic, Projection::row}) {
        Options o = options(Rule(turn % 2), projection, false);
        o.project_buffer = false, o.unscale = turn % 3 ? 1 : .5;
        stepper.run(o, ENDS);
        turn++;
      }
    }
}

void test_poison(const std::vector<InstructionSet>& sets) {
  size_t turn = 0;
  for (Dtype d : {Dtype::float32, Dtype::float64, Dtype::bfloat16, Dtype::float16})
    for (double poison : {INF, NOT_A_NUMBER}) {
      const auto rounding = FORMATS[int(d)].width > 2 ? Rounding::nearest : Rounding(turn % 3);
      Stepper stepper(sets[turn++ % sets.size()], {d, d, rounding},
                      {{100, 700, 70000}, {5, 14, 70}});
      for (Rule rule : {Rule::adam, Rule::sgd})
        for (Projection projection : {Projection::automatic, Projection::row}) {
          Options o = options(rule, projection, false);
          o.project_buffer = false;
          stepper.run(o, {Aim::row, Aim::row}, poison);
        }
    }
}

// 1 + r is exactly 0 for rows without a gradient: no division can restore their weights.
void test_zero_factor(const InstructionSet& set) {
  Stepper stepper(set, {Dtype::float32, Dtype::float32}, {{100, 700, 70000}});
  Options o = options(Rule::adam, Projection::automatic, false);
  o.lr = 1, o.decay = 2, o.wd_ratio = .5;
  stepper.run(o, {Aim::row});
}

void test_gate() {
  context = "gate";
  const auto automatic = Projection::automatic;
  const Moments sound{4, 4, 0, 1};
  check(gate(0, sound, 2, 4, automatic, .1, 1e-8) == Decision::row, "orthogonal rows");
  check(gate(1, sound, 2, 4, automatic, .1, 1e-8) == Decision::weight, "an orthogonal weight");
  for (double Moments::* sum : {&Moments::ww, &Moments::gg, &Moments::gw}) {
    Moments bad = sound;
    bad.*sum = NOT_A_NUMBER;
    check(!orthogonal(bad, threshold(.1, 2), 1e-8), "a row of NaN");
    check(gate(1, bad, 2, 4, automatic, .1, 1e-8) == Decision::none, "a weight of NaN");
  }
  check(coef(NOT_A_NUMBER, 1, 1e-8) == 0 && coef(1, INF, 1e-8) == 0, "a part that is not finite");
}

// A copy, the weight after a step, and a gradient, in rows that end within a vector.
template <class Real>
void test_changes(const InstructionSet& set, Dtype dtype) {
  context = std::string("changes ") + set.name;
  constexpr int64_t ROWS = 10, UNIT_SIZE = 20011;  // more than the kernel copies at once
  std::vector<Real> all[3];
  for (auto& values : all)
    for (double x : normal(ROWS * UNIT_SIZE)) values.push_back(Real(x));
  std::vector<Moments> measured[3];
  for (int threads : {1, 2, 3}) {
    auto& moments = measured[threads - 1];
    moments.resize(ROWS);
    measure(
        {{dtype, ROWS, UNIT_SIZE, all[0].data(), all[1].data(), all[2].data(), .5, moments.data()}},
        set, threads);
    check(!std::memcmp(moments.data(), measured[0].data(), ROWS * sizeof(Moments)),
          "threads change moments");
  }
  for (int64_t row = 0; row < ROWS; row++) {
    double ww = 0, gg = 0, gw = 0, ew = 0, ee = 0;
    for (int64_t i = row * UNIT_SIZE; i < (row + 1) * UNIT_SIZE; i++) {
      const double w = all[0][size_t(i)], g = all[2][size_t(i)], e = all[1][size_t(i)] - .5 * w;
      ww += w * w, gg += g * g, gw += g * w, ew += e * w, ee += e * e;
    }
    const Moments& s = measured[0][size_t(row)];
    const double near = UNIT_SIZE * (dtype == Dtype::float64 ? 1e-13 : 1e-6);
    for (auto [x, y] : {std::pair(s.ww, ww), {s.gg, gg}, {s.gw, gw}, {s.uw, ew}, {s.uu, ee}})
      check(std::fabs(x - y) < near, "a moment of a changed row");
  }
  std::vector<Real> copied(all[0].size());
  std::vector<Moments> moments(ROWS);
  copy({{dtype, ROWS, UNIT_SIZE, all[0].data(), copied.data(), all[2].data(), 1, moments.data()}},
       set, 2);
  check(copied == all[0], "a copy");
  for (int64_t row = 0; row < ROWS; row++) {
    const Moments &s = measured[0][size_t(row)], &t = moments[size_t(row)];
    check(s.ww == t.ww && s.gg == t.gg && s.gw == t.gw && t.uw == 0 && t.uu == 0,
          "moments of a copied row");
  }
}

// Two weights, one amended by row and one as a whole.
template <class Real>
void test_amends(const InstructionSet& set, Dtype dtype, bool scaled, bool sloped) {
  context = std::string("amends ") + set.name;
  constexpr int64_t ROWS = 30, UNIT_SIZE = 3001, ALL = ROWS * UNIT_SIZE;
  const std::vector<double> before = normal(2 * ALL), after = normal(2 * ALL);
  std::vector<double> scale = normal(2 * ROWS), shrink = normal(2 * ROWS), slope = normal(2 * ROWS);
  for (double& x : slope) x /= double(ALL);
  const std::vector<Real> b(before.begin(), before.end());
  std::vector<Real> amended[3];
  for (int threads : {1, 2, 3}) {
    std::vector<Real>& a = amended[threads - 1];
    a.assign(after.begin(), after.end());
    std::vector<WeightAmends> weights;
    for (int64_t i : {0, 1})
      weights.push_back({dtype, ROWS, UNIT_SIZE, b.data() + i * ALL, a.data() + i * ALL,
                         scaled ? scale.data() + i * ROWS : nullptr, shrink.data() + i * ROWS,
                         sloped ? slope.data() + i * ROWS : nullptr, i == 1});
    amend(weights, set, threads);
    check(a == amended[0], "threads change amends");
  }
  double whole = 0;
  for (int64_t i = ALL; i < 2 * ALL; i++)
    whole += (after[size_t(i)] - before[size_t(i)]) * before[size_t(i)];
  for (int64_t row = 0; row < 2 * ROWS; row++) {
    double ew = 0;
    for (int64_t i = row * UNIT_SIZE; i < (row + 1) * UNIT_SIZE; i++)
      ew += (after[size_t(i)] - before[size_t(i)]) * before[size_t(i)];
    if (row >= ROWS) ew = whole;
    const double less = shrink[size_t(row)] + (sloped ? slope[size_t(row)] * ew : 0);
    const double factor = scaled ? scale[size_t(row)] : 1;
    for (int64_t i = row * UNIT_SIZE; i < (row + 1) * UNIT_SIZE; i++) {
      const double w = before[size_t(i)], expected = w + factor * (after[size_t(i)] - w) - less * w;
      check(std::fabs(amended[0][size_t(i)] - expected) < (dtype == Dtype::float64 ? 1e-12 : 1e-4),
            "an amended element");
    }
  }
}

void test_fork(const InstructionSet& set) {
  context = "fork";
  Stepper stepper(set, {Dtype::float32, Dtype::float32}, LARGE[0]);
  const Options o = options(Rule::adam, Projection::automatic, false);
  std::vector<TestWeight> threaded = stepper.start, alone = stepper.start;
  stepper.step(threaded, o, 2);
  std::fflush(stdout);
  const pid_t child = fork();
  if (child == 0) {
    alarm(10);
    stepper.step(threaded, o, 2);
    for (int i = 0; i < 2; i++) stepper.step(alone, o, 1);
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
  context = "refusals";
  using enum Dtype;
  for (auto [dtype, state] : {std::pair(float64, float32), {float32, float64}, {float16, bfloat16}})
    check_refused([&] { Plan({{{dtype, state, 2, 3, 6}, 0}}, set); }, "dtypes without code");
  for (auto [units, unit_size, size] : {Shape{2, 3, 7}, {-1, 3, 6}, {2, 4, 6}, {1, -6, -6}})
    check_refused([&] { Plan({{{float32, float32, units, unit_size, size}, 0}}, set); }, "a shape");

  Stepper stepper(set, {float32, float32}, LARGE[0]);
  std::vector<TestWeight> weights = stepper.start;
  const Options sgd = options(Rule::sgd, Projection::automatic, false);
  const Options adam = options(Rule::adam, Projection::automatic, false);
  std::vector<Memory> memory;
  for (TestWeight& weight : weights) memory.push_back(weight.memory(sgd));
  memory.back().v = nullptr;
  check_refused([&] { stepper.plan.step(memory.data(), adam, 1); }, "Adam without a second moment");
  memory.back().g = nullptr;
  check_refused([&] { stepper.plan.step(memory.data(), sgd, 1); }, "no gradient");
  check(weights == stepper.start, "a refused step changes nothing");

  std::atomic<int> refused = 0;  // two threads step one plan: one is refused, or they take turns
  const auto steps = [&](std::vector<TestWeight>& stepped) {
    for (int i = 0; i < 20; i++) try {
        stepper.step(stepped, sgd, 1);
      } catch (const std::runtime_error&) {
        refused++;
      }
  };
  std::vector<TestWeight> other = stepper.start;
  std::thread thread([&] { steps(other); });
  steps(weights);
  thread.join();
  check(refused < 40, "two threads step one plan");
}

}  // namespace

int main() {
  const std::vector<InstructionSet> sets = instruction_sets();
  test_grid(sets);
  test_alone(sets);
  test_poison(sets);
  test_zero_factor(sets[0]);
  test_gate();
  for (const InstructionSet& set : sets) {
    test_changes<float>(set, Dtype::float32);
    test_changes<double>(set, Dtype::float64);
    for (bool scaled : {false, true})
      for (bool sloped : {false, true}) {
        test_amends<float>(set, Dtype::float32, scaled, sloped);
        test_amends<double>(set, Dtype::float64, scaled, sloped);
      }
  }
  test_refusals(sets[0]);
  test_fork(sets[0]);
  Plan({}, sets[0]).step(nullptr, Options(), 2);
  if (failures) return std::printf("kernel: %ld of %ld checks failed\n", failures, checks), 1;
  std::printf("kernel: %ld checks passed\n", checks);
}
