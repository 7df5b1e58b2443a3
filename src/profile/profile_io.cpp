#include "slackline/profile/profile_io.h"

#include "slackline/base/file.h"

namespace slackline {

Profile read_profile(const std::string& path) {
  const std::string text = read_file(path);
  return path.ends_with(".csv") ? parse_profile_csv(path, text) : parse_profile_yaml(path, text);
}

}  // namespace slackline
