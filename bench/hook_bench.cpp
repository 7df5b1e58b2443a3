// What Slackline's calls cost the thread that trains, how soon the driver hears of a clock, and what the
// agent costs the node.
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <memory>
#include <new>
#include <optional>

#include "bench_node.h"
#include "dice.h"
#include "slackline.h"
#include "slackline/base/number_text.h"
#include "slackline/report/table.h"

namespace {
thread_local std::uint64_t allocations = 0;
}

// Every allocation comes by here, also those of libslackline and, by operator new, of the standard library.
extern "C" {
void* __libc_malloc(std::size_t) noexcept;                 // NOLINT(bugprone-reserved-identifier)
void* __libc_calloc(std::size_t, std::size_t) noexcept;    // NOLINT(bugprone-reserved-identifier)
void* __libc_realloc(void*, std::size_t) noexcept;         // NOLINT(bugprone-reserved-identifier)
void* __libc_memalign(std::size_t, std::size_t) noexcept;  // NOLINT(bugprone-reserved-identifier)
void* malloc(std::size_t bytes) noexcept {
  ++allocations;
  return __libc_malloc(bytes);
}
void* calloc(std::size_t count, std::size_t bytes) noexcept {
  ++allocations;
  return __libc_calloc(count, bytes);
}
void* realloc(void* old, std::size_t bytes) noexcept {
  ++allocations;
  return __libc_realloc(old, bytes);
}
void* aligned_alloc(std::size_t alignment, std::size_t bytes) noexcept {
  ++allocations;
  return __libc_memalign(alignment, bytes);
}
int posix_memalign(void** to, std::size_t alignment, std::size_t bytes) noexcept {
  ++allocations;
  *to = __libc_memalign(alignment, bytes);
  return *to == nullptr ? ENOMEM : 0;
}
}

namespace slackline {
namespace {

constexpr std::uint64_t kSeed = 20241124;
constexpr int kStepLength = 1000;
constexpr int kHotSteps = 100;
constexpr int kColdSteps = 2;
constexpr int kRequestsPerSecond = 200;
constexpr std::size_t kEvictBytes = std::size_t{8} << 20;  // more than a core's second level cache

using Nanoseconds = std::vector<std::int64_t>;

/// The value below which `part` of them are.
std::int64_t quantile(Nanoseconds values, double part) {
  const auto rank = static_cast<std::size_t>(std::ceil(part * static_cast<double>(values.size())));
  const auto at = values.begin() + static_cast<std::ptrdiff_t>(std::max<std::size_t>(rank, 1) - 1);
  std::nth_element(values.begin(), at, values.end());
  return *at;
}

/// Of each run: median, 99th percentile and largest.
struct Summary {
  Nanoseconds medians;
  Nanoseconds p99s;
  Nanoseconds largest;

  void add(const Nanoseconds& values) {
    medians.push_back(quantile(values, 0.5));
    p99s.push_back(quantile(values, 0.99));
    largest.push_back(*std::ranges::max_element(values));
  }
  /// Their medians, with the least and the most over all runs; of the largest the largest.
  [[nodiscard]] std::vector<std::string> cells(double unit, int decimals) const {
    const auto text = [&](std::int64_t ns) { return fixed_text(static_cast<double>(ns) / unit, decimals); };
    const auto range = [&](const Nanoseconds& of) {
      return text(*std::ranges::min_element(of)) + "-" + text(*std::ranges::max_element(of));
    };
    return {text(quantile(medians, 0.5)), range(medians), text(quantile(p99s, 0.5)), range(p99s),
            fixed_text(static_cast<double>(*std::ranges::max_element(largest)) / 1e3, 0)};
  }
};

void check(bool holds, const std::string& what) {
  if (!holds) throw std::runtime_error("WRONG: " + what);
}

/// This process in the job, as the process of one stage.
class Member {
 public:
  explicit Member(int stage) {
    check(slackline_open(stage, BenchNode::kGpus, &session_) == SLACKLINE_OK, "the job has no stage for us");
    check(*slackline_message(session_) == '\0', slackline_message(session_));
  }
  Member(const Member&) = delete;
  Member& operator=(const Member&) = delete;
  ~Member() { slackline_close(session_); }

  void step_begin() { check(slackline_step_begin(session_) == SLACKLINE_OK, slackline_message(session_)); }
  void step_end() { check(slackline_step_end(session_) == SLACKLINE_OK, slackline_message(session_)); }
  [[nodiscard]] slackline_session* session() const { return session_; }

 private:
  slackline_session* session_ = nullptr;
};

/// Overwrites this core's first and second level caches, but for what it executes itself.
void evict() {
  static std::vector<char> memory(kEvictBytes);
  for (std::size_t i = 0; i < memory.size(); i += 64) ++memory[i];
}

struct Costs {
  Summary timer;
  Summary begin;
  Summary end;
  Summary step_begin;
  Summary step_end;
  std::uint64_t allocations = 0;
};

/// Begins and ends one instruction after another, `between` in between, and writes down what each took.
void time_steps(const BenchNode& node, Member& member, int steps, const std::function<void()>& between,
                Costs& costs) {
  const auto count = static_cast<std::size_t>(steps) * kStepLength;
  Nanoseconds timer, begins, ends, step_begins, step_ends;
  timer.reserve(count), begins.reserve(count), ends.reserve(count);
  for (int step = 0; step < steps; ++step) {
    const std::int64_t t0 = now_ns();
    member.step_begin();
    step_begins.push_back(now_ns() - t0);
    wait_for("set the first clock", [&] { return node.last_mhz(0) == clock_of(0); });
    std::this_thread::sleep_for(std::chrono::milliseconds(1));  // the agent has woken
    const std::uint64_t before = allocations;
    int status = 0;
    for (int i = 0; i < kStepLength; ++i) {
      between();
      const std::int64_t warm = now_ns();
      const std::int64_t a = now_ns();
      status |= slackline_instruction_begin(member.session(), SLACKLINE_FORWARD, i);
      const std::int64_t b = now_ns();
      between();
      static_cast<void>(now_ns());
      const std::int64_t c = now_ns();
      status |= slackline_instruction_end(member.session());
      const std::int64_t d = now_ns();
      if (i + 1 == kStepLength) break;  // the last end asks for nothing
      timer.push_back(a - warm);
      begins.push_back(b - a);
      ends.push_back(d - c);
    }
    costs.allocations += allocations - before;
    check(status == 0, slackline_message(member.session()));
    wait_for("set the step's last clock", [&] { return node.last_mhz(0) == clock_of(kStepLength - 1); });
    const std::int64_t t1 = now_ns();
    member.step_end();
    step_ends.push_back(now_ns() - t1);
    wait_for("unlock at the end of a step", [&] { return node.last_mhz(0) == 0; });
  }
  costs.timer.add(timer);
  costs.begin.add(begins);
  costs.end.add(ends);
  costs.step_begin.add(step_begins);
  costs.step_end.add(step_ends);
}

/// From here on every system call but the one that ends the process kills it.
void forbid_system_calls() {
  std::array filter{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_exit_group, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
  };
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  check(::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
            ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0,
        "cannot forbid system calls");
}

void spin(std::int64_t ns) {
  for (const std::int64_t end = now_ns() + ns; now_ns() < end;) {
  }
}

/// Whether a process that may make no system call lived through a step's instructions, with `also` after
/// them.
bool lives_without_system_calls(const BenchNode& node, const std::function<void(slackline_session*)>& also) {
  Forked child([&] {
    Member member(0);
    check(allocations > 0, "allocations are not counted");
    member.step_begin();
    std::this_thread::sleep_for(std::chrono::milliseconds(50));  // the agent has woken
    forbid_system_calls();
    const std::uint64_t before = allocations;
    int status = 0;
    for (int i = 0; i < kStepLength; ++i) {
      status |= slackline_instruction_begin(member.session(), SLACKLINE_FORWARD, i);
      spin(10'000);
      status |= slackline_instruction_end(member.session());
    }
    const bool allocated = allocations != before;
    const auto is_heard = [&] { return node.last_mhz(0) == clock_of(kStepLength - 1); };
    for (int k = 0; k < 10'000 && !is_heard(); ++k) spin(1'000'000);
    const bool heard = is_heard();
    also(member.session());
    ::_exit(status != 0 ? 1 : allocated ? 2 : heard ? 0 : 3);
  });
  const int status = child.wait();
  wait_for("restore after the process", [&] { return node.last_mhz(0) == 0; });
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS) return false;
  check(WIFEXITED(status), "the process without system calls died");
  check(WEXITSTATUS(status) != 2, "an allocation in a hook");
  check(WEXITSTATUS(status) != 3, "the last clock of the step without system calls did not arrive");
  check(status == 0, "the step without system calls failed");
  return true;
}

void prove(const BenchNode& node) {
  const BenchJob job(node, kStepLength);
  check(lives_without_system_calls(node, [](slackline_session*) {}), "a system call in a hook");
  check(!lives_without_system_calls(node, [](slackline_session* s) { slackline_step_end(s); }),
        "the filter lets system calls pass");
  std::printf(
      "%d instructions from step_begin to step_end under a filter that kills at a system call: none.\n"
      "Allocations: none.\n\n",
      kStepLength);
}

/// What the process of a stage writes down of its one step.
struct RankLog {
  static constexpr std::size_t kMost = 100 * kRequestsPerSecond;

  std::uint64_t first_call;  // of the driver, in the step
  std::int64_t latest_ns;    // that the process itself woke from a sleep
  std::array<std::int64_t, kMost> posted_ns, begin_ns, end_ns;
};

/// What the processes of a job and this one share.
struct Ranks {
  std::atomic<int> ready, begun, done;
  std::atomic<bool> may_begin, may_ask, may_end;
  std::array<RankLog, BenchNode::kGpus> log;
};

struct Load {
  Summary latency;
  Summary begin;
  Summary end;
  std::size_t posts = 0;
  std::size_t overtaken = 0;
  std::int64_t latest_ns = 0;
  std::vector<double> loaded_percent;
  std::vector<double> polling_percent;
  std::vector<double> idle_percent;
};

/// Begins and ends `length` instructions at random times, as the process of `stage`.
void run_rank(const BenchNode& node, int stage, int length, Ranks& ranks) {
  Dice dice(kSeed + static_cast<std::uint64_t>(stage));
  RankLog& log = ranks.log[static_cast<std::size_t>(stage)];
  Member member(stage);
  ++ranks.ready;
  wait_for("begin", [&] { return ranks.may_begin.load(); });
  member.step_begin();
  wait_for("set the first clock", [&] { return node.last_mhz(stage) == clock_of(0); });
  log.first_call = node.gpu(stage).calls.load();
  ++ranks.begun;
  wait_for("ask", [&] { return ranks.may_ask.load(); });
  int status = 0;
  auto next = std::chrono::steady_clock::now();
  // An instruction and the wait before it: 5 ms on average, never in step with the agent. What the machine
  // delays is not caught up with.
  const auto pause = [&](double least_ms, double most_ms) {
    next += std::chrono::nanoseconds(std::llround(dice.between(least_ms, most_ms) * 1e6));
    std::this_thread::sleep_until(next);
    const auto late = std::chrono::steady_clock::now() - next;
    log.latest_ns = std::max<std::int64_t>(log.latest_ns, late / std::chrono::nanoseconds(1));
    next += late;
  };
  for (int i = 0; i < length; ++i) {
    pause(0.5, 1.5);
    const std::int64_t a = now_ns();
    status |= slackline_instruction_begin(member.session(), SLACKLINE_FORWARD, i);
    const std::int64_t b = now_ns();
    pause(3.5, 4.5);
    const std::int64_t c = now_ns();
    status |= slackline_instruction_end(member.session());
    const std::int64_t d = now_ns();
    if (i + 1 == length) break;  // the last end asks for nothing
    const auto at = static_cast<std::size_t>(i);
    log.begin_ns[at] = b - a, log.end_ns[at] = d - c, log.posted_ns[at] = c;
  }
  check(status == 0, slackline_message(member.session()));
  wait_for("set the step's last clock", [&] { return node.last_mhz(stage) == clock_of(length - 1); });
  ++ranks.done;
  wait_for(
      "end", [&] { return ranks.may_end.load(); }, std::chrono::seconds(100));
  member.step_end();
}

/// What the driver heard of the requests of a rank.
Nanoseconds latencies(const DriverStamps::Gpu& gpu, const RankLog& log, std::size_t posts) {
  Nanoseconds found;
  std::size_t next = 0;
  for (std::uint64_t call = log.first_call; call < gpu.calls.load(); ++call) {
    const auto& stamp = gpu.stamps[call % DriverStamps::Gpu::kKept];
    // The latest that had been made: a newer request overtakes.
    std::optional<std::size_t> match;
    for (std::size_t at = next; at < posts && log.posted_ns[at] <= stamp.time_ns; ++at) {
      if (clock_of(static_cast<int>(at) + 1) == stamp.mhz) match = at;
    }
    if (!match) continue;  // the end of the step
    found.push_back(stamp.time_ns - log.posted_ns[*match]);
    next = *match + 1;
  }
  check(next == posts, "the last clock of a step did not arrive");
  return found;
}

double percent_of_a_core(pid_t pid, const std::function<void()>& meanwhile) {
  const double used = processor_seconds(pid);
  const std::int64_t begin = now_ns();
  meanwhile();
  return (processor_seconds(pid) - used) / (static_cast<double>(now_ns() - begin) / 1e9) * 100;
}

/// One run: a process a stage, each with a step of its own.
void load_agent(const BenchNode& node, int seconds, Load& load) {
  const int length = seconds * kRequestsPerSecond + 1;
  const BenchJob job(node, length);
  void* memory = ::mmap(nullptr, sizeof(Ranks), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  check(memory != MAP_FAILED, "no memory");
  const std::unique_ptr<Ranks, void (*)(Ranks*)> shared(
      new (memory) Ranks{}, [](Ranks* mapped) { ::munmap(mapped, sizeof *mapped); });
  Ranks& ranks = *shared;
  std::vector<Forked> processes;
  for (int stage = 0; stage < BenchNode::kGpus; ++stage)
    processes.emplace_back([&] { run_rank(node, stage, length, ranks); });
  const auto all = [](const std::atomic<int>& count) { return [&] { return count == BenchNode::kGpus; }; };
  wait_for("open all sessions", all(ranks.ready));
  load.idle_percent.push_back(
      percent_of_a_core(node.agent(), [] { std::this_thread::sleep_for(std::chrono::seconds(2)); }));
  ranks.may_begin = true;
  wait_for("begin all steps", all(ranks.begun));
  load.polling_percent.push_back(  // within the second that the agent goes on to poll
      percent_of_a_core(node.agent(), [] { std::this_thread::sleep_for(std::chrono::milliseconds(700)); }));
  ranks.may_ask = true;
  load.loaded_percent.push_back(percent_of_a_core(
      node.agent(), [&] { wait_for("end all steps", all(ranks.done), std::chrono::seconds(seconds + 20)); }));
  ranks.may_end = true;
  for (Forked& process : processes) check(process.wait() == 0, "a process of the job failed");

  const auto posts = static_cast<std::size_t>(length) - 1;
  Nanoseconds latency, begin, end;
  for (int stage = 0; stage < BenchNode::kGpus; ++stage) {
    const RankLog& log = ranks.log[static_cast<std::size_t>(stage)];
    const Nanoseconds heard = latencies(node.gpu(stage), log, posts);
    load.posts += posts;
    load.latest_ns = std::max(load.latest_ns, log.latest_ns);
    load.overtaken += posts - heard.size();
    latency.insert(latency.end(), heard.begin(), heard.end());
    begin.insert(begin.end(), log.begin_ns.begin(),
                 log.begin_ns.begin() + static_cast<std::ptrdiff_t>(posts));
    end.insert(end.end(), log.end_ns.begin(), log.end_ns.begin() + static_cast<std::ptrdiff_t>(posts));
  }
  load.latency.add(latency);
  load.begin.add(begin);
  load.end.add(end);
  wait_for("restore", [&] {
    for (int g = 0; g < BenchNode::kGpus; ++g) {
      if (node.last_mhz(g) != 0) return false;
    }
    return true;
  });
}

void add_row(Table& table, const std::string& call, const Summary& summary, double unit = 1,
             int decimals = 0) {
  std::vector<std::string> cells{call};
  for (std::string& cell : summary.cells(unit, decimals)) cells.push_back(std::move(cell));
  table.add_row(std::move(cells));
}

std::string with_range(std::vector<double> values, int decimals) {
  std::ranges::sort(values);
  return fixed_text(values[(values.size() - 1) / 2], decimals) + " (" + fixed_text(values.front(), decimals) +
         "-" + fixed_text(values.back(), decimals) + ")";
}

void measure(const BenchNode& node, int runs, int seconds) {
  prove(node);
  evict();  // makes its memory
  Costs hot, cold;
  Load load;
  for (int run = 0; run < runs; ++run) {
    {
      const BenchJob job(node, kStepLength);
      Member member(0);
      time_steps(
          node, member, kHotSteps, [] {}, hot);
      time_steps(node, member, kColdSteps, evict, cold);
    }
    load_agent(node, seconds, load);
  }
  check(hot.allocations + cold.allocations == 0, "an allocation in a hook");

  Table costs({"call", "median (ns)", "least-most", "p99 (ns)", "least-most", "largest (us)"});
  add_row(costs, "the timer alone", hot.timer);
  add_row(costs, "instruction_begin, one after another", hot.begin);
  add_row(costs, "instruction_end, one after another", hot.end);
  add_row(costs, "instruction_begin, caches overwritten", cold.begin);
  add_row(costs, "instruction_end, caches overwritten", cold.end);
  add_row(costs, "instruction_begin, after sleep", load.begin);
  add_row(costs, "instruction_end, after sleep", load.end);
  add_row(costs, "step_begin", hot.step_begin);
  add_row(costs, "step_end", hot.step_end);
  std::fputs(costs.text().c_str(), stdout);

  std::printf("\n%d GPUs x %d requests a second, %d runs of %d s\n", BenchNode::kGpus, kRequestsPerSecond,
              runs, seconds);
  Table delays({"", "median (us)", "least-most", "p99 (us)", "least-most", "largest (us)"});
  add_row(delays, "from instruction_end to the driver", load.latency, 1e3);
  std::fputs(delays.text().c_str(), stdout);
  std::printf("requests: %zu, overtaken by a newer one: %zu; a process's own sleep ended up to %s ms late\n",
              load.posts, load.overtaken, fixed_text(static_cast<double>(load.latest_ns) / 1e6, 1).c_str());
  std::printf("agent, %% of a core: %s; polling alone: %s; between steps: %s\n",
              with_range(load.loaded_percent, 1).c_str(), with_range(load.polling_percent, 1).c_str(),
              with_range(load.idle_percent, 1).c_str());
}

/// Runs a command with the node around it, in a job of `instructions` a step.
int run_within(const BenchNode& node, int instructions, const std::vector<std::string>& command) {
  const BenchJob job(node, instructions);
  ::setenv(kStampsVariable, node.stamps_path().c_str(), 1);
  ::setenv("SLACKLINE_BENCH_AGENT", std::to_string(node.agent()).c_str(), 1);
  ::setenv("SLACKLINE_BENCH_DRIVER", STAMPING_NVML, 1);
  ::setenv("FAKE_NVML_GPUS", std::to_string(BenchNode::kGpus).c_str(), 1);
  Forked child([&] { execute(command); }, SIGTERM);
  const int status = child.wait();
  return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

int usage() {
  std::fputs(
      "usage: hook_bench [--runs N] [--seconds N]\n"
      "       hook_bench --within INSTRUCTIONS COMMAND...   as a job of so many instructions a step\n",
      stderr);
  return 2;
}

int run(const std::vector<std::string>& arguments) {
  int runs = 5;
  int seconds = 10;
  for (std::size_t i = 0; i < arguments.size(); i += 2) {
    const auto value =
        i + 1 < arguments.size() ? parse_integer(arguments[i + 1]) : std::optional<std::int64_t>();
    if (!value || *value < 1 || *value > 20'000) return usage();
    if (arguments[i] == "--within" && i + 2 < arguments.size()) {
      const BenchNode node;
      return run_within(node, static_cast<int>(*value),
                        {arguments.begin() + static_cast<std::ptrdiff_t>(i) + 2, arguments.end()});
    }
    if (arguments[i] == "--runs") {
      runs = static_cast<int>(*value);
    } else if (arguments[i] == "--seconds" && *value <= 100) {
      seconds = static_cast<int>(*value);
    } else {
      return usage();
    }
  }
  const BenchNode node;
  measure(node, runs, seconds);
  return 0;
}

}  // namespace
}  // namespace slackline

int main(int argc, char** argv) {
#ifndef NDEBUG
  std::fputs("hook_bench: this is a Debug build, whose times mean nothing; build the release preset\n",
             stderr);
  return 2;
#endif
  try {
    return slackline::run({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "hook_bench: %s\n", error.what());
    return 1;
  }
}
