// Defines the table TABLE from all lane kernels. A level's .cpp includes the standard headers first, then sets its target.
#include "backward.h"
#include "interpolate.h"
#include "resolve.h"
#include "shade.h"
#include "visibility.h"

namespace facerender {
const LaneKernels TABLE{largest_index, to_screen, draw_faces, resolve, interpolate3, shade, shade_backward, render_row,
                        rasterize_row_backward, interpolate3_row_backward, render_row_backward};
}
