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

constexpr const char* kSetClocks = "set clocks";

struct DevicesFlags {
  std::string device;
  std::string agent;
  bool read_only = false;
  bool json = false;
};

/// Asks one GPU for all it has to say. A reading that fails becomes a fault, and the others are tried.
class GpuInquiry {
 public:
  GpuInquiry(Device& device, GpuId gpu) : device_(device) { report_.gpu = gpu; }

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
    add(kSetClocks, can.set_clock);
    add("read energy", can.energy);
    add("read power", can.power);
    add("read power cap", can.power_cap);
    add("read temperature", can.temperature);
    add("read event reasons", can.event_reasons);
    report_.remarks = can.remarks;
  }

  Device& device_;
  GpuReport report_;
};

/// Who may not set clocks may be lent them.
void add_agent_to(DeviceReport& report, const std::string& socket) {
  const bool listens = static_cast<bool>(connect_to(socket));
  if (!listens && errno != EACCES) return;
  if (listens) report.agent = socket;
  for (GpuReport& gpu : report.gpus) {
    for (AbilityReport& ability : gpu.abilities) {
      if (ability.what != kSetClocks || ability.why_not.empty()) continue;
      ability.remedy =
          listens ? "the agent at " + socket + " sets them for those whom its policy allows"
                  : "an agent listens at " + socket + "; ask for its group, and for a rule in its policy";
    }
  }
}

int run(const DevicesFlags& flags) {
  OpenedDevice opened(flags.device, flags.read_only ? DeviceAccess::kReadOnly : DeviceAccess::kIfPrivileged);
  Device& device = opened.get();
  DeviceReport report;
  report.driver = device.driver();
  report.spec = flags.device.empty() ? device.spec() : flags.device;
  report.left_out = device.left_out();
  for (const GpuId gpu : all_gpus(device)) report.gpus.push_back(GpuInquiry(device, gpu).ask());
  if (!flags.agent.empty() || !opened.is_simulated()) {
    add_agent_to(report, flags.agent.empty() ? kAgentSocket : flags.agent);
  }
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
