#include <signal.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "catch.h"
#include "child.h"
#include "fake_nvml.h"
#include "runtime_variable.h"
#include "slackline/runtime/packet_socket.h"

namespace slackline {
namespace {

using Json = nlohmann::json;

const std::string kBinary = SLACKLINE_BINARY;
const std::string kData = std::string(SLACKLINE_SOURCE_DIR) + "/tests/data";
const std::string kToy = "sim:toy-profile.yaml";

/// Four GPUs that draw 60 W each, in a folder that nothing may be left in.
class Node {
 public:
  ChildResult run(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), kBinary);
    return run_child(arguments, kData);
  }
  [[nodiscard]] std::size_t leftovers() const { return runtime_.entries(); }

 private:
  ScratchFolder runtime_;
  RuntimeVariable variable_{runtime_.file("")};
};

bool holds(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

TEST_CASE("devices: says of each GPU what it is, does and allows, and why not", "[cli]") {
  Node node;
  const ChildResult result = node.run({"devices", "--device", kToy, "--json"});
  CHECK(result.status == 0);
  CHECK(result.err == "");
  const Json report = Json::parse(result.out);
  CHECK(report["device"] == kToy);
  REQUIRE(report["gpus"].size() == 4);
  for (const Json& gpu : report["gpus"]) {
    CHECK(gpu["clock_mhz"] == 1400);
    CHECK(gpu["clocks_mhz"][0] == 1400);
    CHECK(gpu["power_w"] == 60);
    CHECK(gpu["temperature_c"].is_null());
    CHECK(gpu["event_reasons"].empty());
    CHECK(gpu["abilities"]["read_energy"]["allowed"] == true);
    CHECK(gpu["abilities"]["read_temperature"]["allowed"] == false);
    CHECK(gpu["abilities"]["read_temperature"]["why_not"] == "simulated GPUs have no temperature");
    CHECK(gpu["faults"].empty());
  }
  CHECK(report["gpus"][0]["uuid"] != report["gpus"][1]["uuid"]);
  const ChildResult text = node.run({"devices", "--device", kToy, "--read-only"});
  CHECK(text.status == 0);
  CHECK(holds(text.out, "simulated, 4 GPUs\n"));
  CHECK(holds(text.out, "1000-1400 (3)"));
  CHECK(holds(text.out, "read temperature    no: simulated GPUs have no temperature\n"));
  CHECK(node.leftovers() == 0);
}

TEST_CASE("devices: without any GPU it ends with status 3, says what was tried, and what to try", "[cli]") {
  Node node;
  const ChildResult result = node.run({"devices"});
  if (result.status == 0) return;  // there are some here
  CHECK(result.status == 3);
  CHECK(result.out == "");
  CHECK(holds(result.err, "slackline: no NVIDIA GPUs: "));
  CHECK(holds(result.err, "slackline: no AMD GPUs: "));
  CHECK(holds(result.err, "--device sim:PROFILE"));
}

TEST_CASE("measure: energy is power times time, for each GPU and in total", "[cli]") {
  Node node;
  const ChildResult result =
      node.run({"measure", "--device", kToy + ",pace=20", "--json", "--", "sleep", "0.3"});
  CHECK(result.status == 0);
  CHECK(result.err == "");  // six seconds are long enough
  const Json report = Json::parse(result.out);
  CHECK(report["command"] == "sleep 0.3");
  CHECK(report["exit_status"] == 0);
  const double time = report["time_s"];
  CHECK(time >= 6);
  REQUIRE(report["gpus"].size() == 4);
  double sum = 0;
  for (const Json& gpu : report["gpus"]) {
    CHECK(std::abs(gpu["energy_j"].get<double>() - 60 * time) < 1e-6 * time);
    CHECK(std::abs(gpu["sampled_energy_j"].get<double>() - 60 * time) < 1e-6 * time);
    CHECK(std::abs(gpu["mean_power_w"].get<double>() - 60) < 1e-6);
    CHECK(gpu["energy_error_j"] > 0);
    CHECK(gpu["lowest_clock_mhz"] == 1400);
    CHECK(gpu["highest_clock_mhz"] == 1400);
    CHECK(gpu["event_reasons"].empty());
    CHECK(gpu["peak_temperature_c"].is_null());
    CHECK(gpu["few_ticks"] == false);
    sum += gpu["energy_j"].get<double>();
  }
  CHECK(std::abs(report["energy_j"].get<double>() - sum) < 1e-9 * sum);
  CHECK(node.leftovers() == 0);
}

TEST_CASE("measure: a short window says how uncertain its energy is", "[cli]") {
  Node node;
  const ChildResult result = node.run({"measure", "--device", kToy, "--gpus", "1-2", "--", "sleep", "0.25"});
  CHECK(result.status == 0);
  CHECK(holds(result.out, "GPU 1"));
  CHECK(holds(result.out, "GPU 2"));
  CHECK_FALSE(holds(result.out, "GPU 3"));
  CHECK(holds(result.out, "total"));
  CHECK(result.err.rfind("slackline: GPU 1-2: 0.", 0) == 0);
  CHECK(holds(result.err, "ticks of the energy counter, so energy is uncertain by +-"));
}

TEST_CASE("measure: the report follows what the command wrote, or goes to a file", "[cli]") {
  Node node;
  const ChildResult both = node.run({"measure", "--device", kToy + ",pace=100", "--", "echo", "trained"});
  CHECK(both.out.rfind("trained\n", 0) == 0);
  CHECK(holds(both.out, "energy (J)"));
  const ScratchFolder scratch;
  const ChildResult apart = node.run({"measure", "--device", kToy + ",pace=100", "--json", "-o",
                                      scratch.file("m.json"), "--", "echo", "trained"});
  CHECK(apart.out == "trained\n");
  CHECK(Json::parse(slurp(scratch.file("m.json")))["gpus"].size() == 4);
}

TEST_CASE("measure: where the report cannot go is known before the command runs", "[cli]") {
  Node node;
  const ScratchFolder scratch;
  for (const std::string& output : {scratch.file("no/such/folder"), scratch.file("")}) {
    const ChildResult result = node.run(
        {"measure", "--device", kToy + ",pace=100", "-o", output, "--", "touch", scratch.file("ran")});
    CHECK(result.status == 2);
    CHECK(holds(result.err, "cannot write"));
    CHECK_FALSE(std::filesystem::exists(scratch.file("ran")));
  }
}

TEST_CASE("measure: the command's status counts more than what becomes of the report", "[cli]") {
  Node node;
  const ScratchFolder scratch;
  // Its folder goes while the command runs.
  std::filesystem::create_directory(scratch.file("folder"));
  const ChildResult lost =
      node.run({"measure", "--device", kToy + ",pace=100", "-o", scratch.file("folder/report"), "--", "sh",
                "-c", "rmdir \"$0\"; exit 5", scratch.file("folder")});
  CHECK(lost.status == 5);
  CHECK(holds(lost.err, "cannot write"));
  const std::string unread = kBinary + " measure --device " + kToy + ",pace=100 -- sh -c 'exit 5' | true; ";
  CHECK(run_child({"/bin/bash", "-c", unread + "exit ${PIPESTATUS[0]}"}, kData).status == 5);
  // The command itself hears of a closed pipe, as it would without us.
  const std::string deaf = kBinary + " measure --device " + kToy + ",pace=100 -- yes | head -1; ";
  CHECK(run_child({"/bin/bash", "-c", deaf + "exit ${PIPESTATUS[0]}"}, kData).status == 128 + SIGPIPE);
}

TEST_CASE("measure: a command's words need not be UTF-8", "[cli]") {
  Node node;
  const ChildResult result =
      node.run({"measure", "--device", kToy + ",pace=100", "--json", "--", "sh", "-c", "exit 3", "\xff\xfe"});
  CHECK(result.status == 3);
  CHECK(Json::parse(result.out)["exit_status"] == 3);
}

TEST_CASE("devices: GPUs that the driver counts and does not give are named, and why", "[cli]") {
  Node node;
  const FakeNvml gpus(3);
  gpus.script("GetHandleByIndex 1 error=15\n");
  const std::string device = "nvml,library=" FAKE_NVML;
  const ChildResult text = node.run({"devices", "--device", device});
  CHECK(text.status == 0);
  CHECK(holds(text.out, "2 GPUs"));
  CHECK(holds(text.out, "left out: the driver's GPU 1: the GPU has fallen off the bus"));
  const Json report = Json::parse(node.run({"devices", "--device", device, "--json"}).out);
  CHECK(report["left_out"].size() == 1);
  CHECK(holds(node.run({"measure", "--device", device, "--", "true"}).err, "left out: the driver's GPU 1"));
}

TEST_CASE("devices: the agent that sets clocks for others is named", "[cli]") {
  Node node;
  const ScratchFolder scratch;
  const FakeNvml gpus(1);
  const std::string device = "nvml,library=" FAKE_NVML;
  const std::string socket = scratch.file("agent.sock");
  const auto report = [&] {
    return Json::parse(
        node.run({"devices", "--device", device, "--read-only", "--agent", socket, "--json"}).out);
  };
  CHECK(report()["agent"].is_null());
  const Descriptor listener = listen_on(socket);
  const Json found = report();
  CHECK(found["agent"] == socket);
  const Json& ability = found["gpus"][0]["abilities"]["set_clocks"];
  CHECK(ability["allowed"] == false);
  CHECK(holds(ability["remedy"], "the agent at " + socket));
  // What stands against it is not a lack of rights.
  gpus.script("GetMigMode * value=1\n");
  const Json mig = report();
  CHECK(holds(mig["gpus"][0]["abilities"]["set_clocks"]["remedy"], "-mig 0"));
}

TEST_CASE("measure: ends with the command's own status, as a shell gives it", "[cli]") {
  Node node;
  const auto status = [&](std::vector<std::string> command) {
    std::vector<std::string> call{"measure", "--device", kToy + ",pace=100", "--"};
    call.insert(call.end(), command.begin(), command.end());
    return node.run(call).status;
  };
  CHECK(status({"true"}) == 0);
  CHECK(status({"sh", "-c", "exit 7"}) == 7);
  CHECK(status({"sh", "-c", "kill -TERM $$"}) == 143);
  // Somebody interrupts us: the command hears of it, and the report is still written.
  CHECK(status({"sh", "-c", "trap 'exit 9' INT; kill -INT $PPID; while :; do sleep 0.05; done"}) == 9);
  CHECK(status({"sh", "-c", "kill -INT $PPID; exec sleep 60"}) == 130);
  CHECK(status({"/nonexistent/command"}) == 127);
  CHECK(status({kData}) == 126);
  CHECK(node.leftovers() == 0);
}

TEST_CASE("calibrate: the counter's refresh and the agreement are the simulated GPU's", "[cli]") {
  Node node;
  const ChildResult result = node.run({"calibrate", "--read-only", "--device", kToy + ",tick_ms=40",
                                       "--seconds", "1", "--gpu", "2", "--json"});
  CHECK(result.status == 0);
  CHECK(result.err == "");
  const Json report = Json::parse(result.out);
  CHECK(report["gpu"] == 2);
  CHECK(report["readings"].size() == 6);
  const Json& refresh = report["energy_refresh"];
  CHECK(refresh["stated_s"] == 0.04);
  CHECK(refresh["intervals"] > 10);
  CHECK(std::abs(refresh["median_s"].get<double>() - 0.04) < 0.01);
  const Json& agreement = report["agreement"];
  CHECK(std::abs(agreement["counted_j"].get<double>() - 60) < 1e-6);
  CHECK(std::abs(agreement["sampled_j"].get<double>() - 60) < 1e-6);
  CHECK(node.leftovers() == 0);
}

TEST_CASE("calibrate: clock switches are timed, written into the profile, and the GPU is given back",
          "[cli]") {
  Node node;
  const ScratchFolder scratch;
  spill(scratch.file("p.yaml"), slurp(kData + "/toy-profile.yaml"));
  const ChildResult result = node.run({"calibrate", "--device", kToy, "--profile", scratch.file("p.yaml")});
  INFO(result.err);
  CHECK(result.status == 0);
  CHECK(holds(result.out, "MHz"));
  CHECK(holds(slurp(scratch.file("p.yaml")), "switch_ms:"));
  CHECK(node.run({"restore"}).err == "");
}

TEST_CASE("calibrate: a profile gets switches between its own clocks, and simulated GPUs then take as long",
          "[cli]") {
  Node node;
  const ScratchFolder scratch;
  const std::string profile = scratch.file("p.yaml");
  spill(profile, slurp(kData + "/toy-profile.yaml"));
  const FakeNvml gpus(1);
  const ChildResult result =
      node.run({"calibrate", "--device", "nvml,library=" FAKE_NVML, "--profile", profile, "--json"});
  INFO(result.err);
  REQUIRE(result.status == 2);  // 1000, 1200, 1400: the fake has clocks of 15 MHz steps, of these 1200 alone
  CHECK(holds(result.err, "of another kind"));

  REQUIRE(node.run({"calibrate", "--device", kToy + ",switch_ms=40", "--profile", profile}).status == 0);
  const ChildResult again =
      node.run({"calibrate", "--device", "sim:" + profile, "--clocks", "1400,1000", "--json"});
  INFO(again.err);
  REQUIRE(again.status == 0);
  for (const Json& one : Json::parse(again.out)) CHECK(one["stable_s"] > 0.038);
}

TEST_CASE("device commands: a wrong flag ends with status 2 and names it", "[cli]") {
  Node node;
  const std::vector<std::pair<std::vector<std::string>, std::string>> calls{
      {{"measure", "--device", kToy}, "CMD"},
      {{"measure", "--device", kToy, "--gpus", "4", "--", "true"}, "--gpus: '4' is not"},
      {{"measure", "--device", kToy, "--gpus", "2-1", "--", "true"}, "--gpus: '2-1' is not"},
      {{"measure", "--device", kToy, "--gpus", "0,", "--", "true"}, "--gpus: '' is not"},
      {{"measure", "--device", kToy, "--interval", "0", "--", "true"}, "--interval: must be"},
      {{"measure", "--device", kToy, "--interval", "nan", "--", "true"}, "--interval"},
      {{"calibrate", "--read-only", "--device", kToy, "--gpu", "4"}, "--gpu: the device has GPUs 0 to 3"},
      {{"calibrate", "--read-only", "--device", kToy, "--seconds", "0"}, "--seconds: must be"},
      {{"calibrate", "--read-only", "--device", kToy, "--profile", "p.yaml"}, "--read-only: no switch"},
      {{"calibrate", "--device", kToy, "--clocks", "1400,1399"},
       "--clocks: the GPU has no clock of 1399 MHz"},
      {{"calibrate", "--device", kToy, "--clocks", "1400"}, "--clocks: needs two different clocks"},
      {{"calibrate", "--device", kToy, "--profile", "missing.yaml"}, "missing.yaml: cannot read"},
      {{"devices", "--device", kToy + ",pace=fast"}, "--device pace: 'fast' is not a number"},
  };
  for (const auto& [call, message] : calls) {
    const ChildResult result = node.run(call);
    CAPTURE(message, result.err);
    CHECK(result.status == 2);
    CHECK(holds(result.err, message));
    CHECK(result.out == "");
  }
}

}  // namespace
}  // namespace slackline
