#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "dice.h"
#include "running_program.h"
#include "slackline/base/error.h"
#include "slackline/base/process.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/lease_client.h"

namespace slackline {

/// A zeroed T that this process shares with those that it forks, and that outlives each of them.
template <class T>
class Shared {
 public:
  Shared()
      : value_(new (::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0))
                   T) {}
  Shared(const Shared&) = delete;
  Shared& operator=(const Shared&) = delete;
  ~Shared() { ::munmap(value_, sizeof(T)); }
  T* operator->() const { return value_; }
  T& operator*() const { return *value_; }

 private:
  T* value_;
};

/// What all clients of an agent have in common.
struct LeaseRegister {
  static constexpr std::size_t kMostGpus = 16;
  std::atomic<std::uint32_t> grants;
  std::array<std::atomic<pid_t>, kMostGpus> holders;
  /// Leases of a GPU that somebody else had.
  std::atomic<int> collisions;
};

/// What a client has done. It is written before the client does it, so that nothing is missing when the
/// client is killed.
struct ClientDiary {
  struct Lease {
    std::uint32_t grant;  // orders the leases of a GPU
    std::uint32_t first_post;
  };
  static constexpr std::size_t kMostLeases = 4096;
  static constexpr std::size_t kMostPosts = 1 << 16;

  std::atomic<std::uint32_t> leases;
  std::array<Lease, kMostLeases> lease;
  /// MHz. 0, the baseline, ends a lap, within which clocks only rise.
  std::atomic<std::uint32_t> posts;
  std::array<std::int32_t, kMostPosts> posted;
  std::atomic<std::uint32_t> ends;  // leases that the agent ended, or took with it
  std::atomic<std::uint32_t> refusals;
  std::array<char, 256> last_refusal;
  /// Requests that the driver refused.
  std::atomic<std::uint32_t> failures;
  /// Turns of its loop, with a lease or without.
  std::atomic<std::uint32_t> beats;
  /// Clocks seen on a GPU, or told by the agent, after newer ones.
  std::atomic<int> stale;
  /// A baseline request without an answer, ever.
  std::atomic<int> stuck;
  std::atomic<pid_t> child;

  // Orders to the client.
  std::atomic<bool> waits;  // asks for no further lease
  std::atomic<bool> ends_now;
};

/// A process that leases GPUs and asks for clocks as fast as a job does: lap after lap of random clocks, each
/// higher than the one before, with the baseline at the end, whose arrival it awaits. So within a lap a clock
/// that comes late is one that falls. When its lease ends it goes on, and asks for another.
class ClockClient {
 public:
  enum class Child { kNone, kForkedBefore, kForked, kCloned, kStarted };
  struct Orders {
    std::string socket;
    std::vector<int> gpus;
    std::vector<std::string> uuids;
    LeaseRegister* leases = nullptr;
    /// To look at the GPUs; null: not.
    SimWorld* world = nullptr;
    std::uint64_t seed = 0;
    /// Between two requests; random around 3 ms if zero.
    std::chrono::microseconds period{0};
    /// Clocks in a lap, at most.
    int longest_lap = 40;
    /// Closes its lease after so many laps; 0: never.
    int laps = 0;
    /// Makes a process that has the lease's socket and memory, or tries to.
    Child child = Child::kNone;
  };

  explicit ClockClient(Orders orders) : orders_(std::move(orders)) {
    pid_ = ::fork();
    if (pid_ != 0) return;
    try {
      Life(*this).live();
    } catch (...) {  // nobody but the test's own process may go on with the test
      ::_exit(4);
    }
  }
  ClockClient(const ClockClient&) = delete;
  ClockClient& operator=(const ClockClient&) = delete;
  ~ClockClient() {
    kill();
    if (const pid_t child = diary_->child; child > 0) {
      ::kill(child, SIGKILL);
      ::waitpid(child, nullptr, 0);  // ours, if this process adopts orphans
    }
  }

  [[nodiscard]] pid_t pid() const { return pid_; }
  [[nodiscard]] bool lives() const { return pid_ > 0; }
  [[nodiscard]] const std::vector<int>& gpus() const { return orders_.gpus; }
  [[nodiscard]] ClientDiary& diary() const { return *diary_; }
  void signal(int number) const {
    if (pid_ > 0) ::kill(pid_, number);
  }
  void kill() {
    signal(SIGKILL);
    reap();
  }
  /// Its status after it was asked to give back its lease and end.
  int finish() {
    diary_->ends_now = true;
    return reap();
  }

 private:
  int reap() {
    int status = 0;
    if (pid_ > 0) ::waitpid(pid_, &status, 0);
    pid_ = -1;
    return status;
  }

  /// What happens in that process.
  class Life {
   public:
    explicit Life(const ClockClient& client)
        : orders_(client.orders_), diary_(*client.diary_), dice_(orders_.seed) {}

    [[noreturn]] void live() {
      if (orders_.child == Child::kForkedBefore) make_child();
      while (!diary_.ends_now) {
        ++diary_.beats;
        rest();
        if (diary_.waits) continue;
        try {
          lease_ = LeaseClient::open(orders_.socket, orders_.uuids, Seconds(60));
        } catch (const DeviceError& error) {
          std::string(error.what()).copy(diary_.last_refusal.data(), diary_.last_refusal.size() - 1);
          ++diary_.refusals;
        }
        if (!lease_) continue;
        begin_lease();
        if (orders_.child != Child::kNone && diary_.child == 0) make_child();
        for (int lap = 0; !diary_.ends_now && (orders_.laps == 0 || lap < orders_.laps); ++lap) {
          if (!run_lap()) break;
        }
        end_lease();
      }
      ::_exit(0);
    }

   private:
    void begin_lease() {
      const std::uint32_t number = diary_.leases;
      if (number == ClientDiary::kMostLeases) ::_exit(3);
      is_over_ = false;
      clock_of_ = {0};
      dealt_with_.assign(orders_.gpus.size(), 0);
      write_post(0);
      diary_.lease[number] = {++orders_.leases->grants, diary_.posts - 1};
      ++diary_.leases;
      for (const int gpu : orders_.gpus) {
        // A predecessor that was killed is dead for the agent a moment before it is for everybody.
        const pid_t other = orders_.leases->holders[static_cast<std::size_t>(gpu)].exchange(::getpid());
        const auto is_gone = [&] {
          const std::string stat = slurp("/proc/" + std::to_string(other) + "/stat");
          const std::size_t name_ends = stat.rfind(") ");
          return name_ends == std::string::npos || stat[name_ends + 2] == 'Z' || stat[name_ends + 2] == 'X';
        };
        if (other != 0 && other != ::getpid() && !wait_until(is_gone, std::chrono::seconds(10)))
          ++orders_.leases->collisions;
      }
    }

    void end_lease() {
      if (is_over_) ++diary_.ends;
      note_failures();
      for (const int gpu : orders_.gpus) {
        pid_t self = ::getpid();
        orders_.leases->holders[static_cast<std::size_t>(gpu)].compare_exchange_strong(self, 0);
      }
      lease_.reset();
    }

    /// False if the lease is over.
    bool run_lap() {
      std::vector<Megahertz> lap = lease_->clocks();
      const auto length = static_cast<std::size_t>(dice_.number(1, orders_.longest_lap));
      while (lap.size() > length) lap.erase(lap.begin() + dice_.number(0, static_cast<int>(lap.size()) - 1));
      std::ranges::reverse(lap);
      seen_.assign(orders_.gpus.size(), 0);
      lap_begins_ = diary_.posts;
      for (const Megahertz clock : lap) {
        if (!post(clock)) return false;
        rest();
        if (!look()) return false;
        if (diary_.ends_now && dice_.number(0, 9) == 0) return true;  // in the middle of a lap
      }
      if (!post(Megahertz(0))) return false;
      const std::uint32_t last = lease_->sequence();
      const auto is_done = [&] {
        ++diary_.beats;
        if (!look()) return true;
        return std::ranges::all_of(dealt_with_, [&](std::uint32_t sequence) { return sequence == last; });
      };
      if (!wait_until(is_done, std::chrono::seconds(60))) ++diary_.stuck;
      return !is_over_;
    }

    bool post(Megahertz clock) {
      ++diary_.beats;
      write_post(clock.value());
      clock_of_.push_back(clock.value());
      lease_->post(*lease_->number_of(clock), orders_.period.count() > 0 || dice_.number(0, 9) > 0);
      return !over();
    }

    void write_post(std::int32_t mhz) {
      const std::uint32_t number = diary_.posts;
      if (number == ClientDiary::kMostPosts) ::_exit(3);
      diary_.posted[number] = mhz;
      ++diary_.posts;
    }

    bool over() {
      if (!is_over_ && lease_->is_over()) is_over_ = true;
      return is_over_;
    }

    /// Whether what the agent tells and what the GPUs do is in order. False if the lease is over.
    bool look() {
      int stale = 0;
      for (std::size_t g = 0; g < orders_.gpus.size(); ++g) {
        const GpuResult& result = lease_->result(g);
        const std::uint32_t before = result.sequence;
        const std::int32_t mhz = result.requested_mhz;
        const std::uint32_t after = result.sequence;
        const bool is_possible = dealt_with_[g] <= before && before <= after && after < clock_of_.size();
        // The clock of an order is told before its number.
        const bool is_known = !is_possible || before == 0 || before != after ||
                              std::find(clock_of_.begin() + before, clock_of_.end(), mhz) != clock_of_.end();
        if (!is_possible || !is_known) ++stale;
        if (is_possible) dealt_with_[g] = after;
        if (orders_.world == nullptr) continue;
        const auto locked = orders_.world->locked_clock(GpuId(orders_.gpus[g]));
        if (over()) return false;  // from here on others move it
        const std::int32_t clock = locked ? locked->value() : 0;
        const auto* const posted = diary_.posted.data();
        const bool is_of_lap = clock == 0 || std::find(posted + lap_begins_, posted + diary_.posts, clock) !=
                                                 posted + diary_.posts;
        const bool is_last = diary_.posts > lap_begins_ && posted[diary_.posts - 1] == 0;
        if (!is_of_lap || (clock < seen_[g] && !(clock == 0 && is_last))) ++stale;
        seen_[g] = clock;
      }
      if (over()) return false;
      diary_.stale += stale;
      return true;
    }

    void note_failures() {
      for (std::size_t g = 0; g < orders_.gpus.size(); ++g) diary_.failures += lease_->result(g).failures;
    }

    void rest() {
      using std::chrono::microseconds;
      if (orders_.period.count() == 0)
        return std::this_thread::sleep_for(microseconds(dice_.number(0, 6000)));
      next_ = std::max(next_ + orders_.period, std::chrono::steady_clock::now() - orders_.period);
      std::this_thread::sleep_until(next_);
    }

    /// As fork() does it, but nobody's handlers run.
    static pid_t clone_quietly() {
      return static_cast<pid_t>(::syscall(SYS_clone, SIGCHLD, nullptr, nullptr, nullptr, nullptr));
    }

    static void pass_on_sockets() {
      for (int fd = 3; fd < 256; ++fd) {
        struct stat status {};
        if (::fstat(fd, &status) == 0 && S_ISSOCK(status.st_mode)) ::fcntl(fd, F_SETFD, 0);
      }
    }

    void make_child() {
      const pid_t owner = ::getpid();
      if (orders_.child == Child::kStarted) pass_on_sockets();
      const bool forks = orders_.child == Child::kForkedBefore || orders_.child == Child::kForked;
      const pid_t child = forks ? ::fork() : clone_quietly();
      if (child != 0) {
        diary_.child = child;
        return;
      }
      if (orders_.child == Child::kStarted) {
        ::execl("/bin/sleep", "sleep", "1000", nullptr);
        ::_exit(127);
      }
      // When its owner is gone it goes on with the lap. Until the agent sees that, it may.
      while (::getppid() == owner) ::usleep(500);
      for (std::uint32_t number = 1;; number = number % 20 + 1) {
        if (lease_) {
          write_post(lease_->clocks().at(number - 1).value());
          lease_->post(number, true);
        }
        ::usleep(1000);
      }
    }

    const Orders& orders_;
    ClientDiary& diary_;
    Dice dice_;
    std::unique_ptr<LeaseClient> lease_;
    bool is_over_ = false;
    std::vector<std::int32_t> clock_of_;  // by a request's sequence
    std::vector<std::uint32_t> dealt_with_;
    std::vector<std::int32_t> seen_;
    std::uint32_t lap_begins_ = 0;
    std::chrono::steady_clock::time_point next_;
  };

  Orders orders_;
  Shared<ClientDiary> diary_;
  pid_t pid_ = -1;
};

}  // namespace slackline
