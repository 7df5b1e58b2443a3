#include "gpu_worker.h"

#include <chrono>
#include <utility>

#include "slackline/base/error.h"

namespace slackline {
namespace {

/// A clock has arrived, or never will, when this long has passed without another request.
constexpr auto kSettling = std::chrono::milliseconds(20);
/// Where requests come faster than that, the clock is read back this often all the same, before the next.
constexpr std::int64_t kReadBackNs = 100'000'000;
/// What a GPU runs at whose driver has refused.
constexpr Megahertz kUnknown(-1);
/// Between two attempts to restore a GPU whose driver refuses.
constexpr auto kRetry = std::chrono::milliseconds(100);
/// Attempts before an agent that is asked to end leaves a GPU to its successor.
constexpr int kLastAttempts = 20;

/// Notes since when the driver works on something.
class InDriver {
 public:
  explicit InDriver(std::atomic<std::int64_t>& since_ns) : since_ns_(since_ns) { since_ns_ = steady_ns(); }
  InDriver(const InDriver&) = delete;
  InDriver& operator=(const InDriver&) = delete;
  ~InDriver() { since_ns_ = 0; }

 private:
  std::atomic<std::int64_t>& since_ns_;
};

}  // namespace

std::int64_t steady_ns() {
  return std::chrono::steady_clock::now().time_since_epoch() / std::chrono::nanoseconds(1);
}

GpuWorker::GpuWorker(Device& device, SimWorld* world, GpuId gpu, Journal::Claim claim, Megahertz baseline,
                     std::optional<std::string> left, std::function<void()> wake)
    : device_(device),
      world_(world),
      gpu_(gpu),
      claim_(std::move(claim)),
      baseline_(baseline),
      wake_(std::move(wake)),
      is_changed_(left.has_value()),
      state_(left.value_or("")),
      clock_(baseline == Megahertz(0) ? Megahertz(0) : kUnknown),  // nobody has set the baseline yet
      wants_restore_(left.has_value()),
      thread_([this] { run(); }) {}

GpuWorker::~GpuWorker() {
  stop();
  thread_.join();
}

void GpuWorker::stop() {
  {
    const std::lock_guard lock(mutex_);
    stops_ = true;
  }
  changed_.notify_one();
}

std::chrono::nanoseconds GpuWorker::in_driver_for() const {
  const std::int64_t since = in_driver_since_ns_;
  return std::chrono::nanoseconds(since == 0 ? 0 : steady_ns() - since);
}

void GpuWorker::post(ClockOrder order, std::uint32_t announced) {
  {
    const std::lock_guard lock(mutex_);
    if (wants_restore_) return;
    if (order_) ++counts_.overtaken;
    order_ = std::move(order);
    announced_ += announced;
  }
  changed_.notify_one();
}

void GpuWorker::restore() {
  {
    const std::lock_guard lock(mutex_);
    order_.reset();
    announced_ = 0;
    wants_restore_ = true;
  }
  changed_.notify_one();
}

void GpuWorker::take_reading() {
  {
    const std::lock_guard lock(mutex_);
    wants_reading_ = true;
  }
  changed_.notify_one();
}

bool GpuWorker::is_restored() const {
  const std::lock_guard lock(mutex_);
  return !wants_restore_;
}

std::optional<std::string> GpuWorker::take_fault() {
  const std::lock_guard lock(mutex_);
  return std::exchange(fault_, std::nullopt);
}

WorkerCounts GpuWorker::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

void GpuWorker::run() {
  int last_attempts = 0;
  std::optional<ClockOrder> settling;  // carried out; its clock is still to be read back
  std::unique_lock lock(mutex_);
  while (true) {
    const auto has_work = [this] { return order_ || wants_restore_ || wants_reading_ || stops_; };
    if (settling && (!changed_.wait_for(lock, kSettling, has_work) || (order_ && is_read_back_due()))) {
      lock.unlock();
      read_back(*settling);
      settling.reset();
      lock.lock();
      continue;
    }
    changed_.wait(lock, has_work);
    if (order_) {
      const ClockOrder order = std::move(*std::exchange(order_, std::nullopt));
      const std::uint32_t announced = std::exchange(announced_, 0);
      lock.unlock();
      carry_out(order);
      if (world_ != nullptr && announced > 0) world_->take_requests(gpu_, announced);
      settling = order;
      lock.lock();
      continue;
    }
    if (std::exchange(wants_reading_, false) && !wants_restore_ && !stops_) {
      lock.unlock();
      read();
      lock.lock();
      continue;
    }
    settling.reset();
    const bool ends = stops_;
    lock.unlock();
    const bool done = undo();
    if (world_ != nullptr) world_->forget_requests(gpu_);
    lock.lock();
    if (done) {
      wants_restore_ = false;
      lock.unlock();
      wake_();
      lock.lock();
    }
    if (ends && (done || ++last_attempts == kLastAttempts)) break;  // the journal knows what is left
    if (done) continue;
    lock.unlock();
    std::this_thread::sleep_for(kRetry);
    lock.lock();
  }
  has_ended_ = true;
  wake_();
}

void GpuWorker::carry_out(const ClockOrder& order) {
  const bool is_there = order.clock == clock_;
  bool failed = false;
  if (!is_there) {
    const InDriver call(in_driver_since_ns_);
    try {
      change(order.clock);
    } catch (const DeviceError& error) {
      failed = true;
      clock_ = kUnknown;
      const std::lock_guard lock(mutex_);
      fault_ = error.what();
    }
  }
  const std::int64_t latency = steady_ns() - order.seen_ns;
  order.result->requested_mhz = order.clock.value();
  order.result->latency_ns = latency;
  if (failed) ++order.result->failures;
  order.result->sequence = order.sequence;
  {
    const std::lock_guard lock(mutex_);
    counts_.requested = order.clock == Megahertz(0) ? baseline_ : order.clock;
    ++(failed ? counts_.failed : is_there ? counts_.skipped : counts_.applied);
    if (!is_there) counts_.last_call = Seconds(static_cast<double>(latency) / 1e9);
  }
  if (failed) wake_();
}

void GpuWorker::change(Megahertz clock) {
  if (!is_changed_) {
    state_ = device_.state(gpu_);
    claim_.record(device_, state_, baseline_);
    is_changed_ = true;
  }
  clock_ = clock;  // a call that fails may have changed something, too
  if (clock != Megahertz(0)) return device_.lock_clock(gpu_, clock);
  device_.restore(gpu_, state_);
  if (baseline_ != Megahertz(0)) device_.lock_clock(gpu_, baseline_);
}

bool GpuWorker::is_read_back_due() const {
  return steady_ns() - read_back_ns_ > kReadBackNs;
}

void GpuWorker::read_back(const ClockOrder& order) {
  const InDriver call(in_driver_since_ns_);
  read_back_ns_ = steady_ns();
  GpuResult& result = *order.result;
  try {
    const Megahertz observed = device_.observed_clock(gpu_);
    result.event_reasons = device_.event_reasons(gpu_).bits();
    result.observed_mhz = observed.value();
    const std::lock_guard lock(mutex_);
    counts_.observed = observed;
  } catch (const DeviceError&) {
    result.observed_mhz = 0;  // the next request will tell what is wrong
  }
  result.observed_sequence = order.sequence;
}

void GpuWorker::read() {
  const InDriver call(in_driver_since_ns_);
  std::optional<Megahertz> observed;
  std::optional<Joules> energy;
  try {
    observed = device_.observed_clock(gpu_);
    energy = device_.energy(gpu_).total;
  } catch (const DeviceError&) {  // what cannot be read is left out
  }
  const std::lock_guard lock(mutex_);
  counts_.observed = observed;
  counts_.energy = energy;
}

/// True if there is nothing left to undo.
bool GpuWorker::undo() {
  if (!is_changed_) return true;
  const InDriver call(in_driver_since_ns_);
  try {
    change(Megahertz(0));
    claim_.clear();
    is_changed_ = false;
    is_refused_ = false;
    const std::lock_guard lock(mutex_);
    ++counts_.restored;
    counts_.requested = baseline_;
    return true;
  } catch (const DeviceError& error) {
    const bool is_first = !std::exchange(is_refused_, true);
    {
      const std::lock_guard lock(mutex_);
      ++counts_.restore_failures;
      if (is_first) fault_ = error.what();
    }
    if (is_first) wake_();
    return false;
  }
}

}  // namespace slackline
