#include "slackline/base/error.h"

#include <utility>

namespace slackline {
namespace {

std::string input_message(const std::string& file, int line, const std::string& key,
                          const std::string& reason) {
  std::string text = file;
  if (line > 0) text += ":" + std::to_string(line);
  if (!text.empty()) text += ": ";
  if (!key.empty()) text += key + ": ";
  return text + reason;
}

std::string device_message(const std::string& operation, const std::string& gpu,
                           const std::string& driver_text) {
  return operation + (gpu.empty() ? "" : " on " + gpu) + ": " + driver_text;
}

}  // namespace

InputError::InputError(std::string file, int line, std::string key, std::string reason)
    : std::runtime_error(input_message(file, line, key, reason)),
      file_(std::move(file)),
      line_(line),
      key_(std::move(key)),
      reason_(std::move(reason)) {}

DeviceError::DeviceError(std::string operation, std::string gpu, std::string driver_text)
    : std::runtime_error(device_message(operation, gpu, driver_text)) {}

}  // namespace slackline
