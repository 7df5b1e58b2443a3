// The tests' stand-in for NVIDIA's management library that also writes down when a clock was asked for. Has
// what Zeus calls besides.
#define nvmlDeviceSetGpuLockedClocks fake_set_locked_clocks
#define nvmlDeviceResetGpuLockedClocks fake_reset_locked_clocks
#define nvmlDeviceGetSupportedMemoryClocks fake_memory_clocks
#define nvmlDeviceGetSupportedGraphicsClocks fake_graphics_clocks
#include "fake/nvml.cpp"
#undef nvmlDeviceSetGpuLockedClocks
#undef nvmlDeviceResetGpuLockedClocks
#undef nvmlDeviceGetSupportedMemoryClocks
#undef nvmlDeviceGetSupportedGraphicsClocks

#include "driver_stamps.h"

namespace {

slackline::DriverStamps* open_stamps() {
  const char* path = std::getenv(slackline::kStampsVariable);
  const int fd = path == nullptr ? -1 : ::open(path, O_RDWR | O_CLOEXEC);
  if (fd < 0) std::abort();
  void* memory = ::mmap(nullptr, sizeof(slackline::DriverStamps), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  ::close(fd);
  if (memory == MAP_FAILED) std::abort();
  return static_cast<slackline::DriverStamps*>(memory);
}

void stamp(Device device, unsigned mhz) {
  const std::int64_t now = now_ns(CLOCK_MONOTONIC);
  static slackline::DriverStamps* const kStamps = open_stamps();
  const int number = number_of(device);
  if (number < 0) return;
  auto& gpu = kStamps->gpus[static_cast<std::size_t>(number)];
  const std::uint64_t call = gpu.calls.load(std::memory_order_relaxed);
  gpu.stamps[call % gpu.kKept] = {now, mhz};
  gpu.calls.store(call + 1, std::memory_order_release);
}

}  // namespace

extern "C" {

Return nvmlDeviceSetGpuLockedClocks(Device device, unsigned low, unsigned high) {
  stamp(device, high);
  return fake_set_locked_clocks(device, low, high);
}
Return nvmlDeviceResetGpuLockedClocks(Device device) {
  stamp(device, 0);
  return fake_reset_locked_clocks(device);
}
// pynvml asks without an array for the length.
Return nvmlDeviceGetSupportedMemoryClocks(Device device, unsigned* count, unsigned* values) {
  unsigned none = 0;
  return fake_memory_clocks(device, count, values == nullptr ? &none : values);
}
Return nvmlDeviceGetSupportedGraphicsClocks(Device device, unsigned memory, unsigned* count,
                                            unsigned* values) {
  unsigned none = 0;
  return fake_graphics_clocks(device, memory, count, values == nullptr ? &none : values);
}
Return nvmlInitWithFlags(unsigned) {
  return nvmlInit_v2();
}
Return nvmlDeviceGetPowerManagementDefaultLimit(Device, unsigned* milliwatts) {
  *milliwatts = 700'000;
  return kOk;
}
Return nvmlDeviceGetPowerManagementLimit(Device device, unsigned* milliwatts) {
  return nvmlDeviceGetPowerManagementDefaultLimit(device, milliwatts);
}

}  // extern "C"
