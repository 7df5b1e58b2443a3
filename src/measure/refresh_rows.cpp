#include "refresh_rows.h"

#include <algorithm>

namespace slackline {
namespace {

double common_length(const Span& a, const Span& b) {
  return std::max(0.0, (std::min(a.end, b.end) - std::max(a.begin, b.begin)).value());
}

/// From the first thing that is known of the stage to the last.
Span whole_of(const VisitRecord& record) {
  Span whole{Seconds(1e300), Seconds(-1e300)};
  const auto widen = [&](const Span& span) {
    whole.begin = std::min(whole.begin, span.begin);
    whole.end = std::max(whole.end, span.end);
  };
  if (!record.runs.empty()) {
    widen(record.runs.front().span);
    widen(record.runs.back().span);
  }
  if (!record.steps.empty()) {
    widen(record.steps.front());
    widen(record.steps.back());
  }
  return whole;
}

/// Relative to the run before it.
constexpr double kShortGap = 0.01;

}  // namespace

VisitRecord with_short_gaps_closed(VisitRecord record) {
  for (std::size_t i = 1; i < record.runs.size(); ++i) {
    Run& before = record.runs[i - 1];
    const Seconds gap = record.runs[i].span.begin - before.span.end;
    if (gap <= Seconds(0) || gap > before.span.length() * kShortGap) continue;
    if (!before.device_time) before.device_time = before.span.length();
    before.span.end = record.runs[i].span.begin;
  }
  return record;
}

std::vector<Span> spans_left_out(const VisitRecord& record) {
  const auto sort_and_merge = [](std::vector<Span>& spans) {
    std::ranges::sort(spans, {}, &Span::begin);
    std::vector<Span> merged;
    for (const Span& span : spans) {
      if (!merged.empty() && span.begin <= merged.back().end) {
        merged.back().end = std::max(merged.back().end, span.end);
      } else {
        merged.push_back(span);
      }
    }
    spans = std::move(merged);
  };
  std::vector<Span> spans = record.left_out;
  sort_and_merge(spans);
  std::vector<Span> with_runs = spans;
  for (const Run& run : record.runs) {
    if (overlaps(spans, run.span)) with_runs.push_back(run.span);
  }
  sort_and_merge(with_runs);
  return with_runs;
}

bool overlaps(const std::vector<Span>& sorted, const Span& span) {
  const auto first = std::ranges::upper_bound(sorted, span.begin, {}, &Span::end);
  return first != sorted.end() && first->begin < span.end;
}

std::vector<RefreshRow> refresh_rows(const VisitRecord& record, const std::vector<Task>& kinds,
                                     const std::vector<EnergyReading>& readings,
                                     const std::vector<Span>& left_out) {
  const Span whole = whole_of(record);
  std::vector<RefreshRow> rows;
  auto run = record.runs.begin();
  auto step = record.steps.begin();
  for (std::size_t i = 1; i < readings.size(); ++i) {
    const Span span{readings[i - 1].at, readings[i].at};
    const double energy = (readings[i].total - readings[i - 1].total).value();
    if (span.begin < whole.begin || span.end > whole.end || span.length() <= Seconds(0) || energy < 0 ||
        overlaps(left_out, span)) {
      continue;
    }
    RefreshRow row{span, energy, std::vector<double>(kinds.size() + 2), std::vector<double>(kinds.size()),
                   !rows.empty() && rows.back().span.end == span.begin};
    double computing = 0;
    while (run != record.runs.end() && run->span.end <= span.begin) ++run;
    for (auto r = run; r != record.runs.end() && r->span.begin < span.end; ++r) {
      const auto kind = static_cast<std::size_t>(std::ranges::find(kinds, r->task) - kinds.begin());
      const double part = common_length(r->span, span);
      row.durations[kind] += part;
      row.runs[kind] += part / r->span.length().value();
      computing += part;
    }
    double in_steps = 0;
    double computing_in_steps = 0;
    while (step != record.steps.end() && step->end <= span.begin) ++step;
    for (auto s = step; s != record.steps.end() && s->begin < span.end; ++s) {
      in_steps += common_length(*s, span);
      const Span common{std::max(s->begin, span.begin), std::min(s->end, span.end)};
      for (auto r = run; r != record.runs.end() && r->span.begin < common.end; ++r) {
        computing_in_steps += common_length(r->span, common);
      }
    }
    row.durations[kinds.size()] = std::max(0.0, in_steps - computing_in_steps);
    row.durations[kinds.size() + 1] =
        std::max(0.0, span.length().value() - computing - row.durations[kinds.size()]);
    rows.push_back(std::move(row));
  }
  return rows;
}

}  // namespace slackline
