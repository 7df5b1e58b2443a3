#pragma once
#include <stdexcept>
#include <string>

namespace slackline {

/// A file or a flag is wrong. Caught once, in `main`, which prints it and exits with 2.
class InputError : public std::runtime_error {
 public:
  /// `line` counts from 1; 0 where there is none. `key` is empty where the whole file or line is at fault.
  InputError(std::string file, int line, std::string key, std::string reason);

  [[nodiscard]] const std::string& file() const { return file_; }
  [[nodiscard]] int line() const { return line_; }
  [[nodiscard]] const std::string& key() const { return key_; }
  [[nodiscard]] const std::string& reason() const { return reason_; }

 private:
  std::string file_;
  int line_;
  std::string key_;
  std::string reason_;
};

/// A device or its driver refused or failed. `main` exits with 3.
class DeviceError : public std::runtime_error {
 public:
  /// `gpu` names the GPU as its device does; empty where the device as a whole failed.
  DeviceError(std::string operation, std::string gpu, std::string driver_text);
};

/// The question has no answer (an infeasible deadline, a schedule that does not verify). `main` exits with 1.
class NoAnswer : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

}  // namespace slackline
