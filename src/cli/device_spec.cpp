#include "device_spec.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <filesystem>
#include <string_view>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"
#include "slackline/base/process.h"
#include "slackline/profile/profile_io.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {
namespace {

double number_of(const std::string& key, const std::string& value, double low, double high) {
  const auto number = parse_number(value);
  if (!number || *number < low || *number > high) {
    throw InputError("", 0, "--device " + key,
                     "'" + value + "' is not a number from " + exact_text(low) + " to " + exact_text(high));
  }
  return *number;
}

struct Key {
  const char* name;
  double low;
  double high;
  void (*set)(SimOptions&, double);
};

Megahertz megahertz(double value) {
  return Megahertz(static_cast<std::int32_t>(value));
}

constexpr double kMostSeconds = 1e9;
constexpr double kMostPipelines = 256;
constexpr std::array kKeys{
    Key{"pace", 0, 1e4, [](SimOptions& o, double x) { o.pace = x; }},
    Key{"switch_ms", 0, 1e5, [](SimOptions& o, double x) { o.switch_latency = Seconds(x / 1e3); }},
    Key{"tick_ms", 0.1, 1e5, [](SimOptions& o, double x) { o.counter_period = Seconds(x / 1e3); }},
    Key{"noise", 0, 0.5, [](SimOptions& o, double x) { o.noise = x; }},
    Key{"energy_noise", 0, 0.5, [](SimOptions& o, double x) { o.energy_noise = x; }},
    Key{"seed", 0, 1e15, [](SimOptions& o, double x) { o.seed = static_cast<std::uint64_t>(x); }},
    Key{"throttle", 0, 0.5, [](SimOptions& o, double x) { o.throttling.share = x; }},
    Key{"throttle_s", 0.01, 1e5, [](SimOptions& o, double x) { o.throttling.length = Seconds(x); }},
    Key{"throttle_mhz", 1, 1e5, [](SimOptions& o, double x) { o.throttled_clock = megahertz(x); }},
    Key{"intruder", 0, 0.5, [](SimOptions& o, double x) { o.intruder.share = x; }},
    Key{"intruder_s", 0.01, 1e5, [](SimOptions& o, double x) { o.intruder.length = Seconds(x); }},
    Key{"leakage", 0, 10, [](SimOptions& o, double x) { o.leakage = x; }},
    Key{"leakage_s", 0.01, kMostSeconds, [](SimOptions& o, double x) { o.leakage_time = Seconds(x); }},
    Key{"counter_stops_s", 0, kMostSeconds, [](SimOptions& o, double x) { o.counter_stops = Seconds(x); }},
    Key{"counter_resets_s", 0, kMostSeconds, [](SimOptions& o, double x) { o.counter_resets = Seconds(x); }},
    Key{"lost_s", 0, kMostSeconds, [](SimOptions& o, double x) { o.lost = Seconds(x); }},
    Key{"stuck_mhz", 1, 1e5, [](SimOptions& o, double x) { o.stuck_clock = megahertz(x); }},
    Key{"straggler", 1, 100, [](SimOptions& o, double x) { o.straggler = x; }},
    Key{"straggler_from_s", 0, kMostSeconds, [](SimOptions& o, double x) { o.straggler_from = Seconds(x); }},
    Key{"straggler_until_s", 0, kMostSeconds,
        [](SimOptions& o, double x) { o.straggler_until = Seconds(x); }},
};

// Keys that are no numbers of SimOptions.
constexpr const char* kRanksKey = "ranks";
constexpr const char* kPlacementKey = "placement";
constexpr const char* kPipelinesKey = "pipelines";
constexpr const char* kNodeKey = "node";

void set_option(SimOptions& options, const std::string& name, const std::string& value) {
  const auto key = std::find_if(kKeys.begin(), kKeys.end(), [&](const Key& k) { return name == k.name; });
  if (key == kKeys.end()) {
    std::string known;
    for (const Key& k : kKeys) known += std::string(k.name) + ", ";
    for (const char* other : {kRanksKey, kPlacementKey, kPipelinesKey}) known += std::string(other) + ", ";
    throw InputError("", 0, "--device", "unknown key '" + name + "'; known: " + known + kNodeKey);
  }
  key->set(options, number_of(name, value, key->low, key->high));
}

/// Stages dealt out to `ranks`: again and again from the first rank ("loop"), or there and back ("v"), as
/// torch.distributed.pipelining does.
std::vector<std::vector<StageId>> placed(int stages, int ranks, const std::string& placement) {
  const bool is_v = placement == "v";
  if (!is_v && placement != "loop") {
    throw InputError("", 0, "--device placement", "'" + placement + "' is unknown; known: loop, v");
  }
  if (stages % ranks != 0) {
    throw InputError(
        "", 0, "--device ranks",
        std::to_string(ranks) + " ranks cannot hold equally many of " + std::to_string(stages) + " stages");
  }
  std::vector<std::vector<StageId>> held(static_cast<std::size_t>(ranks));
  for (int stage = 0; stage < stages; ++stage) {
    const int along = stage % ranks;
    const bool is_way_back = is_v && stage / ranks % 2 == 1;
    held[static_cast<std::size_t>(is_way_back ? ranks - 1 - along : along)].emplace_back(stage);
  }
  return held;
}

/// GPUs that hold several stages are the same for each of them.
void check_share_gpus(const std::string& path, const Profile& profile, const std::vector<StageId>& held) {
  const StageProfile& first = profile.stages[held.front().index()];
  for (const StageId stage : held) {
    const StageProfile& other = profile.stages[stage.index()];
    if (other.tensor_parallel == first.tensor_parallel && other.blocking_power == first.blocking_power)
      continue;
    throw InputError(
        path, 0, "stages",
        "stages " + std::to_string(held.front().value()) + " and " + std::to_string(stage.value()) +
            " are on the same GPUs, but differ in their number or in what these draw while they wait");
  }
}

std::vector<SimRank> ranks_of(const DeviceSpec& spec) {
  std::vector<SimRank> ranks;
  for (int pipeline = 0; pipeline < spec.pipelines; ++pipeline) {
    for (const auto& held : spec.rank_stages) {
      const StageProfile& first = spec.profile.stages[held.front().index()];
      SimRank rank;
      rank.gpus = first.tensor_parallel;
      rank.blocking_power = *first.blocking_power;
      rank.may_straggle = pipeline == spec.pipelines - 1;
      for (const StageId stage : held) {
        for (const auto& [kind, options] : spec.profile.stages[stage.index()].instructions) {
          if (is_fixed_time(kind)) continue;  // nothing that a clock changes
          for (const Measurement& m : options)
            rank.instructions[{kind, stage}].push_back({m.clock, m.time, m.energy});
        }
      }
      ranks.push_back(std::move(rank));
    }
  }
  return ranks;
}

}  // namespace

DeviceSpec parse_device(const std::string& text) {
  constexpr std::string_view kSim = "sim:";
  if (!text.starts_with(kSim)) {
    throw DeviceError("open device", "'" + text + "'", "no such device; known: nvml, amdsmi, sim:PROFILE");
  }
  std::string rest = text.substr(kSim.size());
  const std::size_t comma = rest.find(',');
  const std::string path = rest.substr(0, comma);
  rest = comma == std::string::npos ? "" : rest.substr(comma + 1);
  if (::access(path.c_str(), R_OK) != 0) {
    throw DeviceError("open device", "'" + text + "'", "there is no profile '" + path + "'");
  }
  DeviceSpec spec;
  spec.profile = read_profile(path);
  for (std::size_t s = 0; s < spec.profile.stages.size(); ++s) {
    if (spec.profile.stages[s].blocking_power) continue;
    throw InputError(path, 0, "blocking_power_w",
                     "simulated GPUs need a profile that says what a waiting GPU draws; stage " +
                         std::to_string(s) + " does not");
  }
  // Simulated GPUs switch as the calibrated ones did, unless the flag says otherwise.
  if (spec.profile.switch_times) {
    spec.options.switch_latency = Seconds(spec.profile.switch_times->stable_ms / 1e3);
  }
  const auto stages = static_cast<int>(spec.profile.stages.size());
  int ranks = stages;
  std::string placement = "loop";
  while (!rest.empty()) {
    const std::size_t end = rest.find(',');
    const std::string pair = rest.substr(0, end);
    rest = end == std::string::npos ? "" : rest.substr(end + 1);
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos) throw InputError("", 0, "--device", "'" + pair + "' is not KEY=VALUE");
    const std::string key = pair.substr(0, equals);
    const std::string value = pair.substr(equals + 1);
    if (key == kNodeKey) {
      spec.node = value;
    } else if (key == kRanksKey) {
      ranks = static_cast<int>(number_of(key, value, 1, stages));
    } else if (key == kPlacementKey) {
      placement = value;
    } else if (key == kPipelinesKey) {
      spec.pipelines = static_cast<int>(number_of(key, value, 1, kMostPipelines));
    } else {
      set_option(spec.options, key, value);
    }
  }
  spec.rank_stages = placed(stages, ranks, placement);
  for (const auto& held : spec.rank_stages) check_share_gpus(path, spec.profile, held);
  return spec;
}

SimulatedNode::SimulatedNode(const DeviceSpec& spec, const std::string& runtime_folder) {
  if (spec.node.empty()) {
    folder_ = own_.emplace(runtime_folder, kNodeFolder).path();
  } else {
    folder_ = slackline::runtime_folder(spec.node);
  }
  if (own_ || ::access((folder_ + "/gpus").c_str(), F_OK) != 0) {
    SimWorld::create(folder_ + "/gpus", ranks_of(spec), spec.options);
  }
  world_ = std::make_shared<SimWorld>(folder_ + "/gpus");
  device_ = std::make_unique<SimDevice>(world_);
  for (const SimRank& rank : ranks_of(spec)) gpus_per_rank_.push_back(rank.gpus);
}

std::vector<std::vector<GpuId>> SimulatedNode::rank_gpus() const {
  std::vector<std::vector<GpuId>> ranks;
  int next = 0;
  for (const int count : gpus_per_rank_) {
    ranks.emplace_back();
    for (int g = 0; g < count; ++g) ranks.back().emplace_back(next++);
  }
  return ranks;
}

std::vector<std::string> node_specs(const std::string& runtime_folder) {
  std::vector<std::string> specs;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(runtime_folder, error)) {
    if (entry.path().filename().string().starts_with(kNodeFolder)) {
      specs.push_back("simnode:" + entry.path().string() + "/gpus");
    }
  }
  return specs;
}

}  // namespace slackline
