#pragma once
#include <stdlib.h>

#include <string>

namespace slackline {

/// Points Slackline, in this process and those that it starts, to another runtime folder than the user's.
class RuntimeVariable {
 public:
  explicit RuntimeVariable(const std::string& folder) { ::setenv(kName, folder.c_str(), 1); }
  RuntimeVariable(const RuntimeVariable&) = delete;
  RuntimeVariable& operator=(const RuntimeVariable&) = delete;
  ~RuntimeVariable() { ::unsetenv(kName); }

 private:
  static constexpr const char* kName = "SLACKLINE_RUNTIME_DIR";
};

}  // namespace slackline
