#include "slackline/measure/kareus_import.h"

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string_view>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/base/parallel.h"
#include "slackline/measure/combine.h"
#include "slackline/measure/kareus_csv.h"
#include "slackline/measure/visit.h"
#include "slackline/profile/profile_io.h"

namespace slackline {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kEnergyPrefix = "time-energy-";
constexpr std::string_view kInstructionsPrefix = "instructions-";
constexpr std::string_view kComputeSuffix = "-compute";
constexpr std::string_view kIteration = "forward-backward";
/// Keeps a hostile folder from exhausting memory; far above any real job.
constexpr int kMostRanks = 1 << 20;
constexpr std::size_t kMostFiles = 1 << 20;
/// With fewer the counter says nothing.
constexpr std::size_t kFewestReadings = 3;

/// What a rank left at one clock.
struct RankFiles {
  std::string energy;
  std::string instructions;
};

/// Clock, rank.
using Place = std::pair<int, int>;

std::optional<int> number_in(std::string_view text, int low, int high) {
  const auto number = parse_integer(text);
  if (!number || *number < low || *number > high) return std::nullopt;
  return static_cast<int>(*number);
}

/// Names in a folder, in order.
std::set<std::string> names_in(const fs::path& folder) {
  std::set<std::string> names;
  std::error_code error;
  for (fs::directory_iterator entry(folder, error), end; !error && entry != end; entry.increment(error)) {
    names.insert(entry->path().filename().string());
    if (names.size() > kMostFiles) throw InputError(folder.string(), 0, "", "has too many files");
  }
  if (error) throw InputError(folder.string(), 0, "", "cannot read: " + error.message());
  return names;
}

/// The global rank of <prefix>GLOBAL-LOCAL.csv.
std::optional<int> rank_of(std::string_view name, std::string_view prefix) {
  if (!name.starts_with(prefix) || !name.ends_with(".csv")) return std::nullopt;
  name.remove_prefix(prefix.size());
  name.remove_suffix(std::string_view(".csv").size());
  const std::size_t dash = name.find('-');
  if (dash == std::string_view::npos || !number_in(name.substr(dash + 1), 0, kMostRanks - 1)) {
    return std::nullopt;
  }
  return number_in(name.substr(0, dash), 0, kMostRanks - 1);
}

class Files {
 public:
  /// Looks through the whole folder. What is none of these files is somebody else's.
  explicit Files(const std::string& folder) : folder_(folder) {
    add_clocks(folder_);
    for (const std::string& name : names_in(folder_)) {
      if (is_node(name)) add_clocks(folder_ / name);
    }
    if (files_.empty()) {
      throw InputError(folder, 0, "", "holds no [node<n>/]<MHz>/timers/time-energy-<rank>-<rank>.csv");
    }
    check();
  }

  [[nodiscard]] const std::map<Place, RankFiles>& all() const { return files_; }
  [[nodiscard]] int ranks() const { return ranks_; }
  [[nodiscard]] const std::set<int>& clocks() const { return clocks_; }

 private:
  static bool is_node(std::string_view name) {
    return name.starts_with("node") && number_in(name.substr(4), 0, kMostRanks);
  }

  /// What holds timers has to be a clock's: one more clock that nobody misses would otherwise go unseen.
  void add_clocks(const fs::path& folder) {
    for (const std::string& name : names_in(folder)) {
      const fs::path timers = folder / name / "timers";
      std::error_code ignored;
      if (is_node(name) || !fs::is_directory(timers, ignored)) continue;
      const auto clock = number_in(name, 1, kMaxClock);
      if (!clock) {
        throw InputError((folder / name).string(), 0, "",
                         "holds timers, but '" + name + "' is not a whole number of MHz from 1 to " +
                             std::to_string(kMaxClock));
      }
      add(*clock, timers);
    }
  }

  void add(int clock, const fs::path& timers) {
    for (const std::string& name : names_in(timers)) {
      const auto enter = [&](std::string_view prefix, std::string RankFiles::*which) {
        const auto rank = rank_of(name, prefix);
        if (!rank) return;
        std::string& file = files_[{clock, *rank}].*which;
        if (!file.empty()) {
          throw InputError((timers / name).string(), 0, "",
                           "rank " + std::to_string(*rank) + " has " + file + " already");
        }
        file = (timers / name).string();
        clocks_.insert(clock);
        ranks_ = std::max(ranks_, *rank + 1);
      };
      enter(kEnergyPrefix, &RankFiles::energy);
      enter(kInstructionsPrefix, &RankFiles::instructions);
    }
  }

  /// Every rank has both files at every clock.
  void check() const {
    for (const int clock : clocks_) {
      for (int rank = 0; rank < ranks_; ++rank) {
        const auto found = files_.find({clock, rank});
        const auto fail = [&](std::string_view what) {
          throw InputError(folder_.string(), 0, std::to_string(clock) + " MHz",
                           "rank " + std::to_string(rank) + " has no " + std::string(what) +
                               std::to_string(rank) + "-<rank>.csv");
        };
        if (found == files_.end() || found->second.energy.empty()) fail(kEnergyPrefix);
        if (found->second.instructions.empty()) fail(kInstructionsPrefix);
      }
    }
  }

  fs::path folder_;
  std::map<Place, RankFiles> files_;
  std::set<int> clocks_;
  int ranks_ = 0;
};

/// One rank at one clock.
class RankVisit {
 public:
  RankVisit(RankFiles files, const KareusOptions& options) : files_(std::move(files)) {
    readings_ = parse_kareus_energy(files_.energy, read_file(files_.energy));
    sort_out(parse_kareus_instructions(files_.instructions, read_file(files_.instructions)));
    skip(options);
    trim_readings();
  }

  /// What was assumed of it.
  [[nodiscard]] bool has_iterations() const { return has_iterations_; }
  [[nodiscard]] bool skipped_a_third() const { return skipped_a_third_; }

  [[nodiscard]] Visit visit(Megahertz clock) const {
    Visit visit;
    visit.clock = clock;
    visit.span = {begin_, end_};
    visit.estimate = estimate({runs_, steps_, {readings_}, {}});
    for (const auto& [task, found] : visit.estimate.kinds) {
      if (found.time.value > 0 && found.interpolated.value > 0) continue;
      throw InputError(files_.instructions, 0, "instruction",
                       "nothing can be said of '" + std::string(name_of(task.kind)) +
                           std::string(kComputeSuffix) +
                           "': it takes no time, or the energy readings do "
                           "not cover it");
    }
    return visit;
  }

  [[nodiscard]] Seconds counter_period() const {
    std::vector<Seconds> periods;
    for (std::size_t i = 1; i < readings_.size(); ++i) {
      periods.push_back(readings_[i].at - readings_[i - 1].at);
    }
    const auto middle = periods.begin() + static_cast<std::ptrdiff_t>(periods.size() / 2);
    std::ranges::nth_element(periods, middle);
    return *middle;
  }

 private:
  [[noreturn]] void fail(int line, const std::string& key, const std::string& reason) const {
    throw InputError(files_.instructions, line, key, reason);
  }

  /// Into runs and iterations, each in order of time.
  void sort_out(std::vector<KareusSpan> spans) {
    std::ranges::stable_sort(spans, {}, [](const KareusSpan& s) { return s.span.begin; });
    const KareusSpan* last_run = nullptr;
    const KareusSpan* last_step = nullptr;
    for (const KareusSpan& span : spans) {
      const bool is_run = span.name.ends_with(kComputeSuffix);
      if (!is_run && span.name != kIteration) continue;
      const KareusSpan*& last = is_run ? last_run : last_step;
      if (last != nullptr && span.span.begin < last->span.end) {
        fail(span.line, "start",
             "'" + span.name + "' overlaps '" + last->name + "' of line " + std::to_string(last->line));
      }
      last = &span;
      if (is_run) {
        runs_.push_back({kind_of(span), span.span, {}});
      } else {
        steps_.push_back(span.span);
      }
    }
    if (runs_.empty()) fail(0, "instruction", "no forward-compute and no backward-compute");
    has_iterations_ = !steps_.empty();
  }

  [[nodiscard]] InstructionKind kind_of(const KareusSpan& span) const {
    const auto kind = instruction_kind(span.name.substr(0, span.name.size() - kComputeSuffix.size()));
    if (!kind || is_fixed_time(*kind))
      fail(span.line, "instruction", "unknown instruction '" + span.name + "'");
    return *kind;
  }

  /// Where what counts begins.
  [[nodiscard]] Seconds after_warm_up(const KareusOptions& options) {
    const auto warm_up = static_cast<std::size_t>(options.warm_up_iterations);
    if (warm_up == 0)
      return has_iterations_ ? std::min(steps_.front().begin, runs_.front().span.begin)
                             : runs_.front().span.begin;
    if (steps_.size() > warm_up) return steps_[warm_up].begin;
    if (options.microbatches) {
      std::size_t forwards = warm_up * static_cast<std::size_t>(*options.microbatches);
      for (const Run& run : runs_) {
        if (run.task.kind == InstructionKind::kForward && forwards-- == 0) return run.span.begin;
      }
      fail(0, "--warm-up-iterations",
           "nothing is left after " + std::to_string(warm_up) + " iterations of " +
               std::to_string(*options.microbatches) + " microbatches");
    }
    skipped_a_third_ = true;
    return runs_[runs_.size() / 3].span.begin;
  }

  void skip(const KareusOptions& options) {
    begin_ = after_warm_up(options);
    std::erase_if(runs_, [&](const Run& run) { return run.span.begin < begin_; });
    std::erase_if(steps_, [&](const Span& step) { return step.end <= begin_; });
    if (runs_.empty()) fail(0, "instruction", "no instructions after the warm-up");
    end_ = runs_.back().span.end;
    if (!steps_.empty()) {
      steps_.front().begin = std::max(steps_.front().begin, begin_);
      end_ = std::max(end_, steps_.back().end);
    } else {
      steps_.push_back({begin_, end_});
    }
  }

  /// One reading more at either end, so that nothing between is cut.
  void trim_readings() {
    const auto first = std::ranges::upper_bound(readings_, begin_, {}, &EnergyReading::at);
    const auto last = std::ranges::lower_bound(readings_, end_, {}, &EnergyReading::at);
    const auto from = first == readings_.begin() ? first : first - 1;
    const auto to = last == readings_.end() ? last : last + 1;
    readings_ = from < to ? std::vector(from, to) : std::vector<EnergyReading>{};
    if (readings_.size() < kFewestReadings) {
      throw InputError(files_.energy, 0, "time",
                       "only " + std::to_string(readings_.size()) +
                           " readings while the rank's instructions ran, after the warm-up");
    }
  }

  RankFiles files_;
  std::vector<EnergyReading> readings_;
  std::vector<Run> runs_;
  std::vector<Span> steps_;
  Seconds begin_;
  Seconds end_;
  bool has_iterations_ = false;
  bool skipped_a_third_ = false;
};

}  // namespace

KareusImport import_kareus(const std::string& folder, const KareusOptions& options,
                           const std::function<void(double)>& done) {
  const Files files(folder);
  const int ranks = files.ranks();
  if (ranks % options.tensor_parallel != 0) {
    throw InputError(
        folder, 0, "--tensor-parallel",
        std::to_string(ranks) + " ranks are no stages of " + std::to_string(options.tensor_parallel));
  }
  const int stages = ranks / options.tensor_parallel;
  if (stages > kMaxStages) throw InputError(folder, 0, "--tensor-parallel", "too many stages");

  struct Found {
    Visit visit;
    Seconds counter_period;
    bool has_iterations = false;
    bool skipped_a_third = false;
  };
  const std::vector<std::pair<Place, RankFiles>> places(files.all().begin(), files.all().end());
  std::vector<Found> found(places.size());
  for_each_in_parallel(
      places.size(),
      [&](std::size_t i) {
        const RankVisit visit(places[i].second, options);
        found[i] = {visit.visit(Megahertz(places[i].first.first)), visit.counter_period(),
                    visit.has_iterations(), visit.skipped_a_third()};
      },
      [&](std::size_t count) {
        if (done) done(static_cast<double>(count) / static_cast<double>(places.size()));
      });

  std::vector<Recording> recordings(static_cast<std::size_t>(ranks));
  for (int rank = 0; rank < ranks; ++rank) {
    Recording& recording = recordings[static_cast<std::size_t>(rank)];
    recording.rank = rank;
    recording.ranks = ranks;
    recording.pipeline_stages = stages;
    recording.stages.push_back({{rank / options.tensor_parallel}, 1, {}, {}});
    for (auto clock = files.clocks().rbegin(); clock != files.clocks().rend(); ++clock) {
      recording.stages.front().clocks.emplace_back(*clock);
    }
  }
  // Highest clock first, as they were measured. Between them the job was started anew: no measuring.
  for (std::size_t i = places.size(); i-- > 0;) {
    Recording& recording = recordings[static_cast<std::size_t>(places[i].first.second)];
    std::vector<Visit>& visits = recording.stages.front().visits;
    Visit& visit = found[i].visit;
    const Seconds begin = visits.empty() ? Seconds(0) : visits.back().span.end;
    visit.round = static_cast<int>(visits.size());
    visit.span = {begin, begin + visit.span.length()};
    recording.counter_period = std::max(recording.counter_period, found[i].counter_period);
    visits.push_back(std::move(visit));
  }

  KareusImport result{combine(recordings, options.tensor_parallel), {}};
  for (std::size_t s = 0; s < result.stages.size(); ++s) {
    if (const auto missing = missing_kind(result.stages[s])) {
      throw InputError(folder, 0, "instruction",
                       "stage " + std::to_string(s) + " has no '" + std::string(name_of(*missing)) +
                           std::string(kComputeSuffix) + "'");
    }
  }
  if (std::ranges::any_of(found, &Found::skipped_a_third)) {
    result.remarks.emplace_back(
        "the first third of the instructions was left out as warm-up; with --microbatches it is iterations");
  }
  if (!std::ranges::all_of(found, &Found::has_iterations)) {
    result.remarks.emplace_back(
        "no 'forward-backward' spans: what lies between instructions all counts as waiting");
  }
  return result;
}

}  // namespace slackline
