#include "slackline/runtime/agent.h"

#include <signal.h>
#include <sys/signalfd.h>

#include <chrono>
#include <memory>
#include <optional>
#include <utility>

#include "command.h"
#include "job_device.h"
#include "leftovers.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/log_line.h"
#include "slackline/device/open_device.h"
#include "slackline/runtime/metrics.h"
#include "slackline/runtime/runtime_folder.h"
#include "slackline/runtime/service_manager.h"

namespace slackline {
namespace {

struct AgentFlags {
  std::string device = "nvml";
  std::string policy = "/etc/slackline/policy.yaml";
  std::string socket;
  std::string metrics;
  std::string runtime_dir;
};

/// Readable once this process is asked to end.
Descriptor end_signals() {
  sigset_t set{};
  ::sigemptyset(&set);
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT}) ::sigaddset(&set, signal);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  // A limit on file sizes (SIGXFSZ) is one more way in which the disk can be full.
  for (const int signal : {SIGPIPE, SIGXFSZ, SIGALRM, SIGUSR1, SIGUSR2}) ::signal(signal, SIG_IGN);
  return Descriptor(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

void log(Agent::Importance importance, const std::string& text) {
  // A service's line begins with its level, which journald takes off.
  static const bool is_service = ::secure_getenv("JOURNAL_STREAM") != nullptr;
  const char* level = importance == Agent::Importance::kProblem ? "<4>" : "<6>";
  log_line(is_service ? level : "slackline agent: ", text);
}

/// Drivers none of which answers for so long do not come back; the service manager, which then hears nothing,
/// starts another agent. One that still answers for some GPUs is worth keeping.
constexpr std::chrono::seconds kStuckDrivers(20);

/// A full disk must not end an agent.
void write_metrics(const std::string& path, const AgentMetrics& metrics) {
  static bool is_failing = false;
  try {
    replace_file(path, prometheus_text(metrics));
    is_failing = false;
  } catch (const InputError& error) {
    if (!std::exchange(is_failing, true)) log(Agent::Importance::kProblem, error.what());
  }
}

int run(const AgentFlags& flags) {
  const Descriptor stop = end_signals();
  AgentOptions options;
  options.takes_readings = !flags.metrics.empty();
  if (options.takes_readings) expect_replaceable(flags.metrics);
  options.policy = read_policy(flags.policy);
  const ServiceManager manager;
  const std::string folder = runtime_folder(flags.runtime_dir);
  options.socket_path = flags.socket.empty() ? folder + "/agent.sock" : flags.socket;
  std::optional<SimulatedNode> node;
  std::unique_ptr<Device> opened;
  if (is_device_spec(flags.device)) {
    opened = open_device(flags.device);
  } else {
    node.emplace(parse_device(flags.device), folder);
  }
  Device& device = node ? node->device() : *opened;
  for (const std::string& gpu : device.left_out())
    log(Agent::Importance::kProblem, "left out: the driver's " + gpu);
  const std::string greeting = "serves " + std::to_string(device.gpu_count()) + " GPUs (" + device.driver() +
                               ") at " + options.socket_path;
  {
    Agent agent(device, Journal(journal_folder(folder)), std::move(options), log);
    log(Agent::Importance::kRoutine, greeting);
    bool is_ready = manager.ready();
    agent.run(stop.get(), [&] {
      if (!is_ready) is_ready = manager.ready();
      if (agent.silence_of_drivers() < kStuckDrivers) manager.keep_alive();
      if (!flags.metrics.empty()) write_metrics(flags.metrics, agent.metrics());
    });
    manager.stopping();
    log(Agent::Importance::kRoutine, "ends; restores its GPUs");
  }
  return restore_leftovers(folder) == 0 ? kOk : kDeviceFault;  // what a driver did not let it restore
}

}  // namespace

void add_agent(CLI::App& app, Action& action) {
  auto flags = std::make_shared<AgentFlags>();
  CLI::App* command = app.add_subcommand(
      "agent", "Lease this node's GPUs to the processes that train, and restore them (a daemon)");
  command->add_option("--device", flags->device, kJobDeviceHelp)->capture_default_str();
  command
      ->add_option("--policy", flags->policy,
                   "Who may set which clocks of which GPUs; nobody but root may be able to write it")
      ->capture_default_str();
  command->add_option("--socket", flags->socket,
                      "Where to listen (default: agent.sock in the runtime folder)");
  command->add_option("--metrics", flags->metrics,
                      "Write metrics here every second, for Prometheus' textfile collector");
  command->add_option("--runtime-dir", flags->runtime_dir,
                      "Where socket and journal are (default: /run/slackline)");
  for (CLI::Option* option : command->get_options())
    option->take_last();  // a drop-in of the service adds its own
  command->footer(
      "One process has a GPU at a time. When it closes, dies or breaks the protocol its GPUs go back to the\n"
      "baseline that the policy names, or are unlocked; when the agent itself is killed, the next start does "
      "it.\n"
      "SIGTERM restores everything and ends.\n"
      "Example: sudo slackline agent --device nvml --policy /etc/slackline/policy.yaml");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
