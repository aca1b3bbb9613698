// Kernels that turn a visibility buffer into images, most of whose pixels are background: a warp takes a row of kTiles
// tiles, each of 8x4 pixels. It loads and stores whole rows of pixels, with 16-byte accesses where it can, and computes
// the tiles one after the other, because neighboring pixels read the same vertices. Read by rasterize_cuda.cu and
// fused_cuda.cu.
#pragma once

#include "../raster.h"
#include "launch.h"

namespace facerender {

constexpr unsigned kTileBlock = 128;
constexpr int kTileWarps = kTileBlock / kWarp;
constexpr int64_t kManyTileRows = 64;   // of four tiles, per multiprocessor: above, warps take four tiles, else one
constexpr int64_t kGridImages = 65535;  // the limit of a grid's z dimension

// The pitch of a row of staged pixels in shared memory, for kEach numbers of kSize bytes a pixel: padded so that the
// lanes of a tile access different banks.
template <int kTiles, int kEach, int kSize>
constexpr int32_t kTilePitch = 8 * kTiles * kEach + (kTiles > 1 ? 32 / kSize : 0);

template <int kTiles>
struct TileRow {
  static constexpr int32_t kWidth = 8 * kTiles;
  int32_t lane, row, col, height, width;  // row, col: of the first pixel

  __device__ TileRow(int32_t height, int32_t width)
      : lane(int32_t(threadIdx.x % kWarp)),
        row((int32_t(blockIdx.y) * kTileWarps + int32_t(threadIdx.x / kWarp)) * 4),
        col(int32_t(blockIdx.x) * kWidth),
        height(height),
        width(width) {}

  // For row-wise access each lane has kTiles pixels, j = 0 to kTiles - 1, so that a warp covers whole rows.
  __device__ int32_t row_of(int j) const { return j * (4 / kTiles) + lane / kWidth; }
  __device__ int32_t col_of() const { return lane % kWidth; }
  __device__ bool inside(int j) const { return row + row_of(j) < height && col + col_of() < width; }
  __device__ int32_t pixel(int j) const { return (row + row_of(j)) * width + col + col_of(); }
  // Index of the first pixel of image n.
  __device__ int64_t first_pixel(uint32_t n) const { return int64_t(uint64_t(uint32_t(height) * uint32_t(width)) * n); }

  // Loads the face ids of the lane's pixels from the image's keys. Returns whether any lane has a visible face.
  __device__ bool load_face_ids(const uint64_t* keys, int32_t (&id)[kTiles]) const {
    int32_t largest = -1;
    UNROLL
    for (int j = 0; j < kTiles; ++j) id[j] = inside(j) ? key_face(keys[pixel(j)]) : -1;
    UNROLL
    for (int j = 0; j < kTiles; ++j) largest = id[j] > largest ? id[j] : largest;
    return __ballot_sync(kAllLanes, largest >= 0);
  }

  // Writes kEach numbers per pixel to `out` [H,W,kEach] with 16-byte stores; rows_aligned(out, width) must hold. They
  // come from `staged`, or are all `otherwise`. Eight lanes write one row.
  template <int kEach, class A, int32_t kPitch>
  __device__ void store(A* out, const A (&staged)[4][kPitch], bool is_staged, A otherwise) const {
    constexpr int32_t kChunks = kWidth * kEach * int32_t(sizeof(A)) / 16, kRounds = (kChunks + 7) / 8;  // per row
    const int32_t r = lane / 8, left = int32_t(uint32_t(width - col) / 8) * (8 * kEach * int32_t(sizeof(A)) / 16);
    uint32_t words[sizeof(A) > 4 ? 2 : 1] = {};  // the bits of `otherwise`; a 16-bit type only takes zero
    memcpy(words, &otherwise, sizeof(A));
    Chunk16 chunks[kRounds];
    UNROLL
    for (int k = 0; k < kRounds; ++k) chunks[k] = {{words[0], words[sizeof(A) / 8], words[0], words[sizeof(A) / 8]}};
    if (is_staged) {
      UNROLL
      for (int k = 0; k < kRounds; ++k) chunks[k] = reinterpret_cast<const Chunk16*>(staged[r])[lane % 8 + k * 8];
    }
    Chunk16* const to = reinterpret_cast<Chunk16*>(out + ((row + r) * width + col) * kEach) + lane % 8;
    UNROLL
    for (int k = 0; k < kRounds; ++k)
      if (row + r < height && lane % 8 + k * 8 < (kChunks < left ? kChunks : left)) to[k * 8] = chunks[k];
  }
};

template <int kTiles>
dim3 grid_for_tiles(int64_t height, int64_t width, int64_t images) {
  return dim3(unsigned((width + 8 * kTiles - 1) / (8 * kTiles)),
              unsigned((height + 4 * kTileWarps - 1) / (4 * kTileWarps)), unsigned(images));
}
// Whether all rows of an image [H,width,...] begin and end at multiples of 16 bytes.
inline bool rows_aligned(const void* out, int64_t width) {
  return width % 8 == 0 && reinterpret_cast<uintptr_t>(out) % 16 == 0;
}

// Calls run(kTiles, first, images) for batches of images that fit a grid. With few pixels, one tile per warp spreads
// them over more warps.
template <class F>
void launch_by_tiles(const Device& device, int64_t height, int64_t width, int64_t images, const F& run) {
  const dim3 grid = grid_for_tiles<4>(height, width, images);
  const bool many = int64_t(grid.x) * grid.y * kTileWarps * images > kManyTileRows * device.multiprocessors();
  for (int64_t first = 0; first < images; first += kGridImages) {
    const int64_t now = std::min(images - first, kGridImages);
    many ? run(std::integral_constant<int, 4>{}, first, now) : run(std::integral_constant<int, 1>{}, first, now);
  }
}

}  // namespace facerender
