// What an agent owes whoever connects to it, and those who do not: seen from its socket, with GPUs that
// remember what was done to them.
#include <fcntl.h>
#include <grp.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <future>
#include <random>
#include <set>

#include "catch.h"
#include "running_agent.h"

namespace slackline {
namespace {

using std::chrono::milliseconds;

bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

AgentOptions options_with(const Policy& policy) {
  AgentOptions options;
  options.policy = policy;
  return options;
}
AgentOptions options_for_us() {
  return options_with(Policy::everything_for(::geteuid()));
}

/// GPUs, their journal, and an agent for them.
struct Node {
  explicit Node(AgentOptions options = options_for_us(),
                RunningAgent::Kernel kernel = RunningAgent::Kernel::kThis) {
    start(std::move(options), kernel);
  }
  void start(AgentOptions options = options_for_us(),
             RunningAgent::Kernel kernel = RunningAgent::Kernel::kThis) {
    options.socket_path = socket;
    agent.emplace(device, journal, std::move(options), kernel);
  }
  [[nodiscard]] std::string gpu(int number) const { return device.identity(GpuId(number)).uuid; }
  std::unique_ptr<LeaseClient> lease(const std::vector<int>& numbers) const {
    std::vector<std::string> gpus;
    for (const int number : numbers) gpus.push_back(gpu(number));
    auto lease = LeaseClient::open(socket, gpus, Seconds(60));
    REQUIRE(lease);
    return lease;
  }
  [[nodiscard]] bool becomes(const Calls& calls) const {
    return wait_until([&] { return device.calls() == calls; }, kPatience);
  }
  /// All GPUs are as they were, and nothing is left to be done.
  [[nodiscard]] bool becomes_restored() const {
    return wait_until([&] { return device.is_restored() && journal.entries().empty(); }, kPatience);
  }

  ScratchFolder folder;
  std::string socket = folder.file("agent.sock");
  RecordingDevice device;
  Journal journal{folder.file("journal")};
  std::optional<RunningAgent> agent;
};

Policy::Rule rule_for(uid_t user, const std::set<std::string>& gpus, int lowest = 1, int highest = 2000) {
  return {{user}, {}, {false, gpus}, {Megahertz(lowest), Megahertz(highest)}};
}

const std::string kOurs = "process " + std::to_string(::getpid()) + " of user " + std::to_string(::geteuid());

std::string refusal(const std::function<void()>& lease) {
  try {
    lease();
  } catch (const DeviceError& error) {
    return error.what();
  }
  return "";
}

// Bad input

TEST_CASE("agent: a hello that is none is refused in words, and whoever has a lease keeps it", "[agent]") {
  Node node;
  const auto bystander = node.lease({3});
  bystander->post(1, false);
  REQUIRE(node.becomes({"3:1400"}));

  LeaseHello hello = RawClient::hello({node.gpu(0)});
  const std::string good = RawClient::bytes_of(hello);
  const auto with_count = [&](std::uint32_t count) {
    hello.gpu_count = count;
    return RawClient::bytes_of(hello);
  };
  LeaseHello endless = hello;
  endless.gpus[0].fill('A');
  LeaseHello rude = hello;
  std::string("\x1b[2J\n<4>fake line").copy(rude.gpus[0].data(), 60);
  LeaseHello foreign = hello;
  foreign.magic = kLeaseMagic + 1;
  const std::string broken = "the client broke the protocol";
  const std::string version = "the client speaks another version of the protocol";
  const std::vector<std::pair<std::string, std::string>> hellos{
      {"x", version},
      {good.substr(0, 3), version},
      {good.substr(0, 4), broken},
      {good.substr(0, good.size() - 1), broken},
      {good + "x", broken},
      {good + std::string(60'000, 'x'), broken},
      {std::string(60'000, '\0'), version},
      {RawClient::bytes_of(foreign), version},
      {with_count(0), broken},
      {with_count(65), broken},
      {with_count(UINT32_MAX), broken},
      {RawClient::bytes_of(endless), "the policy does not give '" + std::string(64, 'A') + "' to user"},
      {RawClient::bytes_of(rude), "the policy does not give '?[2J?<4>fake line' to user"},
  };
  for (std::size_t i = 0; i < hellos.size(); ++i) {
    CAPTURE(i);
    const auto lines = static_cast<long>(node.agent->log().size());
    RawClient client(node.socket);
    REQUIRE(client.say(hellos[i].first));
    const auto answer = client.answer();
    REQUIRE(answer);
    CHECK(answer->magic == kLeaseMagic);
    CHECK(answer->status == LeaseStatus::kRefused);
    CHECK(contains(answer->text.data(), hellos[i].second));
    CHECK(client.memories().empty());
    CHECK(client.is_closed());
    CHECK(wait_until([&] { return static_cast<long>(node.agent->log().size()) == lines + 1; }, kPatience));
    CHECK(contains(node.agent->log().back(), "refused " + kOurs + ": " + hellos[i].second));
  }
  RawClient silent(node.socket);
  CHECK(silent.say(""));  // which looks like an end
  CHECK(silent.is_closed());

  bystander->post(2, false);
  CHECK(node.becomes({"3:1400", "3:1300"}));
  CHECK_FALSE(bystander->is_over());
  const AgentMetrics metrics = node.agent->stop();
  CHECK(metrics.leases_refused == hellos.size());
  CHECK(metrics.leases_granted == 1);
}

TEST_CASE("agent: whoever connects and says nothing is sent away", "[agent]") {
  Node node;
  RawClient silent(node.socket);
  const auto answer = silent.answer();
  REQUIRE(answer);
  CHECK(contains(answer->text.data(), "said nothing"));
  CHECK(silent.is_closed());
}

TEST_CASE("agent: descriptors that come with a hello are not kept", "[agent]") {
  Node node;
  const auto open_descriptors = [] {
    const std::filesystem::directory_iterator folder("/proc/self/fd");
    return std::distance(begin(folder), end(folder));
  };
  const auto before = open_descriptors();
  {
    const std::array<int, 2> gifts{STDIN_FILENO, STDOUT_FILENO};
    RawClient client(node.socket);
    REQUIRE(client.say(RawClient::bytes_of(RawClient::hello({node.gpu(0)})), gifts));
    CHECK(client.answer());
    for (int i = 0; i < 100; ++i) REQUIRE(client.say("x", gifts));
    RawClient refused(node.socket);
    REQUIRE(refused.say("x", gifts));
    CHECK(refused.answer());
  }
  CHECK(wait_until([&] { return open_descriptors() == before; }, kPatience));
}

TEST_CASE("agent: whatever but single bytes comes after the grant ends the lease and restores the GPU",
          "[agent]") {
  Node node;
  const auto bystander = node.lease({3});
  RawClient client(node.socket);
  REQUIRE(client.lease({node.gpu(0)}) == "");
  client.ask(1, 3);
  REQUIRE(node.becomes({"0:1200"}));
  std::string end = "protocol broken";
  SECTION("two bytes") {
    CHECK(client.say("xx"));
  }
  SECTION("a second hello") {
    CHECK(client.say(RawClient::hello({node.gpu(1)})));
  }
  SECTION("much") {
    CHECK(client.say(std::string(60'000, 'x')));
  }
  SECTION("two bytes after many single ones") {
    for (int i = 0; i < 50; ++i) CHECK(client.say("x"));
    CHECK(client.say("xx"));
  }
  SECTION("nothing") {
    CHECK(client.say(""));
    end = "closed";
  }
  SECTION("its end of the connection shut down") {
    ::shutdown(client.fd(), SHUT_WR);
    end = "closed";
  }
  CHECK(client.is_closed());
  CHECK(text_of(client.results().ended) == end);
  CHECK(node.becomes_restored());
  CHECK(node.device.calls() == Calls{"0:1200", "0:-"});
  CHECK(node.agent->says("the lease of " + kOurs + " is over: " + end));
  CHECK_FALSE(bystander->is_over());
  CHECK(node.agent->stop().leases_ended[end] == 1);
}

TEST_CASE("agent: whatever is in the request memory, a GPU gets no clock that is not on the lease's list",
          "[agent]") {
  Node node(options_with(Policy({}, {}, {rule_for(::geteuid(), {"TEST-0"}, 900, 1100)})));
  std::mt19937_64 generator(20240611);
  const auto random_word = [&] {
    const std::uint64_t word = generator();
    // One in two is of a clock that is on the list, or just beyond it.
    return (word & 1) != 0 ? word : (word & ~std::uint64_t{0x7fffffff}) | ((word >> 1) % 5);
  };
  std::uint64_t refused = 0;
  for (int round = 0; round < 60; ++round) {
    RawClient client(node.socket);
    const std::string words = client.lease({node.gpu(0)});
    REQUIRE(words == "");
    while (client.results().ended == LeaseEnd::kNotYet) {
      client.write(random_word());
      client.wake();
    }
    ++refused;
  }
  CHECK(node.becomes_restored());
  for (const std::string& call : node.device.calls()) {
    CAPTURE(call);
    CHECK((call == "0:-" || call == "0:1100" || call == "0:1000" || call == "0:900"));
  }
  AgentMetrics metrics = node.agent->stop();
  CHECK(metrics.requests.refused == refused);
  CHECK(metrics.leases_ended["clock not allowed"] == refused);
}

TEST_CASE("agent: a request counts when its number is new, whatever else changes in the word", "[agent]") {
  Node node;
  RawClient client(node.socket);
  REQUIRE(client.lease({node.gpu(0)}) == "");
  client.ask(1, 1);
  REQUIRE(node.becomes({"0:1400"}));
  client.ask(1, 2);
  client.ask(1, 9999);
  client.ask(2, 3);
  CHECK(node.becomes({"0:1400", "0:1200"}));
  CHECK(client.results().ended == LeaseEnd::kNotYet);
  client.ask(1, 4);  // numbers wrap round, so an older one is new too
  CHECK(node.becomes({"0:1400", "0:1200", "0:1100"}));
}

// Who may have what

TEST_CASE("agent: a GPU that the policy denies and one that is not there are refused in the same words",
          "[agent]") {
  Node node(options_with(Policy({}, {}, {rule_for(::geteuid(), {"TEST-0"})})));
  const auto words = [&](const std::string& gpu) {
    std::string text = RawClient(node.socket).lease({gpu});
    const std::size_t at = text.find(gpu);
    REQUIRE(at != std::string::npos);
    return text.replace(at, gpu.size(), "GPU");
  };
  CHECK(words("TEST-1") == words("TEST-9"));
  CHECK(words("TEST-1") == "the policy does not give 'GPU' to user " + std::to_string(::geteuid()));
  // Nor does it tell that somebody has the one that is denied.
  CHECK(RawClient(node.socket).lease({"TEST-0", "TEST-1"}) == RawClient(node.socket).lease({"TEST-1"}));
  CHECK(node.lease({0}));
}

TEST_CASE("agent: clocks outside the policy's range are not on the list, for GPUs leased together on none's",
          "[agent]") {
  Node node(options_with(
      Policy({}, {},
             {rule_for(::geteuid(), {"TEST-0"}, 900, 1200), rule_for(::geteuid(), {"TEST-1"}, 1100, 1300),
              rule_for(::geteuid(), {"TEST-2"}, 1210, 1290)})));
  const auto clocks = [&](const std::vector<int>& gpus) {
    std::vector<int> numbers;
    const auto lease = node.lease(gpus);
    for (const Megahertz clock : lease->clocks()) numbers.push_back(clock.value());
    return numbers;
  };
  CHECK(clocks({0}) == std::vector{1200, 1100, 1000, 900});
  CHECK(clocks({1}) == std::vector{1300, 1200, 1100});
  CHECK(clocks({0, 1}) == std::vector{1200, 1100});
  CHECK(contains(refusal([&] { node.lease({2}); }), "the policy leaves no clock that these GPUs have"));
  RawClient client(node.socket);
  REQUIRE(client.lease({node.gpu(0)}) == "");
  client.ask(1, 5);  // one beyond the end
  CHECK(client.is_closed());
  CHECK(client.results().ended == LeaseEnd::kClockNotAllowed);
  CHECK(node.device.calls().empty());
  CHECK(node.agent->says("is over: clock not allowed"));
}

TEST_CASE("agent: a user's rights come from the kernel: the user, the group and further groups", "[agent]") {
  SLACKLINE_NEEDS(::geteuid() == 0, "root");
  constexpr uid_t kUser = 54321;
  constexpr gid_t kGroup = 54322;
  Policy::Rule group_rule = rule_for(0, {"TEST-1"});
  group_rule.users.clear();
  group_rule.groups = {kGroup};
  AgentOptions options = options_with(Policy({}, {}, {rule_for(kUser, {"TEST-0"}), group_rule}));
  options.socket_mode = 0666;
  Node node(options);
  REQUIRE(::chmod(node.folder.file("").c_str(), 0711) == 0);
  const auto as = [&](uid_t user, gid_t group, const std::vector<gid_t>& groups, int gpu) {
    return ClientProcess([&]() -> std::string {
             if (::setgroups(groups.size(), groups.data()) != 0 || ::setresgid(group, group, group) != 0 ||
                 ::setresuid(user, user, user) != 0)
               return "cannot become user";
             return LeaseClient::open(node.socket, {node.gpu(gpu)}, Seconds(60)) ? "granted" : "no agent";
           })
        .words();
  };
  CHECK(as(kUser, 1, {}, 0) == "granted");
  CHECK(contains(as(kUser, 1, {}, 1), "the policy does not give 'TEST-1' to user 54321"));
  CHECK(as(1, kGroup, {}, 1) == "granted");
  CHECK(as(1, 1, {1, 2, 3, kGroup}, 1) == "granted");
  std::vector<gid_t> many(300, 0);
  for (std::size_t g = 0; g < many.size(); ++g) many[g] = static_cast<gid_t>(60'000 + g);
  many.push_back(kGroup);
  CHECK(as(1, 1, many, 1) == "granted");
  CHECK(contains(as(1, 1, {1, 2, 3}, 1), "the policy does not give"));
  CHECK(contains(as(0, 0, {}, 0), "the policy does not give"));  // root has no rights by itself
}

TEST_CASE("agent: a user who connects again and again keeps no other user out", "[agent]") {
  SLACKLINE_NEEDS(::geteuid() == 0, "root");
  AgentOptions options = options_for_us();
  options.socket_mode = 0666;
  Node node(options);
  REQUIRE(::chmod(node.folder.file("").c_str(), 0711) == 0);
  const ClientProcess crowd([&]() -> std::string {
    if (::setresuid(54321, 54321, 54321) != 0) return "cannot become user";
    if (::fork() != 0) return "";
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::alarm(300);
    std::vector<RawClient> clients;
    while (true) {
      if (clients.size() > 200) clients.clear();
      clients.emplace_back(node.socket);
    }
  });
  REQUIRE(crowd.words() == "");
  for (int i = 0; i < 100; ++i) {
    CAPTURE(i);
    CHECK(RawClient(node.socket).lease({node.gpu(0)}) == "");
  }
}

TEST_CASE("agent: a GPU has one owner; whoever comes second is told who that is", "[agent]") {
  Node node;
  const ClientProcess owner([&] {
    static_cast<void>(LeaseClient::open(node.socket, {node.gpu(0), node.gpu(1)}, Seconds(60)).release());
    return std::string();
  });
  REQUIRE(owner.words() == "");
  const std::string words = "TEST-1 is leased to process " + std::to_string(owner.pid()) + " of user " +
                            std::to_string(::geteuid());
  CHECK(contains(refusal([&] { node.lease({1}); }), words));
  CHECK(contains(refusal([&] { node.lease({2, 1}); }), words));
  CHECK(node.agent->says("refused " + kOurs + ": " + words));
  const auto ours = node.lease({2});  // a refusal takes nothing away
  CHECK(contains(refusal([&] { node.lease({2}); }), "TEST-2 is leased to " + kOurs));
  CHECK(contains(refusal([&] { node.lease({3, 3}); }), "TEST-3 is asked for twice"));
  CHECK(node.lease({3}));
}

TEST_CASE("agent: of two who want a GPU at the same time exactly one gets it, every time", "[agent]") {
  Node node;
  for (int round = 0; round < 200; ++round) {
    CAPTURE(round);
    std::array<RawClient, 2> clients{RawClient(node.socket), RawClient(node.socket)};
    std::promise<void> go;
    const std::shared_future<void> gone = go.get_future().share();
    std::array<std::future<std::string>, 2> words;
    for (std::size_t c = 0; c < 2; ++c) {
      words[c] = std::async(std::launch::async, [&, c] {
        gone.wait();
        return clients[c].lease({node.gpu(c == 0 ? 1 : 2), node.gpu(0)});
      });
    }
    go.set_value();
    const std::array<std::string, 2> said{words[0].get(), words[1].get()};
    REQUIRE(((said[0] == "") != (said[1] == "")));
    CHECK(contains(said[0] + said[1], "TEST-0 is leased to " + kOurs));
  }
  const AgentMetrics metrics = node.agent->stop();
  CHECK(metrics.leases_granted == 200);
  CHECK(metrics.leases_refused == 200);
}

// When a lease ends

TEST_CASE("agent: a lease ends when its process does, though a child of it holds the connection open",
          "[agent]") {
  Node node;
  // A raw connection, which the child inherits: LeaseClient's own is closed there.
  ClientProcess owner([&]() -> std::string {
    static RawClient client(node.socket);
    const std::string words = client.lease({node.gpu(0)});
    if (words != "") return words;
    client.ask(1, 3);
    const pid_t child = ::fork();
    if (child == 0) {
      ::alarm(300);
      while (true) ::pause();
    }
    return std::to_string(child);
  });
  CAPTURE(owner.words());
  REQUIRE(owner.words().find_first_not_of("0123456789") == std::string::npos);
  REQUIRE(node.becomes({"0:1200"}));
  owner.kill();
  CHECK(node.becomes_restored());
  CHECK(node.agent->says("is over: process ended"));
  const pid_t child = std::stoi(owner.words());
  CHECK(::kill(child, 0) == 0);
  ::kill(child, SIGKILL);
}

TEST_CASE("agent: a client that closes gives its GPUs back; so does one that crashes", "[agent]") {
  Node node;
  SECTION("it closes") {
    auto lease = node.lease({0, 1});
    lease->post(3, false);
    REQUIRE(wait_until([&] { return node.device.calls().size() == 2; }, kPatience));
    lease.reset();
  }
  SECTION("it crashes") {
    ClientProcess owner([&] {
      auto* lease = LeaseClient::open(node.socket, {node.gpu(0), node.gpu(1)}, Seconds(60)).release();
      lease->post(3, false);
      return std::string();
    });
    REQUIRE(wait_until([&] { return node.device.calls().size() == 2; }, kPatience));
    owner.signal(SIGSEGV);
    CHECK(node.becomes_restored());
  }
  CHECK(node.becomes_restored());
  CHECK(node.device.calls().size() == 4);
}

TEST_CASE("agent: users who connect and leave without end keep nobody waiting", "[agent]") {
  Node node;
  const auto lease = node.lease({0});
  std::atomic<bool> is_over = false;
  std::vector<std::thread> crowd;
  for (int i = 0; i < 16; ++i) {
    crowd.emplace_back([&] {
      while (!is_over) static_cast<void>(connect_to(node.socket, Seconds(0.1)));
    });
  }
  for (std::uint32_t i = 1; i <= 20; ++i) {
    lease->post(i % 2 + 1, false);
    CHECK(wait_until([&] { return lease->result(0).sequence == i; }, kPatience));
  }
  const auto metrics = node.agent->stop();  // nor does it keep the agent from ending
  is_over = true;
  for (std::thread& one : crowd) one.join();
  CHECK(metrics.requests.applied == 20);
}

TEST_CASE("agent: refusals without end are counted, and few of them logged", "[agent]") {
  Node node;
  constexpr int kRefusals = 300;
  const auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < kRefusals; ++i) {
    RawClient client(node.socket);
    REQUIRE(client.say("x"));
    REQUIRE(client.answer());
  }
  const auto seconds = (std::chrono::steady_clock::now() - begin) / std::chrono::seconds(1);
  CHECK(node.agent->says(" more"));
  CHECK(node.agent->count("refused") <= 22 * (seconds + 3));
  CHECK(node.agent->stop().leases_refused == kRefusals);
}

TEST_CASE("agent: a client that reads nothing and never stops talking keeps nobody waiting", "[agent]") {
  Node node;
  RawClient deaf(node.socket);
  REQUIRE(deaf.say(RawClient::hello({node.gpu(0)})));  // and does not listen to the answer
  const auto flood = [&] {
    while (::send(deaf.fd(), "x", 1, MSG_DONTWAIT | MSG_NOSIGNAL) == 1) {
    }
  };
  const auto other = node.lease({1});
  for (std::uint32_t i = 1; i <= 20; ++i) {
    flood();
    other->post(i % 2 + 1, false);
    CHECK(wait_until([&] { return other->result(0).sequence == i; }, kPatience));
  }
  CHECK_FALSE(other->is_over());
  deaf.close();
  CHECK(node.agent->says("is over: closed"));
}

/// Without what cannot be pretended here there is nothing to test.
bool pretends(const Node& node) {
  if (wait_until([&] { return node.agent->pretends(); }, milliseconds(2000))) return true;
  WARN("not tried: an older kernel cannot be pretended here");
  return false;
}

/// What the agent answers to a process that says it began `later` than it did; nothing at all for no number.
LeaseAnswer answer_to(const Node& node, std::optional<std::uint64_t> later) {
  LeaseHello hello = RawClient::hello({node.gpu(0)});
  hello.start_time = later ? hello.start_time + *later : 0;
  RawClient client(node.socket);
  REQUIRE(client.say(hello));
  const auto answer = client.answer();
  REQUIRE(answer);
  return *answer;
}

TEST_CASE("agent: a process whose number was another's when the lease was asked for is refused", "[agent]") {
  Node node(options_for_us(), RunningAgent::Kernel::kWithoutPeerPidfd);
  if (!pretends(node)) return;
  for (const std::uint64_t later : {std::uint64_t{1}, ~std::uint64_t{0}}) {
    const LeaseAnswer answer = answer_to(node, later);
    CHECK(answer.status == LeaseStatus::kRefused);
    CHECK(std::string(answer.text.data()) == "the process that connected has ended");
  }
  CHECK(answer_to(node, 0).heartbeat_ms == 0);
  // One that cannot tell, for it sees another /proc, has to give signs of life.
  const LeaseAnswer answer = answer_to(node, std::nullopt);
  CHECK(answer.status == LeaseStatus::kGranted);
  CHECK(answer.heartbeat_ms > 0);
}

TEST_CASE("agent: where the kernel says who connected, nobody's word for it is needed", "[agent]") {
  Node node;
  if (answer_to(node, 1).status == LeaseStatus::kRefused) return;  // a kernel before 6.5
  for (const std::optional<std::uint64_t> later :
       {std::optional<std::uint64_t>(1), std::optional<std::uint64_t>()}) {
    const LeaseAnswer answer = answer_to(node, later);
    CHECK(answer.status == LeaseStatus::kGranted);
    CHECK(answer.heartbeat_ms == 0);
  }
}

// A program of its own: threads of a child that is only forked are more than ThreadSanitizer can follow.
TEST_CASE("agent: a client that lives until it is killed", "[.living-client]") {
  const char* socket = ::getenv("LIVING_CLIENT_SOCKET");
  REQUIRE(socket != nullptr);
  const auto lease = LeaseClient::open(socket, {"TEST-1"}, Seconds(60));
  REQUIRE(lease);
  lease->post(4, true);
  while (true) ::pause();
}

TEST_CASE("agent: where it cannot see a process die, the process has to give signs of life", "[agent]") {
  AgentOptions options = options_for_us();
  options.heartbeat_patience = milliseconds(1500);
  Node node(options, RunningAgent::Kernel::kWithoutPidfds);
  if (!pretends(node)) return;
  RawClient silent(node.socket);
  REQUIRE(silent.say(RawClient::hello({node.gpu(0)})));
  const auto answer = silent.answer();
  REQUIRE(answer);
  REQUIRE(answer->status == LeaseStatus::kGranted);
  CHECK(answer->heartbeat_ms > 0);
  CHECK(answer->heartbeat_ms < 1500);
  silent.ask(1, 3);
  ::setenv("LIVING_CLIENT_SOCKET", node.socket.c_str(), 1);
  const RunningProgram alive({"/proc/self/exe", "[.living-client]"});
  CHECK(node.agent->says("leases TEST-1"));
  CHECK(node.agent->says("is over: silent for too long"));
  CHECK(wait_until([&] { return !node.device.locked(GpuId(0)); }, kPatience));
  CHECK(silent.results().ended == LeaseEnd::kSilent);
  CHECK(node.device.locked(GpuId(1)) == Megahertz(1100));
  std::this_thread::sleep_for(2 * options.heartbeat_patience);
  CHECK(node.agent->count("silent for too long") == 1);  // the other one's is alive

  alive.signal(SIGSTOP);
  CHECK(node.becomes_restored());
  CHECK(node.agent->count("silent for too long") == 2);
}

TEST_CASE("agent: a process whose death it can see need not give signs of life", "[agent]") {
  AgentOptions options = options_for_us();
  options.heartbeat_patience = milliseconds(100);
  Node node(options);
  RawClient client(node.socket);
  REQUIRE(client.say(RawClient::hello({node.gpu(0)})));
  const auto answer = client.answer();
  REQUIRE(answer);
  if (answer->heartbeat_ms > 0) return;  // a kernel without pidfds
  std::this_thread::sleep_for(milliseconds(1000));
  CHECK(client.results().ended == LeaseEnd::kNotYet);
}

TEST_CASE(
    "agent: a lease ends in this order: no request is read, the call in flight ends, the GPU is restored, "
    "its entry goes, and then the next one may have it",
    "[agent]") {
  Node node;
  RawClient first(node.socket);
  REQUIRE(first.lease({node.gpu(0)}) == "");
  node.device.hold();
  first.ask(1, 3);
  REQUIRE(wait_until([&] { return node.device.in_flight() == 1; }, kPatience));
  first.ask(2, 4);  // in the mailbox, perhaps
  ::shutdown(first.fd(), SHUT_WR);
  REQUIRE(first.is_closed());
  first.write(ClockRequest{3, true, 5}.word());

  RawClient second(node.socket);
  REQUIRE(second.say(RawClient::hello({node.gpu(0)})));
  CHECK_FALSE(second.answer(milliseconds(100)));  // it waits, and is not refused
  CHECK(node.device.calls().empty());
  CHECK(node.journal.entries().size() == 1);
  RawClient third(node.socket);  // nor are others kept from it by that
  CHECK(third.lease({node.gpu(1)}) == "");

  node.device.let_go();
  const auto answer = second.answer();
  REQUIRE(answer);
  CHECK(answer->status == LeaseStatus::kGranted);
  CHECK(node.journal.entries().empty());
  CHECK(node.device.calls() == Calls{"0:1200", "0:-"});

  // What the first still has mapped moves nothing, and is told nothing.
  const std::uint32_t told = first.results().gpus[0].sequence;
  first.write(ClockRequest{9, true, 6}.word());
  second.ask(1, 1, true);
  CHECK(node.becomes({"0:1200", "0:-", "0:1400"}));
  first.write(ClockRequest{10, true, 7}.word());
  second.ask(2, 2, true);
  CHECK(node.becomes({"0:1200", "0:-", "0:1400", "0:1300"}));
  CHECK(second.requests().request == ClockRequest{2, true, 2}.word());
  CHECK(first.results().gpus[0].sequence == told);
}

TEST_CASE("agent: whoever says more while it waits for a GPU is refused", "[agent]") {
  Node node;
  auto first = node.lease({0});
  node.device.hold();
  first->post(3, false);
  REQUIRE(wait_until([&] { return node.device.in_flight() == 1; }, kPatience));
  first.reset();
  RawClient second(node.socket);
  REQUIRE(second.say(RawClient::hello({node.gpu(0)})));
  REQUIRE(second.say(RawClient::hello({node.gpu(0)})));
  const auto answer = second.answer();
  CHECK(node.agent->says("refused " + kOurs + ": the client broke the protocol"));
  CHECK((!answer || answer->status == LeaseStatus::kRefused));
  node.device.let_go();
  CHECK(node.becomes_restored());
}

TEST_CASE("agent: a GPU that stays unrestored is refused at last, and free once it is restored", "[agent]") {
  Node node;
  auto first = node.lease({0});
  node.device.hold();
  first->post(3, false);
  REQUIRE(wait_until([&] { return node.device.in_flight() == 1; }, kPatience));
  first.reset();
  CHECK(contains(refusal([&] { node.lease({0}); }), "still being restored"));
  node.device.let_go();
  CHECK(node.becomes_restored());
  CHECK(node.lease({0}));
}

// What becomes of requests

TEST_CASE("agent: of many requests the latest wins, and what it overtakes is never set", "[agent]") {
  Node node;
  const auto lease = node.lease({0});
  node.device.hold();
  lease->post(1, true);
  REQUIRE(wait_until([&] { return node.device.in_flight() == 1; }, kPatience));
  std::uint32_t seen = 0;
  for (std::uint32_t i = 0; i < 200; ++i) {
    lease->post(i % 5 + 2, true);
    if (i % 10 == 0) std::this_thread::sleep_for(milliseconds(1));
    const std::uint32_t now = lease->result(0).sequence;
    CHECK(now >= seen);
    seen = now;
  }
  lease->post(7, false);
  std::this_thread::sleep_for(milliseconds(20));
  node.device.let_go();
  REQUIRE(wait_until([&] { return lease->result(0).sequence == lease->sequence(); }, kPatience));
  CHECK(lease->result(0).requested_mhz == 800);
  const Calls calls = node.device.calls();
  CHECK(calls.front() == "0:1400");
  CHECK(calls.back() == "0:800");
  CHECK(calls.size() <= 3);  // the agent may have come to the last one only after the driver was let go
}

TEST_CASE("agent: numbers of results never go back while requests come as fast as they can", "[agent]") {
  Node node;
  const auto lease = node.lease({0, 1});
  std::array<std::uint32_t, 2> seen{};
  bool went_back = false;
  for (std::uint32_t i = 0; i < 20'000; ++i) {
    lease->post(i % 8 + 1, i % 64 != 63);  // it falls asleep now and then
    for (std::size_t g = 0; g < 2; ++g) {
      const std::uint32_t now = lease->result(g).sequence;
      went_back = went_back || now < seen[g];
      seen[g] = now;
    }
  }
  lease->post(9, false);
  for (std::size_t g = 0; g < 2; ++g) {
    CHECK(wait_until([&] { return lease->result(g).sequence == lease->sequence(); }, kPatience));
    CHECK(node.device.locked(GpuId(static_cast<std::int32_t>(g))) == Megahertz(600));
  }
  CHECK_FALSE(went_back);
  const AgentMetrics metrics = node.agent->stop();
  const auto& requests = metrics.requests;
  CHECK(requests.applied + requests.skipped + requests.overtaken <= 2 * 20'001);
  CHECK(requests.applied <= node.device.calls().size());
  CHECK(requests.applied + 2 >= node.device.calls().size());  // a call is counted after its result is there
}

TEST_CASE("agent: a clock that a GPU has is not set again", "[agent]") {
  Node node;
  const auto lease = node.lease({0});
  for (std::uint32_t i = 1; i <= 5; ++i) {
    lease->post(3, false);
    REQUIRE(wait_until([&] { return lease->result(0).sequence == i; }, kPatience));
  }
  CHECK(node.device.calls() == Calls{"0:1200"});
  lease->post(0, false);
  lease->post(0, false);
  CHECK(node.becomes({"0:1200", "0:-"}));
  REQUIRE(wait_until([&] { return lease->result(0).sequence == 7; }, kPatience));
  CHECK(node.device.calls() == Calls{"0:1200", "0:-"});
  const auto counts = [&] { return node.agent->stop().requests; };
  // The agent may have looked only after the seventh, and never seen the sixth.
  const auto all_are_counted = [&] { return counts().applied == 2 && counts().skipped >= 4; };
  CHECK(wait_until(all_are_counted, kPatience));
}

TEST_CASE("agent: a result tells what was asked for, what came of it, why, and how long it took", "[agent]") {
  Node node;
  const auto lease = node.lease({0});
  CHECK(lease->result(0).sequence == 0);
  CHECK(lease->result(0).observed_mhz == 0);
  CHECK(lease->result(0).observed_sequence == 0);
  node.device.hold();
  lease->post(3, false);
  REQUIRE(wait_until([&] { return node.device.in_flight() == 1; }, kPatience));
  std::this_thread::sleep_for(milliseconds(30));
  node.device.let_go();
  REQUIRE(wait_until([&] { return lease->result(0).observed_sequence == 1; }, kPatience));
  CHECK(lease->result(0).sequence == 1);
  CHECK(lease->result(0).requested_mhz == 1200);
  CHECK(lease->result(0).observed_mhz == 1200);
  CHECK(EventReasons(lease->result(0).event_reasons) ==
        EventReasons(static_cast<std::uint32_t>(EventReason::kUserSet)));
  CHECK(lease->result(0).latency_ns >= 30'000'000);
  CHECK(lease->result(0).failures == 0);
  lease->post(0, false);
  REQUIRE(wait_until([&] { return lease->result(0).observed_sequence == 2; }, kPatience));
  CHECK(lease->result(0).observed_mhz == 1400);
  CHECK(lease->result(0).requested_mhz == 0);
  CHECK(lease->result(0).event_reasons == 0);
  CHECK(wait_until([&] { return node.agent->stop().gpus.at(0).observed == Megahertz(1400); }, kPatience));
  const AgentMetrics metrics = node.agent->stop();
  REQUIRE(metrics.gpus.size() == 4);
  CHECK(metrics.gpus[0].is_leased);
  CHECK(metrics.gpus[0].requested == Megahertz(0));
  CHECK(metrics.gpus[0].observed == Megahertz(1400));
  CHECK(metrics.gpus[0].last_driver_call);
  CHECK_FALSE(metrics.gpus[1].is_leased);
  CHECK_FALSE(metrics.gpus[1].last_driver_call);
}

TEST_CASE("agent: a client writes its requests and nothing else, and no memory changes its size", "[agent]") {
  Node node;
  RawClient client(node.socket);
  REQUIRE(client.lease({node.gpu(0)}) == "");
  REQUIRE(client.memories().size() == 2);
  const int results = client.memories()[1].get();
  const auto path = [](int fd) { return "/proc/self/fd/" + std::to_string(fd); };
  const auto is_writable = [](int fd) {
    void* memory = ::mmap(nullptr, sizeof(ResultMemory), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (memory == MAP_FAILED) return false;
    ::munmap(memory, sizeof(ResultMemory));
    return true;
  };
  CHECK_FALSE(is_writable(results));
  const Descriptor again(::open(path(results).c_str(), O_RDWR | O_CLOEXEC));
  if (again) {
    CHECK_FALSE(is_writable(again.get()));
    CHECK(::pwrite(again.get(), "x", 1, 0) < 0);
  }
  CHECK(::pwrite(results, "x", 1, 0) < 0);
  CHECK(::fallocate(results, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, sizeof(ResultMemory)) < 0);
  void* view = ::mmap(nullptr, sizeof(ResultMemory), PROT_READ, MAP_SHARED, results, 0);
  REQUIRE(view != MAP_FAILED);
  CHECK(::mprotect(view, sizeof(ResultMemory), PROT_READ | PROT_WRITE) < 0);
  ::munmap(view, sizeof(ResultMemory));
  CHECK(::fcntl(results, F_ADD_SEALS, F_SEAL_WRITE) < 0);

  for (const Descriptor& memory : client.memories()) {
    struct stat status {};
    REQUIRE(::fstat(memory.get(), &status) == 0);
    CHECK(::ftruncate(memory.get(), 0) < 0);
    CHECK(::ftruncate(memory.get(), status.st_size - 1) < 0);
    CHECK(::ftruncate(memory.get(), status.st_size + 4096) < 0);
    CHECK(::fallocate(memory.get(), 0, status.st_size, 4096) < 0);
    CHECK(::open(path(memory.get()).c_str(), O_RDWR | O_TRUNC | O_CLOEXEC) < 0);
    struct stat now {};
    REQUIRE(::fstat(memory.get(), &now) == 0);
    CHECK(now.st_size == status.st_size);
  }
  // What it can do to the memory that is its own harms nobody else.
  const int requests = client.memories()[0].get();
  CHECK(::fallocate(requests, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, sizeof(RequestMemory)) == 0);
  client.wake();
  client.ask(1, 3);
  CHECK(node.becomes({"0:1200"}));
  client.close();
  CHECK(node.becomes_restored());
}

// Drivers that refuse

TEST_CASE("agent: a driver that refuses a clock ends the lease, and the GPU goes back", "[agent]") {
  Node node;
  node.device.refuse(Megahertz(1100));
  const auto lease = node.lease({0, 1});
  lease->post(3, false);
  REQUIRE(wait_until([&] { return node.device.calls().size() == 2; }, kPatience));
  lease->post(4, false);
  REQUIRE(wait_until([&] { return lease->is_over(); }, kPatience));
  CHECK(lease->result(0).failures + lease->result(1).failures >= 1);
  CHECK(node.becomes_restored());
  CHECK(node.agent->says("the driver says no"));
  CHECK(node.agent->says("is over: driver refused"));
  node.device.refuse(Megahertz(0));
  CHECK(node.lease({0, 1}));  // it is nobody's fault but the clock's
  AgentMetrics metrics = node.agent->stop();
  CHECK(metrics.requests.failed >= 1);
  CHECK(metrics.leases_ended["driver refused"] == 1);
}

TEST_CASE("agent: clocks are read back though the next request always comes first", "[agent]") {
  Node node;
  const auto lease = node.lease({0});
  const auto end = std::chrono::steady_clock::now() + kPatience;
  std::set<std::uint32_t> observed;
  for (std::uint32_t number = 0; observed.size() < 4 && std::chrono::steady_clock::now() < end; ++number) {
    lease->post(number % 8 + 1, true);
    std::this_thread::sleep_for(milliseconds(2));
    observed.insert(lease->result(0).observed_sequence);
  }
  CHECK(observed.size() == 4);
  CHECK(lease->result(0).observed_mhz >= 700);
}

TEST_CASE("agent: a client knows why its lease is over", "[agent]") {
  Node node;
  auto lease = node.lease({0});
  node.device.refuse(Megahertz(1200));
  lease->post(3, false);
  REQUIRE(wait_until([&] { return lease->is_over(); }, kPatience));
  CHECK(lease->why_over() == "the agent has ended the lease: driver refused");
  lease.reset();
  lease = node.lease({1});
  node.agent.reset();
  REQUIRE(lease->is_over());
  CHECK(lease->why_over() == "the agent has ended the lease: agent ended");
}

TEST_CASE("agent: drivers are silent when none of them answers, for some or for all GPUs", "[agent]") {
  Node node;
  const auto some = node.lease({0, 1, 2});
  const auto last = node.lease({3});
  node.device.hold();
  some->post(3, false);
  REQUIRE(wait_until([&] { return node.device.in_flight() == 3; }, kPatience));
  std::this_thread::sleep_for(milliseconds(100));
  CHECK(node.agent->silence_of_drivers() < milliseconds(100));
  last->post(3, false);
  CHECK(wait_until([&] { return node.agent->silence_of_drivers() > milliseconds(100); }, kPatience));
  node.device.let_go();
  CHECK(wait_until([&] { return node.agent->silence_of_drivers() == milliseconds(0); }, kPatience));
}

TEST_CASE("agent: a GPU that does not tell its clocks keeps nobody from the others", "[agent]") {
  Node node;
  node.agent.reset();
  node.device.lose(GpuId(2));
  node.start();
  CHECK(node.lease({0, 1}));
  CHECK(contains(refusal([&] { node.lease({2}); }), "fell off the bus"));
}

TEST_CASE("agent: one client's fault in the driver never ends the lease of the next", "[agent]") {
  Node node;
  node.device.refuse(Megahertz(1200));
  for (int round = 0; round < 200; ++round) {
    RawClient first(node.socket);
    REQUIRE(first.lease({node.gpu(0)}) == "");
    first.ask(1, 3);
    if (round % 2 == 0) first.close();
    RawClient second(node.socket);
    while (second.lease({node.gpu(0)}) != "") second = RawClient(node.socket);
    second.ask(1, 1);
    REQUIRE(wait_until([&] { return second.results().gpus[0].sequence == 1; }, kPatience));
    std::this_thread::sleep_for(milliseconds(1));
    CHECK(second.results().ended == LeaseEnd::kNotYet);
  }
}

TEST_CASE("agent: a GPU whose state cannot be read is not changed, as it could not be put back", "[agent]") {
  Node node;
  node.device.set_state("level-7");
  node.device.hide_state(true);
  const auto lease = node.lease({0});
  lease->post(3, false);
  REQUIRE(wait_until([&] { return lease->is_over(); }, kPatience));
  CHECK(node.agent->says("read state"));
  CHECK(node.device.calls().empty());
  CHECK(node.journal.entries().empty());
  node.device.hide_state(false);
  auto next = node.lease({0});
  next->post(3, false);
  REQUIRE(node.becomes({"0:1200"}));
  next.reset();
  CHECK(node.becomes({"0:1200", "0:-level-7"}));
}

TEST_CASE("agent: a GPU whose driver refuses to restore it is tried again until that works", "[agent]") {
  Node node;
  auto lease = node.lease({0});
  lease->post(3, false);
  REQUIRE(node.becomes({"0:1200"}));
  node.device.refuse_restores(1'000'000);
  lease.reset();
  CHECK(node.agent->says("the driver is busy"));  // at once, not when it is over
  CHECK(node.device.locked(GpuId(0)));
  CHECK(node.journal.entries().size() == 1);
  RawClient next(node.socket);
  REQUIRE(next.say(RawClient::hello({node.gpu(0)})));
  CHECK_FALSE(next.answer(milliseconds(300)));
  node.device.refuse_restores(3);
  const auto answer = next.answer();
  REQUIRE(answer);
  CHECK(answer->status == LeaseStatus::kGranted);
  CHECK(node.device.calls() == Calls{"0:1200", "0:-"});
  CHECK(node.journal.entries().empty());
  const AgentMetrics metrics = node.agent->stop();
  CHECK(metrics.restores == 1);
  CHECK(metrics.restore_failures >= 3);
}

/// All GPUs and clocks for us, and a baseline for the first GPU.
AgentOptions options_with_baseline(int mhz) {
  GpuSelection first;
  first.names = {"TEST-0"};
  Policy::Rule rule = rule_for(::geteuid(), {});
  rule.gpus.is_all = true;
  return options_with(Policy({}, {{first, Megahertz(mhz)}}, {rule}));
}

TEST_CASE("agent: the baseline is set for whoever asks for it, though nothing else was asked for before",
          "[agent]") {
  Node node(options_with_baseline(900));
  const auto lease = node.lease({0, 1});
  lease->post(0, true);
  CHECK(node.becomes({"0:-", "0:900"}));  // the other one is unlocked as it is
  CHECK(wait_until([&] { return lease->result(1).sequence == 1; }, kPatience));
  CHECK(node.device.calls().size() == 2);
}

TEST_CASE("agent: a GPU goes back to the policy's baseline, and to the state that it had", "[agent]") {
  Node node(options_with_baseline(900));
  node.device.set_state("level-7");
  auto lease = node.lease({0});
  auto other = node.lease({1});
  lease->post(3, false);
  REQUIRE(node.becomes({"0:1200"}));
  CHECK(node.journal.entries().at(0).state == "level-7");
  CHECK(node.journal.entries().at(0).baseline == Megahertz(900));
  node.device.set_state("ours");  // what a driver says now is what we have set
  lease->post(0, false);
  REQUIRE(node.becomes({"0:1200", "0:-level-7", "0:900"}));
  lease->post(2, false);
  REQUIRE(node.becomes({"0:1200", "0:-level-7", "0:900", "0:1300"}));
  lease.reset();
  CHECK(node.becomes({"0:1200", "0:-level-7", "0:900", "0:1300", "0:-level-7", "0:900"}));
  CHECK(wait_until([&] { return node.journal.entries().empty(); }, kPatience));
  node.device.forget_calls();
  other->post(3, false);
  REQUIRE(node.becomes({"1:1200"}));
  other.reset();
  CHECK(node.becomes({"1:1200", "1:-ours"}));
}

// An agent's start and end

TEST_CASE("agent: an agent that ends has ended its leases and restored its GPUs", "[agent]") {
  Node node;
  const auto lease = node.lease({0, 1});
  lease->post(3, true);
  REQUIRE(wait_until([&] { return node.device.calls().size() == 2; }, kPatience));
  node.agent.reset();
  CHECK(lease->is_over());
  CHECK(node.device.is_restored());
  CHECK(node.journal.entries().empty());
  CHECK_FALSE(std::filesystem::exists(node.socket));
  CHECK(LeaseClient::open(node.socket, {node.gpu(0)}) == nullptr);
  lease->post(4, true);  // nobody hears it, and that is no error
  node.start();
  CHECK(node.lease({0, 1}));
}

/// A simulated node, whose GPUs outlive whoever sets them.
struct SimulatedGpus {
  SimulatedGpus() {
    const std::vector<SimOption> clocks{{Megahertz(1400), Seconds(0.1), Joules(30)},
                                        {Megahertz(1000), Seconds(0.15), Joules(25)}};
    const SimRank stage{2, Watts(60), {{InstructionKind::kForward, clocks}}};
    SimOptions options;
    options.pace = 1;
    SimWorld::create(path, {stage}, options);
    world = std::make_shared<SimWorld>(path);
    device.emplace(world);
  }
  [[nodiscard]] AgentOptions options() const {
    AgentOptions options = options_for_us();
    options.socket_path = folder.file("agent.sock");
    return options;
  }
  /// What an agent leaves that is killed while it has both GPUs.
  void change_and_die(Megahertz baseline = Megahertz(0)) const {
    ClientProcess owner([&] {
      const Journal theirs(journal_folder);
      for (const GpuId gpu : all_gpus(*device)) {
        auto* claim = new Journal::Claim(theirs.claim(device->identity(gpu).uuid));
        claim->record(*device, "", baseline);
        world->lock_clock(gpu, Megahertz(1000));
      }
      return std::string();
    });
    REQUIRE(owner.words() == "");
    CHECK(world->locked_clock(GpuId(1)) == Megahertz(1000));
  }

  ScratchFolder folder;
  std::string path = folder.file("gpus");
  std::string journal_folder = folder.file("journal");
  std::shared_ptr<SimWorld> world;
  std::optional<SimDevice> device;
};

TEST_CASE("agent: what an agent that died has left is restored before anybody is served", "[agent]") {
  SimulatedGpus gpus;
  gpus.change_and_die();
  const Journal journal(gpus.journal_folder);
  const std::string first = gpus.device->identity(GpuId(0)).uuid;
  REQUIRE(journal.entries().size() == 2);
  SECTION("entries that are whole") {}
  SECTION("an entry that is damaged") {
    spill(gpus.journal_folder + "/" + first + ".yaml", "slackline: jour");
  }
  SECTION("an entry that is empty, beside a stale socket") {
    spill(gpus.journal_folder + "/" + first + ".yaml", "");
    const Descriptor gone = listen_on(gpus.options().socket_path);
  }
  RunningAgent agent(*gpus.device, journal, gpus.options());
  CHECK(journal.entries().empty());  // already, when nobody can have been served
  for (const GpuId gpu : all_gpus(*gpus.device)) CHECK_FALSE(gpus.world->locked_clock(gpu));
  CHECK(agent.says("restored " + first + ", which an agent that died had changed"));
  const auto lease = LeaseClient::open(gpus.options().socket_path, {first}, Seconds(60));
  REQUIRE(lease);
  lease->post(2, false);
  CHECK(wait_until([&] { return gpus.world->locked_clock(GpuId(0)) == Megahertz(1000); }, kPatience));
  CHECK(agent.stop().leftovers_restored == 2);
}

TEST_CASE("agent: what is left is restored to the baseline of today's policy, not of the one that died",
          "[agent]") {
  SimulatedGpus gpus;
  gpus.change_and_die(Megahertz(1000));
  const Journal journal(gpus.journal_folder);
  AgentOptions options = gpus.options();
  const GpuIdentity first = gpus.device->identity(GpuId(0));
  SECTION("which has none") {
    const RunningAgent agent(*gpus.device, journal, options);
    CHECK_FALSE(gpus.world->locked_clock(GpuId(0)));
  }
  SECTION("which has another") {
    GpuSelection all;
    all.is_all = true;
    options.policy = Policy({}, {{all, Megahertz(1400)}}, {});
    const RunningAgent agent(*gpus.device, journal, options);
    CHECK(gpus.world->locked_clock(GpuId(0)) == Megahertz(1400));
  }
  SECTION("but an agent for one job has no word in that") {
    options.is_private = true;
    const RunningAgent agent(*gpus.device, journal, options);
    CHECK(gpus.world->locked_clock(GpuId(0)) == Megahertz(1000));
  }
  CHECK(journal.entries().empty());
}

TEST_CASE("agent: an agent for one job restores to what the journal says, at the first attempt or later",
          "[agent]") {
  Node node;
  node.agent.reset();
  node.device.lock_clock(GpuId(0), Megahertz(1000));
  {
    ClientProcess owner([&] {
      auto* claim = new Journal::Claim(node.journal.claim(node.gpu(0)));
      claim->record(node.device, "", Megahertz(900));
      return std::string();
    });
    REQUIRE(owner.words() == "");
  }
  node.device.refuse_restores(2);
  AgentOptions options = options_for_us();
  options.is_private = true;
  node.start(options);
  CHECK(wait_until([&] { return node.journal.entries().empty(); }, kPatience));
  CHECK(node.device.locked(GpuId(0)) == Megahertz(900));
}

TEST_CASE("agent: one agent a socket and one a GPU; whoever comes second is told who was first", "[agent]") {
  Node node;
  const auto log = [](Agent::Importance, const std::string&) {};
  AgentOptions options = options_for_us();
  options.socket_path = node.socket;
  const std::string ours = std::to_string(::getpid());
  RecordingDevice others(1);
  const Journal elsewhere(node.folder.file("elsewhere"));
  CHECK(contains(refusal([&] { Agent(others, elsewhere, options, log); }), "process " + ours));
  CHECK(node.lease({0}));  // the first one's socket is where it was
  options.socket_path = node.folder.file("other.sock");
  const std::string words = refusal([&] { Agent(node.device, node.journal, options, log); });
  CHECK(contains(words, "TEST-0"));
  CHECK(contains(words, "process " + ours + " has it"));
  const auto lease = node.lease({0});
  lease->post(3, false);
  CHECK(node.becomes({"0:1200"}));
  node.agent.reset();
  CHECK_NOTHROW(Agent(node.device, node.journal, options, log));
}

TEST_CASE("agent: a stale socket is replaced, and whatever else is in its place is left alone", "[agent]") {
  Node node;
  node.agent.reset();
  SECTION("a socket that nobody listens at") {
    { const Descriptor gone = listen_on(node.socket); }
    REQUIRE(std::filesystem::exists(node.socket));
    node.start();
    CHECK(node.lease({0}));
  }
  SECTION("a file") {
    spill(node.socket, "precious");
    CHECK_THROWS_WITH(node.start(), has_text("not a socket"));
    CHECK(slurp(node.socket) == "precious");
  }
  SECTION("a link") {
    spill(node.folder.file("target"), "precious");
    std::filesystem::create_symlink(node.folder.file("target"), node.socket);
    CHECK_THROWS_WITH(node.start(), has_text("not a socket"));
    CHECK(slurp(node.folder.file("target")) == "precious");
  }
  SECTION("a folder") {
    std::filesystem::create_directory(node.socket);
    CHECK_THROWS_AS(node.start(), DeviceError);
    CHECK(std::filesystem::is_directory(node.socket));
  }
  SECTION("a lock that is a link") {
    spill(node.folder.file("target"), "precious");
    std::filesystem::remove(node.socket + ".lock");
    std::filesystem::create_symlink(node.folder.file("target"), node.socket + ".lock");
    CHECK_THROWS_AS(node.start(), DeviceError);
    CHECK(slurp(node.folder.file("target")) == "precious");
  }
}

TEST_CASE("agent: who may connect is the owner and the policy's group, whatever the umask", "[agent]") {
  Node node;
  struct stat status {};
  REQUIRE(::stat(node.socket.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0660);
  CHECK(status.st_uid == ::geteuid());
  node.agent.reset();
  const gid_t group = ::geteuid() == 0 ? 54322 : ::getegid();
  Policy::Rule rule = rule_for(::geteuid(), {"TEST-0"});
  const mode_t mask = ::umask(0);
  node.start(options_with(Policy(group, {}, {rule})));
  ::umask(mask);
  REQUIRE(::stat(node.socket.c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0660);
  CHECK(status.st_gid == group);
  REQUIRE(::stat((node.socket + ".lock").c_str(), &status) == 0);
  CHECK((status.st_mode & 07777) == 0600);
}

}  // namespace
}  // namespace slackline
