#pragma once
#include <cstddef>
#include <functional>

namespace slackline {

/// Calls `work(i)` once for each i below `count`, on all cores of the machine, in no particular order.
/// Returns when all are done; rethrows the first exception, after which no further work is begun. `done` is
/// called on the calling thread now and then, with how many have been completed.
void for_each_in_parallel(std::size_t count, const std::function<void(std::size_t)>& work,
                          const std::function<void(std::size_t)>& done = {});

}  // namespace slackline
