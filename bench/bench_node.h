#pragma once
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "driver_stamps.h"
#include "fake/fake_nvml_state.h"
#include "scratch_folder.h"
#include "slackline/runtime/job_server.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {

inline std::int64_t now_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return now.tv_sec * 1'000'000'000 + now.tv_nsec;
}

/// Asks every 100 microseconds until the time is over.
inline void wait_for(const std::string& what, const std::function<bool()>& holds,
                     std::chrono::seconds patience = std::chrono::seconds(10)) {
  const auto deadline = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > deadline) throw std::runtime_error(what + ": waited in vain");
    std::this_thread::sleep_for(std::chrono::microseconds(100));
  }
}

/// A forked process that does `work` and is sent `end` when this object or the parent ends.
class Forked {
 public:
  template <class Work>
  explicit Forked(Work work, int end = SIGKILL) : end_(end) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    ::prctl(PR_SET_PDEATHSIG, end);
    try {
      work();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      ::_exit(1);
    }
    ::_exit(0);
  }
  Forked(Forked&& other) noexcept : pid_(std::exchange(other.pid_, -1)), end_(other.end_) {}
  Forked& operator=(Forked&&) = delete;
  ~Forked() {
    if (pid_ <= 0) return;
    ::kill(pid_, end_);
    wait();
  }
  [[nodiscard]] pid_t pid() const { return pid_; }
  /// The status as waitpid has it.
  int wait() {
    int status = -1;
    ::waitpid(std::exchange(pid_, -1), &status, 0);
    return status;
  }

 private:
  pid_t pid_ = -1;
  int end_;
};

[[noreturn]] inline void execute(const std::vector<std::string>& command) {
  std::vector<char*> words;
  for (const std::string& word : command) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  ::execvp(words[0], words.data());
  ::_exit(127);
}

/// A node whose driver writes down what is asked of it, and the `slackline agent` that owns its GPUs.
class BenchNode {
 public:
  static constexpr int kGpus = 8;

  BenchNode() : stamps_(share_stamps(folder_.file("stamps"))), agent_([this] { run_agent(); }, SIGTERM) {
    wait_for("start the agent", [this] { return static_cast<bool>(connect_to(agent_socket())); });
  }
  BenchNode(const BenchNode&) = delete;
  BenchNode& operator=(const BenchNode&) = delete;

  [[nodiscard]] const DriverStamps::Gpu& gpu(int number) const {
    return stamps_->gpus[static_cast<std::size_t>(number)];
  }
  /// The clock that the driver was asked for last.
  [[nodiscard]] std::int64_t last_mhz(int number) const {
    const std::uint64_t calls = gpu(number).calls.load(std::memory_order_acquire);
    return calls == 0 ? 0 : gpu(number).stamps[(calls - 1) % DriverStamps::Gpu::kKept].mhz;
  }
  [[nodiscard]] pid_t agent() const { return agent_.pid(); }
  [[nodiscard]] std::string agent_socket() const { return folder_.file("agent.sock"); }
  [[nodiscard]] std::string job_socket() const { return folder_.file("job.sock"); }
  [[nodiscard]] std::string stamps_path() const { return folder_.file("stamps"); }

 private:
  static DriverStamps* share_stamps(const std::string& path) {
    const Descriptor fd(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    if (!fd || ::ftruncate(fd.get(), sizeof(DriverStamps)) != 0) throw std::runtime_error("no stamps");
    void* memory = ::mmap(nullptr, sizeof(DriverStamps), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
    if (memory == MAP_FAILED) throw std::runtime_error("cannot map the stamps");
    return static_cast<DriverStamps*>(memory);
  }
  void run_agent() const {
    spill(folder_.file("policy.yaml"),
          "slackline: policy/1\nallow: [{users: [" + std::to_string(::geteuid()) + "], gpus: all}]\n");
    ::setenv(kStampsVariable, stamps_path().c_str(), 1);
    ::setenv("FAKE_NVML_GPUS", std::to_string(kGpus).c_str(), 1);
    ::dup2(::open(folder_.file("agent.log").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0600), STDERR_FILENO);
    execute({SLACKLINE_BINARY, "agent", "--device", "nvml,library=" STAMPING_NVML, "--policy",
             folder_.file("policy.yaml"), "--socket", agent_socket(), "--runtime-dir", folder_.file("run")});
  }

  ScratchFolder folder_;
  DriverStamps* stamps_;
  Forked agent_;
};

/// A clock that no other of the next hundred instructions has, so that each end asks for a new one.
inline int clock_of(int instruction) {
  return 1980 - 15 * (instruction % 100);
}

/// A job of one stage a GPU, each of `instructions` forwards, served by a process as `slackline apply` would.
class BenchJob {
 public:
  BenchJob(const BenchNode& node, int instructions) : server_(serve(node, instructions)) {
    ::setenv(kSocketVariable, node.job_socket().c_str(), 1);
  }
  BenchJob(const BenchJob&) = delete;
  BenchJob& operator=(const BenchJob&) = delete;
  ~BenchJob() { ::unsetenv(kSocketVariable); }

 private:
  static Forked serve(const BenchNode& node, int instructions) {
    JobPlans::Rank rank;
    rank.clocks.resize(1);
    for (int i = 0; i < instructions; ++i) {
      rank.order.push_back({0, -1, i});
      rank.clocks[0].emplace_back(clock_of(i));
    }
    JobOptions options;
    for (int g = 0; g < BenchNode::kGpus; ++g) options.rank_gpus.push_back({fake_nvml_uuid(g)});
    options.plans.ranks.assign(BenchNode::kGpus, rank);
    options.plans.times = {Seconds(1)};
    options.agent_socket = node.agent_socket();
    std::array<int, 2> ready{};
    if (::pipe2(ready.data(), O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
    const Descriptor reader(ready[0]);
    const Descriptor writer(ready[1]);
    ::unlink(node.job_socket().c_str());
    Forked server([&] {
      JobObserver observer;
      JobServer job(nullptr, options, node.job_socket(), observer);
      [[maybe_unused]] const ssize_t written = ::write(writer.get(), "x", 1);
      while (true) {
        pollfd waiting{job.fd(), POLLIN, 0};
        ::poll(&waiting, 1, -1);
        job.serve();
      }
    });
    char byte = 0;
    if (::read(reader.get(), &byte, 1) != 1) throw std::runtime_error("no job server");
    return server;
  }

  Forked server_;
};

/// Processor time of a process so far, in seconds, of all threads that it has.
inline double processor_seconds(pid_t pid) {
  double nanoseconds = 0;
  for (const auto& thread : std::filesystem::directory_iterator("/proc/" + std::to_string(pid) + "/task")) {
    std::istringstream fields(slurp(thread.path() / "schedstat"));
    double running = 0;
    if (!(fields >> running)) throw std::runtime_error("no processor times (CONFIG_SCHED_INFO)");
    nanoseconds += running;
  }
  return nanoseconds / 1e9;
}

}  // namespace slackline
