// The price of the row functions where memory is fast: nanoseconds, cycles and instructions per
// element of float32 weights that stay in the second cache. `make bench-rows` runs it: 3 minutes.
//
// Instructions are counted by stepping through a call in a child process, because valgrind cannot
// run AVX-512. The count is the same on every machine and under any load; time is CPU time.

#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <functional>
#include <vector>

#include "rows/dispatch.h"

using namespace tangential;

namespace {

constexpr int64_t ELEMENTS = 1 << 15, CHUNK = 1 << 10;
constexpr int64_t COUNTED = 4608;  // elements: to step through a call takes long
constexpr int ROUNDS = 30;

double cpu_ns() {
  timespec t;
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return double(t.tv_sec) * 1e9 + double(t.tv_nsec);
}

double fastest_ns(const std::function<void()>& call) {
  double best = 1e18;
  for (int round = 0; round < ROUNDS; round++) {
    const double start = cpu_ns();
    call();
    best = std::min(best, cpu_ns() - start);
  }
  return best;
}

// Nanoseconds of a cycle: in a chain of additions, each takes one.
double cycle_ns() {
  constexpr int N = 1 << 20;
  return fastest_ns([] {
           uint64_t x = 1;
           for (int i = 0; i < N; i++) asm volatile("" : "+r"(x += x));
         }) /
         N;
}

// Instructions of one call; -1 where processes may not be traced.
long instructions(const std::function<void()>& call) {
  const pid_t child = fork();
  if (child == 0) {
    if (ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)) _exit(1);
    raise(SIGSTOP);
    call();
    raise(SIGSTOP);
    _exit(0);
  }
  int status;
  waitpid(child, &status, 0);
  long count = 0;
  while (WIFSTOPPED(status)) {
    if (count && WSTOPSIG(status) == SIGSTOP) break;
    ptrace(PTRACE_SINGLESTEP, child, nullptr, nullptr);
    waitpid(child, &status, 0);
    count++;
  }
  kill(child, SIGKILL);
  waitpid(child, &status, 0);
  return count ? count : -1;
}

struct Rows {
  int64_t rows, row_size;
  std::vector<float> w, g, m, v, u;
  std::vector<double> r;
  std::vector<Moments> moments;

  Rows(int64_t size, int64_t elements)
      : rows(elements / size), row_size(size), r(size_t(rows), 1e-9), moments(size_t(rows)) {
    for (auto* x : {&w, &g, &m, &v, &u}) x->assign(size_t(rows * size), .1f);
  }

  double elements() const { return double(rows * row_size); }

  Segment segment(int64_t row, int64_t n) {
    const size_t at = size_t(row * row_size);
    return {&w[at], &g[at], &m[at], &v[at], nullptr, n * row_size, int64_t(at), n};
  }

  template <class Body>
  void for_chunks(Body body) {
    const int64_t most = std::max<int64_t>(1, CHUNK / row_size);
    for (int64_t row = 0; row < rows; row += most) {
      const Segment s = segment(row, std::min(most, rows - row));
      body(s, &u[size_t(s.index)]);
    }
  }
};

using Call = void (*)(const RowFunctions&, const Constants&, Rows&);

const std::pair<const char*, Call> CALLS[]{
    {"advance",
     [](const RowFunctions& f, const Constants& c, Rows& x) {
       x.for_chunks(
           [&](const Segment& s, float* u) { f.advance(s, c, u, x.moments.data(), nullptr); });
     }},
    {"advance and apply",
     [](const RowFunctions& f, const Constants& c, Rows& x) {
       Pending pending{};
       x.for_chunks([&](const Segment& s, float* u) {
         f.advance(s, c, u, x.moments.data(), pending.r ? &pending : nullptr);
         pending = {s, x.r.data(), u, true};
       });
       f.apply(pending, c);
     }},
    {"apply",
     [](const RowFunctions& f, const Constants& c, Rows& x) {
       x.for_chunks([&](const Segment& s, float* u) { f.apply({s, x.r.data(), u, true}, c); });
     }},
    {"measure",
     [](const RowFunctions& f, const Constants& c, Rows& x) {
       x.for_chunks([&](const Segment& s, float* u) { f.measure(s, c, u, x.moments.data()); });
     }},
    {"step", [](const RowFunctions& f, const Constants& c,
                Rows& x) { f.step(x.segment(0, x.rows), c, 1e-9); }},
    {"correct", [](const RowFunctions& f, const Constants& c,
                   Rows& x) { f.correct(x.segment(0, x.rows), c, 1e-9, 2e-9); }},
};

void print(const InstructionSet& set, Rule rule, int64_t row_size, double cycle, long none) {
  const RowFunctions& f = *set.rows(Dtype::float32, Dtype::float32, rule, false);
  Constants c{};
  c.in_float = {.9f, .1f, .999f, .001f, 1, 1, 1e-8f, 1e-12f, 1};
  Rows timed(row_size, ELEMENTS), counted(row_size, COUNTED);
  for (const auto& [name, call] : CALLS) {
    const double ns = fastest_ns([&] { call(f, c, timed); }) / timed.elements();
    const long count = instructions([&] { call(f, c, counted); });
    std::printf("%-8s %-5s %5ld  %-17s  %6.3f  %6.2f  ", set.name,
                rule == Rule::adam ? "AdamP" : "SGDP", long(row_size), name, ns, ns / cycle);
    count < 0 ? std::printf("     ?\n")
              : std::printf("%6.2f\n", double(count - none) / counted.elements());
  }
}

}  // namespace

int main() {
  const double cycle = cycle_ns();
  const long none = instructions([] {});
  std::printf("%.2f GHz; per element of %ld in rows:\n", 1 / cycle, long(ELEMENTS));
  std::printf("%-8s %-5s %5s  %-17s  %6s  %6s  %6s\n", "set", "rule", "row", "function", "ns",
              "cycles", "instr.");
  for (const InstructionSet& set : instruction_sets())
    for (Rule rule : {Rule::adam, Rule::sgd})
      for (int64_t row_size : {4608, 512, 64, 49, 25, 9}) print(set, rule, row_size, cycle, none);
}
