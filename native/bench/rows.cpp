// The price of the row functions where memory is fast: nanoseconds, cycles and instructions per
// element of float32 weights that stay in the second cache. `make bench-rows` runs it.
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

  explicit Rows(int64_t size)
      : rows(ELEMENTS / size), row_size(size), r(size_t(rows), 1e-9), moments(size_t(rows)) {
    for (auto* x : {&w, &g, &m, &v, &u}) x->assign(size_t(rows * size), .1f);
  }

  Segment segment(int64_t row, int64_t n) {
    const int64_t at = row * row_size;
    return {&w[size_t(at)],
            &g[size_t(at)],
            &m[size_t(at)],
            &v[size_t(at)],
            nullptr,
            n * row_size,
            at,
            n};
  }
};

void print(const InstructionSet& set, Rule rule, int64_t row_size, double cycle,
           double no_instructions) {
  const RowFunctions& f = *set.rows(Dtype::float32, Dtype::float32, rule, false);
  Constants c{};
  c.in_float = {.9f, .1f, .999f, .001f, 1, 1, 1e-8f, 1e-12f, 1};
  Rows x(row_size);
  const int64_t most = std::max<int64_t>(1, CHUNK / row_size);
  const auto chunks = [&](const auto& body) {
    for (int64_t row = 0; row < x.rows; row += most)
      body(x.segment(row, std::min(most, x.rows - row)));
  };
  const auto updates = [&](const Segment& s) { return &x.u[size_t(s.index)]; };
  const std::pair<const char*, std::function<void()>> calls[]{
      {"advance",
       [&] {
         chunks([&](const Segment& s) { f.advance(s, c, updates(s), x.moments.data(), nullptr); });
       }},
      {"advance and apply",
       [&] {
         Pending pending{};
         chunks([&](const Segment& s) {
           f.advance(s, c, updates(s), x.moments.data(), pending.r ? &pending : nullptr);
           pending = {s, x.r.data(), updates(s), true};
         });
         f.apply(pending, c);
       }},
      {"apply",
       [&] { chunks([&](const Segment& s) { f.apply({s, x.r.data(), updates(s), true}, c); }); }},
      {"measure",
       [&] { chunks([&](const Segment& s) { f.measure(s, c, updates(s), x.moments.data()); }); }},
      {"step", [&] { f.step(x.segment(0, x.rows), c, 1e-9); }},
      {"correct", [&] { f.correct(x.segment(0, x.rows), c, 1e-9, 2e-9); }},
  };
  const double n = double(x.rows * row_size);
  for (const auto& [name, call] : calls) {
    const double ns = fastest_ns(call) / n;
    const long count = instructions(call);
    std::printf("%-8s %-5s %5ld  %-17s  %6.3f  %6.2f  ", set.name,
                rule == Rule::adam ? "AdamP" : "SGDP", long(row_size), name, ns, ns / cycle);
    count < 0 ? std::printf("     ?\n")
              : std::printf("%6.2f\n", (double(count) - no_instructions) / n);
  }
}

}  // namespace

int main() {
  const double cycle = cycle_ns(), none = double(instructions([] {}));
  std::printf("%.2f GHz; per element of %ld in rows:\n", 1 / cycle, long(ELEMENTS));
  std::printf("%-8s %-5s %5s  %-17s  %6s  %6s  %6s\n", "set", "rule", "row", "function", "ns",
              "cycles", "instr.");
  for (const InstructionSet& set : instruction_sets())
    for (Rule rule : {Rule::adam, Rule::sgd})
      for (int64_t row_size : {4608, 512, 64, 49, 25, 9}) print(set, rule, row_size, cycle, none);
}
