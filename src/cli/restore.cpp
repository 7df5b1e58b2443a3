#include <cstdio>
#include <memory>

#include "command.h"
#include "device_spec.h"
#include "leftovers.h"
#include "slackline/runtime/guardian.h"
#include "slackline/runtime/journal.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {

std::string journal_folder(const std::string& runtime_folder) {
  return runtime_folder + "/journal";
}

void restore_leftovers(const std::string& runtime_folder) {
  const auto [restored, failures] = Journal(journal_folder(runtime_folder)).restore_leftovers();
  for (const std::string& failure : failures) {
    std::fprintf(stderr, "slackline: cannot restore %s\n", failure.c_str());
  }
  if (!restored.empty()) {
    const std::string others =
        restored.size() > 1 ? " and " + std::to_string(restored.size() - 1) + " more" : "";
    std::fprintf(stderr, "slackline: unlocked %s%s, which a process that died had left locked\n",
                 restored.front().c_str(), others.c_str());
  }
  remove_abandoned_nodes(runtime_folder);
}

void add_restore(CLI::App& app, Action& action) {
  CLI::App* restore =
      app.add_subcommand("restore", "Unlock every GPU that a process which died has left locked");
  restore->footer("apply and profile do this by themselves when they start.\nExample: slackline restore");
  restore->callback([&action] {
    action = [] {
      restore_leftovers(runtime_folder());
      return static_cast<int>(kOk);
    };
  });

  auto folder = std::make_shared<std::string>();
  auto owner = std::make_shared<pid_t>();
  CLI::App* guard = app.add_subcommand("guard", "");
  guard->group("");  // internal: see Guardian
  guard->add_option("FOLDER", *folder)->required();
  guard->add_option("PID", *owner)->required();
  guard->callback([&action, folder, owner] {
    action = [folder, owner] {
      const int restored = stand_guard(*folder, *owner);
      if (restored > 0)
        std::fprintf(stderr, "slackline: the process that had locked them died; unlocked %d GPUs\n",
                     restored);
      return static_cast<int>(kOk);
    };
  });
}

}  // namespace slackline
