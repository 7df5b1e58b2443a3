#pragma once
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

#include "slackline/base/instruction_kind.h"
#include "slackline/profile/profile.h"
#include "slackline/runtime/job_memory.h"

namespace slackline {

/// An instruction that does not take what the profile says.
struct Drift {
  int stage = 0;
  InstructionKind kind = InstructionKind::kForward;
  Megahertz clock;
  Seconds profiled;
  Seconds measured;
  std::size_t runs = 0;

  [[nodiscard]] double share() const { return measured / profiled - 1; }
};

/// Compares what instructions take while a schedule rules with what it was planned with. A run whose clock is
/// another one than that of the run before does not count: it may have changed in the middle.
class DriftWatch {
 public:
  /// `stage`: of a process that does not tell its stages.
  void add(int member, int stage, const JobEvent& event);
  /// Where the mean differs by more than kLeastDrift and three standard errors of both; the largest first.
  [[nodiscard]] std::vector<Drift> compare(const Profile& profile) const;

  static constexpr double kLeastDrift = 0.02;

 private:
  struct Member {
    std::optional<JobEvent> running;
    Seconds device_time;
    std::int32_t last_mhz = -1;
  };
  struct Times {
    std::size_t runs = 0;
    double sum = 0;
    double squares = 0;
  };
  std::map<int, Member> members_;
  std::map<std::tuple<int, InstructionKind, Megahertz>, Times> times_;
};

}  // namespace slackline
