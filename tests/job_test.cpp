// A training process from its calls of slackline.h to the driver: session, job server, agent and its workers.
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <future>
#include <mutex>
#include <span>
#include <thread>

#include "catch.h"
#include "other_process.h"
#include "scratch_folder.h"
#include "slackline.h"
#include "slackline/base/error.h"
#include "slackline/runtime/agent.h"
#include "slackline/runtime/job_server.h"
#include "slackline/runtime/packet_socket.h"
#include "slackline_sim.h"
#include "test_device.h"

namespace slackline {
namespace {

constexpr std::int32_t kForward = SLACKLINE_FORWARD;
constexpr std::int32_t kBackward = SLACKLINE_BACKWARD;
struct PlannedRun {
  std::int32_t kind;
  std::int32_t microbatch;
  std::int32_t mhz;
};
using PlannedRuns = std::vector<PlannedRun>;
const PlannedRuns kPlan{{kForward, 0, 1200}, {kForward, 1, 1100}, {kBackward, 0, 900}};

/// One plan; rank r holds stage r.
JobPlans plans_of(const std::vector<PlannedRuns>& ranks) {
  JobPlans plans;
  plans.times = {Seconds(1)};
  for (std::size_t r = 0; r < ranks.size(); ++r) {
    JobPlans::Rank& rank = plans.ranks.emplace_back();
    rank.clocks.resize(1);
    for (const PlannedRun& run : ranks[r]) {
      rank.order.push_back({run.kind, static_cast<std::int32_t>(r), run.microbatch});
      rank.clocks[0].emplace_back(run.mhz);
    }
  }
  return plans;
}

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

using Calls = std::vector<std::string>;

/// Remembers what was asked of it, a line a call: "0:1200" or "0:-".
class RecordingDevice : public TestDevice {
 public:
  [[nodiscard]] int gpu_count() const override { return 4; }
  [[nodiscard]] std::vector<Megahertz> supported_clocks(GpuId) const override {
    std::vector<Megahertz> clocks;
    for (int mhz = 1400; mhz >= 600; mhz -= 100) clocks.emplace_back(mhz);
    return clocks;
  }
  void lock_clock(GpuId gpu, Megahertz clock) override {
    const std::lock_guard lock(mutex_);
    if (clock == refused) throw DeviceError("lock clock", identity(gpu).uuid, "no");
    calls_.push_back(std::to_string(gpu.value()) + ":" + std::to_string(clock.value()));
  }
  void restore(GpuId gpu, const std::string&) override {
    const std::lock_guard lock(mutex_);
    calls_.push_back(std::to_string(gpu.value()) + ":-");
  }
  [[nodiscard]] std::size_t count() const {
    const std::lock_guard lock(mutex_);
    return calls_.size();
  }
  /// Sorted by GPU, each in its order: different GPUs do not wait for each other.
  [[nodiscard]] Calls take() {
    const std::lock_guard lock(mutex_);
    std::stable_sort(calls_.begin(), calls_.end(),
                     [](const std::string& a, const std::string& b) { return a.front() < b.front(); });
    return std::exchange(calls_, {});
  }

  Megahertz refused;

 private:
  mutable std::mutex mutex_;
  Calls calls_;
};

struct Observed : public JobObserver {
  void on_event(int stage, const JobEvent& event) override { events.emplace_back(stage, event.type); }
  void on_refusal(const std::string& reason) override { refusals.push_back(reason); }
  void on_stranger(const std::string& reason) override { strangers.push_back(reason); }
  [[nodiscard]] long count(int stage, JobEventType type) const {
    return std::count(events.begin(), events.end(), std::pair(stage, type));
  }
  std::vector<std::pair<int, JobEventType>> events;
  std::vector<std::string> refusals;
  std::vector<std::string> strangers;
};

/// A job of two stages, of GPUs 0 and 1, and of 2 and 3: an agent in a thread of its own, and the job's
/// server, which the test's own thread serves.
class Served {
 public:
  explicit Served(int baseline_steps = 0, std::vector<PlannedRuns> plan = {kPlan, kPlan})
      : Served(baseline_steps, plans_of(plan)) {}
  Served(int baseline_steps, const JobPlans& plans) {
    start_agent();
    std::vector<std::vector<std::string>> gpus(2);
    for (int g = 0; g < 4; ++g)
      gpus[static_cast<std::size_t>(g / 2)].push_back(device.identity(GpuId(g)).uuid);
    JobOptions options;
    options.rank_gpus = gpus;
    options.plans = plans;
    options.baseline_steps = baseline_steps;
    options.agent_socket = folder_.file("agent.sock");
    server_.emplace(nullptr, options, folder_.file("job.sock"), observed);
    ::setenv(kSocketVariable, folder_.file("job.sock").c_str(), 1);
  }
  Served(const Served&) = delete;
  Served& operator=(const Served&) = delete;
  ~Served() {
    ::unsetenv(kSocketVariable);
    end_agent();
  }

  void start_agent() {
    AgentOptions options;
    options.socket_path = folder_.file("agent.sock");
    options.policy = Policy::everything_for(::geteuid());
    agent_.emplace(device, journal, options, [](Agent::Importance, const std::string&) {});
    REQUIRE(::pipe(stop_.data()) == 0);
    thread_ = std::thread([this] { agent_->run(stop_[0]); });
  }
  void end_agent() {
    if (!agent_) return;
    ::close(stop_[1]);
    thread_.join();
    ::close(stop_[0]);
    agent_.reset();
  }
  /// Serves until `done`, or for ten seconds.
  bool until(const std::function<bool()>& done) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds(10);
    while (!done() && std::chrono::steady_clock::now() < deadline) {
      pollfd waiting{server_->fd(), POLLIN, 0};
      ::poll(&waiting, 1, 1);
      server_->serve();
    }
    return done();
  }
  int open(int stage, int stages, slackline_session** session) {
    return join({stage, stages, 0, 1, 0, 1, nullptr}, session);
  }
  int join(const slackline_place& place, slackline_session** session) {
    auto opened = std::async(std::launch::async, [&] { return slackline_join(&place, session); });
    until([&] { return opened.wait_for(std::chrono::seconds(0)) == std::future_status::ready; });
    return opened.get();
  }
  /// The next calls of the device, as many as are `expected`.
  Calls calls(std::size_t expected = 2) {
    until([&] { return device.count() >= expected; });
    server_->serve();
    return device.take();
  }
  /// Whether nothing more is asked of the device.
  bool is_quiet() {
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    server_->serve();
    return device.count() == 0;
  }
  JobServer& server() { return *server_; }

 private:
  ScratchFolder folder_;

 public:
  RecordingDevice device;
  Journal journal{folder_.file("journal")};
  Observed observed;

 private:
  std::optional<Agent> agent_;
  std::thread thread_;
  std::array<int, 2> stop_{};
  std::optional<JobServer> server_;
};

TEST_CASE("job: the clock of the next instruction is set when one ends, the baseline when a step does",
          "[job]") {
  Served served;
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  CHECK(slackline_is_simulated(session) == 0);
  for (int step = 0; step < 3; ++step) {
    CAPTURE(step);
    CHECK(slackline_step_begin(session) == SLACKLINE_OK);
    CHECK(served.calls() == Calls{"0:1200", "1:1200"});
    for (std::size_t i = 0; i < kPlan.size(); ++i) {
      CHECK(slackline_instruction_begin(session, kPlan[i].kind, kPlan[i].microbatch) == SLACKLINE_OK);
      CHECK(served.is_quiet());
      CHECK(slackline_instruction_again(session) == 0);
      CHECK(slackline_instruction_end(session) == SLACKLINE_OK);
      if (i == 0) CHECK(served.calls() == Calls{"0:1100", "1:1100"});
      if (i == 1) CHECK(served.calls() == Calls{"0:900", "1:900"});
      if (i == 2) CHECK(served.is_quiet());
    }
    CHECK(slackline_step_end(session) == SLACKLINE_OK);
    CHECK(served.calls() == Calls{"0:-", "1:-"});
  }
  CHECK(served.journal.entries().size() == 2);
  CHECK(slackline_message(session) == std::string());
  slackline_close(session);
  CHECK(served.until([&] { return served.journal.entries().empty(); }));
}

TEST_CASE("job: two stages that run at once each get their own clocks", "[job]") {
  Served served(0, {kPlan, {{kForward, 0, 700}, {kBackward, 0, 600}}});
  std::array<slackline_session*, 2> sessions{};
  REQUIRE(served.open(1, 2, &sessions[1]) == SLACKLINE_OK);
  REQUIRE(served.open(0, 2, &sessions[0]) == SLACKLINE_OK);
  slackline_step_begin(sessions[1]);
  CHECK(served.calls() == Calls{"2:700", "3:700"});
  slackline_step_begin(sessions[0]);
  CHECK(served.calls() == Calls{"0:1200", "1:1200"});
  slackline_instruction_begin(sessions[1], kForward, 0);
  slackline_instruction_end(sessions[1]);
  CHECK(served.calls() == Calls{"2:600", "3:600"});
  slackline_close(sessions[1]);
  CHECK(served.until([&] { return served.journal.entries().size() == 2; }));
  CHECK(served.calls() == Calls{"2:-", "3:-"});
  slackline_close(sessions[0]);
  CHECK(served.until([&] { return served.journal.entries().empty(); }));
  CHECK(served.calls() == Calls{"0:-", "1:-"});
}

TEST_CASE("job: baseline steps run without the schedule", "[job]") {
  Served served(2);
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  for (int step = 0; step < 2; ++step) {
    slackline_step_begin(session);
    for (const PlannedRun& run : kPlan) {
      CHECK(slackline_instruction_begin(session, run.kind, run.microbatch) == SLACKLINE_OK);
      slackline_instruction_end(session);
    }
    CHECK(slackline_step_end(session) == SLACKLINE_OK);
  }
  CHECK(served.is_quiet());
  CHECK(served.journal.entries().empty());
  slackline_step_begin(session);
  CHECK(served.calls() == Calls{"0:1200", "1:1200"});
  slackline_close(session);
}

TEST_CASE("job: a job in another order is told the first difference before any clock is set", "[job]") {
  Served served(1);
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  slackline_step_begin(session);
  CHECK(slackline_instruction_begin_on(session, kForward, 0, 0) == SLACKLINE_OK);
  slackline_instruction_end(session);
  CHECK(slackline_instruction_begin_on(session, kBackward, 0, 0) == SLACKLINE_ESEQUENCE);
  CHECK(contains(slackline_message(session),
                 "the job runs backward of microbatch 0 on stage 0 where the schedule has forward of "
                 "microbatch 1 on stage 0 (instruction 1 of the step)"));
  slackline_instruction_end(session);
  slackline_step_end(session);
  for (int step = 0; step < 2; ++step) {
    slackline_step_begin(session);
    for (const PlannedRun& run : kPlan) {
      slackline_instruction_begin(session, run.kind, run.microbatch);
      slackline_instruction_end(session);
    }
    slackline_step_end(session);
  }
  CHECK(served.is_quiet());
  CHECK(served.journal.entries().empty());
  slackline_close(session);
}

TEST_CASE("job: what runs outside of steps follows no schedule and does not advance it", "[job]") {
  Served served;
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  for (int step = 0; step < 2; ++step) {
    slackline_step_begin(session);
    for (const PlannedRun& run : kPlan) {
      CHECK(slackline_instruction_begin(session, run.kind, run.microbatch) == SLACKLINE_OK);
      slackline_instruction_end(session);
    }
    CHECK(slackline_step_end(session) == SLACKLINE_OK);
    served.is_quiet();  // whatever of that has reached the device
    served.calls(0);
    for (int microbatch = 0; microbatch < 3; ++microbatch) {  // evaluation
      CHECK(slackline_instruction_begin(session, kForward, microbatch) == SLACKLINE_OK);
      CHECK(slackline_instruction_end(session) == SLACKLINE_OK);
    }
    CHECK(served.is_quiet());
  }
  slackline_close(session);
}

TEST_CASE("job: a job that leaves the order is told so once and stays at its baseline", "[job]") {
  Served served;
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  slackline_step_begin(session);
  SECTION("by another instruction") {
    CHECK(slackline_instruction_begin(session, kBackward, 0) == SLACKLINE_ESEQUENCE);
    slackline_instruction_end(session);
    CHECK(slackline_step_end(session) == SLACKLINE_OK);
  }
  SECTION("by too few") {
    CHECK(slackline_step_end(session) == SLACKLINE_ESEQUENCE);
  }
  CHECK(slackline_message(session) != std::string());
  served.is_quiet();
  served.calls(0);
  slackline_step_begin(session);
  CHECK(slackline_instruction_begin(session, kForward, 0) == SLACKLINE_OK);
  slackline_instruction_end(session);
  slackline_step_end(session);
  CHECK(served.is_quiet());
  const auto& events = served.observed.events;
  CHECK(std::count(events.begin(), events.end(), std::pair(0, JobEventType::kOutOfSequence)) == 1);
  slackline_close(session);
}

TEST_CASE("job: a released schedule asks for the baseline and for nothing after", "[job]") {
  Served served;
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  slackline_step_begin(session);
  CHECK(served.calls() == Calls{"0:1200", "1:1200"});
  slackline_instruction_begin(session, kForward, 0);
  served.server().release();
  slackline_instruction_end(session);
  CHECK(served.calls() == Calls{"0:-", "1:-"});
  slackline_step_end(session);
  slackline_step_begin(session);
  CHECK(served.is_quiet());
  slackline_close(session);
  slackline_session* later = nullptr;  // and for a process that joins later, too
  CHECK(served.until([&] { return served.journal.entries().empty(); }));
  served.calls();
  REQUIRE(served.open(0, 2, &later) == SLACKLINE_OK);
  slackline_step_begin(later);
  CHECK(served.is_quiet());
  slackline_close(later);
}

TEST_CASE("job: a job with another number of stages is refused and says why", "[job]") {
  Served served;
  slackline_session* session = nullptr;
  CHECK(served.open(0, 3, &session) == SLACKLINE_EREFUSED);
  CHECK(contains(slackline_message(session), "2 ranks, the job has 3"));
  REQUIRE(served.observed.refusals.size() == 1);
  CHECK(contains(served.observed.refusals[0], "2 ranks, the job has 3"));
  // Training goes on: every further call succeeds and asks for nothing.
  CHECK(slackline_step_begin(session) == SLACKLINE_OK);
  CHECK(slackline_instruction_begin(session, kForward, 0) == SLACKLINE_OK);
  CHECK(slackline_instruction_end(session) == SLACKLINE_OK);
  CHECK(slackline_step_end(session) == SLACKLINE_OK);
  CHECK(served.is_quiet());
  slackline_close(session);
}

TEST_CASE("job: a hello that is none, or of another version, is refused in words", "[job]") {
  Served served;
  const JobHello good{kJobMagic, 0, 2, 0, 1, 0, 1, {}};
  const JobHello foreign{kJobMagic + 1, 0, 2, 0, 1, 0, 1, {}};
  const auto bytes = [](const JobHello& hello) {
    return std::string(reinterpret_cast<const char*>(&hello), sizeof hello);
  };
  const std::vector<std::pair<std::string, std::string>> hellos{
      {"x", "broke the protocol"},
      {bytes(good).substr(0, 11), "broke the protocol"},
      {bytes(good) + "x", "broke the protocol"},
      {std::string(60'000, 'x'), "broke the protocol"},
      {bytes(foreign), "another version"},
      {bytes(foreign) + "which is longer", "another version"},
  };
  for (const auto& [hello, reason] : hellos) {
    CAPTURE(hello.size());
    const Descriptor client = connect_to(std::getenv(kSocketVariable));
    REQUIRE(send_packet(client.get(), std::as_bytes(std::span(hello))));
    REQUIRE(served.until([&] { return wait_readable(client.get(), Seconds(0)); }));
    const auto answer = receive_packet(client.get(), sizeof(JobWelcome));
    REQUIRE((answer && answer->data.size() == sizeof(JobWelcome)));
    JobWelcome welcome{};
    std::memcpy(&welcome, answer->data.data(), sizeof welcome);
    CHECK(welcome.status != 0);
    CHECK(contains(welcome.text.data(), reason));
    CHECK(answer->descriptors.empty());
  }
  CHECK(served.observed.strangers.size() == 4);
  CHECK(contains(served.observed.strangers.at(0), "broke the protocol"));
  CHECK(served.observed.refusals.size() == 2);  // a job of another version is none that could go on
  slackline_session* session = nullptr;
  CHECK(served.open(0, 2, &session) == SLACKLINE_OK);
  slackline_close(session);
}

TEST_CASE("job: a stage has one process; when that has gone another may come", "[job]") {
  Served served;
  slackline_session* first = nullptr;
  slackline_session* second = nullptr;
  REQUIRE(served.open(1, 2, &first) == SLACKLINE_OK);
  CHECK(served.open(1, 2, &second) == SLACKLINE_EREFUSED);
  CHECK(contains(slackline_message(second), "another process is rank 1"));
  CHECK(served.observed.refusals.empty());  // the job as a whole is served all the same
  slackline_close(second);
  slackline_step_begin(first);
  CHECK(served.calls() == Calls{"2:1200", "3:1200"});
  slackline_close(first);
  CHECK(served.until([&] { return served.journal.entries().empty(); }));
  CHECK(served.calls() == Calls{"2:-", "3:-"});
  REQUIRE(served.open(1, 2, &second) == SLACKLINE_OK);
  slackline_step_begin(second);
  CHECK(served.calls() == Calls{"2:1200", "3:1200"});
  slackline_close(second);
}

/// A step as planned, whatever the session says.
void run_step(slackline_session* session) {
  CHECK(slackline_step_begin(session) == SLACKLINE_OK);
  for (const PlannedRun& entry : kPlan) {
    CHECK(slackline_instruction_begin(session, entry.kind, entry.microbatch) == SLACKLINE_OK);
    CHECK(slackline_instruction_end(session) == SLACKLINE_OK);
  }
  CHECK(slackline_step_end(session) == SLACKLINE_OK);
}

/// Two plans more, for stragglers: at 1.1 and at 1.3 times the time.
JobPlans plans_for_stragglers() {
  JobPlans plans = plans_of({{{kForward, 0, 1200}, {kBackward, 0, 1200}}});
  plans.times = {Seconds(1), Seconds(1.1), Seconds(1.3)};
  for (const int mhz : {1000, 800}) plans.ranks[0].clocks.push_back({Megahertz(mhz), Megahertz(mhz)});
  return plans;
}

TEST_CASE("job: while a pipeline straggles the others follow the slowest plan that ends before it", "[job]") {
  Served served(0, plans_for_stragglers());
  std::array<slackline_session*, 2> sessions{};
  for (int pipeline = 0; pipeline < 2; ++pipeline) {
    REQUIRE(served.join({0, 1, pipeline, 2, 0, 1, nullptr},
                        &sessions.at(static_cast<std::size_t>(pipeline))) == SLACKLINE_OK);
  }
  const auto plans_of_a_step = [&] {
    std::array<int, 2> plans{};
    for (std::size_t p = 0; p < 2; ++p) {
      slackline_step_begin(sessions[p]);
      plans[p] = slackline_plan(sessions[p]);
      for (const std::int32_t kind : {kForward, kBackward}) {
        slackline_instruction_begin(sessions[p], kind, 0);
        slackline_instruction_end(sessions[p]);
      }
      slackline_step_end(sessions[p]);
    }
    return plans;
  };
  using Plans = std::array<int, 2>;
  CHECK(plans_of_a_step() == Plans{0, 0});
  CHECK(slackline_set_straggler(sessions[0], 1, 1.2) == SLACKLINE_OK);
  CHECK(slackline_straggler(sessions[1], 1) == 1.2);
  CHECK(slackline_best_plan(sessions[0]) == 1);
  CHECK(plans_of_a_step() == Plans{1, 0});
  CHECK(slackline_set_straggler(sessions[0], 0, 1.3) == SLACKLINE_OK);
  CHECK(plans_of_a_step() == Plans{1, 2});
  CHECK(slackline_set_straggler(sessions[1], -1, 50) == SLACKLINE_OK);
  CHECK(plans_of_a_step() == Plans{2, 2});
  for (const int pipeline : {-1, 0, 1}) slackline_set_straggler(sessions[0], pipeline, 1);
  CHECK(plans_of_a_step() == Plans{0, 0});
  CHECK(slackline_set_straggler(sessions[0], 2, 1.2) == SLACKLINE_EINVAL);
  CHECK(slackline_set_straggler(sessions[0], 0, 0.9) == SLACKLINE_EINVAL);
  // By other means: a job on several nodes.
  CHECK(slackline_agrees(sessions[0]) == 1);
  CHECK(slackline_step_begin_with(sessions[0], 2) == SLACKLINE_OK);
  CHECK(slackline_plan(sessions[0]) == 2);
  slackline_step_end(sessions[0]);
  for (slackline_session* session : sessions) slackline_close(session);
}

TEST_CASE("job: ranks of a job of one pipeline have nothing to agree on", "[job]") {
  JobPlans plans = plans_for_stragglers();
  plans.ranks.push_back(plans.ranks.front());
  for (OrderEntry& entry : plans.ranks[1].order) entry.stage = 1;
  Served served(0, plans);
  std::array<slackline_session*, 2> ranks{};
  for (int rank = 0; rank < 2; ++rank) {
    REQUIRE(served.join({rank, 2, 0, 1, 0, 1, nullptr}, &ranks.at(static_cast<std::size_t>(rank))) ==
            SLACKLINE_OK);
  }
  CHECK(slackline_agrees(ranks[0]) == 0);  // nobody could wait for a job of one pipeline
  for (slackline_session* session : ranks) slackline_close(session);
}

TEST_CASE("job: places that do not fit each other are refused", "[job]") {
  Served served(0, plans_for_stragglers());
  slackline_session* first = nullptr;
  slackline_session* second = nullptr;
  REQUIRE(served.join({0, 1, 0, 2, 0, 1, nullptr}, &first) == SLACKLINE_OK);
  CHECK(served.join({0, 1, 1, 3, 0, 1, nullptr}, &second) == SLACKLINE_EREFUSED);
  CHECK(contains(slackline_message(second),
                 "the device has GPUs for 2 ranks, the job has 1 in each of 3 pipelines"));
  slackline_close(second);
  CHECK(served.join({0, 1, 0, 1, 0, 1, nullptr}, &second) == SLACKLINE_EREFUSED);
  CHECK(contains(slackline_message(second), "another process says that the job has 1 ranks, 2 pipelines"));
  slackline_close(second);
  CHECK(served.join({0, 1, 1, 2, 0, 1, "GPU-of-nobody"}, &second) == SLACKLINE_EREFUSED);
  CHECK(contains(slackline_message(second), "GPU-of-nobody is none of those"));
  slackline_close(second);
  slackline_close(first);
}

TEST_CASE("job: an agent that ends gives the GPUs back; the job goes on without it and says so once",
          "[job]") {
  Served served;
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  slackline_step_begin(session);
  CHECK(served.calls() == Calls{"0:1200", "1:1200"});
  served.end_agent();
  CHECK(served.device.take() == Calls{"0:-", "1:-"});
  CHECK(served.journal.entries().empty());
  for (const PlannedRun& entry : kPlan) {
    CHECK(slackline_instruction_begin(session, entry.kind, entry.microbatch) == SLACKLINE_OK);
    CHECK(slackline_instruction_end(session) == SLACKLINE_OK);
  }
  CHECK(slackline_step_end(session) == SLACKLINE_OK);
  CHECK(slackline_message(session) == std::string());
  run_step(session);
  CHECK(contains(slackline_message(session), "run at their own clocks"));
  run_step(session);
  CHECK(served.is_quiet());
  CHECK(served.observed.count(0, JobEventType::kNoLease) == 1);
  CHECK(served.observed.count(0, JobEventType::kStepEnd) == 3);
  slackline_close(session);
}

TEST_CASE("job: without an agent from the start the job runs and says so once", "[job]") {
  Served served;
  served.end_agent();
  slackline_session* session = nullptr;
  CHECK(served.open(0, 2, &session) == SLACKLINE_OK);
  CHECK(contains(slackline_message(session), "no agent listens"));
  run_step(session);
  run_step(session);
  CHECK(served.is_quiet());
  CHECK(served.observed.count(0, JobEventType::kNoLease) == 1);
  slackline_close(session);
}

TEST_CASE("job: a clock that a GPU refuses ends the lease of all its GPUs and leaves nothing locked",
          "[job]") {
  Served served;
  served.device.refused = Megahertz(1100);
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  slackline_step_begin(session);
  CHECK(served.calls() == Calls{"0:1200", "1:1200"});
  slackline_instruction_begin(session, kForward, 0);
  slackline_instruction_end(session);
  CHECK(served.calls() == Calls{"0:-", "1:-"});
  CHECK(served.until([&] { return served.journal.entries().empty(); }));
  slackline_instruction_begin(session, kForward, 1);
  slackline_instruction_end(session);
  slackline_step_end(session);
  CHECK(served.is_quiet());
  slackline_close(session);
}

TEST_CASE("job: a clock that the device does not have is never asked for", "[job]") {
  Served served(0, {{{kForward, 0, 1250}}, kPlan});
  slackline_session* session = nullptr;
  CHECK(served.open(0, 2, &session) == SLACKLINE_OK);
  CHECK(contains(slackline_message(session), "1250 MHz"));
  slackline_step_begin(session);
  slackline_instruction_begin(session, kForward, 0);
  slackline_instruction_end(session);
  slackline_step_end(session);
  CHECK(served.is_quiet());
  CHECK(served.observed.count(0, JobEventType::kNoLease) == 1);
  slackline_close(session);
}

TEST_CASE("job: a forked child has no part in its parent's lease, and ends nothing when it closes", "[job]") {
  Served served;
  slackline_session* session = nullptr;
  REQUIRE(served.open(0, 2, &session) == SLACKLINE_OK);
  slackline_step_begin(session);
  CHECK(served.calls() == Calls{"0:1200", "1:1200"});
  const pid_t child = ::fork();
  if (child == 0) {
    slackline_instruction_begin(session, kForward, 0);
    slackline_instruction_end(session);
    slackline_step_end(session);
    slackline_close(session);
    ::_exit(0);
  }
  int status = -1;
  REQUIRE(::waitpid(child, &status, 0) == child);
  CHECK(status == 0);
  CHECK(served.is_quiet());
  slackline_instruction_begin(session, kForward, 0);
  slackline_instruction_end(session);
  CHECK(served.calls() == Calls{"0:1100", "1:1100"});

  // Nor does it keep the lease when its parent is gone.
  const pid_t worker = ::fork();
  if (worker == 0) {
    while (true) ::pause();
  }
  slackline_close(session);
  CHECK(served.until([&] { return served.journal.entries().empty(); }));
  CHECK(served.calls() == Calls{"0:-", "1:-"});
  ::kill(worker, SIGKILL);
  ::waitpid(worker, nullptr, 0);
}

}  // namespace
}  // namespace slackline
