#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "running_agent.h"

namespace slackline {
namespace {

constexpr int kGpus = 3;
constexpr std::size_t kClients = 4;
/// Nothing takes this long but what never ends.
constexpr std::chrono::milliseconds kStuck(8000);

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "the agent %s\n", what);
  std::abort();
}

/// One agent for all inputs, on a file system that forgets: a journal is written at every lease's first
/// clock.
struct Node {
  Node() {
    AgentOptions options;
    options.socket_path = socket;
    options.policy = Policy::everything_for(::geteuid());
    agent.emplace(device, journal, std::move(options));
  }
  [[nodiscard]] std::vector<std::string> gpus(unsigned mask) const {
    std::vector<std::string> names;
    for (int g = 0; g < kGpus; ++g) {
      if ((mask >> g & 1U) != 0) names.push_back(device.identity(GpuId(g)).uuid);
    }
    return names;
  }
  /// Whether every clock that a GPU was set to is one of its own.
  [[nodiscard]] bool has_set_only_known_clocks() const {
    for (const std::string& call : device.calls()) {
      const std::string clock = call.substr(call.find(':') + 1);
      if (clock == "-") continue;
      const int mhz = std::stoi(clock);
      if (mhz < 600 || mhz > 1400 || mhz % 100 != 0) return false;
    }
    return true;
  }

  ScratchFolder folder;
  std::string socket = folder.file("agent.sock");
  RecordingDevice device{kGpus};
  Journal journal{folder.file("journal")};
  std::optional<RunningAgent> agent;
};

/// The rest of an input; zeros when it is used up.
class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool empty() const { return at_ >= size_; }
  std::uint8_t next() { return at_ < size_ ? data_[at_++] : std::uint8_t{0}; }
  std::uint64_t word() {
    std::uint64_t word = 0;
    for (int i = 0; i < 8; ++i) word = word << 8 | next();
    return word;
  }
  std::string text(std::size_t length) {
    std::string text;
    while (text.size() < length && !empty()) text.push_back(static_cast<char>(next()));
    return text;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

void act(const Node& node, std::optional<RawClient>& client, unsigned action, Bytes& input) {
  if (!client || action == 0) client.emplace(node.socket);
  if (!client->is_connected()) fail("lets nobody connect");
  const bool has_lease = client->memories().size() == 2;
  switch (action) {
    case 1:
      client.reset();
      break;
    case 2:  // a good hello
      client->say(RawClient::hello(node.gpus(input.next())));
      break;
    case 3: {  // one that is a byte or more off
      std::string hello = RawClient::bytes_of(RawClient::hello(node.gpus(input.next())));
      const std::size_t at = std::size_t{input.next()} * 16 + input.next() % 16U;
      if (at < hello.size()) hello[at] = static_cast<char>(input.next());
      if (input.next() == 1) hello.resize(std::size_t{input.next()} * 64);
      client->say(hello);
      break;
    }
    case 4:
      client->say(input.text(input.next()));
      break;
    case 5: {  // somebody else's process, perhaps
      LeaseHello hello = RawClient::hello(node.gpus(input.next()));
      hello.start_time += input.next();
      hello.gpu_count = input.next();
      client->say(hello);
      break;
    }
    case 6:
    case 7:
      if (!has_lease) static_cast<void>(client->answer(std::chrono::milliseconds(2)));
      break;
    case 8:
      if (has_lease) client->write(input.word());
      break;
    case 9:
      if (has_lease) client->ask(input.next(), input.next() % 12U, (input.next() & 1U) != 0);
      break;
    case 10:
      client->wake();
      break;
    case 11: {
      const std::array<int, 2> gifts{STDERR_FILENO, client->fd()};
      client->say(input.text(1), gifts);
      break;
    }
    case 12:
      ::shutdown(client->fd(), (input.next() & 1U) != 0 ? SHUT_WR : SHUT_RD);
      break;
    case 13:
      client->say("");
      break;
    default:
      std::this_thread::sleep_for(std::chrono::microseconds(input.next()));
  }
}

}  // namespace
}  // namespace slackline

/// Whatever clients send, write or close, in whatever order: the agent lives, sets only clocks that GPUs
/// have, and when all have gone every GPU is as it was and can be leased anew.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  static Node* const kNode = [] {
    if (std::filesystem::is_directory("/dev/shm")) ::setenv("TMPDIR", "/dev/shm", 0);
    return new Node;
  }();
  Node& node = *kNode;
  Bytes input(data, size);
  {
    std::array<std::optional<RawClient>, kClients> clients;
    while (!input.empty()) {
      const unsigned what = input.next();
      if ((what & 15U) == 15) {
        node.device.refuse(Megahertz(600 + 100 * (input.next() % 10)));
        continue;
      }
      act(node, clients[what >> 4 & 3U], what & 15U, input);
    }
  }
  node.device.refuse(Megahertz(0));
  const auto is_restored = [&] { return node.device.is_restored() && node.journal.entries().empty(); };
  if (!wait_until(is_restored, kStuck)) fail("does not restore a GPU");
  // A request may have been under way until now; whoever has the lease knows that it is over.
  const bool leases = wait_until(
      [&] {
        RawClient client(node.socket);
        return client.lease(node.gpus(7)) == "";
      },
      kStuck);
  if (!leases) fail("does not lease a GPU that is free");
  if (!is_restored()) fail("has changed a GPU that was free");
  if (!node.has_set_only_known_clocks()) fail("has set a clock that is none");
  node.device.forget_calls();
  return 0;
}
