#pragma once
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "fake/amdsmi_state.h"
#include "scratch_folder.h"

namespace slackline {

/// A node of AMD GPUs behind our own AMD SMI, for this process and those that it starts. One at a time: each
/// takes the file of the one before, as a library maps it only once.
class FakeAmdsmi {
 public:
  /// The library of one major version, 23 to 28.
  static std::string library(int major) {
    return FAKE_AMDSMI_FOLDER "/libamd_smi.so." + std::to_string(major);
  }
  static std::string folder() { return FAKE_AMDSMI_FOLDER; }

  FakeAmdsmi() : node_(node()) {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC, &now);
    node_ = fake::fresh_amd_node(static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000 +
                                 static_cast<std::uint64_t>(now.tv_nsec));
    spill(home().file("log"), "");
    script("");
  }
  FakeAmdsmi(const FakeAmdsmi&) = delete;
  FakeAmdsmi& operator=(const FakeAmdsmi&) = delete;

  [[nodiscard]] fake::AmdGpu& gpu(int number) { return node_.gpu[number]; }
  void set_gpus(int count) { node_.gpus = static_cast<std::uint32_t>(count); }
  void script(const std::string& rules) { spill(home().file("script"), rules); }

  /// The calls so far that contain `word`, without their process: "set_gpu_clk_limit 1 max 1700".
  [[nodiscard]] std::vector<std::string> calls(const std::string& word = "") const {
    std::vector<std::string> found;
    std::istringstream log(slurp(home().file("log")));
    for (std::string line; std::getline(log, line);) {
      if (line.find(word) != std::string::npos) found.push_back(line.substr(line.find(' ') + 1));
    }
    return found;
  }
  void forget_calls() { spill(home().file("log"), ""); }

 private:
  static const ScratchFolder& home() {
    static const ScratchFolder folder;
    return folder;
  }
  static fake::AmdNode& node() {
    static fake::AmdNode* const mapped = [] {
      const std::string path = home().file("state");
      ::setenv("FAKE_AMDSMI_STATE", path.c_str(), 1);
      ::setenv("FAKE_AMDSMI_LOG", home().file("log").c_str(), 1);
      ::setenv("FAKE_AMDSMI_SCRIPT", home().file("script").c_str(), 1);
      spill(path, std::string(sizeof(fake::AmdNode), '\0'));
      const int fd = ::open(path.c_str(), O_RDWR | O_CLOEXEC);
      void* const memory = ::mmap(nullptr, sizeof(fake::AmdNode), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
      if (fd < 0 || memory == MAP_FAILED) throw std::runtime_error("cannot map " + path);
      ::close(fd);
      return static_cast<fake::AmdNode*>(memory);
    }();
    return *mapped;
  }

  fake::AmdNode& node_;
};

}  // namespace slackline
