#include <algorithm>
#include <filesystem>
#include <fstream>
#include <map>
#include <regex>
#include <set>

#include "catch.h"

namespace slackline {
namespace {

namespace fs = std::filesystem;

const fs::path kSource = SLACKLINE_SOURCE_DIR;

/// Which layers a layer may include, beside itself. A change here is a change of the design.
const std::map<std::string, std::set<std::string>>& table() {
  static const std::map<std::string, std::set<std::string>> kTable{
      {"base", {}},
      {"profile", {"base"}},
      {"curve", {"base", "profile"}},
      {"pipeline", {"base"}},
      {"frontier", {"base", "curve", "pipeline"}},
      {"schedule", {"base", "profile", "curve", "pipeline", "frontier"}},
      {"device", {"base"}},
      {"measure", {"base", "profile", "curve", "pipeline", "frontier", "device"}},
      {"runtime", {"base", "pipeline", "schedule", "device"}},
      {"simulate", {"base", "profile", "curve", "pipeline", "frontier", "schedule"}},
      {"report", {"base", "profile", "curve", "pipeline", "frontier", "schedule", "simulate"}},
      {"cli",
       {"base", "profile", "curve", "pipeline", "frontier", "schedule", "device", "measure", "runtime",
        "simulate", "report"}},
      {"demo", {}},
  };
  return kTable;
}

struct Include {
  std::string file;  // relative to the repository
  int line = 0;
  std::string target;
  bool quoted = false;

  [[nodiscard]] std::string text() const {
    return file + ":" + std::to_string(line) + ": includes " + target;
  }
  [[nodiscard]] bool begins_with(const char* prefix) const { return target.rfind(prefix, 0) == 0; }
};

bool is_source(const fs::path& path) {
  return std::set<std::string>{".h", ".hpp", ".c", ".cpp"}.contains(path.extension().string());
}

std::vector<Include> all_includes() {
  static const std::regex kInclude(R"(^\s*#\s*include\s*([<"])([^>"]+)[>"])");
  std::vector<Include> includes;
  for (const char* root : {"include", "src"}) {
    for (const auto& entry : fs::recursive_directory_iterator(kSource / root)) {
      if (!entry.is_regular_file() || !is_source(entry.path())) continue;
      const std::string file = fs::relative(entry.path(), kSource).generic_string();
      std::ifstream stream(entry.path());
      std::string text;
      for (int line = 1; std::getline(stream, text); ++line) {
        std::smatch match;
        if (std::regex_search(text, match, kInclude))
          includes.push_back({file, line, match[2], match[1] == "\""});
      }
    }
  }
  return includes;
}

/// Layer of a path such as src/curve/x.cpp or include/slackline/curve/x.h; empty for include/slackline.h.
std::string layer_of(const fs::path& path) {
  std::vector<std::string> parts;
  for (const auto& part : path) parts.push_back(part.string());
  const std::size_t at = parts.at(0) == "include" ? 2 : 1;
  return parts.size() > at + 1 ? parts[at] : "";
}

/// Our own file that an include means, relative to the repository; empty for anybody else's.
std::string resolve(const Include& include) {
  for (const fs::path& candidate :
       {fs::path("include") / include.target, fs::path(include.file).parent_path() / include.target}) {
    const fs::path normal = candidate.lexically_normal();
    if (fs::exists(kSource / normal)) return normal.generic_string();
  }
  return {};
}

std::string violations(const std::function<bool(const Include&)>& is_wrong) {
  std::string found;
  for (const Include& include : all_includes()) {
    if (is_wrong(include)) found += include.text() + "\n";
  }
  return found;
}

/// All of an include's file names, matched at the end.
bool is_in(const std::string& file, std::initializer_list<const char*> layers) {
  return std::any_of(layers.begin(), layers.end(),
                     [&](const char* layer) { return layer_of(file) == layer; });
}

TEST_CASE("include table: the walk finds what is there", "[include]") {
  CHECK(all_includes().size() > 100);
}

TEST_CASE("include table: every folder is a layer of the table", "[include]") {
  for (const char* root : {"include/slackline", "src"}) {
    for (const auto& entry : fs::directory_iterator(kSource / root)) {
      const std::string name = entry.path().filename();
      if (!entry.is_directory() || name == "python" || name == "packaging") continue;  // no layers
      CAPTURE(entry.path().string());
      CHECK(table().contains(name));
    }
  }
}

TEST_CASE("include table: a layer includes only the layers below it", "[include]") {
  CHECK(violations([](const Include& include) {
          const std::string target = resolve(include);
          if (target.empty()) return false;
          const std::string from = layer_of(include.file);
          const std::string to = layer_of(target);
          if (from == to || from.empty() || to.empty()) return from.empty() && !to.empty();
          return !table().contains(from) || !table().at(from).contains(to);
        }) == "");
}

TEST_CASE("include table: what is written in quotes is ours, and found", "[include]") {
  CHECK(violations([](const Include& include) { return include.quoted && resolve(include).empty(); }) == "");
}

TEST_CASE("include table: public headers do not reach into src", "[include]") {
  CHECK(violations([](const Include& include) {
          return include.file.rfind("include/", 0) == 0 && resolve(include).rfind("src/", 0) == 0;
        }) == "");
}

TEST_CASE("include table: yaml-cpp stays in the readers and writers of YAML", "[include]") {
  CHECK(violations([](const Include& include) {
          static const std::regex kReaders(R"((_io|_yaml)\.cpp$|^src/base/strict_yaml\.h$)");
          return include.begins_with("yaml-cpp/") && !std::regex_search(include.file, kReaders);
        }) == "");
}

TEST_CASE("include table: Boost is in no public header", "[include]") {
  CHECK(violations([](const Include& include) {
          return include.begins_with("boost/") && include.file.rfind("include/", 0) == 0;
        }) == "");
}

TEST_CASE("include table: Eigen stays in curve and measure", "[include]") {
  CHECK(violations([](const Include& include) {
          return include.begins_with("Eigen/") && !is_in(include.file, {"curve", "measure"});
        }) == "");
}

TEST_CASE("include table: CLI11 stays in cli, JSON in report and cli", "[include]") {
  CHECK(violations([](const Include& include) {
          return include.begins_with("CLI/") && !is_in(include.file, {"cli"});
        }) == "");
  CHECK(violations([](const Include& include) {
          return include.begins_with("nlohmann/") && !is_in(include.file, {"report", "cli"});
        }) == "");
}

TEST_CASE("include table: no vendor's header is needed to build", "[include]") {
  CHECK(violations([](const Include& include) {
          static const std::regex kVendors(R"(nvml|cuda|rocm_smi|amd_smi|level_zero)");
          return !include.quoted && std::regex_search(include.target, kVendors);
        }) == "");
}

TEST_CASE("include table: the demo trainer knows Slackline only by its C headers", "[include]") {
  CHECK(violations([](const Include& include) {
          if (layer_of(include.file) != "demo" || include.target == "slackline.h" ||
              include.target == "slackline_sim.h") {
            return false;
          }
          const std::string target = resolve(include);
          return target.empty() ? include.quoted || include.target.find('.') != std::string::npos &&
                                                        include.begins_with("slackline")
                                : layer_of(target) != "demo";
        }) == "");
}

TEST_CASE("include table: the C headers need nothing but the C library", "[include]") {
  CHECK(violations([](const Include& include) {
          if (!layer_of(include.file).empty() || include.file.rfind("include/", 0) != 0) return false;
          return include.target != "slackline.h" &&
                 !std::regex_match(include.target, std::regex(R"(std\w+\.h)"));
        }) == "");
}

}  // namespace
}  // namespace slackline
