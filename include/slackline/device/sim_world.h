#pragma once
#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "slackline/base/ids.h"
#include "slackline/base/instruction_kind.h"
#include "slackline/base/quantity.h"
#include "slackline/device/device.h"

namespace slackline {

/// Something that befalls all GPUs of a rank together from time to time, at moments that the seed decides.
struct SimEpisodes {
  /// Of the time, up to a half; 0: never.
  double share = 0;
  Seconds length{1};
};

/// How simulated GPUs behave beside their measurements.
struct SimOptions {
  /// Simulated seconds a wall second; 0: virtual time, as fast as the host can and independent of it.
  double pace = 0;
  Seconds switch_latency{0.010};
  Seconds counter_period{0.100};
  /// Standard deviation of an instruction's time, relative.
  double noise = 0;
  /// The same of its energy, which is independent of its time.
  double energy_noise = 0;
  std::uint64_t seed = 1;

  /// The GPUs get too hot: they run at `throttled_clock` or, if they have no such clock, at their next below.
  SimEpisodes throttling;
  Megahertz throttled_clock{1110};
  /// Another process, 0 by its number, uses the GPUs: instructions take 1.3 times as long, and power is 1.2
  /// times as high.
  SimEpisodes intruder;
  /// By which share of itself all power has grown after `leakage_time`, and again after as much time.
  double leakage = 0;
  Seconds leakage_time{60};

  /// From `straggler_from` to `straggler_until`, instructions of the ranks that may straggle take this many
  /// times as long, at the same power.
  double straggler = 1;
  Seconds straggler_from;
  std::optional<Seconds> straggler_until;

  // Faults. The first three are of GPU 0.
  /// From when on its energy counter stands still.
  std::optional<Seconds> counter_stops;
  /// When its energy counter starts again from zero.
  std::optional<Seconds> counter_resets;
  /// From when on the driver has lost it. What the job runs goes on.
  std::optional<Seconds> lost;
  /// No GPU ever runs above it, whatever is asked for, and no reason is told.
  std::optional<Megahertz> stuck_clock;
};

struct SimOption {
  Megahertz clock;
  Seconds time;
  Joules energy;
};

/// What a rank runs: a kind of instruction of one of its stages.
struct SimTask {
  InstructionKind kind = InstructionKind::kForward;
  StageId stage;

  SimTask(InstructionKind of_kind, StageId of_stage = {}) : kind(of_kind), stage(of_stage) {}
  auto operator<=>(const SimTask&) const = default;
};

/// GPUs of one rank, which run every instruction in lockstep at the pace of the slowest.
struct SimRank {
  int gpus = 1;
  Watts blocking_power;
  std::map<SimTask, std::vector<SimOption>> instructions;
  /// It takes SimOptions::straggler times as long.
  bool may_straggle = false;
};

struct SimLayout;

/// A node of simulated GPUs in a file that several processes map: the training ranks and whoever owns the
/// clocks. Like real GPUs they outlive every process: a lock stays until someone undoes it.
///
/// Virtual time is a conservative simulation. Every process (or thread) that takes part is a participant. It
/// runs its own code (time stands still), computes on a rank, sleeps, or waits for a channel. Time advances
/// to the next event when no participant runs and none waits for a message that was already sent; it starts
/// when every rank has been joined. A participant whose process dies leaves. All that happens depends on
/// simulated time alone, so results repeat to the bit on any host under any load.
///
/// Paced time follows the host's clock times a factor; messages and waits then need no announcement.
class SimWorld {
 public:
  /// Whether a participant belongs to the job. Time stands still without any that does.
  enum class Role { kJob, kObserver };
  using Channel = std::uint64_t;
  static constexpr const char* kLost = "GPU is lost";

  /// Makes the file, which must not exist. DeviceError if it cannot.
  static void create(const std::string& path, const std::vector<SimRank>& ranks, const SimOptions& options);
  /// Opens it. DeviceError if it is missing or not one of ours.
  explicit SimWorld(std::string path);
  SimWorld(const SimWorld&) = delete;
  SimWorld& operator=(const SimWorld&) = delete;
  ~SimWorld();

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] int ranks() const;
  [[nodiscard]] int gpus() const;
  [[nodiscard]] bool is_virtual() const;
  [[nodiscard]] Seconds now();

  class Participant;
  /// An observer takes part but does not keep time going. A job participant names its rank.
  [[nodiscard]] Participant join_as_observer();
  [[nodiscard]] Participant join_as_rank(int rank);

  /// A message was sent on `channel`: time stands still until its receiver, if it waits for it, takes it.
  void send(Channel channel);
  /// Somebody is about to ask the owner of the clocks for something about `gpu`: time stands still until it
  /// is done, if there is an owner.
  void post_request(GpuId gpu);
  void post_requests(const std::vector<GpuId>& gpus);
  /// The owner of the clocks has done what was asked about `gpu`, `requests` times.
  void take_requests(GpuId gpu, std::int64_t requests);
  /// What the process of `rank` has told was heard, `tidings` times.
  void take_tidings(int rank, std::int64_t tidings);
  /// Nobody who asked about `gpu` waits any more.
  void forget_requests(GpuId gpu);
  /// GPUs of a rank are numbered one after the other.
  [[nodiscard]] GpuId first_gpu(int rank) const;

  /// From now on observers alone keep time going: for the last tick of a counter after the job has ended.
  void let_observers_run_on();
  /// Ends every sleep: the observers are to stop.
  void shut_down();

  // GPUs; see Device.
  [[nodiscard]] std::vector<Megahertz> supported_clocks(GpuId gpu) const;
  void lock_clock(GpuId gpu, Megahertz clock);
  void unlock_clock(GpuId gpu);
  [[nodiscard]] std::optional<Megahertz> locked_clock(GpuId gpu);
  [[nodiscard]] Megahertz observed_clock(GpuId gpu);
  [[nodiscard]] EventReasons event_reasons(GpuId gpu);
  /// Falls at a reset.
  [[nodiscard]] EnergyReading energy(GpuId gpu);
  [[nodiscard]] Watts power(GpuId gpu);
  /// The one that drives the rank, and 0 while an intruder is there.
  [[nodiscard]] std::vector<int> processes(GpuId gpu);
  /// The driver does not reach it any more.
  [[nodiscard]] bool is_lost(GpuId gpu);
  [[nodiscard]] Seconds counter_period() const;

 private:
  friend class Participant;
  class Guard;
  int join(Role role, int rank);
  [[nodiscard]] std::string label(GpuId gpu) const;

  std::string path_;
  SimLayout* layout_ = nullptr;
  std::size_t bytes_ = 0;
};

/// One thread's part in a world; leaves it when destroyed. The methods block in simulated time.
class SimWorld::Participant {
 public:
  Participant(Participant&& other) noexcept;
  Participant& operator=(Participant&&) = delete;
  ~Participant();
  /// Leaves nothing: for a forked child, whose parent it was.
  void forget() { world_ = nullptr; }

  /// Starts an instruction on the GPUs of this participant's rank. Without a stage, of the first that has it.
  void launch(InstructionKind kind, std::optional<StageId> stage = {});
  /// Waits until it is done.
  void synchronize();
  /// From begin to end this participant waits for a message on `channel`, by means of its own.
  void wait_begin(Channel channel);
  void wait_end(Channel channel);
  /// False if the world was shut down.
  bool sleep_until(Seconds time);
  /// Whoever hears what the job does is about to be told something: time stands still until that was heard,
  /// if somebody hears.
  void post_tidings();
  /// Declares that from now on this participant only serves requests about these GPUs: it owns their clocks.
  void serve_requests(const std::vector<GpuId>& gpus);
  /// Declares that from now on this participant only hears what the job's ranks do, or one of them.
  void hear_tidings(std::optional<int> rank = {});

 private:
  friend class SimWorld;
  Participant(SimWorld* world, int slot) : world_(world), slot_(slot) {}
  SimWorld* world_;
  int slot_;
};

/// The seam over a world's GPUs.
class SimDevice : public Device {
 public:
  explicit SimDevice(std::shared_ptr<SimWorld> world)
      : world_(std::move(world)), last_energy_(static_cast<std::size_t>(world_->gpus())) {}
  [[nodiscard]] const std::shared_ptr<SimWorld>& world() const { return world_; }

  [[nodiscard]] std::string spec() const override;
  [[nodiscard]] std::string driver() const override { return "simulated"; }
  [[nodiscard]] int gpu_count() const override { return world_->gpus(); }
  [[nodiscard]] GpuIdentity identity(GpuId gpu) const override;
  [[nodiscard]] GpuAbilities abilities(GpuId gpu) override;
  [[nodiscard]] std::vector<Megahertz> supported_clocks(GpuId gpu) const override;
  void lock_clock(GpuId gpu, Megahertz clock) override { world_->lock_clock(gpu, clock); }
  void restore(GpuId gpu, const std::string& state) override;
  [[nodiscard]] Megahertz observed_clock(GpuId gpu) override { return world_->observed_clock(gpu); }
  [[nodiscard]] EventReasons event_reasons(GpuId gpu) override { return world_->event_reasons(gpu); }
  [[nodiscard]] std::optional<std::vector<int>> processes(GpuId gpu) override {
    return world_->processes(gpu);
  }
  /// As real drivers' devices: a counter that was reset is one DeviceError, then it counts from there.
  [[nodiscard]] EnergyReading energy(GpuId gpu) override;
  [[nodiscard]] Seconds energy_refresh_period() override { return world_->counter_period(); }
  [[nodiscard]] bool dates_refreshes() const override { return true; }
  [[nodiscard]] Watts power(GpuId gpu) override { return world_->power(gpu); }
  [[nodiscard]] Watts power_cap(GpuId gpu) override;
  [[nodiscard]] double temperature(GpuId gpu) override;
  [[nodiscard]] std::unique_ptr<Timeline> make_timeline() override;
  void shut_down_timelines() override { world_->shut_down(); }

 private:
  std::shared_ptr<SimWorld> world_;
  std::mutex energy_mutex_;
  std::vector<Joules> last_energy_;
};

/// Time of a world, for one thread.
class SimTimeline : public Timeline {
 public:
  explicit SimTimeline(std::shared_ptr<SimWorld> world)
      : world_(std::move(world)), participant_(world_->join_as_observer()) {}
  [[nodiscard]] Seconds now() override { return world_->now(); }
  bool sleep_until(Seconds time) override { return participant_.sleep_until(time); }

 private:
  std::shared_ptr<SimWorld> world_;
  SimWorld::Participant participant_;
};

}  // namespace slackline
