#include "recordings.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <map>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/measure/clock_order.h"

namespace slackline {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPiecePrefix = "rank-";
constexpr std::string_view kPieceSuffix = ".yaml";

std::vector<std::string> pieces_in(const std::string& folder) {
  std::vector<std::string> paths;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().string();
    if (name.starts_with(kPiecePrefix) && name.ends_with(kPieceSuffix))
      paths.push_back(entry.path().string());
  }
  if (error) throw InputError(folder, 0, "", error.message());
  std::ranges::sort(paths);
  return paths;
}

/// Ranks that were cut off apart from each other go on together, from the last round that all have.
void go_back_to(Recording& recording, int rounds) {
  for (StageRecording& stage : recording.stages) {
    std::erase_if(stage.visits, [rounds](const Visit& visit) { return visit.round >= rounds; });
  }
  recording.is_complete = false;
}

}  // namespace

bool is_folder(const std::string& output) {
  std::error_code error;
  return output.ends_with('/') || fs::is_directory(output, error);
}

RecordingFile::RecordingFile(const std::string& output, const std::optional<Rank>& rank,
                             std::optional<User> user)
    : user_(user) {
  const ActingAs acting(user_);
  if (!is_folder(output)) {
    expect_writable(output);
    if (output != "-") path_ = output + ".part";
    return;
  }
  folder_ = output;
  std::error_code error;
  fs::create_directories(folder_, error);
  if (error) throw InputError(folder_, 0, "--output", error.message());
  path_ = (fs::path(folder_) / (std::string(kPiecePrefix) + std::to_string(rank->rank) + "-of-" +
                                std::to_string(rank->ranks) + std::string(kPieceSuffix)))
              .string();
  expect_writable(path_);
}

std::optional<Recording> RecordingFile::earlier(const Recording& fresh) const {
  const ActingAs acting(user_);
  if (path_.empty() || ::access(path_.c_str(), F_OK) != 0) return std::nullopt;
  Recording recording = parse_recording(path_, read_file(path_));
  const auto expect_same = [&](const char* what, bool is_same) {
    if (is_same) return;
    throw InputError(path_, 0, what,
                     "what was measured before has another one; say --restart to begin anew, or remove it");
  };
  expect_same("device", recording.gpu == fresh.gpu && recording.origin == fresh.origin);
  expect_same("rank", recording.rank == fresh.rank && recording.ranks == fresh.ranks);
  expect_same("order", recording.order == fresh.order);
  bool same_stages = recording.stages.size() == fresh.stages.size();
  for (std::size_t s = 0; same_stages && s < fresh.stages.size(); ++s) {
    same_stages = recording.stages[s].gpus == fresh.stages[s].gpus &&
                  recording.stages[s].clocks == fresh.stages[s].clocks;
  }
  expect_same("stages", same_stages);
  if (folder_.empty()) return recording;
  for (const std::string& path : pieces_in(folder_)) {
    const int others = rounds_done(parse_recording(path, read_file(path)));
    if (others < rounds_done(recording)) go_back_to(recording, others);
  }
  return recording;
}

void RecordingFile::keep(const Recording& recording) {
  if (path_.empty()) return;
  try {
    const ActingAs acting(user_);
    write_file(path_, to_yaml(recording));
    has_failed_ = false;
  } catch (const InputError& error) {
    if (std::exchange(has_failed_, true)) return;
    std::fprintf(stderr, "slackline: %s; measuring goes on, but nothing of it is kept until that is mended\n",
                 error.what());
  }
}

void RecordingFile::remove() const {
  const ActingAs acting(user_);
  if (!path_.empty()) ::unlink(path_.c_str());
}

int RecordingFile::complete_pieces() {
  const ActingAs acting(user_);
  for (const std::string& path : pieces_in(folder_)) {
    if (complete_.contains(path)) continue;
    if (parse_recording(path, read_file(path)).is_complete) complete_.insert(path);
  }
  return static_cast<int>(complete_.size());
}

std::vector<Recording> read_pieces(const std::string& folder) {
  std::map<int, Recording> pieces;
  for (const std::string& path : pieces_in(folder)) {
    Recording piece = parse_recording(path, read_file(path));
    if (!piece.is_complete) {
      throw InputError(path, 0, "complete",
                       "rank " + std::to_string(piece.rank) + " is not through; run the job again to go on");
    }
    if (!pieces.empty() && piece.ranks != pieces.begin()->second.ranks) {
      throw InputError(path, 0, "ranks",
                       "it is one of " + std::to_string(piece.ranks) + " ranks, another piece one of " +
                           std::to_string(pieces.begin()->second.ranks));
    }
    const int rank = piece.rank;
    if (!pieces.emplace(rank, std::move(piece)).second) {
      throw InputError(path, 0, "rank", "there are two pieces of rank " + std::to_string(rank));
    }
  }
  if (pieces.empty()) throw InputError(folder, 0, "", "there is no piece (rank-N-of-M.yaml) in this folder");
  const int ranks = pieces.begin()->second.ranks;
  for (int rank = 0; rank < ranks; ++rank) {
    if (pieces.contains(rank)) continue;
    throw InputError(
        folder, 0, "",
        "the piece of rank " + std::to_string(rank) + " of " + std::to_string(ranks) + " is missing");
  }
  std::vector<Recording> recordings;
  for (auto& [rank, piece] : pieces) recordings.push_back(std::move(piece));
  return recordings;
}

}  // namespace slackline
