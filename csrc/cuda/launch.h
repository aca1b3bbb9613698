// What every CUDA file needs: launches on the current stream and device, blocks that belong to one image, and sums into
// vertices. The kernel tests compile these files as C++ against a header that runs a kernel thread by thread; FACERENDER_SHIM
// names it.
#pragma once

#include "../arithmetic.h"
#include "../tensors.h"

#include <algorithm>
#include <atomic>

#ifdef FACERENDER_SHIM
#include FACERENDER_SHIM
#define CUDA_LIBRARY_(ns, m) STABLE_TORCH_LIBRARY_IMPL(ns, CPU, m)
#define CUDA_LIBRARY(m) CUDA_LIBRARY_(FACERENDER_LIBRARY, m)
#else
#include <cuda_runtime.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>
#define CUDA_LIBRARY(m) STABLE_TORCH_LIBRARY_IMPL(facerender, CUDA, m)
#define LAUNCH(kernel, grid, block, stream, ...) kernel<<<grid, block, 0, stream>>>(__VA_ARGS__)
#define LAUNCH_AFTER(kernel, grid, block, device, ...) (device).launch_after(kernel, grid, block, __VA_ARGS__)
#endif

namespace facerender {

constexpr unsigned kBlock = 256;
constexpr unsigned kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// The kernels of one call as a chain, in which each sets itself up while the one before it still runs: programmatic dependent launch. A kernel of LAUNCH_AFTER begins when
// every block of the one before has come to let_next_start() or has ended, and finds what that one wrote after wait_for_previous(), which waits for its end. The
// first one of a Device is launched as ever. Every other keeps two rules:
//   Before it waits it writes nothing but shared memory, and reads nothing but what the call was given. That is there: the first begins after the end of all that
//   came before in the stream, and no other begins before the first.
//   It waits, with work or without: one thread at least. So none ends before the one before it. To wait for one is then to wait for all before it; and when the last
//   has ended, for which whatever comes next in the stream waits, all memory that the chain read or wrote is free for other use.
#ifndef FACERENDER_SHIM
__device__ inline void wait_for_previous() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void let_next_start() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

inline bool kernels_wait(int32_t device);

// The device of a tensor and its current stream, for the length of a call.
struct Device {
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
  mutable bool overlaps = true;  // without, kernels of LAUNCH_AFTER too begin when the one before has ended

  explicit Device(const Tensor& t) : guard(t.get_device_index()), index(t.get_device_index()) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &current));
    stream = static_cast<cudaStream_t>(current);
  }
  template <class... Parameters, class... Arguments>
  void launch_after(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments&&... arguments) const {
    cudaLaunchAttribute early;
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization, early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid, config.blockDim = block, config.stream = stream, config.attrs = &early;
    config.numAttrs = overlaps && chain_began && kernels_wait(index);
    cudaLaunchKernelEx(&config, kernel, arguments...);
    chain_began = true;
  }
  int64_t multiprocessors() const { return attribute(cudaDevAttrMultiProcessorCount); }
  int64_t l2_bytes() const { return attribute(cudaDevAttrL2CacheSize); }
  static void throw_on_error(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(std::string("facerender: CUDA: ") + cudaGetErrorString(error));
  }
  static void launched() { throw_on_error(cudaGetLastError()); }

 private:
  int32_t index;
  mutable bool chain_began = false;

  static int64_t attribute(cudaDeviceAttr which) {
    int device = 0, value = 0;
    throw_on_error(cudaGetDevice(&device));
    throw_on_error(cudaDeviceGetAttribute(&value, which, device));
    return value;
  }
};
#endif

// One thread for each of `count` items of each image; images beyond the grid's limit are met in a loop.
inline dim3 grid_of(int64_t count, int64_t images) {
  return dim3(unsigned((count + kBlock - 1) / kBlock), unsigned(images < 65535 ? images : 65535));
}
__device__ inline int64_t item() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

// The same value, of which the compiler does not know how it came about: it neither computes it anew at every use (pointers, from 64-bit products) nor
// ahead of a loop that has no registers to spare (what depends on the lane).
template <class T>
__device__ inline T* kept(T* p) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(p));
#endif
  return p;
}
// Such a pointer, not null, into global memory: what the compiler knows of every other pointer here, and would look up at run time otherwise.
template <class T>
__device__ inline T* in_global(T* p) {
#ifdef __CUDA_ARCH__
  __builtin_assume(__isGlobal(p));
#endif
  return p;
}
__device__ inline int32_t kept(int32_t i) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(i));
#endif
  return i;
}
struct alignas(16) Chunk {  // written at once
  uint32_t words[4];
};

// Memory that one kernel fills, with a word, at the start of a chain. Pieces begin at multiples of 16 bytes and are whole words.
struct Fills {
  Chunk* chunks[6];
  int64_t words[6];
  int pieces = 0;

  template <class T>
  void add(T* p, int64_t count) {
    if (count) chunks[pieces] = reinterpret_cast<Chunk*>(p), words[pieces++] = count * int64_t(sizeof(T)) / 4;
  }
};
// By block number `block` of `blocks`.
template <uint32_t kWord>
__device__ inline void fill_all(const Fills& fills, int32_t block, int32_t blocks) {
  const int64_t first = int64_t(block) * kBlock + threadIdx.x;
  UNROLL_NOT
  for (int k = 0; k < fills.pieces; ++k) {
    Chunk* const chunks = fills.chunks[k];
    const int64_t words = fills.words[k];
    for (int64_t i = first; i < words / 4; i += int64_t(blocks) * kBlock) chunks[i] = {{kWord, kWord, kWord, kWord}};
    if (first < words % 4) chunks[words / 4].words[first] = kWord;
  }
}
template <uint32_t kWord>
__global__ void __launch_bounds__(kBlock) fill(const __grid_constant__ Fills fills) {
  let_next_start();
  wait_for_previous();
  fill_all<kWord>(fills, int32_t(blockIdx.x), int32_t(gridDim.x));
}
// Two blocks of a multiprocessor keep the memory busy, and leave room for the next kernel's.
inline int64_t blocks_to_fill(const Device& device, const Fills& fills) {
  const int64_t most = fills.pieces ? *std::max_element(fills.words, fills.words + fills.pieces) : 0;
  return most ? std::min(most / 4 / kBlock + 1, std::max<int64_t>(2 * device.multiprocessors(), 1)) : 0;
}
template <uint32_t kWord>
void launch_fill(const Device& device, const Fills& fills) {
  if (const int64_t blocks = blocks_to_fill(device, fills)) {
    LAUNCH_AFTER((fill<kWord>), unsigned(blocks), kBlock, device, fills);
    device.launched();
  }
}

#ifndef FACERENDER_SHIM
// Whether the code that a device runs has waits: what it is translated from may be that of an older one. Also sees to it that the next kernel's blocks find room beside those of
// `fill`: a multiprocessor's shared memory, of which that needs none, does not grow while it has a block. The share is what `draw`, and the backward kernels, use.
inline bool kernels_wait(int32_t device) {
  static std::atomic<int> ptx_version[64];
  std::atomic<int>& known = ptx_version[device % 64];
  if (known == 0) {
    cudaFuncAttributes attributes;
    Device::throw_on_error(cudaFuncGetAttributes(&attributes, fill<0>));
    Device::throw_on_error(cudaFuncSetAttribute(fill<~0u>, cudaFuncAttributePreferredSharedMemoryCarveout, 100));
    Device::throw_on_error(cudaFuncSetAttribute(fill<0>, cudaFuncAttributePreferredSharedMemoryCarveout, 70));
    known = attributes.ptxVersion;
  }
  return known >= 90;
}
#endif

// A bit for each lane of the warp before this one.
__device__ inline uint32_t lanes_below() {
#ifdef __CUDA_ARCH__
  uint32_t lanes;
  asm volatile("mov.u32 %0, %%lanemask_lt;" : "=r"(lanes));  // volatile: it costs less to ask again than to keep
  return lanes;
#else
  return (1u << threadIdx.x % kWarp) - 1;
#endif
}

// How a gradient reaches a vertex that many pixels share.
//   kAdd: float atomics; the order of a sum, and so its last bits, may differ between runs.
//   kMeasure, then kFixed: the largest contribution, then integer atomics in units of 2^-38 of it (fewer bits where there are very
//   many pixels). Integer sums have no order. A contribution that is not finite makes its sum NaN.
enum Mode { kAdd, kMeasure, kFixed };

template <class T>
struct VertexSums {
  T* values;                  // [vertices, width]
  unsigned long long* fixed;  // likewise
  unsigned* largest;          // bits of the largest |contribution|, as float32
  int bits;                   // the largest contribution is below 2^bits units, so that all of them together fit 63 bits
  mutable unsigned seen = 0;  // like `largest`, what this thread has met and not told yet
};

// 2^bits over the power of two above the largest contribution.
template <class T>
__device__ inline double fixed_scale(const VertexSums<T>& s) {
  const int exponent = int(*s.largest >> 23 & 255) - 126;
  const uint64_t bits = uint64_t(1023 + s.bits - exponent) << 52;
  double scale;
  memcpy(&scale, &bits, 8);
  return scale;
}

template <class T, Mode mode>
__device__ inline void add_to(const VertexSums<T>& s, int64_t i, T g) {
  if (mode == kAdd) {
    atomicAdd(s.values + i, g);
  } else if (mode == kMeasure) {
    const float size = fabsf(float(g)) * 1.0000002f;
    if (is_finite(size) && float_bits(size) > s.seen) s.seen = float_bits(size);
  } else if (!is_finite(g)) {
    s.values[i] = g - g;  // NaN, whoever comes first
  } else if (g != T(0)) {
    atomicAdd(s.fixed + i, static_cast<unsigned long long>(static_cast<long long>(rint(double(g) * fixed_scale(s)))));
  }
}
template <class T, Mode mode>
__device__ inline void add3(const VertexSums<T>& s, int32_t v, Vec3<T> g) {
  add_to<T, mode>(s, int64_t(v) * 3, g.x);
  add_to<T, mode>(s, int64_t(v) * 3 + 1, g.y);
  add_to<T, mode>(s, int64_t(v) * 3 + 2, g.z);
}
template <class T, Mode mode>
__device__ inline void add4(const VertexSums<T>& s, int32_t v, Vec4<T> g) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  if constexpr (mode == kAdd && sizeof(T) == 4) {  // one 16-byte reduction
    atomicAdd(reinterpret_cast<float4*>(s.values) + v, make_float4(g.x, g.y, g.z, g.w));
    return;
  }
#endif
  add_to<T, mode>(s, int64_t(v) * 4, g.x);
  add_to<T, mode>(s, int64_t(v) * 4 + 1, g.y);
  if (g.z != T(0)) add_to<T, mode>(s, int64_t(v) * 4 + 2, g.z);
  add_to<T, mode>(s, int64_t(v) * 4 + 3, g.w);
}

// After the last of a thread's numbers: tells `largest`. With all lanes of a warp there, they do so once.
template <class T, Mode mode>
__device__ inline void measured_by_thread(const VertexSums<T>& s) {
  if (mode == kMeasure && s.seen) atomicMax(s.largest, s.seen);
}
template <class T, Mode mode>
__device__ inline void measured_by_warp(const VertexSums<T>& s) {
  if constexpr (mode == kMeasure) {
    for (unsigned step = kWarp / 2; step; step /= 2) {
      const unsigned other = __shfl_xor_sync(kAllLanes, s.seen, step);
      s.seen = other > s.seen ? other : s.seen;
    }
    if (threadIdx.x % kWarp == 0) measured_by_thread<T, mode>(s);
  }
}

// Values are 0 so far, or NaN; four numbers for each thread, and what is 0 is not written again.
constexpr int kFixedEach = 4;
template <class T>
__global__ void from_fixed(VertexSums<T> s, int64_t n) {
  const double unit = 1.0 / fixed_scale(s);  // a power of two
  const int64_t first = int64_t(blockIdx.x) * kBlock * kFixedEach + threadIdx.x;
  long long sums[kFixedEach];
  UNROLL
  for (int k = 0; k < kFixedEach; ++k) {
    const int64_t i = first + k * int64_t(kBlock);
    sums[k] = i < n ? static_cast<long long>(s.fixed[i]) : 0;
  }
  UNROLL
  for (int k = 0; k < kFixedEach; ++k) {
    const int64_t i = first + k * int64_t(kBlock);
    if (sums[k] && is_finite(s.values[i])) s.values[i] = T(double(sums[k]) * unit);
  }
}

// The buffers of one gradient that is summed from `fragments` pixels.
template <class T>
struct GradientBuffer {
  Tensor values, fixed;  // the latter where sums must not depend on order; after its numbers comes `largest`
  int bits = 38;

  // `fills` must fill it with 0 before it is used.
  GradientBuffer(Fills& fills, const Tensor& like, std::vector<int64_t> sizes, ScalarType dtype, bool wanted, bool deterministic, int64_t fragments)
      : values(empty(like, wanted ? sizes : std::vector<int64_t>{0}, dtype)), fixed(empty(like, {wanted && deterministic ? values.numel() + 1 : 0}, ScalarType::Long)) {
    fills.add(mutable_data<T>(values), values.numel()), fills.add(mutable_data<int64_t>(fixed), fixed.numel());
    while (bits > 0 && (fragments >> (62 - bits)) > 0) --bits;
  }
  VertexSums<T> sums() const {
    unsigned long long* const integers = static_cast<unsigned long long*>(fixed.mutable_data_ptr());
    return {mutable_data<T>(values), integers, reinterpret_cast<unsigned*>(integers + values.numel()), bits};
  }
  void finish(const Device& device) const {
    if (fixed.numel() > 1) {
      LAUNCH((from_fixed<T>), grid_of((values.numel() + kFixedEach - 1) / kFixedEach, 1), kBlock, device.stream, sums(), values.numel());
      device.launched();
    }
  }
};
template <Mode m>
struct ModeTag {
  static constexpr Mode mode = m;
};
// run(mode) launches the kernel: once, or twice where the sum must not depend on order.
template <class F>
void accumulate(bool deterministic, const F& run) {
  if (!deterministic) return run(ModeTag<kAdd>{});
  run(ModeTag<kMeasure>{});
  run(ModeTag<kFixed>{});
}

// The sum over a warp of each of 32 numbers: lane l gets that of number l. The lanes halve the numbers in every step, so it takes 31
// shuffles in place of 160.
template <class T, int kHalf = 16>
__device__ inline T warp_sums(T (&v)[32]) {
  const bool upper = threadIdx.x & kHalf;
  UNROLL
  for (int k = 0; k < kHalf; ++k) {
    const T mine = upper ? v[k + kHalf] : v[k], theirs = upper ? v[k] : v[k + kHalf];
    v[k] = mine + __shfl_xor_sync(kAllLanes, theirs, kHalf);
  }
  if constexpr (kHalf > 1)
    return warp_sums<T, kHalf / 2>(v);
  else
    return v[0];
}

// Adds the first 27 numbers of every thread of a block, in a fixed order, and writes the sums to `out`. Every thread must come.
template <class T>
__device__ inline void block_sum27(T (&mine)[32], T* out) {
  __shared__ T sums[kBlock / kWarp][kWarp];
  const unsigned lane = threadIdx.x % kWarp, warp = threadIdx.x / kWarp;
  sums[warp][lane] = warp_sums(mine);
  __syncthreads();
  if (threadIdx.x < 27) {
    T v = T(0);
    for (unsigned w = 0; w < kBlock / kWarp; ++w) v += sums[w][threadIdx.x];
    out[threadIdx.x] = v;
  }
  __syncthreads();
}

}  // namespace facerender
