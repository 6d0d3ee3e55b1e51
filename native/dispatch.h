#pragma once

#include <vector>

#include "rows.h"

namespace tangential {

struct InstructionSet {
  const char* name;
  RowTable rows;
};

// Those that this machine runs, the best first.
std::vector<InstructionSet> instruction_sets();

}  // namespace tangential
