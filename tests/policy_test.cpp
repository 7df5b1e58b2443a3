#include "slackline/runtime/policy.h"

#include <grp.h>
#include <pwd.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <map>
#include <set>
#include <sstream>

#include "catch.h"
#include "scratch_folder.h"
#include "slackline/base/error.h"

namespace slackline {
namespace {

const std::string kSource = SLACKLINE_SOURCE_DIR;
const GpuIdentity kFirst{"GPU-8f6c1b2e-5d0a-4f2b-9c3d-0123456789ab", "0000:18:00.0", "H100"};
const GpuIdentity kSecond{"GPU-2", "0000:3b:00.0", "H100"};
const GpuIdentity kThird{"GPU-3", "", "H100"};
constexpr ClockRange kEverything{Megahertz(1), kHighestPolicyClock};

Peer user(uid_t uid) {
  return {uid, 4000, {}};
}

Policy policy_of(const std::string& rest) {
  return parse_policy("p.yaml", "slackline: policy/1\n" + rest);
}

std::string error_of(const std::function<void()>& read) {
  try {
    read();
  } catch (const InputError& error) {
    return error.what();
  }
  return "accepted";
}

TEST_CASE("policy: what no rule allows is denied, root's wishes too", "[policy]") {
  for (const Policy& policy :
       {Policy(), policy_of(""), policy_of("allow: [{users: [1001], gpus: [GPU-2]}]\n")}) {
    for (const uid_t uid : {0U, 1000U, 1002U}) CHECK(policy.allowed(user(uid), kSecond) == std::nullopt);
    CHECK(policy.allowed(user(1001), kFirst) == std::nullopt);
    CHECK(policy.allowed(Peer{}, kSecond) == std::nullopt);
    CHECK(policy.baseline(kFirst) == Megahertz(0));
    CHECK(policy.socket_group() == std::nullopt);
  }
}

TEST_CASE("policy: for one user, everything and nothing for others", "[policy]") {
  const Policy policy = Policy::everything_for(1001);
  for (const GpuIdentity& gpu : {kFirst, kSecond, kThird}) {
    CHECK(policy.allowed(user(1001), gpu) == kEverything);
    CHECK(policy.allowed(user(1000), gpu) == std::nullopt);
    CHECK(policy.allowed(user(0), gpu) == std::nullopt);
    CHECK(policy.baseline(gpu) == Megahertz(0));
  }
}

TEST_CASE("policy: the first rule that names both the user and the GPU decides", "[policy]") {
  const Policy policy = policy_of(
      "allow:\n"
      "  - {users: [1001], gpus: [GPU-2], clock_mhz: [900, 900]}\n"
      "  - {users: [1001, 1002], gpus: all, clock_mhz: [600, 1410]}\n"
      "  - {users: [1001, 1002, 1003], gpus: all}\n");
  CHECK(policy.allowed(user(1001), kSecond) == ClockRange{Megahertz(900), Megahertz(900)});
  CHECK(policy.allowed(user(1001), kFirst) == ClockRange{Megahertz(600), Megahertz(1410)});
  CHECK(policy.allowed(user(1002), kSecond) == ClockRange{Megahertz(600), Megahertz(1410)});
  CHECK(policy.allowed(user(1003), kSecond) == kEverything);
}

TEST_CASE("policy: a rule names users, or groups by primary or further membership", "[policy]") {
  const Policy policy = policy_of("allow: [{users: [1001], groups: [2001, 2002], gpus: all}]\n");
  CHECK(policy.allowed({1001, 4000, {}}, kFirst));
  CHECK(policy.allowed({1002, 2001, {}}, kFirst));
  CHECK(policy.allowed({1002, 4000, {4001, 2002}}, kFirst));
  CHECK_FALSE(policy.allowed({1002, 4000, {4001, 1001}}, kFirst));  // a group of a user's number
  CHECK_FALSE(policy.allowed({2001, 4000, {}}, kFirst));            // a user of a group's number
}

TEST_CASE("policy: names and numbers of users and groups mean the same", "[policy]") {
  const passwd* self = ::getpwuid(::geteuid());
  const group* own = ::getgrgid(::getegid());
  if (self == nullptr || own == nullptr) return;  // a container without names
  const std::string name = self->pw_name;
  const Policy policy = policy_of("socket_group: '" + std::string(own->gr_name) + "'\nallow: [{users: ['" +
                                  name + "'], gpus: all}]\n");
  CHECK(policy.allowed(user(::geteuid()), kFirst) == kEverything);
  CHECK_FALSE(policy.allowed(user(::geteuid() + 1), kFirst));
  CHECK(policy.socket_group() == ::getegid());
  CHECK(policy_of("socket_group: 12345\n").socket_group() == gid_t{12345});
  CHECK(policy_of("socket_group: 4294967294\n").socket_group() == gid_t{4294967294});
}

TEST_CASE("policy: a PCI address is the same in upper case and with a domain of 8 digits", "[policy]") {
  for (const char* text : {"0000:3b:00.0", "0000:3B:00.0", "00000000:3b:00.0", "00000000:3B:00.0"}) {
    CAPTURE(text);
    CHECK(canonical_pci_address(text) == "0000:3b:00.0");
    const Policy policy = policy_of("allow: [{users: [1001], gpus: ['" + std::string(text) + "']}]\n");
    for (const char* reported : {"0000:3b:00.0", "00000000:3B:00.0"}) {
      CHECK(policy.allowed(user(1001), {"GPU-9", reported, ""}));
    }
    for (const char* other :
         {"", "0000:3b:00.1", "0001:3b:00.0", "00010000:3b:00.0", "0000:b3:00.0", "junk"}) {
      CHECK_FALSE(policy.allowed(user(1001), {"GPU-9", other, ""}));
    }
  }
  CHECK(canonical_pci_address("00010000:3b:1F.7") == "10000:3b:1f.7");
  for (const char* text :
       {"", ":", "3b:00.0", "000:3b:00.0", "000000000:3b:00.0", "0000:3b:00", "0000:3b:00.", "0000:3b:00.00",
        "0000:3b:20.0", "0000:3b:00.8", "0000:3b:0.0", "0000:-b:00.0", "0x00:3b:00.0", "0000:3b:00.0 ",
        " 0000:3b:00.0", "0000:3b.00:0", "0000::00.0"}) {
    CAPTURE(text);
    CHECK(canonical_pci_address(text) == std::nullopt);
  }
}

TEST_CASE("policy: a UUID is no pattern", "[policy]") {
  const Policy policy = policy_of("allow: [{users: [1001], gpus: [GPU-2]}]\n");
  for (const char* other : {"GPU-22", "GPU-", "gpu-2", "", "all"}) {
    CHECK_FALSE(policy.allowed(user(1001), {other, "", ""}));
  }
}

TEST_CASE("policy: GPUs go back to the first baseline that names them, the rest is unlocked", "[policy]") {
  const std::string one = "  - {gpus: [GPU-2, 0000:18:00.0], clock_mhz: 1410}\n";
  const Policy some = policy_of("baselines:\n" + one);
  CHECK(some.baseline(kFirst) == Megahertz(1410));
  CHECK(some.baseline(kSecond) == Megahertz(1410));
  CHECK(some.baseline(kThird) == Megahertz(0));
  const Policy all = policy_of("baselines:\n" + one + "  - {gpus: all, clock_mhz: 1980}\n");
  CHECK(all.baseline(kFirst) == Megahertz(1410));
  CHECK(all.baseline(kThird) == Megahertz(1980));
}

TEST_CASE("policy: the format as it is documented is read", "[policy]") {
  const Policy policy = parse_policy("toy", slurp(kSource + "/tests/data/toy-policy.yaml"));
  CHECK(policy.socket_group() == gid_t{0});
  CHECK(policy.baseline(kFirst) == Megahertz(1410));
  CHECK(policy.baseline(kSecond) == Megahertz(1410));
  CHECK(policy.baseline(kThird) == Megahertz(1980));
  CHECK(policy.allowed(user(1001), kFirst) == ClockRange{Megahertz(600), Megahertz(1410)});
  CHECK(policy.allowed(user(1001), kSecond) == kEverything);
  CHECK(policy.allowed({5, 1002, {}}, kSecond) == kEverything);
  CHECK(policy.allowed({5, 4000, {0}}, kThird) == ClockRange{Megahertz(1980), Megahertz(1980)});
  CHECK_FALSE(policy.allowed(user(1002), kSecond));
}

TEST_CASE("policy: the example that is installed denies everybody; its commented lines are right",
          "[policy]") {
  const std::string example = slurp(kSource + "/src/packaging/policy.example.yaml");
  const Policy shipped = parse_policy("example", example);
  for (const uid_t uid : {0U, 1000U, 1001U}) CHECK_FALSE(shipped.allowed(user(uid), kFirst));
  CHECK(shipped.socket_group() == std::nullopt);

  // As its first lines say: a # with no space, or more than one, behind it hides a line of the policy.
  std::string enabled;
  std::istringstream lines(example);
  for (std::string line; std::getline(lines, line);) {
    const bool is_hidden = line.size() > 2 && line[0] == '#' &&
                           (line[1] != ' ' || line.starts_with("#  -") || line.starts_with("#    "));
    enabled += (is_hidden ? line.substr(1) : line) + "\n";
  }
  for (const auto& [name, number] : std::map<std::string, std::string>{
           {"alice", "1000"}, {"[ml]", "[2000]"}, {": slackline\n", ": 3000\n"}}) {
    const std::size_t at = enabled.find(name);
    REQUIRE(at != std::string::npos);
    enabled.replace(at, name.size(), number);
  }
  const Policy policy = parse_policy("enabled", enabled);
  CHECK(policy.socket_group() == gid_t{3000});
  CHECK(policy.baseline(kFirst) == Megahertz(1410));
  CHECK(policy.baseline(kSecond) == Megahertz(1410));
  CHECK(policy.allowed(user(1000), kThird) == ClockRange{Megahertz(600), Megahertz(1410)});
  CHECK(policy.allowed({5, 2000, {}}, kSecond) == kEverything);
  CHECK_FALSE(policy.allowed({5, 2000, {}}, kThird));
}

/// "@" stands for the file.
const std::map<std::string, std::string>& bad_policies() {
  static const std::map<std::string, std::string> kBad{
      {"a-profile.yaml", "@:1: slackline: this is a 'profile/1' file; expected 'policy/1'"},
      {"allow-empty.yaml", "@:2: allow: the list is empty"},
      {"allow-not-a-list.yaml", "@:2: allow: expected a list"},
      {"allow-nothing.yaml", "@:3: allow: expected a list"},
      {"baseline-after-all.yaml", "@:4: gpus: an earlier baseline is for all GPUs; put this one before it"},
      {"baseline-twice.yaml", "@:4: gpus: 'GPU-1' has a baseline already"},
      {"baseline-without-a-clock.yaml", "@:3: clock_mhz: the key is missing"},
      {"baseline-zero.yaml", "@:3: clock_mhz: '0' is not a whole number from 1 to 100000"},
      {"clock-falls.yaml", "@:3: clock_mhz: the lowest clock is above the highest"},
      {"clock-fraction.yaml", "@:3: clock_mhz: '1410.5' is not a whole number from 1 to 100000"},
      {"clock-in-hertz.yaml", "@:3: clock_mhz: '1410000000' is not a whole number from 1 to 100000"},
      {"clock-one-end.yaml",
       "@:3: clock_mhz: expected the lowest and the highest clock, such as [600, 1410]"},
      {"clock-one-number.yaml", "@:3: clock_mhz: expected a list"},
      {"clock-three-ends.yaml",
       "@:3: clock_mhz: expected the lowest and the highest clock, such as [600, 1410]"},
      {"clock-zero.yaml", "@:3: clock_mhz: '0' is not a whole number from 1 to 100000"},
      {"deep.yaml", "@:5: not YAML: bad file"},
      {"empty.yaml", "@: the file is empty"},
      {"gpu-device-too-large.yaml",
       "@:3: gpus: '0000:3b:20.0' is no PCI address with a domain, such as 0000:3b:00.0"},
      {"gpu-function-too-large.yaml",
       "@:3: gpus: '0000:3b:00.8' is no PCI address with a domain, such as 0000:3b:00.0"},
      {"gpu-twice-in-two-forms.yaml", "@:3: gpus: '00000000:3B:00.0' comes twice"},
      {"gpu-twice.yaml", "@:3: gpus: 'GPU-1' comes twice"},
      {"gpu-with-a-space.yaml", "@:3: gpus: 'GPU 1' is neither the UUID nor the PCI address of a GPU"},
      {"gpu-without-a-domain.yaml",
       "@:3: gpus: '3b:00.0' is no PCI address with a domain, such as 0000:3b:00.0"},
      {"gpus-a-map.yaml", "@:3: gpus: expected a list"},
      {"gpus-a-name.yaml", "@:3: gpus: expected 'all' or a list of UUIDs and PCI addresses"},
      {"gpus-all-in-a-list.yaml", "@:3: gpus: write 'gpus: all', without a list"},
      {"gpus-empty.yaml", "@:3: gpus: the list is empty"},
      {"group-unknown.yaml", "@:3: groups: unknown group 'no-such-group-here'"},
      {"key-twice.yaml", "@:3: socket_group: the key comes twice"},
      {"not-ours.yaml", "@:1: not a slackline file: it does not begin with 'slackline: policy/1'"},
      {"not-yaml.yaml", "@:3: not YAML: end of sequence flow not found"},
      {"rule-a-text.yaml", "@:3: allow: expected keys and values"},
      {"rule-for-nobody.yaml", "@:3: allow: a rule needs 'users' or 'groups'"},
      {"rule-unknown-key.yaml", "@:3: clocks_mhz: unknown key"},
      {"rule-without-gpus.yaml", "@:3: gpus: the key is missing"},
      {"rules-too-many.yaml", "@:3: allow: more than 1000 entries"},
      {"socket-group-a-list.yaml", "@:2: socket_group: expected text"},
      {"socket-group-blank.yaml", "@:2: socket_group: expected the name or number of a group"},
      {"socket-group-unknown.yaml", "@:2: socket_group: unknown group 'no-such-group-here'"},
      {"too-new.yaml", "@:1: slackline: 'policy/2' is too new for this slackline, which reads version 1"},
      {"too-old.yaml", "@:1: slackline: 'policy/0' is too old for this slackline, which reads version 1"},
      {"unknown-key-at-top.yaml", "@:2: deny: unknown key"},
      {"user-beyond-64-bits.yaml",
       "@:3: users: '99999999999999999999' is too large for the number of a user"},
      {"user-negative.yaml", "@:3: users: unknown user '-1'"},
      {"user-too-large.yaml", "@:3: users: '4294967295' is too large for the number of a user"},
      {"user-unknown.yaml", "@:3: users: unknown user 'no-such-user-here'"},
      {"user-with-a-zero-byte.yaml", "@:3: users: expected the name or number of a user"},
      {"users-empty.yaml", "@:3: users: the list is empty"},
      {"users-not-a-list.yaml", "@:3: users: expected a list"},
      {"users-too-many.yaml", "@:4: users: more than 1000 entries"},
  };
  return kBad;
}

TEST_CASE("policy: a bad file is refused with file, line, key and reason", "[policy]") {
  const std::filesystem::path folder = kSource + "/tests/data/bad-policies";
  std::set<std::string> present;
  for (const auto& file : std::filesystem::directory_iterator(folder)) present.insert(file.path().filename());
  std::set<std::string> expected;
  for (const auto& [name, message] : bad_policies()) {
    CAPTURE(name);
    expected.insert(name);
    CHECK(error_of([&, file = folder / name] { (void)parse_policy("@", slurp(file)); }) == message);
  }
  CHECK(present == expected);
}

/// A policy file that read_policy takes, to be spoilt.
struct PolicyFile {
  ScratchFolder folder;
  std::string path = folder.file("policy.yaml");

  PolicyFile() {
    spill(path, "slackline: policy/1\nallow: [{users: [1001], gpus: all}]\n");
    set_mode(0644);
  }
  void set_mode(mode_t mode) const { REQUIRE(::chmod(path.c_str(), mode) == 0); }
  [[nodiscard]] std::string error(const std::string& at) const {
    return error_of([&] { (void)read_policy(at); });
  }
  [[nodiscard]] std::string error() const { return error(path); }
};

TEST_CASE("policy: a file that only its owner may write is read", "[policy]") {
  const PolicyFile file;
  for (const mode_t mode : {0644U, 0600U, 0640U, 0755U, 0400U}) {
    file.set_mode(mode);
    CHECK(read_policy(file.path).allowed(user(1001), kFirst) == kEverything);
  }
}

TEST_CASE("policy: a file that others may write is refused, with the command that ends it", "[policy]") {
  const PolicyFile file;
  for (const mode_t mode : {0664U, 0660U, 0620U}) {
    file.set_mode(mode);
    CHECK(file.error() == file.path + ": its group may write it; take that away: chmod go-w " + file.path);
  }
  for (const mode_t mode : {0666U, 0646U, 0777U, 0602U}) {
    file.set_mode(mode);
    CHECK(file.error() == file.path + ": everybody may write it; take that away: chmod go-w " + file.path);
  }
  const std::string odd = file.folder.file("a policy's.yaml");
  std::filesystem::rename(file.path, odd);
  const std::string word = "'" + file.folder.file("a policy'\\''s.yaml") + "'";
  CHECK(file.error(odd) == odd + ": everybody may write it; take that away: chmod go-w " + word);
}

TEST_CASE("policy: another user's file is refused, with the command that makes it root's", "[policy]") {
  SLACKLINE_NEEDS(::geteuid() == 0, "root");
  const PolicyFile file;
  if (::chown(file.path.c_str(), 1001, 0) != 0) return;  // a container without other users
  CHECK(file.error() == file.path +
                            ": belongs to user 1001, who could allow themselves anything; make it root's: "
                            "chown root " +
                            file.path);
  REQUIRE(::chown(file.path.c_str(), 0, 1001) == 0);  // a group that only reads
  CHECK(file.error() == "accepted");
}

TEST_CASE("policy: the owner counts for whom this process acts", "[policy]") {
  SLACKLINE_NEEDS(::geteuid() == 0, "root");
  const PolicyFile file;
  std::filesystem::permissions(std::filesystem::path(file.path).parent_path(), std::filesystem::perms(0755));
  const std::string others = file.folder.file("others.yaml");
  std::filesystem::copy_file(file.path, others);
  if (::chown(others.c_str(), 1002, 1002) != 0 || ::seteuid(1001) != 0) return;
  const std::string of_root = file.error();
  const std::string of_another = file.error(others);
  REQUIRE(::seteuid(0) == 0);
  CHECK(of_root == "accepted");
  CHECK(of_another == others +
                          ": belongs to user 1002, who could allow themselves anything; make it yours: "
                          "sudo chown 1001 " +
                          others);
}

TEST_CASE("policy: only a regular file is read, and nothing waits for another", "[policy]") {
  const PolicyFile file;
  const std::string link = file.folder.file("link.yaml");
  std::filesystem::create_symlink(file.path, link);
  CHECK(file.error(link) == link + ": is a symbolic link; put the file itself there");
  const std::string folder = std::filesystem::path(file.path).parent_path();
  CHECK(file.error(folder) == folder + ": is not a regular file");
  const std::string pipe = file.folder.file("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0600) == 0);
  CHECK(file.error(pipe) == pipe + ": is not a regular file");
  CHECK(file.error("/dev/zero") == "/dev/zero: is not a regular file");
  const std::string none = file.folder.file("none.yaml");
  CHECK(file.error(none) ==
        none + ": there is no policy, so nobody may set clocks; policy.example.yaml is one to begin with");
}

TEST_CASE("policy: a file above 1 MiB is refused", "[policy]") {
  const PolicyFile file;
  const std::string content = slurp(file.path);
  spill(file.path, content + "#" + std::string((std::size_t{1} << 20) - content.size() - 2, 'x') + "\n");
  CHECK(file.error() == "accepted");
  spill(file.path, content + "#" + std::string(std::size_t{1} << 20, 'x') + "\n");
  CHECK(file.error() == file.path + ": larger than 1 MiB");
}

TEST_CASE("policy: an error in the content names the file and its line", "[policy]") {
  const PolicyFile file;
  spill(file.path, "slackline: policy/1\nallow:\n  - {users: [1], gpus: all, clock_mhz: [2, 1]}\n");
  CHECK(file.error() == file.path + ":3: clock_mhz: the lowest clock is above the highest");
}

}  // namespace
}  // namespace slackline
