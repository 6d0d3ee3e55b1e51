#pragma once

#include <vector>

#include "rows/rows.h"

namespace tangential {

struct InstructionSet {
  const char* name;
  RowTable rows;
  MeasureChange (*measure_change)(
      Dtype weight);                // null where a dtype is too narrow for differences
  MixRow (*mix_row)(Dtype weight);  // the same
};

// Those that this machine can run, the fastest first; or the one that the environment variable
// TANGENTIAL_ISA had named at the first call. Throws if there is no such set.
const std::vector<InstructionSet>& instruction_sets();

}  // namespace tangential
