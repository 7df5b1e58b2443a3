#pragma once
#include <memory>
#include <optional>
#include <string>

#include "slackline/base/user.h"
#include "slackline/device/device.h"
#include "slackline/runtime/private_agent.h"

namespace slackline {

inline constexpr const char* kAgentHelp =
    "Socket of the agent that sets the clocks (default: the node's, or one of our own)";

/// Whom a command and its job lease GPUs from: an agent that is named, the node's for GPUs that are real, or
/// one of our own, which ends with this and restores what was changed.
class ClockAgent {
 public:
  struct Request {
    std::string named;   // socket of the agent to use; "": find or start one
    std::string device;  // what opens `device`
    std::string folder;  // for the socket of an agent of our own
    std::string runtime_folder;
    std::optional<User> user;  // whose processes may lease; nothing: this process's
  };

  /// DeviceError if there is none and this process may not set clocks itself.
  ClockAgent(const Request& request, Device& device);

  [[nodiscard]] const std::string& socket() const { return socket_; }
  /// If our own agent has been killed, restores what it had changed, and says so. Cheap; call it often.
  void look_after();
  /// All GPUs back at their baseline; waits for that if the agent is ours. False, and said why, if some could
  /// not be restored.
  bool end();

 private:
  [[nodiscard]] bool restore_what_is_left() const;

  std::string runtime_folder_;
  std::string socket_;
  std::unique_ptr<PrivateAgent> own_;
  bool is_restored_ = true;  // all that an agent of ours had changed
};

}  // namespace slackline
