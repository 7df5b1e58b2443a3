#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "slackline/base/descriptor.h"
#include "slackline/base/quantity.h"

namespace slackline {

/// Unix sockets that keep message boundaries and carry file descriptors.

[[nodiscard]] Descriptor listen_on(const std::string& path);
/// An empty descriptor, and errno, if nobody listens, this user may not connect (EACCES), or nobody has
/// accepted within `patience`.
[[nodiscard]] Descriptor connect_to(const std::string& path, Seconds patience = Seconds(5));

/// False if the peer is gone.
bool send_packet(int socket, std::span<const std::byte> data, std::span<const int> descriptors = {});

struct Packet {
  std::vector<std::byte> data;
  std::vector<Descriptor> descriptors;
};
/// False if nothing has come, not even the end, within `patience`.
[[nodiscard]] bool wait_readable(int socket, Seconds patience);
/// Blocks. Nothing at end of file or on an error. Longer messages than `limit` are cut.
[[nodiscard]] std::optional<Packet> receive_packet(int socket, std::size_t limit);

}  // namespace slackline
