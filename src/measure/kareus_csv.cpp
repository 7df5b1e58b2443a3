#include "slackline/measure/kareus_csv.h"

#include <string_view>
#include <utility>

#include "../base/csv_rows.h"

namespace slackline {
namespace {

/// Beyond every clock and every counter; sums of such numbers are still exact enough.
constexpr double kLatest = 1e11;
constexpr double kMostEnergy = 1e15;

/// The rows under a header that has to be exactly `header`.
CsvRows rows_under(std::string_view header, const std::string& file, std::string_view text) {
  CsvRows rows(file, text);
  if (rows.header() != split_cells(header)) rows.fail("", "the header is not '" + std::string(header) + "'");
  return rows;
}

}  // namespace

std::vector<EnergyReading> parse_kareus_energy(const std::string& file, const std::string& text) {
  std::vector<EnergyReading> readings;
  CsvRows rows = rows_under("time,energy", file, text);
  while (rows.next()) {
    const EnergyReading reading{Joules(rows.number("energy", kMostEnergy)),
                                Seconds(rows.number("time", kLatest))};
    if (!readings.empty() && reading.at <= readings.back().at) {
      rows.fail("time", rows.quoted("time") + " is not after the row before");
    }
    readings.push_back(reading);
  }
  return readings;
}

std::vector<KareusSpan> parse_kareus_instructions(const std::string& file, const std::string& text) {
  std::vector<KareusSpan> spans;
  CsvRows rows = rows_under("instruction,start,end", file, text);
  while (rows.next()) {
    KareusSpan span{std::string(rows.cell("instruction")),
                    {Seconds(rows.number("start", kLatest)), Seconds(rows.number("end", kLatest))},
                    rows.line()};
    if (span.name.empty()) rows.fail("instruction", "it has no name");
    if (span.span.end < span.span.begin) rows.fail("end", rows.quoted("end") + " is before the start");
    spans.push_back(std::move(span));
  }
  return spans;
}

}  // namespace slackline
