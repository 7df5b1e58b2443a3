#pragma once
#include <string>
#include <vector>

namespace slackline {

/// What a running job is called on its node: a link in the runtime folder to its socket.
class JobName {
 public:
  /// "": this process's number. InputError for a name that is none, or that a running job has.
  JobName(const std::string& runtime_folder, const std::string& name, const std::string& socket);
  JobName(const JobName&) = delete;
  JobName& operator=(const JobName&) = delete;
  ~JobName();

 private:
  std::string path_;
};

/// Names of the jobs that run, sorted. Links that crashed processes have left are removed.
[[nodiscard]] std::vector<std::string> running_jobs(const std::string& runtime_folder);
/// Of a job's socket.
[[nodiscard]] std::string socket_of_job(const std::string& runtime_folder, const std::string& name);

}  // namespace slackline
