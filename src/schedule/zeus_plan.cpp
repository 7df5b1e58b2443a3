#include "slackline/schedule/zeus_plan.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>

#include "slackline/base/error.h"
#include "slackline/base/number_text.h"

namespace slackline {
namespace {

constexpr std::int64_t kMostMegahertz = 100'000;

/// Names of Zeus, lowtime and Merak.
constexpr std::array<std::pair<std::string_view, InstructionKind>, 4> kNames{{
    {"forward", InstructionKind::kForward},
    {"backward", InstructionKind::kBackward},
    {"recomputation", InstructionKind::kRecompute},
    {"forwardbackward", InstructionKind::kForwardBackward},
}};

std::optional<InstructionKind> kind_of(std::string_view name) {
  const auto found = std::ranges::find(kNames, name, &decltype(kNames)::value_type::first);
  return found == kNames.end() ? std::nullopt : std::optional(found->second);
}

/// Python's literals, as far as such a file has them: lists, tuples, strings without escapes, integers.
class Reader {
 public:
  Reader(const std::string& file, std::string_view text) : file_(file), text_(text) {}

  ZeusPlan read() {
    ZeusPlan plan;
    expect('[');
    while (!takes(']')) {
      plan.emplace_back();
      expect('[');
      while (!takes(']')) {
        plan.back().push_back(entry());
        if (!takes(',') && !sees(']')) fail("a ',' or ']' should be here");
      }
      if (!takes(',') && !sees(']')) fail("a ',' or ']' should be here");
    }
    skip_blanks();
    if (!text_.empty()) fail("something follows the list");
    if (plan.empty()) fail("the list is empty");
    return plan;
  }

 private:
  ZeusEntry entry() {
    expect('(');
    ZeusEntry entry;
    entry.name = string();
    entry.line = line_;
    expect(',');
    if (sees('\'') || sees('"')) {
      fail(
          "there is no clock: a communication schedule of Kareus (scheds_pipeline_...) has none; import the "
          "freqs_pipeline_... beside it");
    }
    entry.clock = clock();
    takes(',');
    expect(')');
    return entry;
  }

  std::string string() {
    skip_blanks();
    if (!sees('\'') && !sees('"')) fail("an instruction's name, in quotes, should be here");
    const char quote = text_.front();
    const std::size_t end = text_.find(quote, 1);
    const std::string_view inside = end == std::string_view::npos ? text_ : text_.substr(1, end - 1);
    if (end == std::string_view::npos || inside.find_first_of("\\\n") != std::string_view::npos) {
      fail("the name does not end, or has an escape in it");
    }
    std::string name(inside);
    text_.remove_prefix(end + 1);
    return name;
  }

  Megahertz clock() {
    skip_blanks();
    const std::size_t end = std::min(text_.find_first_not_of("0123456789"), text_.size());
    const auto number = parse_integer(std::string(text_.substr(0, end)));
    if (!number || *number < 1 || *number > kMostMegahertz) fail("a clock, in MHz, should be here");
    text_.remove_prefix(end);
    return Megahertz(static_cast<std::int32_t>(*number));
  }

  void skip_blanks() {
    while (!text_.empty()) {
      const char c = text_.front();
      if (c == '#') {
        text_.remove_prefix(std::min(text_.find('\n'), text_.size()));
        continue;
      }
      if (c != ' ' && c != '\t' && c != '\r' && c != '\n') return;
      if (c == '\n') ++line_;
      text_.remove_prefix(1);
    }
  }
  [[nodiscard]] bool sees(char c) {
    skip_blanks();
    return !text_.empty() && text_.front() == c;
  }
  bool takes(char c) {
    if (!sees(c)) return false;
    text_.remove_prefix(1);
    return true;
  }
  void expect(char c) {
    if (!takes(c)) fail(std::string("a '") + c + "' should be here");
  }
  [[noreturn]] void fail(const std::string& reason) const { throw InputError(file_, line_, "", reason); }

  const std::string& file_;
  std::string_view text_;
  int line_ = 1;
};

std::string count_text(std::size_t count, const char* what) {
  return std::to_string(count) + " " + what;
}

}  // namespace

ZeusPlan parse_zeus_plan(const std::string& file, const std::string& text) {
  return Reader(file, text).read();
}

Clocks clocks_of(const std::string& file, const ZeusPlan& plan, const Workload& workload) {
  const Order order =
      with_kinds(make_order(workload.order(), static_cast<int>(workload.profile().stages.size())),
                 workload.special_kinds());
  if (plan.size() != order.size()) {
    throw InputError(
        file, 0, "",
        "it is for " + count_text(plan.size(), "ranks") + ", the order has " + std::to_string(order.size()));
  }
  Clocks clocks;
  for (std::size_t rank = 0; rank < order.size(); ++rank) {
    auto entry = plan[rank].begin();
    for (const Instruction& instruction : order[rank]) {
      if (is_fixed_time(instruction.kind)) {
        clocks.emplace_back(Megahertz(0));
        continue;
      }
      if (entry == plan[rank].end()) {
        throw InputError(file, plan[rank].empty() ? 0 : plan[rank].back().line, "",
                         "rank " + std::to_string(rank) + " has " +
                             count_text(plan[rank].size(), "instructions") + ", the order goes on with " +
                             short_name(instruction));
      }
      if (kind_of(entry->name) != instruction.kind) {
        throw InputError(file, entry->line, "",
                         "rank " + std::to_string(rank) + " runs '" + entry->name + "' where the order has " +
                             short_name(instruction));
      }
      const StageProfile& stage = workload.profile().stages[instruction.stage.index()];
      if (find_measurement(stage, instruction.kind, entry->clock) == nullptr) {
        throw InputError(file, entry->line, "",
                         "stage " + std::to_string(instruction.stage.value()) + " was not measured at " +
                             std::to_string(entry->clock.value()) + " MHz");
      }
      clocks.emplace_back(entry++->clock);
    }
    if (entry != plan[rank].end()) {
      throw InputError(
          file, entry->line, "",
          "rank " + std::to_string(rank) + " has more instructions than the order, which ends here");
    }
  }
  return clocks;
}

std::string to_zeus_plan(const Schedule& schedule, const Plan& plan) {
  std::string text = "[\n";
  std::size_t index = 0;
  for (const auto& rank : schedule.order()) {
    std::string row;
    for (const Instruction& instruction : rank) {
      const Megahertz clock = plan.clocks[index++].mhz;
      if (is_fixed_time(instruction.kind)) continue;
      const auto name = std::ranges::find(kNames, instruction.kind, &decltype(kNames)::value_type::second);
      if (name == kNames.end()) {
        throw InputError("", 0, "--format",
                         "Zeus has no name for '" + std::string(name_of(instruction.kind)) + "'");
      }
      row += (row.empty() ? "('" : ", ('") + std::string(name->first) + "', " +
             std::to_string(clock.value()) + ")";
    }
    text += "[" + row + "],\n";
  }
  return text + "]\n# Iteration time (s): " + exact_text(plan.time.value()) +
         "\n# Energy (J): " + exact_text(plan.energy.value()) + "\n";
}

}  // namespace slackline
