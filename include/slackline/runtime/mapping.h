#pragma once
#include <sys/mman.h>

#include <cstddef>
#include <utility>

namespace slackline {

/// Owns shared memory mapped from a file descriptor.
class Mapping {
 public:
  Mapping() = default;
  /// Empty if it cannot be mapped.
  Mapping(int fd, std::size_t bytes, int protection = PROT_READ | PROT_WRITE) : bytes_(bytes) {
    void* memory = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
    if (memory != MAP_FAILED) memory_ = memory;
  }
  Mapping(Mapping&& other) noexcept
      : memory_(std::exchange(other.memory_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
  Mapping& operator=(Mapping&& other) noexcept {
    std::swap(memory_, other.memory_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~Mapping() {
    if (memory_ != nullptr) ::munmap(memory_, bytes_);
  }

  [[nodiscard]] void* get() const { return memory_; }
  explicit operator bool() const { return memory_ != nullptr; }

 private:
  void* memory_ = nullptr;
  std::size_t bytes_ = 0;
};

}  // namespace slackline
