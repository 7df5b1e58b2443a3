#include "clock_agent.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <exception>

#include "leftovers.h"
#include "slackline/base/error.h"
#include "slackline/device/sim_world.h"
#include "slackline/runtime/lease_protocol.h"
#include "slackline/runtime/packet_socket.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {

ClockAgent::ClockAgent(const Request& request, Device& device)
    : runtime_folder_(request.runtime_folder), socket_(request.named) {
  if (!socket_.empty()) return;
  const bool is_real = dynamic_cast<SimDevice*>(&device) == nullptr;
  if (is_real &&
      (connect_to(kAgentSocket) || errno == EACCES)) {  // who may not connect is told so by the lease
    socket_ = kAgentSocket;
    return;
  }
  if (const Ability ability = device.abilities(GpuId(0)).set_clock; !ability) {
    throw DeviceError("set clocks", device.identity(GpuId(0)).uuid,
                      ability.why_not + (ability.remedy.empty() ? "" : "; " + ability.remedy));
  }
  socket_ = request.folder + "/agent.sock";
  own_ = std::make_unique<PrivateAgent>(PrivateAgentSetup{request.device, journal_folder(runtime_folder_),
                                                          socket_,
                                                          request.user ? request.user->uid : ::geteuid()});
}

void ClockAgent::look_after() {
  if (!own_ || !own_->has_died()) return;
  own_.reset();
  std::fputs("slackline: the agent was killed; the job goes on at its GPUs' own clocks\n", stderr);
  is_restored_ = restore_what_is_left();
}

bool ClockAgent::end() {
  if (own_) {
    own_->end();
    own_.reset();
    is_restored_ = false;  // perhaps: a driver may not have let it
  }
  if (!is_restored_) is_restored_ = restore_what_is_left();
  return is_restored_;
}

/// A job goes on, and ends in order, though the runtime folder may be gone.
bool ClockAgent::restore_what_is_left() const {
  try {
    return restore_leftovers(runtime_folder_) == 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "slackline: cannot tell whether every GPU is restored: %s\n", error.what());
    return false;
  }
}

}  // namespace slackline
