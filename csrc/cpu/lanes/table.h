// Defines the table TABLE from all lane kernels. A level's .cpp includes the standard headers first, then sets its target.
#include "resolve.h"
#include "visibility.h"

namespace facerender {
const LaneKernels TABLE{largest_index, to_screen, draw_faces, resolve};
}
