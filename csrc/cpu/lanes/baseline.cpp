#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <type_traits>

#include "kernels.h"

#define LEVEL baseline
#define TABLE kLanesBaseline
#include "table.h"
