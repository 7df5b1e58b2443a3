#include <sys/eventfd.h>
#include <sys/socket.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "scratch_folder.h"
#include "slackline/runtime/job_server.h"
#include "slackline/runtime/mapping.h"
#include "slackline/runtime/packet_socket.h"
#include "slackline/runtime/step_log.h"

namespace slackline {
namespace {

constexpr int kStages = 3;
constexpr std::size_t kClients = 4;

JobOptions options() {
  const JobPlans::Rank rank{{{0, -1, 0}, {0, -1, 1}, {1, -1, 0}},
                            {{Megahertz(1200), Megahertz(1100), Megahertz(900)},
                             {Megahertz(1100), Megahertz(1100), Megahertz(900)}}};
  JobOptions options;
  options.rank_gpus = {{"A"}, {"B"}, {"C"}};
  options.plans = {{rank, rank, rank}, {Seconds(1), Seconds(2)}};
  options.baseline_steps = 1;
  return options;
}

JobHello hello_of(int rank) {
  return {kJobMagic, rank, kStages, 0, 1, 0, 1, {}};
}

[[noreturn]] void fail(const char* what) {
  std::fprintf(stderr, "the server %s\n", what);
  std::abort();
}

/// Puts steps together, as `apply` does.
class Observer : public JobObserver {
 public:
  void on_join(int stage, const JobPlace& /*place*/, const std::vector<std::string>& /*gpus*/) override {
    check(stage);
    log_.join(stage);
  }
  void on_event(int stage, const JobEvent& event) override {
    check(stage);
    log_.add(stage, event);
  }
  void on_end(int stage) override {
    check(stage);
    log_.abandon_step_of(stage);
  }

 private:
  static void check(int stage) {
    if (stage < 0 || stage >= kStages) fail("hears of a stage that there is not");
  }
  StepLog log_;
};

class Bytes {
 public:
  Bytes(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
  [[nodiscard]] bool empty() const { return at_ >= size_; }
  std::uint8_t next() { return at_ < size_ ? data_[at_++] : std::uint8_t{0}; }
  template <class Number>
  Number number() {
    Number number{};
    std::array<std::uint8_t, sizeof number> bytes{};
    for (std::uint8_t& byte : bytes) byte = next();
    std::memcpy(&number, bytes.data(), sizeof number);
    return number;
  }

 private:
  const std::uint8_t* data_;
  std::size_t size_;
  std::size_t at_ = 0;
};

/// A process of a job that keeps to no rules.
struct Client {
  explicit Client(const std::string& path) : socket(connect_to(path)) {}
  void say(std::span<const std::byte> bytes) const { send_packet(socket.get(), bytes); }
  void read_answer() {
    if (!wait_readable(socket.get(), Seconds(0))) return;
    auto answer = receive_packet(socket.get(), sizeof(JobWelcome));
    if (!answer || answer->descriptors.size() != 3) return;
    JobWelcome welcome{};
    std::memcpy(&welcome, answer->data.data(), sizeof welcome);
    mapping = Mapping(answer->descriptors[0].get(), JobTables::bytes(welcome.shape));
    doorbell = std::move(answer->descriptors[1]);
  }
  [[nodiscard]] JobMemory* memory() const { return static_cast<JobMemory*>(mapping.get()); }
  void ring() const {
    memory()->rings.fetch_add(1);
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(doorbell.get(), &one, sizeof one);
  }

  Descriptor socket;
  Descriptor doorbell;
  Mapping mapping;
};

void act(const std::string& path, std::optional<Client>& client, unsigned action, Bytes& input) {
  if (!client || action == 0) client.emplace(path);
  const bool has_joined = client->memory() != nullptr;
  switch (action) {
    case 1:
      client.reset();
      break;
    case 2: {
      const JobHello hello = hello_of(input.next() % kStages);
      client->say(std::as_bytes(std::span(&hello, 1)));
      break;
    }
    case 3: {
      JobHello hello = hello_of(0);
      hello.magic += input.next() & 1U;
      for (std::int32_t* number :
           {&hello.rank, &hello.ranks, &hello.pipeline, &hello.pipelines, &hello.lane, &hello.lanes}) {
        if ((input.next() & 1U) != 0) *number = input.number<std::int32_t>();
      }
      hello.gpu.fill(static_cast<char>(input.next()));
      client->say(std::as_bytes(std::span(&hello, 1)));
      break;
    }
    case 4: {
      const std::vector<std::byte> junk(input.next(), std::byte{input.next()});
      client->say(junk);
      break;
    }
    case 5:
      client->read_answer();
      break;
    case 6:  // an event as it should be
    case 7:
    case 8:
      if (!has_joined) break;
      {
        const std::uint64_t at = client->memory()->events_written.load();
        client->memory()->events[at % JobMemory::kEvents] = {
            static_cast<JobEventType>(action == 8 ? input.number<std::int32_t>() : input.next() % 9),
            input.next() % 2, input.next() % 3, 0, input.number<std::int64_t>()};
        client->memory()->events_written = at + 1;
        client->ring();
      }
      break;
    case 9:
      if (has_joined) client->memory()->events_written = input.number<std::uint64_t>();
      break;
    case 10:
      if (has_joined) client->memory()->rings = input.number<std::uint32_t>();
      break;
    case 11:
      if (has_joined) client->ring();
      break;
    case 13: {
      const JobNotice notice{kNoticeMagic, input.number<std::int32_t>(), input.number<double>()};
      client->say(std::as_bytes(std::span(&notice, 1)));
      break;
    }
    case 12:
      ::shutdown(client->socket.get(), (input.next() & 1U) != 0 ? SHUT_WR : SHUT_RDWR);
      break;
    default:
      client->say({});
  }
}

}  // namespace
}  // namespace slackline

/// Whatever processes of a job send, write or close, in whatever order: the server lives, waits for nobody,
/// and when all have gone every stage can be joined anew.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace slackline;
  static const ScratchFolder* const kFolder = new ScratchFolder;
  const std::string path = kFolder->file("job.sock");
  Observer observer;
  JobServer server(nullptr, options(), path, observer);
  Bytes input(data, size);
  {
    std::array<std::optional<Client>, kClients> clients;
    while (!input.empty()) {
      const unsigned what = input.next();
      std::optional<Client>& client = clients[what >> 4 & 3U];
      const bool will_connect = !client || (what & 15U) == 0;  // and so must not find the queue full
      if (will_connect || (what & 128U) == 0) server.serve();
      act(path, client, what & 15U, input);
      if ((what & 64U) != 0) server.set_repeat(static_cast<int>(what % kStages), what);
    }
  }
  for (std::size_t i = 0; i < size + 8; ++i) server.serve();  // one connection at a time
  for (int stage = 0; stage < kStages; ++stage) {
    Client client(path);
    const JobHello hello = hello_of(stage);
    client.say(std::as_bytes(std::span(&hello, 1)));
    server.serve();
    server.serve();
    client.read_answer();
    if (client.memory() == nullptr) fail("lets nobody join a stage that is free");
  }
  return 0;
}
