#include "slackline/profile/profile_io.h"

#include "slackline/base/file.h"

namespace slackline {

Profile read_profile(const std::string& path) {
  const std::string text = read_file(path);
  return path.ends_with(".csv") ? parse_profile_csv(path, text) : parse_profile_yaml(path, text);
}

void write_switch_times(const std::string& path, const SwitchTimes& times) {
  Profile profile = parse_profile_yaml(path, read_file(path));
  profile.switch_times = times;
  write_file(path, to_yaml(profile));
}

}  // namespace slackline
