// Defines the table KERNEL_TABLE of all kernels. Read by baseline.cpp, v3.cpp and v4.cpp, one for each instruction set:
// these include the standard headers first and then set the compiler's target, so that it applies to the kernels only.
#include "backward.h"
#include "interpolate.h"
#include "resolve.h"
#include "shade.h"
#include "visibility.h"

namespace facerender {
const LaneKernels KERNEL_TABLE{largest_index,
                               to_screen,
                               draw_faces,
                               resolve,
                               interpolate3,
                               shade,
                               shade_backward,
                               render_row,
                               rasterize_row_backward,
                               interpolate3_row_backward,
                               render_row_backward};
}
