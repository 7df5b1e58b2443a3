#pragma once
#include <optional>

namespace slackline {

/// Which of a job's processes this is, among all and on its node.
struct Rank {
  int rank = 0;
  int ranks = 1;
  int local_rank = 0;
};

/// As whoever started the job says in the environment: torchrun (RANK, WORLD_SIZE, LOCAL_RANK), Open MPI
/// (OMPI_COMM_WORLD_RANK, ...), MPICH and its kin (PMI_RANK, ...), or Slurm (SLURM_PROCID, ...), in this
/// order; the first that says anything counts. Nothing if none does. InputError, naming the variable, for
/// numbers that make no sense.
[[nodiscard]] std::optional<Rank> rank_from_environment();

}  // namespace slackline
