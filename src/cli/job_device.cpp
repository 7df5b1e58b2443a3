#include "job_device.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "leftovers.h"
#include "opened_device.h"
#include "slackline/base/error.h"
#include "slackline/device/open_device.h"
#include "slackline/runtime/lease_protocol.h"
#include "slackline/runtime/runtime_folder.h"

namespace slackline {
namespace {

/// As many ranks as there are GPUs for.
std::vector<std::vector<GpuId>> dealt_out(const std::vector<int>& counts, int gpus) {
  std::vector<std::vector<GpuId>> ranks;
  int next = 0;
  for (const int count : counts) {
    if (next + count > gpus) break;
    ranks.emplace_back();
    for (int g = 0; g < count; ++g) ranks.back().emplace_back(next++);
  }
  if (!ranks.empty()) return ranks;
  throw InputError(
      "", 0, "--device",
      "a rank needs " + std::to_string(counts.front()) + " GPUs, the device has " + std::to_string(gpus));
}

}  // namespace

JobDevice::JobDevice(const Request& request) : user_(calling_user()) {
  const bool is_real = is_vendor_spec(request.device);
  const std::string named =
      is_real && request.rank ? narrowed_spec(request.device, request.rank->local_rank) : request.device;
  if (!is_real) {
    if (user_) become_or_throw(*user_);  // simulated GPUs need no privileges
    user_.reset();
    spec_ = parse_device(request.device);
  }
  runtime_folder_ = slackline::runtime_folder();
  restore_leftovers(runtime_folder_);
  if (is_real) {
    opened_ = open_device(named, request.read_only ? DeviceAccess::kReadOnly : DeviceAccess::kIfPrivileged);
    device_ = opened_.get();
    say_what_is_left_out(*device_);
    own_folder_.emplace(runtime_folder_, kJobFolder);
    // It stays root's: the user gets at the sockets in it, and cannot put links in our way.
    if (user_ && ::chmod(folder().c_str(), 0711) != 0) {
      throw DeviceError("open folder", folder(), std::strerror(errno));
    }
  } else {
    if (request.rank) {
      if (spec_->node.empty()) {
        throw InputError("", 0, "--device",
                         "ranks share simulated GPUs through node=FOLDER, which is missing");
      }
      own_folder_.emplace(runtime_folder_, kJobFolder);
    }
    node_ = std::make_unique<SimulatedNode>(*spec_, runtime_folder_);
    device_ = &node_->device();
  }
  choose_gpus(request);
  if (request.read_only) return;

  agent_.emplace(ClockAgent::Request{request.agent, is_real ? named : device_->spec(), folder(),
                                     runtime_folder_, request.leases_itself ? std::nullopt : user_},
                 *device_);
}

void JobDevice::choose_gpus(const Request& request) {
  std::vector<int> counts = request.rank_gpus;
  if (node_) {
    counts.clear();
    for (const auto& gpus : node_->rank_gpus()) counts.push_back(static_cast<int>(gpus.size()));
  } else if (request.rank) {
    counts = {1};
  } else if (counts.empty()) {
    counts.assign(static_cast<std::size_t>(device_->gpu_count() / request.tensor_parallel),
                  request.tensor_parallel);
  }
  rank_gpus_ = dealt_out(counts, device_->gpu_count());
  if (node_ && request.rank) {
    const auto rank = static_cast<std::size_t>(request.rank->rank);
    if (rank >= rank_gpus_.size()) {
      throw InputError("", 0, "--device",
                       "it simulates " + std::to_string(rank_gpus_.size()) + " ranks, this is rank " +
                           std::to_string(rank));
    }
    rank_gpus_ = {rank_gpus_[rank]};
  }
  for (const auto& gpus : rank_gpus_) {
    if (gpus.size() <= kMostLeasedGpus) continue;
    throw InputError("", 0, "--device",
                     "a rank has " + std::to_string(gpus.size()) + " GPUs; one process leases up to " +
                         std::to_string(kMostLeasedGpus));
  }
}

JobDevice::~JobDevice() {
  end_agent();
}

std::shared_ptr<SimWorld> JobDevice::world() const {
  return node_ ? node_->world() : nullptr;
}

std::vector<std::vector<std::string>> JobDevice::rank_uuids() const {
  std::vector<std::vector<std::string>> uuids;
  for (const auto& gpus : rank_gpus_) uuids.push_back(uuids_of(gpus));
  return uuids;
}

std::vector<GpuId> JobDevice::gpus() const {
  std::vector<GpuId> gpus;
  if (node_) {
    for (const auto& rank : rank_gpus_) gpus.insert(gpus.end(), rank.begin(), rank.end());
  } else {
    for (int g = 0; g < device_->gpu_count(); ++g) gpus.emplace_back(g);
  }
  return gpus;
}

std::vector<std::string> JobDevice::uuids_of(const std::vector<GpuId>& gpus) const {
  std::vector<std::string> uuids;
  for (const GpuId gpu : gpus) uuids.push_back(device_->identity(gpu).uuid);
  return uuids;
}

void JobDevice::hand_over_job_socket() const {
  if (user_ && ::lchown(job_socket().c_str(), user_->uid, user_->gid) != 0) {
    throw DeviceError("hand over socket", job_socket(), std::strerror(errno));
  }
}

void JobDevice::look_after_agent() {
  if (agent_) agent_->look_after();
}

bool JobDevice::end_agent() {
  return !agent_ || agent_->end();
}

}  // namespace slackline
