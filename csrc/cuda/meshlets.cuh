// Meshlets: consecutive triangles with the list of their distinct vertices, so that a warp projects each vertex of a
// meshlet once. They depend on the face list alone and serve all images of a batch. Built by the kernel `prepare`
// (visibility.cuh), read by draw_meshlets.cuh.
#pragma once

#include "triangles.cuh"

namespace facerender {

// Capacity of a meshlet. The 96 corners of 32 triangles always fit.
constexpr int32_t kMeshletTriangles = 128, kMeshletVertices = 128;

// Byte offsets of a triangle's three vertices in an array of PackedVertex, 16 bits each: first from the meshlet's first
// vertex, later from the start of the block's shared memory. All three are equal for a missing triangle and for one
// with an invalid vertex index, which gives it no area.
struct alignas(8) CornerOffsets {
  uint32_t first_two, third;
};
template <class T>
__device__ inline CornerOffsets corner_offsets(uint32_t a, uint32_t b, uint32_t c) {
  constexpr uint32_t size = sizeof(PackedVertex<T>);
  return {a * size | b * size << 16, c * size};
}

struct alignas(16) Meshlet {
  CornerOffsets corner[kMeshletTriangles];
  uint32_t vertex[kMeshletVertices];  // padded with vertex 0
  int32_t vertices;                   // their number; above kMeshletVertices they do not fit, and the meshlet is unused
};

// Finds the distinct vertices of a meshlet, by one warp: a hash table in shared memory.
struct MeshletBuilder {
  static constexpr int32_t kSlots = 512;
  int32_t table[kSlots];    // vertex indices, open addressing; -1 is free
  uint16_t number[kSlots];  // the vertex's place in Meshlet::vertex

  template <class T>
  __device__ void build(const BatchMesh<T>& mesh, int32_t first, int32_t count, Meshlet& meshlet, int32_t lane) {
    for (int32_t s = lane; s < kSlots; s += int32_t(kWarp)) table[s] = -1;
    __syncwarp();
    int32_t vertices = 0;
    NO_UNROLL
    for (int32_t t = lane; t < kMeshletTriangles; t += int32_t(kWarp)) {
      Corners f{};
      const bool valid = t < count && load_corners(mesh.faces, first + t, mesh.num_vertices, f);
      int32_t slot[3];
      UNROLL
      for (int i = 0; i < 3; ++i) {
        int32_t s = f.v[i] & (kSlots - 1), held = 0;
        // The vertices of grids differ by multiples of a row; a multiplicative hash as the step spreads them.
        const int32_t step = int32_t(uint32_t(f.v[i]) * 2654435769u >> 20) | 1;
        while (valid) {
          held = atomicCAS(&table[s], -1, f.v[i]);
          if (held == -1 || held == f.v[i]) break;
          s = (s + step) & (kSlots - 1);
        }
        const uint32_t added = __ballot_sync(kAllLanes, held == -1);
        if (held == -1) {
          const int32_t n = vertices + int32_t(__popc(added & lanemask_lt()));
          number[s] = uint16_t(n);
          if (n < kMeshletVertices) meshlet.vertex[n] = uint32_t(f.v[i]);
        }
        vertices += int32_t(__popc(added));
        slot[i] = s;
      }
      __syncwarp();
      meshlet.corner[t] =
          valid ? corner_offsets<T>(number[slot[0]], number[slot[1]], number[slot[2]]) : CornerOffsets{0, 0};
    }
    for (int32_t n = vertices + lane; n < kMeshletVertices; n += int32_t(kWarp)) meshlet.vertex[n] = 0;
    if (lane == 0) meshlet.vertices = vertices;
    __syncwarp();
  }
};

}  // namespace facerender
