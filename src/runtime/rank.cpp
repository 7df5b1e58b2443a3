#include "slackline/runtime/rank.h"

#include <array>
#include <cstdlib>
#include <string>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

struct Launcher {
  const char* rank;
  const char* ranks;
  const char* local_rank;
};

constexpr std::array kLaunchers{
    Launcher{"RANK", "WORLD_SIZE", "LOCAL_RANK"},
    Launcher{"OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_COMM_WORLD_LOCAL_RANK"},
    Launcher{"PMI_RANK", "PMI_SIZE", "MPI_LOCALRANKID"},
    Launcher{"SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID"},
};

constexpr int kMostRanks = 1'000'000;

int number_in(const char* variable, int low, int high) {
  const char* const text = std::getenv(variable);
  if (text == nullptr) throw InputError("", 0, variable, "it is not set, though another rank variable is");
  const auto number = parse_integer(text);
  if (!number || *number < low || *number > high) {
    throw InputError("", 0, variable,
                     "'" + std::string(text) + "' is not a number from " + std::to_string(low) + " to " +
                         std::to_string(high));
  }
  return static_cast<int>(*number);
}

}  // namespace

std::optional<Rank> rank_from_environment() {
  for (const Launcher& launcher : kLaunchers) {
    if (std::getenv(launcher.rank) == nullptr) continue;
    Rank rank;
    rank.ranks = number_in(launcher.ranks, 1, kMostRanks);
    rank.rank = number_in(launcher.rank, 0, rank.ranks - 1);
    rank.local_rank = number_in(launcher.local_rank, 0, kMostRanks);
    return rank;
  }
  return std::nullopt;
}

}  // namespace slackline
