#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <exception>
#include <memory>
#include <thread>

#include "command.h"
#include "job_device.h"
#include "recordings.h"
#include "say_warnings.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/base/user.h"
#include "slackline/measure/clock_sweep.h"
#include "slackline/measure/combine.h"
#include "slackline/pipeline/order.h"
#include "slackline/profile/profile_io.h"
#include "slackline/report/progress_bar.h"
#include "slackline/runtime/job_runner.h"
#include "slackline/schedule/clock_budget.h"
#include "swept_job.h"

namespace slackline {
namespace {

struct ProfileFlags {
  std::string device;
  std::string agent;
  std::optional<int> tensor_parallel;
  bool read_only = false;
  std::string output;
  std::string model;
  std::string merge;

  bool isolated = false;
  std::optional<int> budget;
  double regret_percent = 0.2;
  std::string order = "1f1b";
  std::string clocks = "down";
  std::optional<std::uint64_t> seed;
  bool one_way = false;
  std::optional<double> precision_percent;
  int warm_up_steps = 1;
  std::optional<int> most_steps;
  std::optional<int> steps;
  double blocking_wait_s = 0;
  bool restart = false;
  std::vector<std::string> command;
};

constexpr std::uint64_t kSeed = 1;
constexpr double kPrecisionPercent = 0.8;
constexpr int kMostSteps = 20;
/// Steps at a clock where ranks measure apart from each other and have to stay together.
constexpr int kStepsOfRanks = 5;
/// Clocks below which a prediction of the regret is a guess.
constexpr int kFewestClocks = 4;

std::string order_text(const ProfileFlags& flags) {
  std::string text = flags.clocks;
  if (flags.budget) text = "budget " + std::to_string(*flags.budget);
  if (flags.clocks == "random") text += " " + std::to_string(flags.seed.value_or(kSeed));
  if (flags.one_way) text += ", one way";
  if (flags.isolated) text += ", isolated";
  return text;
}

std::vector<std::vector<Megahertz>> clocks_of(const Recording& recording) {
  std::vector<std::vector<Megahertz>> clocks;
  for (const StageRecording& stage : recording.stages) clocks.push_back(stage.clocks);
  return clocks;
}

/// Which clocks are worth measuring next, by what the plan would make of them.
std::optional<RoundClocks> choose_clocks(const Recording& so_far, const ProfileFlags& flags) {
  const auto has_chunks = [](const Visit& visit) {
    return std::ranges::any_of(visit.estimate.kinds, [](const auto& entry) { return entry.first.chunk > 0; });
  };
  const auto is_shared = [&](const StageRecording& rank) {
    return std::ranges::any_of(rank.visits, has_chunks);
  };
  if (so_far.pipeline_stages != static_cast<int>(so_far.stages.size()) ||
      std::ranges::any_of(so_far.stages, is_shared)) {
    throw InputError("", 0, "--budget", "is for jobs of one pipeline with one stage a rank");
  }
  Profile measured;
  if (rounds_done(so_far) == 0) {
    measured.stages.resize(so_far.stages.size());
  } else {
    measured.stages = combine({so_far});
  }
  for (StageProfile& stage : measured.stages) {
    // A stage that nobody lets wait has no other use for its time.
    if (!stage.blocking_power) stage.blocking_power = Watts(0);
  }
  const OrderSpec order{flags.order, std::max(1, so_far.microbatches)};
  const NextClocks next = next_clocks(measured, clocks_of(so_far), order);
  const bool is_enough =
      rounds_done(so_far) >= kFewestClocks && next.predicted_regret * 100 < flags.regret_percent;
  if (is_enough) return std::nullopt;
  RoundClocks clocks;
  for (const auto& clock : next.clocks) clocks.push_back(clock.value_or(Megahertz(0)));
  return clocks;
}

SweepOptions sweep_options(const ProfileFlags& flags, bool is_one_rank) {
  SweepOptions options;
  options.order.is_random = flags.clocks == "random";
  options.order.seed = flags.seed.value_or(kSeed);
  options.order.revisits = !flags.one_way && !flags.read_only;
  options.order.budget = flags.budget;
  options.order.choose = [flags](const Recording& so_far) { return choose_clocks(so_far, flags); };
  options.warm_up_steps = flags.warm_up_steps;
  options.most_steps = flags.most_steps.value_or(kMostSteps);
  // Of both visits together it is wanted.
  options.precision = flags.precision_percent.value_or(kPrecisionPercent) / 100 *
                      (options.order.revisits ? std::sqrt(2.0) : 1);
  if (is_one_rank) options.order.rises = 0;
  if (is_one_rank || flags.steps)
    options.least_steps = options.most_steps = flags.steps.value_or(kStepsOfRanks);
  options.is_isolated = flags.isolated;
  options.blocking_wait = Seconds(flags.blocking_wait_s);
  options.is_read_only = flags.read_only;
  return options;
}

/// What somebody who plans with the profile should know of the GPUs, each once.
std::vector<std::string> remarks_on(const JobDevice& device) {
  std::vector<std::string> remarks;
  for (const auto& gpus : device.rank_gpus()) {
    for (const GpuId gpu : gpus) {
      for (const std::string& remark : device.device().abilities(gpu).remarks) {
        if (std::ranges::find(remarks, remark) == remarks.end()) remarks.push_back(remark);
      }
    }
  }
  return remarks;
}

/// A recording of nothing yet.
Recording fresh_recording(const ProfileFlags& flags, const JobDevice& device, const std::optional<Rank>& rank,
                          const std::vector<std::string>& remarks) {
  Recording fresh;
  const Profile* const simulated = device.profile();
  fresh.model = flags.model.empty() && simulated != nullptr ? simulated->model : flags.model;
  if (simulated == nullptr) {
    fresh.gpu = device.device().identity(device.rank_gpus().front().front()).model;
  } else {
    fresh.gpu = simulated->gpu.empty() ? "simulated" : simulated->gpu + " (simulated)";
  }
  fresh.origin = "measured by slackline profile on " + flags.device +
                 (simulated == nullptr ? " (" + device.device().driver() + ")" : "");
  for (const std::string& remark : remarks) fresh.origin += "; " + remark;
  fresh.order = order_text(flags);
  if (rank) {
    fresh.rank = rank->rank;
    fresh.ranks = rank->ranks;
  } else {
    // Until the job says more.
    fresh.pipeline_stages =
        static_cast<int>(simulated != nullptr ? simulated->stages.size() : device.rank_gpus().size());
  }
  for (const auto& gpus : device.rank_gpus()) {
    StageRecording stage;
    stage.stages = {static_cast<int>(fresh.stages.size())};
    stage.gpus = static_cast<int>(gpus.size());
    stage.clocks = device.device().supported_clocks(gpus.front());
    fresh.stages.push_back(std::move(stage));
  }
  return fresh;
}

void check_is_whole(const Profile& profile) {
  for (std::size_t s = 0; s < profile.stages.size(); ++s) {
    const auto missing = missing_kind(profile.stages[s]);
    if (!missing) continue;
    throw NoAnswer("stage " + std::to_string(s) + " ran no '" + std::string(name_of(*missing)) +
                   "' that could be measured");
  }
}

/// The profile, to its file, and in short to the screen.
void write_profile(const std::vector<Recording>& recordings, const ProfileFlags& flags,
                   const std::optional<User>& user) {
  const Recording& first = recordings.front();
  Profile profile;
  profile.model = flags.model.empty() ? first.model : flags.model;
  profile.gpu = first.gpu;
  profile.origin = first.origin;
  profile.stages = combine(recordings, flags.merge.empty() ? std::nullopt : flags.tensor_parallel);
  check_is_whole(profile);
  if (flags.budget) profile = completed(profile, clocks_of(first));
  {
    const ActingAs acting(user);
    write_file(flags.output, to_yaml(profile));
  }
  const ProfileSummary summary = summarise(profile);
  say_warnings(summary);
  if (flags.output != "-") std::fputs(highest_clocks_text(summary).c_str(), stdout);
}

int merge(const ProfileFlags& flags) {
  write_profile(read_pieces(flags.merge), flags, {});
  return kOk;
}

/// How far a sweep is, as people want to know it.
class Progress {
 public:
  explicit Progress(const ClockSweep& sweep) : sweep_(sweep), first_round_(sweep.rounds()) {}

  void show() {
    const int done = sweep_.rounds();
    const int all = std::max(1, sweep_.expected_rounds());
    std::string note = std::to_string(done) + " of at most " + std::to_string(all) + " visits";
    if (sweep_.last_error() > 0) note += ", error " + fixed_text(sweep_.last_error() * 100, 2) + " %";
    if (done > first_round_) {
      const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - begin_;
      const double left = passed.count() / (done - first_round_) * (all - done);
      note +=
          left < 90 ? ", " + fixed_text(left, 0) + " s left" : ", " + fixed_text(left / 60, 0) + " min left";
    }
    bar_.show(static_cast<double>(done) / all, note);
  }

 private:
  const ClockSweep& sweep_;
  int first_round_;
  std::chrono::steady_clock::time_point begin_ = std::chrono::steady_clock::now();
  ProgressBar bar_{"profiling"};
};

/// Ranks that are through wait for the others: the end of one is the end of all. Looks once a second, since
/// meanwhile the job trains on.
class OtherRanks {
 public:
  OtherRanks(RecordingFile& file, int ranks) : file_(file), ranks_(ranks) {}

  [[nodiscard]] bool are_through() {
    const auto now = std::chrono::steady_clock::now();
    if (now < next_look_) return false;
    next_look_ = now + std::chrono::seconds(1);
    try {
      return file_.complete_pieces() >= ranks_;
    } catch (const InputError&) {  // one is just being replaced
      return false;
    }
  }

 private:
  RecordingFile& file_;
  int ranks_;
  std::chrono::steady_clock::time_point next_look_;
};

void check_flags(const ProfileFlags& flags, bool is_one_rank) {
  const auto refuse = [](const char* flag, const std::string& reason) {
    throw InputError("", 0, flag, reason);
  };
  if (flags.device.empty()) refuse("--device", "is needed");
  if (flags.command.empty()) refuse("CMD", "a training job is needed, after --");
  if (flags.clocks != "down" && flags.clocks != "random") {
    refuse("--clocks", "'" + flags.clocks + "' is unknown; known: down, random");
  }
  if (flags.seed && flags.clocks != "random") refuse("--seed", "is of --clocks random");
  const auto& orders = order_names();
  if (std::ranges::find(orders, flags.order) == orders.end()) {
    refuse("--order", "'" + flags.order + "' is unknown; slackline order --help lists them");
  }
  if (is_one_rank && (flags.most_steps || flags.precision_percent)) {
    refuse(flags.most_steps ? "--most-steps" : "--precision",
           "ranks that measure apart stay together by equal numbers of --steps");
  }
  if (flags.budget && is_one_rank) {
    refuse("--budget",
           "needs the whole pipeline in one profile; ranks that measure apart cannot choose clocks");
  }
  if (flags.tensor_parallel && is_one_rank)
    refuse("--tensor-parallel", "is for --merge, where ranks measure apart");
}

int run(const ProfileFlags& flags) {
  if (!flags.merge.empty()) return merge(flags);
  std::optional<Rank> rank = rank_from_environment();
  const bool is_one_rank = is_folder(flags.output);
  if (is_one_rank && !rank) {
    throw InputError("", 0, "--output",
                     "'" + flags.output +
                         "' is a folder, for the pieces of several ranks, but nothing here says which rank "
                         "this is (RANK, OMPI_COMM_WORLD_RANK, PMI_RANK, SLURM_PROCID)");
  }
  if (!is_one_rank && rank && rank->ranks > 1) {
    throw InputError("", 0, "--output",
                     "this is one of " + std::to_string(rank->ranks) +
                         " ranks; name a folder, with a '/' at the end, for a piece of each, and --merge it "
                         "afterwards");
  }
  if (!is_one_rank) rank.reset();
  check_flags(flags, is_one_rank);

  Job job;
  JobDevice device({.device = flags.device,
                    .agent = flags.agent,
                    .tensor_parallel = flags.tensor_parallel.value_or(1),
                    .read_only = flags.read_only,
                    .leases_itself = true,
                    .rank = rank});
  RecordingFile file(flags.output, rank, device.user());  // before an hour of measuring, not after
  const std::vector<std::string> remarks = remarks_on(device);
  for (const std::string& remark : remarks) std::fprintf(stderr, "slackline: %s\n", remark.c_str());
  Recording begun = fresh_recording(flags, device, rank, remarks);
  if (!flags.restart) {
    if (auto earlier = file.earlier(begun)) {
      begun = std::move(*earlier);
      std::fprintf(stderr, "slackline: going on from %s, after %d visits\n", file.path().c_str(),
                   rounds_done(begun));
    }
  }

  SweptJob swept(device);
  for (std::size_t r = 0; rounds_done(begun) > 0 && r < begun.stages.size(); ++r) {
    swept.expect_stages(static_cast<int>(r), begun.stages[r].stages);
  }
  JobOptions job_options;
  job_options.rank_gpus = device.rank_uuids();
  job_options.gpus = device.uuids_of(device.gpus());
  job_options.has_one_rank = is_one_rank;
  if (is_one_rank && device.world()) job_options.simulated_rank = rank->rank;
  JobServer server(device.world(), job_options, device.job_socket(), swept);
  device.hand_over_job_socket();
  ClockSweep sweep(device.device(), device.rank_gpus(), std::move(begun), swept,
                   sweep_options(flags, is_one_rank));
  swept.begin(server, sweep.trace());

  std::exception_ptr failure;
  std::atomic<bool> done = false;
  bool lost = false;
  std::optional<Recording> kept;
  const auto keep = [&] {
    auto fresh = swept.take_kept();
    if (!fresh) return;
    file.keep(*fresh);
    kept = std::move(fresh);
  };
  std::unique_ptr<Timeline> timeline = device.device().make_timeline();
  if (const std::string reason =
          job.start(flags.command, kSocketVariable, device.job_socket(), device.user());
      !reason.empty()) {
    std::fprintf(stderr, "slackline: %s\n", reason.c_str());
    return job.exit_status();
  }
  {
    const std::jthread thread([&] {
      try {
        sweep.run(*timeline);
      } catch (...) {
        failure = std::current_exception();
      }
      timeline.reset();
      done = true;
    });
    const ShutDownAtExit shut_down(device.device());  // wakes the thread, which is then joined
    Progress progress(sweep);
    OtherRanks others(file, is_one_rank ? rank->ranks : 1);
    job.run(server, [&] {
      device.look_after_agent();
      progress.show();
      keep();
      lost = lost || (!done && swept.has_lost_lease());
      const bool is_over = done && (!is_one_rank || failure || others.are_through());
      if (is_over || lost || !swept.refusal().empty()) job.terminate();
    });
  }
  keep();
  const bool restored = device.end_agent();
  if (!swept.refusal().empty()) throw InputError("", 0, "--device", swept.refusal());
  const std::string go_on = kept && !file.path().empty()
                                ? "; what was measured is in " + file.path() + ", the same command goes on"
                                : "";
  if (failure) {
    if (!go_on.empty()) std::fprintf(stderr, "slackline: after %d visits%s\n", sweep.rounds(), go_on.c_str());
    std::rethrow_exception(failure);
  }
  if (lost) throw DeviceError("set clocks", "", swept.why_lost() + go_on);
  if (!sweep.is_complete()) {
    const std::string far =
        std::to_string(sweep.rounds()) + " of at most " + std::to_string(sweep.expected_rounds()) + " visits";
    if (job.interrupted_by() != 0) {
      std::fprintf(stderr, "slackline: interrupted after %s%s\n", far.c_str(), go_on.c_str());
      return 128 + job.interrupted_by();
    }
    throw NoAnswer("the job ended after " + far + "; let it run for more steps" + go_on);
  }
  if (!is_one_rank) {
    write_profile({*kept}, flags, device.user());
    file.remove();
  }
  return restored ? kOk : kDeviceFault;
}

}  // namespace

void add_profile(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ProfileFlags>();
  CLI::App* command =
      app.add_subcommand("profile", "Time and energy of every instruction at every GPU clock");
  command->add_option("--device", flags->device, kJobDeviceHelp);
  command->add_option("--agent", flags->agent, kAgentHelp);
  const auto* tensor_parallel =
      command
          ->add_option("--tensor-parallel", flags->tensor_parallel,
                       "GPUs of each stage, on real devices (simulated ones have their profile's); with "
                       "--merge, of each pipeline's stage, if ranks are also replicas")
          ->check(CLI::Range(1, 64));
  const auto* output =
      command
          ->add_option(
              "-o,--output", flags->output,
              "Write the profile (YAML) here; - is standard output; a folder (DIR/) takes a piece of "
              "each rank")
          ->required();
  const auto* model = command->add_option("--model", flags->model, "What to call the model in the profile");

  auto* read_only =
      command->add_flag("--read-only", flags->read_only,
                        "Set no clock: measure at the one that the GPUs have, which needs no privileges");
  auto* isolated = command->add_flag(
      "--isolated", flags->isolated,
      "The job runs its instructions alone, in loops, without steps; a pipeline repeats them");
  auto* budget = command
                     ->add_option("--budget", flags->budget,
                                  "Measure at most so many clocks of each stage, those that change the plan "
                                  "most; a model fills in the rest")
                     ->check(CLI::Range(2, 1000))
                     ->excludes(read_only);
  command
      ->add_option("--regret", flags->regret_percent,
                   "With --budget: fewer will do once the plan's predicted loss is below so many percent")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str()
      ->needs(budget);
  command->add_option("--order", flags->order, "With --budget: the order to plan for")
      ->capture_default_str()
      ->needs(budget);
  command->add_option("--clocks", flags->clocks, "down: from the highest to the lowest; or random")
      ->capture_default_str()
      ->excludes(budget)
      ->excludes(read_only);
  command->add_option("--seed", flags->seed, "Of --clocks random (default: " + std::to_string(kSeed) + ")");
  command
      ->add_flag("--one-way", flags->one_way,
                 "Visit every clock once, not again in the opposite order; drift then stays hidden")
      ->excludes(read_only);
  auto* precision = command
                        ->add_option("--precision", flags->precision_percent,
                                     "Standard error of times and energies to reach, in percent (default: " +
                                         exact_text(kPrecisionPercent) + ")")
                        ->check(CLI::Range(0.01, 20.0));
  command->add_option("--warm-up-steps", flags->warm_up_steps, "Steps at a new clock that do not count")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str()
      ->excludes(isolated);
  auto* most_steps =
      command
          ->add_option(
              "--most-steps", flags->most_steps,
              "Steps that a visit of a clock takes at most (default: " + std::to_string(kMostSteps) + ")")
          ->check(CLI::Range(1, 100'000))
          ->excludes(isolated);
  command
      ->add_option(
          "--steps", flags->steps,
          "Exactly so many instead (" + std::to_string(kStepsOfRanks) + " where ranks measure apart)")
      ->check(CLI::Range(1, 100'000))
      ->excludes(isolated)
      ->excludes(precision)
      ->excludes(most_steps);
  command
      ->add_option("--blocking-wait", flags->blocking_wait_s,
                   "First let every stage wait for so many seconds, for its blocking power")
      ->check(CLI::Range(0.0, 3600.0))
      ->excludes(isolated);
  command->add_flag("--restart", flags->restart, "Begin anew, whatever an interrupted profile has left");
  command->add_option("CMD", flags->command,
                      "The training job, after --; it must run until it is terminated");
  const std::vector<CLI::Option*> measuring = command->get_options([&](const CLI::Option* option) {
    return option != tensor_parallel && option != output && option != model &&
           option != command->get_help_ptr();
  });
  command->add_option("--merge", flags->merge, "Make the profile of the pieces in this folder; runs nothing");
  command->footer(
      "The job trains as ever; its clocks change between steps, from the highest to the lowest, until an\n"
      "instruction's time and its energy (less what waiting as long would have drawn) have both risen five "
      "times\n"
      "in a row, and back again. An interrupted profile is kept in FILE.part: the same command goes on from "
      "there.\n"
      "Several ranks: torchrun --no-python ... slackline profile --device nvml -o pieces/ -- python "
      "train.py,\n"
      "or the same under srun or mpirun; then slackline profile --merge pieces/ -o mine.yaml.\n"
      "Example: slackline profile --device sim:profiles/gpt3-175b-a100-sxm.yaml -o mine.yaml -- \\\n"
      "           slackline-demo-train --stages 8 --microbatches 8 --steps 0");
  command->callback([&action, flags, measuring] {
    for (const CLI::Option* option : measuring) {
      if (flags->merge.empty() || option->count() == 0) continue;
      throw InputError("", 0, "--merge", "takes no " + option->get_name());
    }
    action = [flags] { return run(*flags); };
  });
}

}  // namespace slackline
