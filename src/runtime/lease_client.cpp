#include "slackline/runtime/lease_client.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <system_error>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/process.h"
#include "slackline/runtime/fork_guard.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

LeaseHello hello_for(const std::vector<std::string>& gpus) {
  LeaseHello hello{};
  hello.magic = kLeaseMagic;
  hello.gpu_count = static_cast<std::uint32_t>(gpus.size());
  hello.start_time = this_process().start_time;
  for (std::size_t g = 0; g < gpus.size(); ++g) {
    if (gpus[g].size() >= hello.gpus[g].size()) throw DeviceError("lease", gpus[g], "no GPU has such a name");
    std::memcpy(hello.gpus[g].data(), gpus[g].data(), gpus[g].size());
  }
  return hello;
}

std::string joined(const std::vector<std::string>& gpus) {
  return gpus.size() == 1 ? gpus.front() : gpus.front() + " and " + std::to_string(gpus.size() - 1) + " more";
}

/// Threads that are started meanwhile take no signals.
class BlockedSignals {
 public:
  BlockedSignals() {
    sigset_t all{};
    ::sigfillset(&all);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  BlockedSignals(const BlockedSignals&) = delete;
  BlockedSignals& operator=(const BlockedSignals&) = delete;
  ~BlockedSignals() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

 private:
  sigset_t before_{};
};

/// The memory may be of an impostor: a wrong size would end us when we touch what is not there.
bool has_size(int fd, std::size_t bytes) {
  struct stat status {};
  return ::fstat(fd, &status) == 0 && status.st_size == static_cast<off_t>(bytes);
}

}  // namespace

std::unique_ptr<LeaseClient> LeaseClient::open(const std::string& socket,
                                               const std::vector<std::string>& gpus, Seconds patience,
                                               SimWorld* world, std::vector<GpuId> simulated) {
  if (gpus.empty() || gpus.size() > kMostLeasedGpus) {
    throw DeviceError("lease", std::to_string(gpus.size()) + " GPUs",
                      "a process leases 1 to " + std::to_string(kMostLeasedGpus));
  }
  Descriptor connection = connect_to(socket, patience);
  if (!connection && errno == EACCES) {
    throw DeviceError("lease", joined(gpus),
                      "this user may not connect to " + socket + "; ask for its group");
  }
  if (!connection) return nullptr;
  const LeaseHello hello = hello_for(gpus);
  if (!send_packet(connection.get(), std::as_bytes(std::span(&hello, 1)))) return nullptr;
  if (!wait_readable(connection.get(), patience)) {
    throw DeviceError("lease", joined(gpus), "the agent does not answer");
  }
  auto packet = receive_packet(connection.get(), sizeof(LeaseAnswer));
  if (!packet) return nullptr;
  LeaseAnswer answer{};
  if (packet->data.size() == sizeof answer) std::memcpy(&answer, packet->data.data(), sizeof answer);
  if (answer.magic != kLeaseMagic) {
    throw DeviceError("lease", joined(gpus), "the agent speaks another version of the protocol");
  }
  if (answer.status != LeaseStatus::kGranted) {
    answer.text.back() = '\0';
    throw DeviceError("lease", joined(gpus), answer.text.data());
  }
  auto& memories = packet->descriptors;
  std::unique_ptr<LeaseClient> lease(new LeaseClient);
  if (memories.size() == 2 && has_size(memories[0].get(), sizeof(RequestMemory)) &&
      has_size(memories[1].get(), sizeof(ResultMemory))) {
    lease->requests_ = Mapping(memories[0].get(), sizeof(RequestMemory));
    lease->results_ = Mapping(memories[1].get(), sizeof(ResultMemory), PROT_READ);
  }
  if (!lease->requests_ || !lease->results_) {
    throw DeviceError("lease", joined(gpus), "cannot map the lease's memory");
  }
  const std::size_t clocks = std::min<std::size_t>(lease->results()->clock_count, kMostClocks);
  for (std::size_t c = 0; c < clocks; ++c) lease->clocks_.emplace_back(lease->results()->clocks_mhz[c]);
  lease->world_ = world;
  lease->simulated_ = std::move(simulated);
  lease->socket_ = std::move(connection);
  close_in_children(lease->socket_.get());
  lease->forks_ = fork_count();
  if (answer.heartbeat_ms > 0) {
    lease->heart_ = Descriptor(::eventfd(0, EFD_CLOEXEC));
    const std::chrono::milliseconds period(answer.heartbeat_ms);
    const BlockedSignals none;  // they are the program's own threads' business
    try {
      lease->heartbeat_ = std::make_unique<std::thread>([self = lease.get(), period] { self->beat(period); });
    } catch (const std::system_error& error) {
      throw DeviceError("start a thread for", joined(gpus), error.code().message());
    }
  }
  return lease;
}

LeaseClient::~LeaseClient() {
  if (fork_count() != forks_) {  // the socket is closed here, and the thread was never ours
    static_cast<void>(socket_.release());
    static_cast<void>(heartbeat_.release());
    return;
  }
  if (heartbeat_) {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(heart_.get(), &one, sizeof one);
    heartbeat_->join();
  }
  if (!socket_) return;
  ::shutdown(socket_.get(), SHUT_RDWR);  // also for a child that is forked between here and its closing
  keep_in_children(socket_.get());
}

std::optional<std::uint32_t> LeaseClient::number_of(Megahertz clock) const {
  if (clock == Megahertz(0)) return 0;
  const auto found = std::ranges::find(clocks_, clock);
  if (found == clocks_.end()) return std::nullopt;
  return static_cast<std::uint32_t>(found - clocks_.begin()) + 1;
}

void LeaseClient::post(std::uint32_t number, bool in_step) {
  if (fork_count() != forks_) return;
  // Simulated time must not run on while the request is under way, so it is announced first. An agent that
  // ends the lease forgets what was announced before; what comes after is taken back here.
  const bool announced = world_ != nullptr && world_->is_virtual();
  if (announced) world_->post_requests(simulated_);
  if (results()->ended.load(std::memory_order_seq_cst) != LeaseEnd::kNotYet) {
    if (announced) {
      for (const GpuId gpu : simulated_) world_->take_requests(gpu, 1);
    }
    return;
  }
  auto& memory = *static_cast<RequestMemory*>(requests_.get());
  // Either the agent, about to sleep, sees this request, or we see that it sleeps: both orders are total.
  memory.request.store(ClockRequest{++sequence_, in_step, number}.word(), std::memory_order_seq_cst);
  if (results()->asleep.load(std::memory_order_seq_cst) != 0) wake();
}

void LeaseClient::wake() const {
  const char look = 1;
  // A full socket already holds what wakes it.
  [[maybe_unused]] const ssize_t sent = ::send(socket_.get(), &look, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

void LeaseClient::beat(std::chrono::milliseconds period) {
  while (true) {
    pollfd waiting{heart_.get(), POLLIN, 0};
    if (::poll(&waiting, 1, static_cast<int>(period.count())) > 0) return;
    wake();
  }
}

bool LeaseClient::is_over() {
  if (is_over_ || fork_count() != forks_) return true;
  char byte = 0;
  const ssize_t count = ::recv(socket_.get(), &byte, 1, MSG_DONTWAIT | MSG_PEEK);
  is_over_ = results()->ended.load() != LeaseEnd::kNotYet || count == 0 || (count < 0 && errno == ECONNRESET);
  return is_over_;
}

std::string LeaseClient::why_over() const {
  const std::string why = text_of(results()->ended.load());
  return why.empty() ? "the agent has gone" : "the agent has ended the lease: " + why;
}

}  // namespace slackline
