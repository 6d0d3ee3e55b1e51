#pragma once

namespace tangential {

// Calls body(context) in up to `threads` threads at once and returns when all are done; fewer may
// come, one always does. `body` must not throw.
void in_threads(int threads, void (*body)(void*), void* context);

}  // namespace tangential
