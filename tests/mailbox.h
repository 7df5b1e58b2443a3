#pragma once
#include <condition_variable>
#include <mutex>

#include "slackline/device/sim_world.h"

namespace slackline {

/// Messages without content from one thread to another, announced to a simulated world as a job has to.
class Mailbox {
 public:
  Mailbox(SimWorld& world, SimWorld::Channel channel) : world_(world), channel_(channel) {}

  void send() {
    world_.send(channel_);
    const std::lock_guard lock(mutex_);
    ++messages_;
    changed_.notify_all();
  }
  /// False if it was closed with nothing left to take.
  bool receive(SimWorld::Participant& receiver) {
    receiver.wait_begin(channel_);
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return messages_ > 0 || closed_; });
      if (messages_ == 0) return false;
      --messages_;
    }
    receiver.wait_end(channel_);
    return true;
  }
  void close() {
    const std::lock_guard lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

 private:
  SimWorld& world_;
  SimWorld::Channel channel_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int messages_ = 0;
  bool closed_ = false;
};

}  // namespace slackline
