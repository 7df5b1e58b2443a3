// A training job in miniature: one process a pipeline stage, activations and gradients passed through
// sockets, so that waiting is real, and forward and backward run on simulated GPUs. Uses Slackline as any
// trainer would: through slackline.h, and slackline_sim.h since its GPUs are simulated.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <limits>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "slackline.h"
#include "slackline_sim.h"

namespace {

struct Flags {
  std::string order = "1f1b";
  int stages = 4;
  int microbatches = 8;
  long steps = 10;  // 0: until terminated
  long compute_ms = 0;
  std::string rendezvous;
};

constexpr const char* kUsage =
    "Usage: slackline-demo-train [--stages S] [--microbatches M] [--order 1f1b|gpipe] [--steps N]\n"
    "                            [--rendezvous DIR]\n\n"
    "Runs S processes, one a stage, that pass activations and gradients through sockets and compute on the\n"
    "simulated GPUs of the `slackline apply` or `slackline profile` around it. Around real GPUs it "
    "pretends.\n\n"
    "  --stages S        pipeline stages (4)\n"
    "  --microbatches M  microbatches an iteration (8)\n"
    "  --order NAME      1f1b or gpipe (1f1b)\n"
    "  --steps N         iterations; 0 runs until it is terminated (10)\n"
    "  --compute-ms MS   what an instruction takes where GPUs are not simulated; needed there\n"
    "  --rendezvous DIR  be one rank only, of stage RANK (from the environment); ranks meet in DIR\n\n"
    "Example: slackline apply gpt3.yaml --device sim:profiles/gpt3-175b-a100-sxm.yaml -- \\\n"
    "           slackline-demo-train --stages 8 --microbatches 12 --steps 6\n";

[[noreturn]] void usage_error(const std::string& reason) {
  std::fprintf(stderr, "slackline-demo-train: %s\n\n%s", reason.c_str(), kUsage);
  std::exit(2);
}

long number_of(const std::string& name, const std::string& value, long low, long high) {
  char* end = nullptr;
  errno = 0;
  const long n = std::strtol(value.c_str(), &end, 10);
  if (value.empty() || *end != '\0' || errno != 0 || n < low || n > high) {
    usage_error(name + ": '" + value + "' is not a number from " + std::to_string(low) + " to " +
                std::to_string(high));
  }
  return n;
}

Flags parse_flags(int argc, char** argv) {
  Flags flags;
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--help" || name == "-h") {
      std::fputs(kUsage, stdout);
      std::exit(0);
    }
    if (i + 1 >= argc) usage_error(std::string(name) + " needs a value, or is unknown");
    const std::string value = argv[++i];
    const auto number = [&](long low, long high) { return number_of(std::string(name), value, low, high); };
    if (name == "--stages") {
      flags.stages = static_cast<int>(number(1, 512));
    } else if (name == "--microbatches") {
      flags.microbatches = static_cast<int>(number(1, 100'000));
    } else if (name == "--steps") {
      flags.steps = number(0, std::numeric_limits<int>::max());
    } else if (name == "--compute-ms") {
      flags.compute_ms = number(0, 60'000);
    } else if (name == "--rendezvous" && !value.empty()) {
      flags.rendezvous = value;
    } else if (name == "--order" && (value == "1f1b" || value == "gpipe")) {
      flags.order = value;
    } else {
      usage_error("unknown flag or order: " + std::string(name) + " " + value);
    }
  }
  return flags;
}

struct Work {
  int kind;
  int microbatch;
};

std::vector<Work> order_of_stage(const Flags& flags, int stage) {
  const int all = flags.microbatches;
  const int ahead = flags.order == "gpipe" ? all : std::min(flags.stages - 1 - stage, all);
  std::vector<Work> order;
  int forward = 0;
  int backward = 0;
  while (forward < ahead) order.push_back({SLACKLINE_FORWARD, forward++});
  while (forward < all) {
    order.push_back({SLACKLINE_FORWARD, forward++});
    order.push_back({SLACKLINE_BACKWARD, backward++});
  }
  while (backward < all) order.push_back({SLACKLINE_BACKWARD, backward++});
  return order;
}

/// What travels between stages.
struct Tensor {
  int microbatch;
  std::array<float, 512> values;
};

/// One end of the connection to a neighbour stage. Sending never blocks the stage: a thread does it.
class Link {
 public:
  Link(slackline_session* session, int socket, slackline_channel outgoing, slackline_channel incoming)
      : session_(session), socket_(socket), outgoing_(outgoing), incoming_(incoming), sender_([this] {
          run();
        }) {}
  Link(const Link&) = delete;
  Link& operator=(const Link&) = delete;
  ~Link() {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    changed_.notify_one();
    sender_.join();
    ::close(socket_);
  }

  void send(const Tensor& tensor) {
    slackline_sim_send(session_, outgoing_);
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(tensor);
    }
    changed_.notify_one();
  }

  /// Exits if the neighbour is gone: without it there is nothing left to train.
  Tensor receive(int microbatch) {
    Tensor tensor{};
    slackline_sim_wait_begin(session_, incoming_);
    const ssize_t count = ::recv(socket_, &tensor, sizeof tensor, MSG_WAITALL);
    if (count != static_cast<ssize_t>(sizeof tensor)) std::_Exit(1);
    slackline_sim_wait_end(session_, incoming_);
    if (tensor.microbatch != microbatch) {
      std::fprintf(stderr, "slackline-demo-train: expected microbatch %d, received %d\n", microbatch,
                   tensor.microbatch);
      std::_Exit(1);
    }
    return tensor;
  }

 private:
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      changed_.wait(lock, [this] { return closing_ || !queue_.empty(); });
      if (queue_.empty()) return;
      const Tensor tensor = queue_.front();
      queue_.pop_front();
      lock.unlock();
      if (::send(socket_, &tensor, sizeof tensor, MSG_NOSIGNAL) != static_cast<ssize_t>(sizeof tensor))
        return;
      lock.lock();
    }
  }

  slackline_session* session_;
  int socket_;
  slackline_channel outgoing_;
  slackline_channel incoming_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Tensor> queue_;
  bool closing_ = false;
  std::thread sender_;
};

/// Stands for the layers: touches every value, so that what arrives depends on every stage before.
Tensor transform(Tensor tensor, float factor) {
  for (float& value : tensor.values) value = value * factor + 1.0F;
  return tensor;
}

void train(slackline_session* session, const Flags& flags, int stage, Link* before, Link* behind) {
  const std::vector<Work> order = order_of_stage(flags, stage);
  std::vector<Tensor> activations(static_cast<std::size_t>(flags.microbatches));
  for (long step = 0; flags.steps == 0 || step < flags.steps; ++step) {
    slackline_step_begin(session);
    for (const Work& work : order) {
      Link* const from = work.kind == SLACKLINE_FORWARD ? before : behind;
      Link* const to = work.kind == SLACKLINE_FORWARD ? behind : before;
      Tensor& kept = activations[static_cast<std::size_t>(work.microbatch)];
      Tensor input = from != nullptr ? from->receive(work.microbatch) : kept;
      input.microbatch = work.microbatch;
      Tensor output{};
      slackline_instruction_begin(session, work.kind, work.microbatch);
      do {
        output = transform(input, work.kind == SLACKLINE_FORWARD ? 0.5F : 0.25F);
        if (slackline_is_simulated(session) == 0) {
          std::this_thread::sleep_for(std::chrono::milliseconds(flags.compute_ms));
        }
      } while (slackline_instruction_again(session) != 0);
      slackline_instruction_end(session);
      if (work.kind == SLACKLINE_FORWARD) kept = output;
      if (to != nullptr) to->send(output);
    }
    slackline_step_end(session);
  }
}

using SocketPair = std::array<int, 2>;

/// Channels of the connection between `stage` and the next: activations go up, gradients come down.
slackline_channel activations_of(int stage) {
  return 2 * static_cast<slackline_channel>(stage);
}
slackline_channel gradients_of(int stage) {
  return activations_of(stage) + 1;
}

/// What the waiting process takes in turn; blocked otherwise, so that none is lost between two looks.
sigset_t awaited_signals() {
  sigset_t signals;
  ::sigemptyset(&signals);
  ::sigaddset(&signals, SIGCHLD);
  ::sigaddset(&signals, SIGTERM);
  return signals;
}

/// The ends of a stage's connections; -1 where it has no neighbour.
struct Neighbours {
  int before = -1;
  int behind = -1;
};

[[noreturn]] void run_stage(const Flags& flags, int stage, const Neighbours& neighbours) {
  slackline_session* session = nullptr;
  if (slackline_open(stage, flags.stages, &session) != SLACKLINE_OK) std::_Exit(1);
  if (slackline_is_simulated(session) == 0 && flags.compute_ms == 0) {
    std::fputs(
        "slackline-demo-train: no simulated GPUs; run it under slackline apply --device sim:PROFILE,\n"
        "  or say --compute-ms\n",
        stderr);
    std::_Exit(1);
  }
  {
    std::optional<Link> before;
    std::optional<Link> behind;
    if (neighbours.before >= 0) {
      before.emplace(session, neighbours.before, gradients_of(stage - 1), activations_of(stage - 1));
    }
    if (neighbours.behind >= 0) {
      behind.emplace(session, neighbours.behind, activations_of(stage), gradients_of(stage));
    }
    train(session, flags, stage, before ? &*before : nullptr, behind ? &*behind : nullptr);
  }
  slackline_close(session);
  std::exit(0);
}

[[noreturn]] void run_child(const Flags& flags, int stage, const std::vector<SocketPair>& sockets) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  const sigset_t signals = awaited_signals();
  ::sigprocmask(SIG_UNBLOCK, &signals, nullptr);
  for (int link = 0; link < flags.stages - 1; ++link) {
    const SocketPair& pair = sockets[static_cast<std::size_t>(link)];
    if (link != stage) ::close(pair[0]);
    if (link != stage - 1) ::close(pair[1]);
  }
  Neighbours neighbours;
  if (stage > 0) neighbours.before = sockets[static_cast<std::size_t>(stage - 1)][1];
  if (stage < flags.stages - 1) neighbours.behind = sockets[static_cast<std::size_t>(stage)][0];
  run_stage(flags, stage, neighbours);
}

sockaddr_un meeting_point(const std::string& folder, int stage) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = folder + "/stage-" + std::to_string(stage);
  if (path.size() >= sizeof address.sun_path) usage_error("--rendezvous: the path is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  return address;
}

/// One rank of several, each of which somebody else has started: waits at its own place for the stage behind,
/// and goes to that of the stage before.
[[noreturn]] void run_rank(const Flags& flags) {
  const char* const rank = std::getenv("RANK");
  const auto stage = static_cast<int>(number_of("RANK", rank == nullptr ? "" : rank, 0, flags.stages - 1));
  Neighbours neighbours;
  int listener = -1;
  if (stage < flags.stages - 1) {
    const sockaddr_un address = meeting_point(flags.rendezvous, stage);
    listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ::unlink(address.sun_path);
    if (::bind(listener, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        ::listen(listener, 1) != 0) {
      std::perror("slackline-demo-train: rendezvous");
      std::exit(1);
    }
  }
  if (stage > 0) {
    const sockaddr_un address = meeting_point(flags.rendezvous, stage - 1);
    neighbours.before = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    while (::connect(neighbours.before, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
  }
  if (listener >= 0) neighbours.behind = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
  run_stage(flags, stage, neighbours);
}

/// Waits for every stage; when one fails or we are told to end, ends the others.
int wait_for(const std::vector<pid_t>& children) {
  const sigset_t signals = awaited_signals();
  int status_of_job = 0;
  std::size_t left = children.size();
  const auto end_all = [&](int status) {
    if (status_of_job == 0) status_of_job = status;
    for (const pid_t child : children) ::kill(child, SIGKILL);
  };
  while (true) {
    int status = 0;
    while (left > 0 && ::waitpid(-1, &status, WNOHANG) > 0) {
      --left;
      if (status == 0 || status_of_job != 0) continue;
      end_all(WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
    if (left == 0) return status_of_job;
    if (::sigwaitinfo(&signals, nullptr) == SIGTERM) end_all(128 + SIGTERM);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const Flags flags = parse_flags(argc, argv);
  if (!flags.rendezvous.empty()) run_rank(flags);
  std::vector<SocketPair> sockets(static_cast<std::size_t>(flags.stages - 1));
  for (SocketPair& pair : sockets) {
    if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair.data()) != 0) {
      std::perror("slackline-demo-train: socketpair");
      return 1;
    }
  }
  ::signal(SIGCHLD, SIG_DFL);
  const sigset_t signals = awaited_signals();
  ::sigprocmask(SIG_BLOCK, &signals, nullptr);
  std::vector<pid_t> children;
  for (int stage = 0; stage < flags.stages; ++stage) {
    const pid_t child = ::fork();
    if (child < 0) {
      std::perror("slackline-demo-train: fork");
      for (const pid_t started : children) ::kill(started, SIGKILL);
      return 1;
    }
    if (child == 0) run_child(flags, stage, sockets);
    children.push_back(child);
  }
  for (const SocketPair& pair : sockets) {
    ::close(pair[0]);
    ::close(pair[1]);
  }
  return wait_for(children);
}
