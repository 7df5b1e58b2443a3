#pragma once
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstring>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "running_program.h"
#include "slackline/base/error.h"
#include "slackline/base/process.h"
#include "slackline/runtime/agent.h"
#include "slackline/runtime/lease_client.h"
#include "slackline/runtime/lease_protocol.h"
#include "slackline/runtime/mapping.h"
#include "slackline/runtime/packet_socket.h"
#include "test_device.h"

namespace slackline {

/// For what has no bound of its own, on however loaded a machine.
constexpr std::chrono::milliseconds kPatience(60'000);

using Calls = std::vector<std::string>;

/// A node of GPUs that offers 1400 to 600 MHz in steps of 100. It remembers what was asked of it, a line a
/// call: "0:1200", or "0:-" for a restore, with the state that was given back behind it. Its driver can be
/// held, and told to refuse. Threads may do so at any time.
class RecordingDevice : public TestDevice {
 public:
  explicit RecordingDevice(int gpus = 4) : gpus_(static_cast<std::size_t>(gpus)) {}
  [[nodiscard]] int gpu_count() const override { return static_cast<int>(gpus_.size()); }
  [[nodiscard]] std::vector<Megahertz> supported_clocks(GpuId gpu) const override {
    if (gpu == lost_) throw DeviceError("list clocks", identity(gpu).uuid, "it fell off the bus");
    std::vector<Megahertz> clocks;
    for (int mhz = 1400; mhz >= 600; mhz -= 100) clocks.emplace_back(mhz);
    return clocks;
  }
  [[nodiscard]] std::string state(GpuId gpu) override {
    const std::lock_guard lock(mutex_);
    if (is_state_hidden_) throw DeviceError("read state", identity(gpu).uuid, "the driver is busy");
    return state_;
  }
  void lock_clock(GpuId gpu, Megahertz clock) override {
    std::unique_lock lock(mutex_);
    ++in_flight_;
    changed_.wait(lock, [this] { return !is_held_; });
    --in_flight_;
    if (clock == refused_) throw DeviceError("lock clock", identity(gpu).uuid, "the driver says no");
    calls_.push_back(std::to_string(gpu.value()) + ":" + std::to_string(clock.value()));
    gpus_[gpu.index()] = clock;
  }
  void restore(GpuId gpu, const std::string& state) override {
    const std::lock_guard lock(mutex_);
    if (restores_refused_ > 0) {
      --restores_refused_;
      throw DeviceError("restore", identity(gpu).uuid, "the driver is busy");
    }
    calls_.push_back(std::to_string(gpu.value()) + ":-" + state);
    gpus_[gpu.index()].reset();
  }
  /// A GPU runs at what it is locked to.
  [[nodiscard]] Megahertz observed_clock(GpuId gpu) override { return locked(gpu).value_or(Megahertz(1400)); }
  [[nodiscard]] EventReasons event_reasons(GpuId gpu) override {
    EventReasons reasons;
    if (locked(gpu)) reasons |= EventReason::kUserSet;
    return reasons;
  }

  [[nodiscard]] std::optional<Megahertz> locked(GpuId gpu) const {
    const std::lock_guard lock(mutex_);
    return gpus_[gpu.index()];
  }
  [[nodiscard]] bool is_restored() const {
    const std::lock_guard lock(mutex_);
    return std::none_of(gpus_.begin(), gpus_.end(), [](const auto& clock) { return clock.has_value(); });
  }
  [[nodiscard]] Calls calls() const {
    const std::lock_guard lock(mutex_);
    return calls_;
  }
  void forget_calls() {
    const std::lock_guard lock(mutex_);
    calls_.clear();
  }

  /// Calls that set a clock do not return before let_go().
  void hold() {
    const std::lock_guard lock(mutex_);
    is_held_ = true;
  }
  void let_go() {
    {
      const std::lock_guard lock(mutex_);
      is_held_ = false;
    }
    changed_.notify_all();
  }
  /// Calls that are held now.
  [[nodiscard]] int in_flight() const {
    const std::lock_guard lock(mutex_);
    return in_flight_;
  }
  void refuse(Megahertz clock) {
    const std::lock_guard lock(mutex_);
    refused_ = clock;
  }
  void refuse_restores(int times) {
    const std::lock_guard lock(mutex_);
    restores_refused_ = times;
  }
  /// Before an agent has it.
  void lose(GpuId gpu) { lost_ = gpu; }
  void set_state(const std::string& state) {
    const std::lock_guard lock(mutex_);
    state_ = state;
  }
  void hide_state(bool hidden) {
    const std::lock_guard lock(mutex_);
    is_state_hidden_ = hidden;
  }

 private:
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Megahertz>> gpus_;
  Calls calls_;
  std::string state_;
  bool is_state_hidden_ = false;
  std::optional<GpuId> lost_;
  Megahertz refused_;
  int restores_refused_ = 0;
  int in_flight_ = 0;
  bool is_held_ = false;
};

/// From now on this thread's kernel is an old one that does not tell who connected, or has no pidfds at all.
/// False where that cannot be pretended.
inline bool hide_pidfds(bool all) {
  constexpr std::uint32_t kSoPeerPidfd = 77;
  constexpr auto kOption =
      static_cast<std::uint32_t>(offsetof(seccomp_data, args) + 2 * sizeof(std::uint64_t));
  std::array filter{
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, all ? SYS_pidfd_open : 0xffffffff, 3, 0),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getsockopt, 0, 3),
      sock_filter BPF_STMT(BPF_LD | BPF_W | BPF_ABS, kOption),
      sock_filter BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, kSoPeerPidfd, 0, 1),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS),
      sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
  };
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  return ::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
         ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0;
}

/// An agent in a thread of this process.
class RunningAgent {
 public:
  enum class Kernel { kThis, kWithoutPeerPidfd, kWithoutPidfds };

  RunningAgent(Device& device, const Journal& journal, AgentOptions options, Kernel kernel = Kernel::kThis)
      : agent_(std::in_place, device, journal, std::move(options),
               [this](Agent::Importance, const std::string& line) {
                 const std::lock_guard lock(mutex_);
                 log_.push_back(line);
               }),
        stop_(::eventfd(0, EFD_CLOEXEC)),
        thread_([this, kernel] {
          if (kernel != Kernel::kThis) pretends_ = hide_pidfds(kernel == Kernel::kWithoutPidfds);
          agent_->run(stop_.get());
        }) {}
  RunningAgent(const RunningAgent&) = delete;
  RunningAgent& operator=(const RunningAgent&) = delete;
  ~RunningAgent() { stop(); }

  /// Serves no more; what it has counted. Leases end, and GPUs are restored, when this object goes.
  AgentMetrics stop() {
    if (thread_.joinable()) {
      const std::uint64_t one = 1;
      [[maybe_unused]] const ssize_t written = ::write(stop_.get(), &one, sizeof one);
      thread_.join();
    }
    return agent_->metrics();
  }
  [[nodiscard]] std::chrono::nanoseconds silence_of_drivers() const { return agent_->silence_of_drivers(); }
  /// Whether it is blind for processes that die, if it was to be.
  [[nodiscard]] bool pretends() const { return pretends_; }

  [[nodiscard]] std::vector<std::string> log() const {
    const std::lock_guard lock(mutex_);
    return log_;
  }
  [[nodiscard]] long count(const std::string& part) const {
    const std::vector<std::string> lines = log();
    return std::count_if(lines.begin(), lines.end(),
                         [&](const std::string& line) { return line.find(part) != std::string::npos; });
  }
  /// Whether it says so before long.
  [[nodiscard]] bool says(const std::string& part) const {
    return wait_until([&] { return count(part) > 0; }, kPatience);
  }

 private:
  mutable std::mutex mutex_;
  std::vector<std::string> log_;
  std::atomic<bool> pretends_ = false;
  std::optional<Agent> agent_;
  Descriptor stop_;
  std::thread thread_;
};

/// A client that keeps to no rules.
class RawClient {
 public:
  explicit RawClient(const std::string& path) : socket_(connect_to(path)) {}

  [[nodiscard]] static LeaseHello hello(const std::vector<std::string>& gpus) {
    LeaseHello hello{};
    hello.magic = kLeaseMagic;
    hello.gpu_count = static_cast<std::uint32_t>(gpus.size());
    hello.start_time = this_process().start_time;
    for (std::size_t g = 0; g < gpus.size(); ++g)
      gpus[g].copy(hello.gpus[g].data(), hello.gpus[g].size() - 1);
    return hello;
  }
  [[nodiscard]] static std::string bytes_of(const LeaseHello& hello) {
    return {reinterpret_cast<const char*>(&hello), sizeof hello};
  }

  [[nodiscard]] bool is_connected() const { return static_cast<bool>(socket_); }
  [[nodiscard]] int fd() const { return socket_.get(); }
  bool say(std::string_view bytes, std::span<const int> descriptors = {}) const {
    return send_packet(socket_.get(), std::as_bytes(std::span(bytes)), descriptors);
  }
  bool say(const LeaseHello& hello) const { return say(bytes_of(hello)); }

  /// Waits for the agent's answer; nothing if the connection ends instead.
  [[nodiscard]] std::optional<LeaseAnswer> answer(std::chrono::milliseconds patience = kPatience) {
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(patience.count())) <= 0) return std::nullopt;
    auto packet = receive_packet(socket_.get(), sizeof(LeaseAnswer) + 1);
    if (!packet || packet->data.size() != sizeof(LeaseAnswer)) return std::nullopt;
    LeaseAnswer answer{};
    std::memcpy(&answer, packet->data.data(), sizeof answer);
    memories_ = std::move(packet->descriptors);
    if (memories_.size() == 2) {
      requests_ = Mapping(memories_[0].get(), sizeof(RequestMemory));
      results_ = Mapping(memories_[1].get(), sizeof(ResultMemory), PROT_READ);
    }
    return answer;
  }
  /// Leases `gpus` or gives the agent's words why not.
  [[nodiscard]] std::string lease(const std::vector<std::string>& gpus) {
    if (!say(hello(gpus))) return "the connection is closed";
    const auto got = answer();
    if (!got) return "no answer";
    return got->status == LeaseStatus::kGranted ? "" : got->text.data();
  }
  /// The agent closes the connection before long.
  [[nodiscard]] bool is_closed(std::chrono::milliseconds patience = kPatience) const {
    pollfd waiting{socket_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(patience.count())) <= 0) return false;
    char byte = 0;
    const ssize_t count = ::recv(socket_.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
    return count == 0 || (count < 0 && errno == ECONNRESET);
  }
  void close() { socket_.reset(); }

  [[nodiscard]] const std::vector<Descriptor>& memories() const { return memories_; }
  [[nodiscard]] RequestMemory& requests() const { return *static_cast<RequestMemory*>(requests_.get()); }
  [[nodiscard]] const ResultMemory& results() const {
    return *static_cast<const ResultMemory*>(results_.get());
  }
  void write(std::uint64_t word) const { requests().request.store(word); }
  void wake() const {
    const char look = 1;
    [[maybe_unused]] const ssize_t sent = ::send(socket_.get(), &look, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
  }
  void ask(std::uint32_t sequence, std::uint32_t clock, bool in_step = false) const {
    write(ClockRequest{sequence, in_step, clock}.word());
    wake();
  }

 private:
  Descriptor socket_;
  std::vector<Descriptor> memories_;
  Mapping requests_;
  Mapping results_;
};

/// A process that has none of the test's descriptors (an agent's are among them). What `what` returns is its
/// words to the test; then it lives until it is killed.
class ClientProcess {
 public:
  explicit ClientProcess(const std::function<std::string()>& what) {
    std::array<int, 2> ends{};
    if (::pipe(ends.data()) != 0) return;
    pid_ = ::fork();
    if (pid_ == 0) {
      for (const int signal : {SIGSEGV, SIGABRT, SIGTERM})
        ::signal(signal, SIG_DFL);  // not the test's report
      constexpr int kDescriptors = 1024;
      for (int fd = 3; fd < kDescriptors; ++fd) {
        if (fd != ends[1]) ::close(fd);
      }
      std::string words;
      try {
        words = what();
      } catch (const std::exception& error) {
        words = error.what();
      }
      [[maybe_unused]] const ssize_t count = ::write(ends[1], words.c_str(), words.size() + 1);
      while (true) ::pause();
    }
    ::close(ends[1]);
    char letter = 0;
    while (::read(ends[0], &letter, 1) == 1 && letter != '\0') words_ += letter;
    ::close(ends[0]);
  }
  ClientProcess(const ClientProcess&) = delete;
  ClientProcess& operator=(const ClientProcess&) = delete;
  ~ClientProcess() { kill(); }

  [[nodiscard]] const std::string& words() const { return words_; }
  [[nodiscard]] pid_t pid() const { return pid_; }
  void signal(int number) const { ::kill(pid_, number); }
  void kill() {
    if (pid_ <= 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
    pid_ = -1;
  }

 private:
  pid_t pid_ = -1;
  std::string words_;
};

}  // namespace slackline
