// Kernels over pixels of which most see no face: a warp takes a strip, kTiles tiles of four rows of eight pixels side by side. It loads and stores whole rows of the strip, 16 bytes at
// a time where it can, and goes through the tiles one after the other, because pixels near each other see the same vertices.
#pragma once

#include "../raster.h"
#include "launch.h"

namespace facerender {

constexpr unsigned kStripBlock = 128;
constexpr int kStripWarps = kStripBlock / kWarp;
constexpr int64_t kManyStrips = 64;  // of four tiles, for each multiprocessor
constexpr int64_t kGridImages = 65535;

// From one row of a strip to the next in shared memory, for kEach numbers of kSize bytes a pixel: no two lanes of a tile meet in a bank.
template <int kTiles, int kEach, int kSize>
constexpr int32_t kStripPitch = 8 * kTiles * kEach + (kTiles > 1 ? 32 / kSize : 0);

template <int kTiles>
struct Strip {
  static constexpr int32_t kWide = 8 * kTiles;
  int32_t lane, row, col, height, width;  // row and col: of the strip's first pixel

  __device__ Strip(int32_t height, int32_t width)
      : lane(int32_t(threadIdx.x % kWarp)), row((int32_t(blockIdx.y) * kStripWarps + int32_t(threadIdx.x / kWarp)) * 4), col(int32_t(blockIdx.x) * kWide), height(height), width(width) {}

  // The lane's pixels 0 to kTiles - 1, where the warp's lie side by side in whole rows.
  __device__ int32_t row_of(int j) const { return j * (4 / kTiles) + lane / kWide; }
  __device__ int32_t col_of() const { return lane % kWide; }
  __device__ bool inside(int j) const { return row + row_of(j) < height && col + col_of() < width; }
  __device__ int32_t pixel(int j) const { return (row + row_of(j)) * width + col + col_of(); }
  // Pixels before image n.
  __device__ int64_t before(uint32_t n) const { return int64_t(uint64_t(uint32_t(height) * uint32_t(width)) * n); }

  // The faces that the lane's pixels see, by the image's keys, all loaded at once. Returns whether any lane sees one.
  __device__ bool sees(const uint64_t* keys, int32_t (&id)[kTiles]) const {
    int32_t largest = -1;
    UNROLL
    for (int j = 0; j < kTiles; ++j) id[j] = inside(j) ? key_face(keys[pixel(j)]) : -1;
    UNROLL
    for (int j = 0; j < kTiles; ++j) largest = id[j] > largest ? id[j] : largest;
    return __ballot_sync(kAllLanes, largest >= 0);
  }

  // kEach numbers of each pixel to `out` [H,W,kEach], 16 bytes at a time: the image's rows are whole (see whole_rows). From `staged`, or the same number everywhere.
  template <int kEach, class A, int32_t kPitch>
  __device__ void put(A* out, const A (&staged)[4][kPitch], bool is_staged, A otherwise) const {
    constexpr int32_t kChunks = kWide * kEach * int32_t(sizeof(A)) / 16, kRounds = (kChunks + 7) / 8;  // in a row, which eight lanes write
    const int32_t r = lane / 8, left = int32_t(uint32_t(width - col) / 8) * (8 * kEach * int32_t(sizeof(A)) / 16);
    uint32_t words[sizeof(A) > 4 ? 2 : 1] = {};  // of one number, or of zeros
    memcpy(words, &otherwise, sizeof(A));
    Chunk chunks[kRounds];
    UNROLL
    for (int k = 0; k < kRounds; ++k) chunks[k] = {{words[0], words[sizeof(A) / 8], words[0], words[sizeof(A) / 8]}};
    if (is_staged)
      UNROLL
      for (int k = 0; k < kRounds; ++k) chunks[k] = reinterpret_cast<const Chunk*>(staged[r])[lane % 8 + k * 8];
    Chunk* const to = reinterpret_cast<Chunk*>(out + ((row + r) * width + col) * kEach) + lane % 8;
    UNROLL
    for (int k = 0; k < kRounds; ++k)
      if (row + r < height && lane % 8 + k * 8 < (kChunks < left ? kChunks : left)) to[k * 8] = chunks[k];
  }
};

template <int kTiles>
dim3 grid_of_strips(int64_t height, int64_t width, int64_t images) {
  return dim3(unsigned((width + 8 * kTiles - 1) / (8 * kTiles)), unsigned((height + 4 * kStripWarps - 1) / (4 * kStripWarps)), unsigned(images));
}
inline bool whole_rows(const void* out, int64_t width) { return width % 8 == 0 && reinterpret_cast<uintptr_t>(out) % 16 == 0; }

// Calls run(tiles, first, images) for as many images as a grid has. The fewer strips, the more warps share them.
template <class F>
void by_strips(const Device& device, int64_t height, int64_t width, int64_t images, const F& run) {
  const dim3 grid = grid_of_strips<4>(height, width, images);
  const bool many = int64_t(grid.x) * grid.y * kStripWarps * images > kManyStrips * device.multiprocessors();
  for (int64_t first = 0; first < images; first += kGridImages) {
    const int64_t now = std::min(images - first, kGridImages);
    many ? run(std::integral_constant<int, 4>{}, first, now) : run(std::integral_constant<int, 1>{}, first, now);
  }
}

}  // namespace facerender
