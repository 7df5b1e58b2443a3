#include "slackline/runtime/metrics.h"

#include <algorithm>
#include <string_view>

#include "slackline/base/number_text.h"

namespace slackline {
namespace {

/// A label's value in double quotes.
std::string quoted(std::string_view value) {
  std::string text = "\"";
  for (const char c : value) {
    if (c == '\n') {
      text += "\\n";
      continue;
    }
    if (c == '\\' || c == '"') text += '\\';
    text += c;
  }
  return text + '"';
}

double hertz(Megahertz clock) {
  return 1e6 * clock.value();
}

/// Metrics of one name. It appears with its first sample, and not at all without one.
class Family {
 public:
  /// `type` is "counter", whose name ends in _total, or "gauge".
  Family(std::string& text, std::string name, std::string_view type, std::string_view help)
      : text_(text), name_(std::move(name)) {
    header_.append("# HELP ").append(name_).append(" ").append(help).append("\n");
    header_.append("# TYPE ").append(name_).append(" ").append(type).append("\n");
  }

  void sample(const std::string& value) { line("", value); }
  void sample(std::string_view label, std::string_view of, const std::string& value) {
    line(std::string("{").append(label).append("=").append(quoted(of)).append("}"), value);
  }

 private:
  void line(const std::string& labels, const std::string& value) {
    text_.append(header_).append(name_).append(labels).append(" ").append(value).append("\n");
    header_.clear();
  }

  std::string& text_;
  std::string name_;
  std::string header_;
};

}  // namespace

std::string prometheus_text(const AgentMetrics& metrics) {
  std::string text;
  const auto count = [&](const char* name, std::string_view help, std::uint64_t value) {
    Family(text, name, "counter", help).sample(std::to_string(value));
  };
  count("slackline_leases_granted_total", "Leases of GPUs that were granted.", metrics.leases_granted);
  count("slackline_leases_refused_total", "Leases of GPUs that were refused.", metrics.leases_refused);
  Family ended(text, "slackline_leases_ended_total", "counter", "Leases that ended, by reason.");
  for (const auto& [reason, leases] : metrics.leases_ended) {
    ended.sample("reason", reason, std::to_string(leases));
  }
  Family requests(text, "slackline_requests_total", "counter",
                  "Clocks that leases asked for, by what became of them.");
  requests.sample("outcome", "applied", std::to_string(metrics.requests.applied));
  requests.sample("outcome", "failed", std::to_string(metrics.requests.failed));
  requests.sample("outcome", "overtaken", std::to_string(metrics.requests.overtaken));
  requests.sample("outcome", "refused", std::to_string(metrics.requests.refused));
  requests.sample("outcome", "skipped", std::to_string(metrics.requests.skipped));
  count("slackline_restores_total", "GPUs given back as they were.", metrics.restores);
  count("slackline_restore_failures_total", "Attempts to give a GPU back that failed.",
        metrics.restore_failures);
  count("slackline_leftovers_restored_total", "GPUs that an agent which died had left changed, given back.",
        metrics.leftovers_restored);

  std::vector<AgentMetrics::Gpu> gpus = metrics.gpus;
  std::ranges::sort(gpus, {}, &AgentMetrics::Gpu::uuid);
  const auto each_gpu = [&](const char* name, const char* type, const char* help, auto value_of) {
    Family family(text, name, type, help);
    for (const AgentMetrics::Gpu& gpu : gpus) {
      if (const std::optional<double> value = value_of(gpu))
        family.sample("gpu", gpu.uuid, exact_text(*value));
    }
  };
  using Gpu = AgentMetrics::Gpu;
  using Value = std::optional<double>;
  each_gpu("slackline_gpu_leased", "gauge", "Whether a job has the GPU's clock.",
           [](const Gpu& gpu) -> Value { return gpu.is_leased ? 1 : 0; });
  each_gpu("slackline_gpu_requested_clock_hertz", "gauge", "Clock that was last asked for; 0 if unlocked.",
           [](const Gpu& gpu) -> Value { return hertz(gpu.requested); });
  each_gpu("slackline_gpu_observed_clock_hertz", "gauge", "Clock that the GPU runs at.",
           [](const Gpu& gpu) { return gpu.observed ? Value(hertz(*gpu.observed)) : Value(); });
  each_gpu("slackline_gpu_energy_joules_total", "counter", "What the GPU's energy counter shows.",
           [](const Gpu& gpu) { return gpu.energy ? Value(gpu.energy->value()) : Value(); });
  each_gpu("slackline_gpu_last_driver_call_seconds", "gauge",
           "From when the last request was seen to when the driver had done it.", [](const Gpu& gpu) {
             return gpu.last_driver_call ? Value(gpu.last_driver_call->value()) : Value();
           });
  return text;
}

}  // namespace slackline
