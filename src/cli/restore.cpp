#include <cstdio>
#include <memory>

#include "command.h"
#include "device_spec.h"
#include "leftovers.h"
#include "slackline/base/error.h"
#include "slackline/device/open_device.h"
#include "slackline/runtime/journal.h"
#include "slackline/runtime/private_agent.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {
namespace {

/// Where GPUs may be whose journal entry is damaged.
std::vector<std::unique_ptr<Device>> devices_here(const std::string& runtime_folder) {
  std::vector<std::unique_ptr<Device>> devices;
  std::vector<std::string> specs = node_specs(runtime_folder);
  specs.insert(specs.end(), {"nvml", "amdsmi"});
  for (const std::string& spec : specs) {
    try {
      devices.push_back(open_device(spec));
    } catch (const std::runtime_error&) {  // not here
    }
  }
  return devices;
}

}  // namespace

std::size_t restore_leftovers(const std::string& runtime_folder) {
  const auto [restored, failures] =
      Journal(journal_folder(runtime_folder)).restore_leftovers([&] { return devices_here(runtime_folder); });
  for (const std::string& failure : failures) {
    std::fprintf(stderr, "slackline: cannot restore %s\n", failure.c_str());
  }
  if (!restored.empty()) {
    const std::string others =
        restored.size() > 1 ? " and " + std::to_string(restored.size() - 1) + " more" : "";
    std::fprintf(stderr, "slackline: restored %s%s, which a process that died had left locked\n",
                 restored.front().c_str(), others.c_str());
  }
  remove_abandoned_folders(runtime_folder);
  return failures.size();
}

void add_restore(CLI::App& app, Action& action) {
  auto named = std::make_shared<std::string>();
  CLI::App* restore =
      app.add_subcommand("restore", "Unlock every GPU that a process which died has left locked");
  restore->add_option("--runtime-dir", *named, "Runtime folder to look in (default: this user's)");
  restore->footer(
      "The agent, apply and profile do this by themselves when they start. GPUs of agents that live are "
      "left\n"
      "alone.\nExample: slackline restore");
  restore->callback([&action, named] {
    action = [named] {
      return static_cast<int>(restore_leftovers(runtime_folder(*named)) == 0 ? kOk : kDeviceFault);
    };
  });

  auto setup = std::make_shared<PrivateAgentSetup>();
  CLI::App* agent = app.add_subcommand("private-agent", "");
  agent->group("");  // internal: see PrivateAgent
  agent->add_option("DEVICE", setup->device)->required();
  agent->add_option("JOURNAL", setup->journal_folder)->required();
  agent->add_option("SOCKET", setup->socket)->required();
  agent->add_option("USER", setup->user)->required();
  agent->callback([&action, setup] {
    action = [setup] {
      serve_privately(*setup);
      return static_cast<int>(kOk);
    };
  });
}

}  // namespace slackline
