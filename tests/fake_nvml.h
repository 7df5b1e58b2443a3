#pragma once
#include <fcntl.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

#include <filesystem>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "fake/fake_nvml_state.h"
#include "scratch_folder.h"

namespace slackline {

/// A node with fake NVIDIA GPUs: a driver library of our own that is loaded in place of NVIDIA's. Lives in
/// the environment, so this process and all that it starts share the node; there can be one at a time.
///
///     FakeNvml node(2);                                    // GPUs
///     run({"slackline", "agent", "--device", "nvml,library=" FAKE_NVML, ...});
///     CHECK(node.locked(0) == 1200);                       // survives the agent, as with a real driver
///     node.script("SetGpuLockedClocks 1 error=4\n");       // from now on, in running processes too
///
/// FAKE_NVML is the library's path; CMake defines it for targets that say
/// target_link_libraries(x_test PRIVATE fake_nvml). FAKE_NVML_FOLDER has other editions of it:
/// old/libnvidia-ml.so.1 lacks what came with NVML 12.2, bare/ has only what nobody can do without, and
/// broken/ lacks something of that.
///
/// The GPUs offer 210 to 1980 MHz in steps of 15. A clock arrives after 5 ms. Energy ticks every 20 ms, at
/// 60 W + 340 W (f/1980 MHz)^3, whether or not anybody works.
///
/// A script has one line a fault: FUNCTION GPU WHAT. FUNCTION is part of a name ("TotalEnergy"), or "*";
/// fields of nvmlDeviceGetFieldValues are calls of their own by the name Field83Scope0 (energy),
/// Field186Scope0 (power) and so on, and the memory's nvmlDeviceGetClockInfo is
/// nvmlDeviceGetClockInfo.memory. GPU is a number or "*". WHAT is one or more of
///     error=N       returns it and does nothing
///     value=N       what a reading shows (mW, mJ, MHz, ...); of processes, how many there are, from 4000 on
///     timestamp=N   of a field, in microseconds since 1970
///     delay_ms=N    takes so long
///     ignore        SetGpuLockedClocks: the clock never arrives; ResetGpuLockedClocks: nothing is undone
///     stale         the energy counter stands still
///     after=N       not in the first N calls
///     times=N       and only in the N calls after that
/// Calls are counted in all processes together, and anew with every script.
class FakeNvml {
 public:
  explicit FakeNvml(int gpus = 2) {
    ::setenv("FAKE_NVML_STATE", folder_.file("state").c_str(), 1);
    ::setenv("FAKE_NVML_LOG", folder_.file("log").c_str(), 1);
    ::setenv("FAKE_NVML_SCRIPT", folder_.file("script").c_str(), 1);
    ::setenv("FAKE_NVML_GPUS", std::to_string(gpus).c_str(), 1);
  }
  FakeNvml(const FakeNvml&) = delete;
  FakeNvml& operator=(const FakeNvml&) = delete;
  ~FakeNvml() {
    for (const char* name : {"FAKE_NVML_STATE", "FAKE_NVML_LOG", "FAKE_NVML_SCRIPT", "FAKE_NVML_GPUS"})
      ::unsetenv(name);
  }

  [[nodiscard]] static std::string uuid(int gpu) { return fake_nvml_uuid(gpu); }

  /// Replaces the script, all of it at once.
  void script(const std::string& lines) const {
    spill(folder_.file("next"), lines);
    std::filesystem::rename(folder_.file("next"), folder_.file("script"));
  }

  /// What the driver holds the clock to, whichever process asked for it, or nothing.
  [[nodiscard]] std::optional<int> locked(int gpu) const {
    const int fd = ::open(folder_.file("state").c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return std::nullopt;  // nobody has loaded the library yet
    FakeNvmlState state{};
    ::flock(fd, LOCK_SH);
    const ssize_t bytes = ::read(fd, &state, sizeof state);
    ::close(fd);
    if (bytes != static_cast<ssize_t>(sizeof state) || state.gpu[gpu].locked_high == 0) return std::nullopt;
    return static_cast<int>(state.gpu[gpu].locked_high);
  }

  struct Call {
    int pid = 0;
    std::string function;
    std::string gpu;  // "-" where it is about none
    std::string arguments;

    /// "SetGpuLockedClocks 1 1200 1200": without the process, and without what all names begin with.
    [[nodiscard]] std::string text() const {
      const std::string begin = "nvmlDevice";
      const std::string name = function.starts_with(begin) ? function.substr(begin.size()) : function;
      return name + " " + gpu + (arguments.empty() ? "" : " ") + arguments;
    }
  };
  /// All calls so far, of all processes.
  [[nodiscard]] std::vector<Call> calls() const {
    std::vector<Call> calls;
    std::istringstream lines(slurp(folder_.file("log")));
    for (std::string line; std::getline(lines, line);) {
      std::istringstream words(line);
      Call call;
      words >> call.pid >> call.function >> call.gpu >> std::ws;
      std::getline(words, call.arguments);
      calls.push_back(call);
    }
    return calls;
  }
  /// Those that change a GPU, in their order.
  [[nodiscard]] std::vector<std::string> changes() const {
    std::vector<std::string> changes;
    for (const Call& call : calls()) {
      if (call.function.starts_with("nvmlDeviceSet") || call.function.starts_with("nvmlDeviceReset"))
        changes.push_back(call.text());
    }
    return changes;
  }
  /// How often a function was called.
  [[nodiscard]] int count(const std::string& function) const {
    int count = 0;
    for (const Call& call : calls()) count += call.function == function ? 1 : 0;
    return count;
  }
  /// For files of the test's own.
  [[nodiscard]] std::string file(const std::string& name) const { return folder_.file(name); }

 private:
  ScratchFolder folder_;
};

}  // namespace slackline
