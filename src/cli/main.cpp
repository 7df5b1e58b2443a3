#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <exception>

#include "command.h"
#include "slackline/base/error.h"

namespace {

int run(int argc, char** argv) {
  using namespace slackline;
  CLI::App app{"Slackline: removes energy bloat from pipeline-parallel training"};
  app.set_version_flag("--version", std::string("slackline ") + SLACKLINE_VERSION);
  app.require_subcommand(1);
  app.failure_message(CLI::FailureMessage::simple);
  app.footer("Example: slackline plan profiles/gpt3-175b-a100-sxm.yaml --microbatches 12 -o gpt3.yaml");
  Action action;
  add_profile(app, action);
  add_plan(app, action);
  add_verify(app, action);
  add_inspect(app, action);
  add_import(app, action);
  add_order(app, action);
  add_compare(app, action);
  add_apply(app, action);
  add_straggler(app, action);
  add_export(app, action);
  add_agent(app, action);
  add_restore(app, action);
  add_devices(app, action);
  add_measure(app, action);
  add_calibrate(app, action);
  const auto is_called = [&](const CLI::App* command) { return command->get_name() == argv[1]; };
  if (argc > 1 && argv[1][0] != '-' && app.get_subcommands(is_called).empty()) {
    std::fprintf(stderr, "slackline: there is no subcommand '%s'; run with --help for those there are\n",
                 argv[1]);
    return kBadInput;
  }
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? kOk : kBadInput;
  }
  return action();
}

/// Without this, files of ours could become standard input, output or error, if we were started without
/// those.
void occupy_standard_descriptors() {
  int fd = ::open("/dev/null", O_RDWR);
  while (fd >= 0 && fd <= STDERR_FILENO) fd = ::dup(fd);
  if (fd > STDERR_FILENO) ::close(fd);
}

/// Output that did not arrive is a failure, too.
int checked(int status) {
  if (std::fflush(stdout) == 0 && std::ferror(stdout) == 0) return status;
  std::fputs("slackline: cannot write to standard output\n", stderr);
  return status == slackline::kOk ? slackline::kNoAnswer : status;
}

int report(const std::exception& error, int status) {
  std::fprintf(stderr, "slackline: %s\n", error.what());
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    occupy_standard_descriptors();
    return checked(run(argc, argv));
  } catch (const slackline::InputError& error) {
    return report(error, slackline::kBadInput);
  } catch (const slackline::NoAnswer& error) {
    return report(error, slackline::kNoAnswer);
  } catch (const slackline::DeviceError& error) {
    return report(error, slackline::kDeviceFault);
  } catch (const std::bad_alloc&) {
    std::fputs("slackline: out of memory\n", stderr);
    return slackline::kNoAnswer;
  } catch (const std::exception& error) {
    return report(error, slackline::kNoAnswer);
  }
}
