#include "slackline/runtime/private_agent.h"

#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <optional>

#include "slackline/base/error.h"
#include "slackline/base/log_line.h"
#include "slackline/device/open_device.h"
#include "slackline/runtime/agent.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

/// First byte of what the helper says; text follows where it cannot serve.
constexpr char kReady = '+';
constexpr char kFailed = '-';

void say(char status, const std::string& text = {}) {
  const std::string message = status + text;
  send_packet(STDIN_FILENO, std::as_bytes(std::span(message)));
}

}  // namespace

PrivateAgent::PrivateAgent(const PrivateAgentSetup& setup) {
  std::array<int, 2> ends{};
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends.data()) != 0) {
    throw DeviceError("start agent", "", std::strerror(errno));
  }
  lifeline_ = Descriptor(ends[0]);
  Descriptor theirs(ends[1]);
  const std::string user = std::to_string(setup.user);
  pid_ = ::fork();
  if (pid_ < 0) throw DeviceError("start agent", "", std::strerror(errno));
  if (pid_ == 0) {
    ::setsid();
    ::dup2(theirs.get(), STDIN_FILENO);
    ::execl("/proc/self/exe", "slackline", "private-agent", setup.device.c_str(),
            setup.journal_folder.c_str(), setup.socket.c_str(), user.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  theirs.reset();
  // Until it says so it may not have left our process group: whoever kills that would kill it, too.
  const auto answer = receive_packet(lifeline_.get(), 4096);
  const std::string text =
      answer ? std::string(reinterpret_cast<const char*>(answer->data.data()), answer->data.size()) : "";
  if (text.starts_with(kReady)) return;
  end();
  throw DeviceError("start agent", "",
                    text.starts_with(kFailed) ? text.substr(1) : "it ended before it was ready");
}

PrivateAgent::~PrivateAgent() {
  end();
}

void PrivateAgent::end() {
  lifeline_.reset();
  while (pid_ > 0 && ::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
  pid_ = -1;
}

bool PrivateAgent::has_died() const {
  pollfd state{lifeline_.get(), POLLIN, 0};
  return lifeline_ && ::poll(&state, 1, 0) > 0;  // it says nothing more while it lives
}

void serve_privately(const PrivateAgentSetup& setup) {
  for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGXFSZ, SIGALRM, SIGUSR1, SIGUSR2})
    ::signal(signal, SIG_IGN);
  std::unique_ptr<Device> device;
  std::optional<Agent> agent;
  const auto log = [](Agent::Importance importance, const std::string& text) {
    if (importance == Agent::Importance::kProblem) log_line("slackline: ", text);
  };
  try {
    device = open_device(setup.device);
    const Journal journal(setup.journal_folder);
    AgentOptions options;
    options.socket_path = setup.socket;
    options.policy = Policy::everything_for(setup.user);
    options.is_private = true;
    options.socket_mode = 0600;
    options.socket_owner = setup.user;
    agent.emplace(*device, journal, std::move(options), log);
  } catch (const std::exception& error) {
    return say(kFailed, error.what());
  }
  say(kReady);
  agent->run(STDIN_FILENO);
}

}  // namespace slackline
