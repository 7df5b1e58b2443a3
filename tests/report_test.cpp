#include "catch.h"
#include "slackline/report/calibration_report.h"
#include "slackline/report/device_report.h"
#include "slackline/report/use_report.h"

namespace slackline {
namespace {

GpuReport gpu_that_answers(int number) {
  GpuReport gpu;
  gpu.gpu = GpuId(number);
  gpu.uuid = "GPU-8f6c1b2e-0000-0000-0000-00000000000" + std::to_string(number);
  gpu.pci_address = "0000:3" + std::to_string(number) + ":00.0";
  gpu.model = "NVIDIA H100 80GB HBM3";
  gpu.clocks = {Megahertz(1980), Megahertz(1965), Megahertz(345)};
  gpu.clock = Megahertz(1965);
  gpu.power = Watts(412.25);
  gpu.power_cap = Watts(700);
  gpu.temperature = 61;
  gpu.energy = Joules(123456.78);
  gpu.event_reasons = {"power-cap", "thermal"};
  gpu.abilities = {{"set clocks", "needs root or CAP_SYS_ADMIN", "sudo slackline devices"},
                   {"read energy", "", ""}};
  return gpu;
}

TEST_CASE("device report: what holds for several GPUs is said once, and a silent GPU hides no other",
          "[report]") {
  DeviceReport report{"NVML 13.580, driver 580", "nvml", {}};
  for (int number = 0; number < 3; ++number) report.gpus.push_back(gpu_that_answers(number));
  report.gpus[1].abilities[1] = {"read energy", "not on this model", ""};
  report.gpus[2].remarks = {"readings cover GPU and CPU of the module"};
  GpuReport lost;
  lost.gpu = GpuId(3);
  lost.faults = {"identify on GPU 3: GPU is lost"};
  report.gpus.push_back(lost);
  CHECK(device_text(report) ==
        "NVML 13.580, driver 580, 4 GPUs\n"
        "\n"
        "GPU  model                  PCI address   clocks (MHz)  UUID\n"
        "0    NVIDIA H100 80GB HBM3  0000:30:00.0  345-1980 (3)  GPU-8f6c1b2e-0000-0000-0000-000000000000\n"
        "1    NVIDIA H100 80GB HBM3  0000:31:00.0  345-1980 (3)  GPU-8f6c1b2e-0000-0000-0000-000000000001\n"
        "2    NVIDIA H100 80GB HBM3  0000:32:00.0  345-1980 (3)  GPU-8f6c1b2e-0000-0000-0000-000000000002\n"
        "3    -                      -             -             -\n"
        "\n"
        "GPU  clock (MHz)  power (W)  cap (W)  temperature (C)  energy counter (J)  event reasons\n"
        "0           1965      412.2      700               61            123456.8  power-cap, thermal\n"
        "1           1965      412.2      700               61            123456.8  power-cap, thermal\n"
        "2           1965      412.2      700               61            123456.8  power-cap, thermal\n"
        "3              -          -        -                -                   -  -\n"
        "\n"
        "set clocks   no (GPU 0-2): needs root or CAP_SYS_ADMIN\n"
        "             try: sudo slackline devices\n"
        "read energy  yes (GPU 0, 2)\n"
        "             no (GPU 1): not on this model\n"
        "\n"
        "note (GPU 2): readings cover GPU and CPU of the module\n"
        "note (GPU 3): identify on GPU 3: GPU is lost\n");
  CHECK(device_json(report).find("\"remedy\": \"sudo slackline devices\"") != std::string::npos);
}

TEST_CASE("use report: a sum needs every GPU, and each note is said once", "[report]") {
  RunUse run{"train", 0, Seconds(10), {}};
  for (int number = 0; number < 3; ++number) {
    UseReport gpu;
    gpu.gpu = GpuId(number);
    gpu.energy = Joules(3000);
    gpu.energy_error = Joules(60);
    gpu.ticks = 100;
    gpu.sampled_energy = Joules(2990);
    gpu.mean_power = Watts(300);
    gpu.lowest_clock = Megahertz(1005);
    gpu.mean_clock_mhz = 1234.4;
    gpu.highest_clock = Megahertz(1410);
    gpu.event_reasons = {{"power-cap", 0.432}, {"thermal", 0.001}};
    gpu.peak_temperature = 71;
    run.gpus.push_back(gpu);
  }
  CHECK(use_text(run).find("total    10.000      9000.0   180.0      900.0") != std::string::npos);
  CHECK(use_text(run).find("71  power-cap 43 %, thermal <1 %\n") != std::string::npos);
  CHECK(use_notes(run).empty());
  run.gpus[1].energy.reset();
  run.gpus[1].warnings = run.gpus[2].warnings = {"no energy: the energy counter stands still"};
  run.gpus[0].is_short = true;
  CHECK(use_text(run).find("total    10.000           -       -      900.0") != std::string::npos);
  CHECK(use_notes(run) ==
        std::vector<std::string>{"GPU 0: 10.000 s hold only 100 ticks of the energy counter, so energy is "
                                 "uncertain by +-60.0 J",
                                 "GPU 1-2: no energy: the energy counter stands still"});
}

TEST_CASE("switch report: a clock that never arrived has no times but a reason", "[report]") {
  const std::vector<SwitchReport> switches{
      {Megahertz(1410), Megahertz(1005), Seconds(0.0004), Seconds(0.0081), Seconds(0.012), 5, 5, ""},
      {Megahertz(1005), Megahertz(1410), Seconds(0.0004), {}, {}, 5, 0, "1300 MHz after 2 s"}};
  CHECK(switches_text(switches) ==
        "clocks (MHz)  call (ms)  first change (ms)  stable (ms)  arrived\n"
        "1410 -> 1005       0.40                8.1         12.0   5 of 5\n"
        "1005 -> 1410       0.40                  -            -   0 of 5  1300 MHz after 2 s\n");
  CHECK(switches_json(switches).find("\"stable_s\": null") != std::string::npos);
}

}  // namespace
}  // namespace slackline
