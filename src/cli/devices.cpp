#include <cerrno>
#include <cstdio>
#include <memory>

#include "command.h"
#include "opened_device.h"
#include "reason_names.h"
#include "slackline/base/error.h"
#include "slackline/report/device_report.h"
#include "slackline/runtime/lease_protocol.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

struct DevicesFlags {
  std::string device;
  std::string agent;
  bool read_only = false;
  bool json = false;
};

/// Whoever sets clocks for those who may not.
struct AgentHere {
  std::string socket;
  bool listens = false;
  bool is_closed_to_us = false;

  explicit AgentHere(const std::string& path) : socket(path) {
    if (path.empty()) return;
    listens = static_cast<bool>(connect_to(path));
    is_closed_to_us = !listens && errno == EACCES;
  }
};

/// Asks one GPU for all it has to say. A reading that fails becomes a fault, and the others are tried.
class GpuInquiry {
 public:
  GpuInquiry(Device& device, const AgentHere& agent, GpuId gpu) : device_(device), agent_(agent) {
    report_.gpu = gpu;
  }

  GpuReport ask() {
    const GpuId gpu = report_.gpu;
    attempt([&] {
      const GpuIdentity identity = device_.identity(gpu);
      report_.uuid = identity.uuid;
      report_.pci_address = identity.pci_address;
      report_.model = identity.model;
    });
    attempt([&] { report_.clocks = device_.supported_clocks(gpu); });
    GpuAbilities can;
    attempt([&] {
      can = device_.abilities(gpu);
      add_abilities(can);
    });
    attempt([&] { report_.clock = device_.observed_clock(gpu); });
    if (can.power) attempt([&] { report_.power = device_.power(gpu); });
    if (can.power_cap) attempt([&] { report_.power_cap = device_.power_cap(gpu); });
    if (can.temperature) attempt([&] { report_.temperature = device_.temperature(gpu); });
    if (can.energy) attempt([&] { report_.energy = device_.energy(gpu).total; });
    if (can.event_reasons) attempt([&] { report_.event_reasons = names_of(device_.event_reasons(gpu)); });
    return std::move(report_);
  }

 private:
  template <class Question>
  void attempt(Question question) {
    try {
      question();
    } catch (const DeviceError& error) {
      report_.faults.emplace_back(error.what());
    }
  }
  void add_abilities(const GpuAbilities& can) {
    const auto add = [&](const char* what, const Ability& ability) {
      report_.abilities.push_back({what, ability.why_not, ability.remedy});
    };
    add("set clocks", with_agent(can.set_clock));
    add("read energy", can.energy);
    add("read power", can.power);
    add("read power cap", can.power_cap);
    add("read temperature", can.temperature);
    add("read event reasons", can.event_reasons);
    report_.remarks = can.remarks;
  }

  /// What this process may not, it may be lent.
  [[nodiscard]] Ability with_agent(Ability ability) const {
    if (!ability.lacks_rights) return ability;
    if (agent_.listens) {
      ability.remedy = "the agent at " + agent_.socket + " sets them for those whom its policy allows";
    } else if (agent_.is_closed_to_us) {
      ability.remedy =
          "if an agent runs here, ask for the group of " + agent_.socket + " and a rule in its policy";
    }
    return ability;
  }

  Device& device_;
  const AgentHere& agent_;
  GpuReport report_;
};

int run(const DevicesFlags& flags) {
  OpenedDevice opened(flags.device, flags.read_only ? DeviceAccess::kReadOnly : DeviceAccess::kIfPrivileged);
  Device& device = opened.get();
  DeviceReport report;
  report.driver = device.driver();
  report.spec = flags.device.empty() ? device.spec() : flags.device;
  report.left_out = device.left_out();
  const std::string nodes = opened.is_simulated() ? "" : kAgentSocket;
  const AgentHere agent(flags.agent.empty() ? nodes : flags.agent);
  if (agent.listens) report.agent = agent.socket;
  for (const GpuId gpu : all_gpus(device)) report.gpus.push_back(GpuInquiry(device, agent, gpu).ask());
  std::fputs((flags.json ? device_json(report) : device_text(report)).c_str(), stdout);
  return kOk;
}

}  // namespace

void add_devices(CLI::App& app, Action& action) {
  auto flags = std::make_shared<DevicesFlags>();
  CLI::App* command =
      app.add_subcommand("devices", "The GPUs that are here, what they do now, and what is allowed");
  command->add_option("--device", flags->device, kOpenedDeviceHelp);
  command->add_option("--agent", flags->agent, "Socket of the agent to look for (default: the node's)");
  command->add_flag("--read-only", flags->read_only, "Open them as measure does, without the right to set");
  command->add_flag("--json", flags->json, "Print as JSON");
  command->footer(
      "Changes nothing. Where something is not allowed, says why and what would allow it.\n"
      "Example: slackline devices --device sim:profiles/gpt3-175b-a100-sxm.yaml");
  command->callback([&action, flags] { action = [flags] { return run(*flags); }; });
}

}  // namespace slackline
