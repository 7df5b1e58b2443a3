#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <csignal>
#include <thread>

#include "catch.h"
#include "comma_locale.h"
#include "dice.h"
#include "other_process.h"
#include "scratch_folder.h"
#include "slackline/base/error.h"
#include "slackline/base/file.h"
#include "slackline/base/number_text.h"
#include "slackline/base/parallel.h"
#include "slackline/base/process.h"
#include "slackline/base/ticks.h"

namespace slackline {
namespace {

TEST_CASE("process: it is ending from when it is killed until it was waited for", "[base]") {
  const pid_t self = ::getpid();
  CHECK_FALSE(is_ending(self));
  OtherProcess other([] {});
  const pid_t pid = other.pid();
  CHECK_FALSE(is_ending(pid));
  REQUIRE(::kill(pid, SIGSTOP) == 0);
  CHECK_FALSE(is_ending(pid));
  REQUIRE(::kill(pid, SIGKILL) == 0);
  siginfo_t end{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(pid), &end, WEXITED | WNOWAIT) == 0);
  CHECK(is_ending(pid));
  other.kill();
  CHECK_FALSE(is_ending(pid));
  CHECK(descends_from(self, ::getppid()));
  CHECK_FALSE(descends_from(::getppid(), self));
}

TEST_CASE("number_text: anything but a whole finite decimal number is refused", "[base]") {
  for (const char* text :
       {"",    " ",   "+",   "-",     ".",      "e5",   "1 ",       " 1",   "1s",    "1,5", "1.5.2",
        "1e",  "nan", "NaN", "-nan",  "inf",    "-inf", "infinity", "0x10", "0x1p3", "1_0", "+-1",
        "-+1", "++1", "--1", "1e999", "-1e999", "one",  "1\n",      "١",    "1e5.5", "1f"}) {
    CAPTURE(text);
    CHECK_FALSE(parse_number(text).has_value());
    CHECK_FALSE(parse_integer(text).has_value());
  }
  CHECK_FALSE(parse_number(std::string_view("1\0", 2)).has_value());
}

TEST_CASE("number_text: decimal numbers are read, with sign, point and exponent", "[base]") {
  CHECK(parse_number("0") == 0.0);
  CHECK(parse_number("-1.5") == -1.5);
  CHECK(parse_number("+2") == 2.0);
  CHECK(parse_number(".5") == 0.5);
  CHECK(parse_number("1e-3") == 1e-3);
  CHECK(parse_number("2.5E+3") == 2500.0);
}

TEST_CASE("number_text: a whole number beyond 64 bits is refused, not wrapped", "[base]") {
  CHECK(parse_integer("9223372036854775807") == 9223372036854775807);
  CHECK(parse_integer("-9223372036854775808") == std::numeric_limits<std::int64_t>::min());
  CHECK_FALSE(parse_integer("9223372036854775808").has_value());
  CHECK_FALSE(parse_integer("-9223372036854775809").has_value());
  CHECK_FALSE(parse_integer("1.0").has_value());
  CHECK_FALSE(parse_integer("1e3").has_value());
}

TEST_CASE("number_text: every finite double reads back as itself", "[base]") {
  Dice dice(1);
  int tried = 0;
  while (tried < 20'000) {
    const auto number = std::bit_cast<double>(dice.bits());  // every magnitude, subnormals too
    if (!std::isfinite(number)) continue;
    ++tried;
    const auto read = parse_number(exact_text(number));
    if (!read || std::bit_cast<std::uint64_t>(*read) != std::bit_cast<std::uint64_t>(number)) {
      FAIL(exact_text(number) << " does not read back");
    }
  }
  for (const double edge : {0.0, -0.0, 5e-324, std::numeric_limits<double>::max(), 0.1 + 0.2}) {
    CHECK(parse_number(exact_text(edge)) == edge);
  }
}

TEST_CASE("number_text: numbers for people have the digits asked for", "[base]") {
  CHECK(fixed_text(1.0, 3) == "1.000");
  CHECK(fixed_text(-0.126, 2) == "-0.13");
  CHECK(fixed_text(std::numeric_limits<double>::max(), 2).size() == 309 + 3);
}

TEST_CASE("number_text: the locale changes nothing", "[base]") {
  const CommaLocale locale;
  CHECK(exact_text(1234567.25) == "1234567.25");
  CHECK(fixed_text(1234567.25, 1) == "1234567.2");
  CHECK(parse_number("1234.5") == 1234.5);
  CHECK_FALSE(parse_number("1234,5").has_value());
}

TEST_CASE("ticks: a second is 10^12 ticks and both ways agree", "[base]") {
  CHECK(to_ticks(Seconds(1)) == 1'000'000'000'000);
  CHECK(to_ticks(Seconds(0.0506)) == 50'600'000'000);
  Dice dice(2);
  for (int i = 0; i < 1000; ++i) {
    const Ticks ticks = dice.number(0, 2'000'000'000);
    CHECK(to_ticks(to_seconds(ticks)) == ticks);
  }
}

TEST_CASE("error: the message says file, line, key and reason, and leaves out what there is not", "[base]") {
  CHECK(std::string(InputError("a.yaml", 3, "time_s", "is late").what()) == "a.yaml:3: time_s: is late");
  CHECK(std::string(InputError("a.yaml", 0, "", "is empty").what()) == "a.yaml: is empty");
  CHECK(std::string(InputError("", 0, "--plans", "too many").what()) == "--plans: too many");
  CHECK(std::string(DeviceError("lock clock", "GPU 3", "denied").what()) == "lock clock on GPU 3: denied");
  CHECK(std::string(DeviceError("open", "", "no driver").what()) == "open: no driver");
}

/// Makes every write beyond `bytes` of a file fail, for root too.
class FileSizeLimit {
 public:
  explicit FileSizeLimit(rlim_t bytes) {
    ::getrlimit(RLIMIT_FSIZE, &before_);
    handler_ = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit limit{bytes, before_.rlim_max};
    ::setrlimit(RLIMIT_FSIZE, &limit);
  }
  FileSizeLimit(const FileSizeLimit&) = delete;
  FileSizeLimit& operator=(const FileSizeLimit&) = delete;
  ~FileSizeLimit() {
    ::setrlimit(RLIMIT_FSIZE, &before_);
    std::signal(SIGXFSZ, handler_);
  }

 private:
  rlimit before_{};
  void (*handler_)(int) = nullptr;
};

TEST_CASE("file: what is written is what is read, byte for byte", "[base]") {
  const ScratchFolder folder;
  const std::string content("a\0b\r\n\xff", 6);
  write_file(folder.file("x"), content);
  CHECK(read_file(folder.file("x")) == content);
  write_file(folder.file("x"), "");
  CHECK(read_file(folder.file("x")).empty());
  CHECK(folder.entries() == 1);
}

TEST_CASE("file: a write that fails halfway leaves the old file and nothing else", "[base]") {
  const ScratchFolder folder;
  spill(folder.file("x"), "old");
  {
    const FileSizeLimit disk_full(1000);
    CHECK_THROWS_AS(write_file(folder.file("x"), std::string(100'000, 'n')), InputError);
    CHECK_THROWS_AS(write_file(folder.file("y"), std::string(100'000, 'n')), InputError);
  }
  CHECK(slurp(folder.file("x")) == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("file: a folder that is missing or closed is an error and keeps the old file", "[base]") {
  const ScratchFolder folder;
  CHECK_THROWS_AS(write_file(folder.file("missing/x"), "new"), InputError);
  CHECK(folder.entries() == 0);
  if (::geteuid() == 0) return;  // root writes anywhere
  spill(folder.file("x"), "old");
  ::chmod(folder.file("").c_str(), 0500);
  CHECK_THROWS_AS(write_file(folder.file("x"), "new"), InputError);
  ::chmod(folder.file("").c_str(), 0700);
  CHECK(slurp(folder.file("x")) == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("file: a replaced file keeps its permissions", "[base]") {
  const ScratchFolder folder;
  spill(folder.file("x"), "old");
  ::chmod(folder.file("x").c_str(), 0640);
  write_file(folder.file("x"), "new");
  struct stat status {};
  REQUIRE(::stat(folder.file("x").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0640);
}

TEST_CASE("file: threads that write at the same time leave new files to nobody else", "[base]") {
  const ScratchFolder folder;
  const mode_t mask = ::umask(022);
  ::umask(mask);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&folder, t] {
      for (int i = 0; i < 50; ++i) write_file(folder.file(std::to_string(t) + "-" + std::to_string(i)), "x");
    });
  }
  for (std::thread& thread : threads) thread.join();
  const mode_t now = ::umask(mask);
  CHECK(now == mask);
}

TEST_CASE("file: a folder cannot be read or written as a file", "[base]") {
  const ScratchFolder folder;
  CHECK_THROWS_AS(read_file(folder.file("")), InputError);
  CHECK_THROWS_AS(read_file(folder.file("missing")), InputError);
  CHECK_THROWS_AS(write_file(folder.file("."), "new"), InputError);
  CHECK(folder.entries() == 0);
}

TEST_CASE("file: a device such as /dev/null is written to, not replaced", "[base]") {
  write_file("/dev/null", "gone");
  struct stat status {};
  REQUIRE(::stat("/dev/null", &status) == 0);
  CHECK(S_ISCHR(status.st_mode));
}

TEST_CASE("parallel: every piece is done once, and the last report is of a completed piece", "[base]") {
  for (const std::size_t count : {0U, 1U, 2U, 7U, 1000U}) {
    std::vector<std::atomic<int>> done(count);
    std::size_t reported = 0;
    for_each_in_parallel(
        count, [&](std::size_t i) { ++done[i]; }, [&](std::size_t completed) { reported = completed; });
    CHECK(std::all_of(done.begin(), done.end(), [](const auto& times) { return times == 1; }));
    CHECK(reported <= count);
  }
}

TEST_CASE("parallel: an exception reaches the caller, and stops the rest", "[base]") {
  std::atomic<int> begun = 0;
  const auto work = [&](std::size_t i) {
    ++begun;
    if (i == 3) throw std::runtime_error("three");
  };
  CHECK_THROWS_WITH(for_each_in_parallel(1'000'000, work), "three");
  CHECK(begun < 1'000'000);
}

}  // namespace
}  // namespace slackline
