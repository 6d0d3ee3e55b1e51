#pragma once

namespace tangential {

// Calls body(context) in up to `threads` threads at once and waits for all of them. There may be
// fewer threads, but at least one. `body` must not throw.
void in_threads(int threads, void (*body)(void*), void* context);

}  // namespace tangential
