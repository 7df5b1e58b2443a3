#include "slackline/report/profile_plot.h"

#include <algorithm>
#include <cmath>
#include <set>
#include <vector>

#include "slackline/base/number_text.h"
#include "slackline/curve/cost_curve.h"
#include "xml_text.h"

namespace slackline {
namespace {

// In pixels.
constexpr std::size_t kColumns = 4;
constexpr double kMargin = 16;
constexpr double kPanelWidth = 310;
constexpr double kPanelHeight = 250;
constexpr double kLeft = 54;
constexpr double kRight = 14;
constexpr double kTop = 26;
constexpr double kBottom = 44;
constexpr double kLegendLine = 20;
constexpr double kCharacter = 6.6;
constexpr int kMostTicks = 6;
/// A bar shows this many standard errors to each side.
constexpr double kBar = 2;

/// Colours that people with colour blindness can tell apart (after Okabe and Ito), darker on white.
constexpr const char* kStyle = R"(
svg{font:12px system-ui,"Segoe UI","DejaVu Sans",sans-serif}
.back,.hollow{fill:#ffffff}
.text{fill:#1b1f24}.quiet{fill:#59636e}
.title{font-size:16px;font-weight:600}.name{font-weight:600}.tick{font-size:11px}
.end{text-anchor:end}.middle{text-anchor:middle}
.frame{fill:none;stroke:#9aa4af}.grid{stroke:#e4e8ec}
.hull{fill:none;stroke-width:1.4}.bar{stroke-width:1;stroke-opacity:.55}.hollow{stroke-width:1.2}
.forward{color:#0072b2}.backward{color:#c24e00}.backward-input{color:#00805d}.backward-weight{color:#a8497e}
.recompute{color:#8a6d00}.forward-backward{color:#6a4fc4}.overlapped-forward-backward{color:#59636e}
.key{color:#59636e}
.full{fill:currentColor}.hull,.bar,.hollow{stroke:currentColor}
@media (prefers-color-scheme:dark){
.back,.hollow{fill:#14171b}
.text{fill:#e8ecf0}.quiet{fill:#9aa4af}
.frame{stroke:#5b6672}.grid{stroke:#272d34}
.forward{color:#56b4e9}.backward{color:#ff9455}.backward-input{color:#3fcf9f}.backward-weight{color:#e79ac6}
.recompute{color:#e3c545}.forward-backward{color:#ab98f2}.overlapped-forward-backward{color:#b8c1ca}
.key{color:#9aa4af}
}
)";

/// A unit that gives numbers without many zeros.
struct Unit {
  double factor = 1;
  const char* name = "";
};

Unit time_unit(double longest) {
  if (longest < 2e-4) return {1e6, "us"};
  return longest < 0.2 ? Unit{1e3, "ms"} : Unit{1, "s"};
}

Unit energy_unit(double largest) {
  if (largest < 0.2) return {1e3, "mJ"};
  return largest < 2e4 ? Unit{1, "J"} : Unit{1e-3, "kJ"};
}

/// Numbers from `low` to `high`, and where they lie between two pixels.
struct Axis {
  double low = 0;
  double high = 1;
  double first_pixel = 0;
  double last_pixel = 0;
  double step = 1;
  int decimals = 0;

  [[nodiscard]] double pixel(double number) const {
    return first_pixel + (number - low) / (high - low) * (last_pixel - first_pixel);
  }
};

Axis make_axis(double low, double high, double first_pixel, double last_pixel) {
  const double room = std::max({0.06 * (high - low), 0.01 * std::abs(high), 1e-9});
  Axis axis{std::max(0.0, low - room), high + room, first_pixel, last_pixel};
  const double raw = (axis.high - axis.low) / kMostTicks;
  const double power = std::pow(10, std::floor(std::log10(raw)));
  axis.step = power * (raw <= power ? 1 : raw <= 2 * power ? 2 : raw <= 5 * power ? 5 : 10);
  axis.decimals = std::max(0, -static_cast<int>(std::floor(std::log10(axis.step) + 1e-9)));
  return axis;
}

std::string px(double pixel) {
  return fixed_text(pixel, 1);
}

std::string line(const std::string& classes, double x1, double y1, double x2, double y2) {
  return "<line class=\"" + classes + "\" x1=\"" + px(x1) + "\" y1=\"" + px(y1) + "\" x2=\"" + px(x2) +
         "\" y2=\"" + px(y2) + "\"/>\n";
}

std::string words(const std::string& classes, double x, double y, std::string_view text) {
  return "<text class=\"" + classes + "\" x=\"" + px(x) + "\" y=\"" + px(y) + "\">" + xml_text(text) +
         "</text>\n";
}

std::string dot(bool is_modelled, double x, double y, const std::string& hint) {
  return "<circle class=\"" + std::string(is_modelled ? "hollow" : "full") + "\" cx=\"" + px(x) + "\" cy=\"" +
         px(y) + "\" r=\"2.2\"" +
         (hint.empty() ? "/>\n" : "><title>" + xml_text(hint) + "</title></circle>\n");
}

class Plot {
 public:
  explicit Plot(const Profile& profile) : profile_(profile) {
    double longest = 0;
    double largest = 0;
    for (const StageProfile& stage : profile.stages) {
      for (const auto& [kind, options] : stage.instructions) {
        if (is_fixed_time(kind)) continue;
        kinds_.insert(kind);
        for (const Measurement& m : options) {
          longest = std::max(longest, m.time.value());
          largest = std::max(largest, m.energy.value());
          has_modelled_ = has_modelled_ || m.is_modelled;
          has_errors_ = has_errors_ || m.time_error > Seconds(0) || m.energy_error > Joules(0);
        }
      }
    }
    time_unit_ = time_unit(longest);
    energy_unit_ = energy_unit(largest);
  }

  [[nodiscard]] std::string svg() const {
    const std::size_t columns = std::clamp<std::size_t>(profile_.stages.size(), 2, kColumns);
    const std::size_t rows = (profile_.stages.size() + columns - 1) / columns;
    const double width = 2 * kMargin + static_cast<double>(columns) * kPanelWidth;
    double top = 0;
    const std::string head = title(width) + legend(width, top);
    const double height = top + static_cast<double>(rows) * kPanelHeight + kMargin;
    std::string panels;
    for (std::size_t s = 0; s < profile_.stages.size(); ++s) {
      panels += panel(s, kMargin + static_cast<double>(s % columns) * kPanelWidth,
                      top + static_cast<double>(s / columns) * kPanelHeight);
    }
    const std::string size = px(width) + "\" height=\"" + px(height);
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + size + "\" viewBox=\"0 0 " + px(width) +
           " " + px(height) + "\" role=\"img\">\n<title>" + xml_text(name()) + "</title>\n<style>" + kStyle +
           "</style>\n<rect class=\"back\" width=\"" + size + "\"/>\n" + head + panels + "</svg>\n";
  }

 private:
  [[nodiscard]] std::string name() const {
    const std::string model = profile_.model.empty() ? "model not named" : profile_.model;
    return profile_.gpu.empty() ? model : model + ", " + profile_.gpu;
  }

  /// Squeezed where it is too long.
  [[nodiscard]] std::string title(double width) const {
    const std::string text = xml_text(name());
    const bool is_long = static_cast<double>(character_count(text)) * 10 > width - 2 * kMargin;
    return "<text class=\"text title\" x=\"" + px(kMargin) + "\" y=\"30.0\"" +
           (is_long ? " lengthAdjust=\"spacingAndGlyphs\" textLength=\"" + px(width - 2 * kMargin) + "\""
                    : "") +
           ">" + text + "</text>\n";
  }

  /// `bottom` becomes where it ends.
  [[nodiscard]] std::string legend(double width, double& bottom) const {
    double x = kMargin;
    double y = 54;
    std::string text;
    const auto item = [&](const std::string& kind, const std::string& label, const auto& symbol) {
      const double length = 26 + kCharacter * static_cast<double>(label.size()) + 16;
      if (x + length > width - kMargin && x > kMargin) {
        x = kMargin;
        y += kLegendLine;
      }
      text += "<g class=\"" + kind + "\">\n" + symbol(x, y - 4) + "</g>\n" + words("text", x + 26, y, label);
      x += length;
    };
    const auto measured = [](double left, double middle) { return dot(false, left + 10, middle, ""); };
    for (const InstructionKind kind : kinds_) {
      const std::string kind_name(name_of(kind));
      item(kind_name, kind_name, [&](double left, double middle) {
        return line("hull", left, middle, left + 20, middle) + measured(left, middle);
      });
    }
    item("key", "measured", measured);
    if (has_modelled_) {
      item("key", "modelled", [](double left, double middle) { return dot(true, left + 10, middle, ""); });
    }
    item("key", "convex hull",
         [](double left, double middle) { return line("hull", left, middle, left + 20, middle); });
    if (has_errors_) {
      item("key", "2 standard errors", [](double left, double middle) {
        return line("bar", left + 10, middle - 7, left + 10, middle + 7) +
               line("bar", left + 3, middle, left + 17, middle);
      });
    }
    bottom = y + 14;
    return text;
  }

  [[nodiscard]] std::string panel(std::size_t s, double left, double top) const {
    const StageProfile& stage = profile_.stages[s];
    double shortest = INFINITY, longest = 0, least = INFINITY, largest = 0;
    for (const auto& [kind, options] : stage.instructions) {
      if (is_fixed_time(kind)) continue;
      for (const Measurement& m : options) {
        const double time_bar = kBar * m.time_error.value();
        const double energy_bar = kBar * m.energy_error.value();
        shortest = std::min(shortest, m.time.value() - time_bar);
        longest = std::max(longest, m.time.value() + time_bar);
        least = std::min(least, m.energy.value() - energy_bar);
        largest = std::max(largest, m.energy.value() + energy_bar);
      }
    }
    const double right = left + kPanelWidth - kRight;
    const double bottom = top + kPanelHeight - kBottom;
    std::string title = "stage " + std::to_string(s);
    if (stage.blocking_power) title += ", blocking " + fixed_text(stage.blocking_power->value(), 1) + " W";
    if (!stage.gpu.empty()) title += ", " + stage.gpu;
    std::string text = words("text name", left + kLeft, top + kTop - 8, title);
    if (longest <= 0) return text;
    const Axis x = make_axis(std::max(0.0, shortest) * time_unit_.factor, longest * time_unit_.factor,
                             left + kLeft, right);
    const Axis y = make_axis(std::max(0.0, least) * energy_unit_.factor, largest * energy_unit_.factor,
                             bottom, top + kTop);
    text += axes(x, y);
    for (const auto& [kind, options] : stage.instructions) {
      if (!is_fixed_time(kind)) text += curve(kind, options, stage.blocking_power.value_or(Watts(0)), x, y);
    }
    return text;
  }

  [[nodiscard]] std::string axes(const Axis& x, const Axis& y) const {
    const double left = x.first_pixel, right = x.last_pixel, bottom = y.first_pixel, top = y.last_pixel;
    std::string text;
    for (double n = std::ceil(x.low / x.step); n * x.step <= x.high; ++n) {
      const double at = x.pixel(n * x.step);
      text += line("grid", at, top, at, bottom) +
              words("quiet tick middle", at, bottom + 15, fixed_text(n * x.step, x.decimals));
    }
    for (double n = std::ceil(y.low / y.step); n * y.step <= y.high; ++n) {
      const double at = y.pixel(n * y.step);
      text += line("grid", left, at, right, at) +
              words("quiet tick end", left - 6, at + 4, fixed_text(n * y.step, y.decimals));
    }
    text += "<rect class=\"frame\" x=\"" + px(left) + "\" y=\"" + px(top) + "\" width=\"" + px(right - left) +
            "\" height=\"" + px(bottom - top) + "\"/>\n";
    text += words("quiet tick middle", (left + right) / 2, bottom + 31,
                  std::string("time (") + time_unit_.name + ")");
    const double middle = (top + bottom) / 2;
    const double aside = left - kLeft + 12;
    return text + "<text class=\"quiet tick middle\" transform=\"translate(" + px(aside) + " " + px(middle) +
           ") rotate(-90)\">energy (" + energy_unit_.name + ")</text>\n";
  }

  [[nodiscard]] std::string curve(InstructionKind kind, const std::vector<Measurement>& options,
                                  Watts blocking_power, const Axis& x, const Axis& y) const {
    const auto at_x = [&](double seconds) { return x.pixel(seconds * time_unit_.factor); };
    const auto at_y = [&](double joules) { return y.pixel(std::max(0.0, joules) * energy_unit_.factor); };
    const CostCurve costs = make_cost_curve(effective_options(options, blocking_power, 1));
    std::string text = "<g class=\"" + std::string(name_of(kind)) + "\">\n<polyline class=\"hull\" points=\"";
    for (const std::size_t vertex : costs.hull) {
      const CurveOption& option = costs.options[vertex];
      text += (vertex == costs.hull.front() ? "" : " ") + px(at_x(to_seconds(option.time).value())) + "," +
              px(at_y(option.energy.value()));
    }
    text += "\"/>\n";
    for (const Measurement& m : options) {
      const double time = m.time.value();
      const double energy = m.energy.value();
      const double time_bar = kBar * m.time_error.value();
      const double energy_bar = kBar * m.energy_error.value();
      if (time_bar > 0) {
        text += line("bar", at_x(std::max(0.0, time - time_bar)), at_y(energy), at_x(time + time_bar),
                     at_y(energy));
      }
      if (energy_bar > 0) {
        text += line("bar", at_x(time), at_y(energy - energy_bar), at_x(time), at_y(energy + energy_bar));
      }
    }
    for (const Measurement& m : options) {
      const std::string& label = label_of(profile_.configs, m.config);
      text += dot(m.is_modelled, at_x(m.time.value()), at_y(m.energy.value()),
                  std::string(name_of(kind)) + ", " + std::to_string(m.clock.value()) + " MHz" +
                      (label.empty() ? "" : ", " + label) + ": " + exact_text(m.time.value()) + " s, " +
                      exact_text(m.energy.value()) + " J");
    }
    return text + "</g>\n";
  }

  const Profile& profile_;
  std::set<InstructionKind> kinds_;
  bool has_modelled_ = false;
  bool has_errors_ = false;
  Unit time_unit_;
  Unit energy_unit_;
};

}  // namespace

std::string profile_svg(const Profile& profile) {
  return Plot(profile).svg();
}

}  // namespace slackline
