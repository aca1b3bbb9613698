// The SIMD kernels for the compiler's default instruction set.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "kernels.h"

#define ISA baseline
#define KERNEL_TABLE kLanesBaseline
#include "table.h"
