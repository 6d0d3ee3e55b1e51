#pragma once

#include <vector>

#include "rows.h"

namespace tangential {

struct InstructionSet {
  const char* name;
  RowTable rows;
  MeasureMoved (*measure_moved)(Dtype weight);
};

// Those that this machine runs, the best first.
std::vector<InstructionSet> instruction_sets();

}  // namespace tangential
