#include "slackline/runtime/metrics.h"

#include <algorithm>
#include <map>
#include <regex>
#include <set>
#include <sstream>

#include "catch.h"
#include "comma_locale.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

/// A reader of the exposition format that takes nothing but what its specification says, and of that only
/// what we use: HELP, TYPE and its samples, family after family, one label at most.
struct Exposition {
  std::map<std::string, std::string> types;
  std::map<std::string, std::map<std::string, double>> samples;  // by name, then by label and its value
  std::string fault;

  explicit Exposition(const std::string& text) {
    if (!text.empty() && text.back() != '\n') fault = "the last line has no end";
    std::istringstream lines(text);
    for (std::string line; fault.empty() && std::getline(lines, line);) {
      if (!take(line)) fault = line;
    }
    if (!pending_.empty()) fault = "no sample for " + pending_;
  }

  [[nodiscard]] double value(const std::string& name, const std::string& label = "") const {
    return samples.at(name).at(label);
  }

 private:
  std::string helped_, pending_, current_;

  bool take(const std::string& line) {
    static const std::regex kHelp(R"(# HELP ([a-z][a-z0-9_]*) ([^\\]+\.))");
    static const std::regex kType(R"(# TYPE ([a-z][a-z0-9_]*) (counter|gauge))");
    static const std::regex kSample(
        R"re(([a-z][a-z0-9_]*)(\{([a-z][a-z0-9_]*)="((?:[^"\\]|\\[\\"n])*)"\})? (\S+))re");
    std::smatch match;
    if (std::regex_match(line, match, kHelp)) {
      helped_ = match[1];
      return pending_.empty() && !types.contains(helped_);  // a family is in one piece
    }
    if (std::regex_match(line, match, kType)) {
      current_ = pending_ = match[1];
      types[current_] = match[2];
      return current_ == helped_ && current_.ends_with("_total") == (match[2] == "counter");
    }
    if (!std::regex_match(line, match, kSample) || match[1] != current_) return false;
    pending_.clear();
    const auto number = parse_number(match[5].str());
    const std::string label = match[2].matched ? match[3].str() + "=" + unescaped(match[4]) : "";
    return number && samples[current_].emplace(label, *number).second;
  }

  static std::string unescaped(const std::string& text) {
    std::string result;
    for (std::size_t i = 0; i < text.size(); ++i) {
      if (text[i] != '\\') {
        result += text[i];
      } else {
        result += text[++i] == 'n' ? '\n' : text[i];
      }
    }
    return result;
  }
};

AgentMetrics some_metrics() {
  AgentMetrics metrics;
  metrics.leases_granted = 12;
  metrics.leases_refused = 3;
  metrics.leases_ended = {{"died", 1}, {"closed", 10}, {"silent", 0}};
  metrics.requests = {1000, 20, 5, 3, 4};
  metrics.restores = 11;
  metrics.restore_failures = 1;
  metrics.leftovers_restored = 8;
  metrics.gpus = {{"GPU-2", true, Megahertz(1410), Megahertz(1395), Joules(123456.789), Seconds(0.0125)},
                  {"GPU-1", false, Megahertz(0), {}, {}, {}}};
  return metrics;
}

TEST_CASE("metrics: what is counted is what a strict reader finds, in base units", "[metrics]") {
  const Exposition read(prometheus_text(some_metrics()));
  REQUIRE(read.fault == "");
  CHECK(read.value("slackline_leases_granted_total") == 12);
  CHECK(read.value("slackline_leases_refused_total") == 3);
  CHECK(read.value("slackline_leases_ended_total", "reason=closed") == 10);
  CHECK(read.value("slackline_leases_ended_total", "reason=died") == 1);
  CHECK(read.value("slackline_leases_ended_total", "reason=silent") == 0);
  CHECK(read.value("slackline_requests_total", "outcome=applied") == 1000);
  CHECK(read.value("slackline_requests_total", "outcome=skipped") == 20);
  CHECK(read.value("slackline_requests_total", "outcome=overtaken") == 5);
  CHECK(read.value("slackline_requests_total", "outcome=refused") == 3);
  CHECK(read.value("slackline_requests_total", "outcome=failed") == 4);
  CHECK(read.value("slackline_restores_total") == 11);
  CHECK(read.value("slackline_restore_failures_total") == 1);
  CHECK(read.value("slackline_leftovers_restored_total") == 8);
  CHECK(read.value("slackline_gpu_leased", "gpu=GPU-1") == 0);
  CHECK(read.value("slackline_gpu_leased", "gpu=GPU-2") == 1);
  CHECK(read.value("slackline_gpu_requested_clock_hertz", "gpu=GPU-1") == 0);
  CHECK(read.value("slackline_gpu_requested_clock_hertz", "gpu=GPU-2") == 1410e6);
  CHECK(read.value("slackline_gpu_observed_clock_hertz", "gpu=GPU-2") == 1395e6);
  CHECK(read.value("slackline_gpu_energy_joules_total", "gpu=GPU-2") == 123456.789);
  CHECK(read.value("slackline_gpu_last_driver_call_seconds", "gpu=GPU-2") == 0.0125);
}

TEST_CASE("metrics: what is not known of a GPU is left out", "[metrics]") {
  const Exposition read(prometheus_text(some_metrics()));
  REQUIRE(read.fault == "");
  for (const char* name : {"slackline_gpu_observed_clock_hertz", "slackline_gpu_energy_joules_total",
                           "slackline_gpu_last_driver_call_seconds"}) {
    CHECK(read.samples.at(name).size() == 1);
  }
}

TEST_CASE("metrics: an agent that has done nothing counts zeros, of no GPU", "[metrics]") {
  const Exposition read(prometheus_text({}));
  REQUIRE(read.fault == "");
  CHECK(read.samples.size() == 6);
  for (const auto& [name, samples] : read.samples) {
    CAPTURE(name);
    CHECK(name.ends_with("_total"));
    CHECK(std::ranges::all_of(samples, [](const auto& sample) { return sample.second == 0; }));
  }
}

TEST_CASE("metrics: every name is ours and carries its unit", "[metrics]") {
  const Exposition read(prometheus_text(some_metrics()));
  CHECK(read.types.size() == 12);
  for (const auto& [name, type] : read.types) {
    CAPTURE(name, type);
    CHECK(name.starts_with("slackline_"));
    CHECK((type == "counter" || name.ends_with("_hertz") || name.ends_with("_seconds") ||
           name == "slackline_gpu_leased"));
  }
}

TEST_CASE("metrics: labels survive quotes, backslashes and line ends", "[metrics]") {
  AgentMetrics metrics;
  const std::string odd = "a \"b\" \\n \\ \n{x=\"y\"} 1";
  metrics.leases_ended[odd] = 5;
  const Exposition read(prometheus_text(metrics));
  REQUIRE(read.fault == "");
  CHECK(read.value("slackline_leases_ended_total", "reason=" + odd) == 5);
}

TEST_CASE("metrics: the same metrics give the same bytes, in any order of GPUs and any locale", "[metrics]") {
  AgentMetrics metrics = some_metrics();
  const std::string text = prometheus_text(metrics);
  std::ranges::reverse(metrics.gpus);
  CHECK(prometheus_text(metrics) == text);
  const CommaLocale comma;
  CHECK(prometheus_text(metrics) == text);
}

TEST_CASE("metrics: counters stay exact beyond what a double holds", "[metrics]") {
  AgentMetrics metrics;
  metrics.requests.applied = 18446744073709551615U;
  CHECK(prometheus_text(metrics).find("{outcome=\"applied\"} 18446744073709551615\n") != std::string::npos);
}

}  // namespace
}  // namespace slackline
