#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <optional>
#include <span>

#include "command.h"
#include "job_name.h"
#include "slackline/base/error.h"
#include "slackline/runtime/job_memory.h"
#include "slackline/runtime/packet_socket.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {
namespace {

constexpr Seconds kPatience(10);

struct StragglerFlags {
  std::string job;
  std::optional<int> pipeline;
  double slowdown = 1;
};

std::string list_of(const std::vector<std::string>& names) {
  if (names.empty()) return "no job runs here";
  std::string text = "running here:";
  for (const std::string& name : names) text += " " + name;
  return text;
}

/// The one that is named, or the only one.
std::string chosen_job(const std::string& folder, const std::string& named) {
  const std::vector<std::string> running = running_jobs(folder);
  if (named.empty() && running.size() == 1) return running.front();
  if (named.empty()) throw InputError("", 0, "--job", "which job? " + list_of(running));
  if (std::ranges::find(running, named) == running.end()) {
    throw InputError("", 0, "--job", "there is no job '" + named + "'; " + list_of(running));
  }
  return named;
}

int run(const StragglerFlags& flags) {
  const std::string folder = runtime_folder();
  const std::string job = chosen_job(folder, flags.job);
  const auto fail = [&job](const std::string& reason) {
    return DeviceError("notify", "job '" + job + "'", reason);
  };
  const Descriptor socket = connect_to(socket_of_job(folder, job));
  if (!socket) throw fail(std::strerror(errno));
  const JobNotice notice{kNoticeMagic, flags.pipeline.value_or(-1), flags.slowdown};
  if (!send_packet(socket.get(), std::as_bytes(std::span(&notice, 1))) ||
      !wait_readable(socket.get(), kPatience)) {
    throw fail("it does not answer");
  }
  const auto packet = receive_packet(socket.get(), sizeof(JobNoticeAnswer));
  JobNoticeAnswer answer{};
  if (!packet || packet->data.size() != sizeof answer) throw fail("it broke off");
  std::memcpy(&answer, packet->data.data(), sizeof answer);
  answer.text.back() = '\0';
  if (answer.magic != kNoticeMagic) throw fail("it speaks another version of the protocol");
  if (answer.status != 0) throw InputError("", 0, "--job " + job, answer.text.data());
  return kOk;
}

}  // namespace

void add_straggler(CLI::App& app, Action& action) {
  auto flags = std::make_shared<StragglerFlags>();
  CLI::App* command =
      app.add_subcommand("straggler", "Tell a running job that a pipeline is slow, or is no longer");
  command->add_option("--job", flags->job,
                      "Its name, as given to apply (default: the only one that runs here)");
  command
      ->add_option("--slowdown", flags->slowdown,
                   "Times as long as the pipeline's steps take; 1: it is no straggler any more")
      ->check(CLI::Range(1.0, kMostSlowdown))
      ->required();
  command
      ->add_option("--pipeline", flags->pipeline,
                   "The one that is slow, which goes on as it is (default: none of the job's, but something "
                   "that all of them wait for)")
      ->check(CLI::Range(0, 1'000'000));
  command->footer(
      "From their next step on all other pipelines follow the slowest plan that ends before the straggler "
      "does.\n"
      "Example: slackline straggler --job llama --pipeline 3 --slowdown 1.2");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
