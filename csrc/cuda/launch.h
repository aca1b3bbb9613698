// What every CUDA file needs: op registration, kernel launches on the current stream (with programmatic dependent
// launch), hints to the compiler, and the kernel that fills memory. Read by every file of this folder.
//
// The kernel tests compile the .cu files as C++ against a header that runs a kernel thread by thread on the CPU;
// FACERENDER_SHIM names that header.
#pragma once

#include <algorithm>
#include <atomic>

#include "../arithmetic.h"
#include "../tensors.h"

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
#define LAUNCH_PDL(kernel, grid, block, device, ...) (device).launch_pdl(kernel, grid, block, __VA_ARGS__)
#endif

namespace facerender {

constexpr unsigned kBlock = 256;
constexpr unsigned kWarp = 32;
constexpr unsigned kAllLanes = 0xFFFFFFFFu;

// Programmatic dependent launch (PDL): the kernels of one call form a chain, in which each kernel sets itself up while
// the one before still runs. A kernel launched by LAUNCH_PDL starts when every block of the previous kernel has called
// pdl_trigger() or ended; pdl_wait() blocks until the previous kernel has ended and its writes are visible. The first
// kernel of a Device is launched normally. Every other kernel keeps two rules:
//   1. Before pdl_wait() it writes shared memory only, and reads only the inputs of the call. These are complete,
//   because
//      the first kernel starts after all earlier work of the stream, and no other kernel starts before the first.
//   2. At least one of its threads calls pdl_wait(), with work or without. So no kernel ends before its predecessor;
//      waiting for one means waiting for all before it; and when the last has ended, for which the next work of the
//      stream waits, all memory that the chain used is free.
#ifndef FACERENDER_SHIM
__device__ inline void pdl_wait() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}
__device__ inline void pdl_trigger() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
#endif
}

inline bool pdl_supported(int32_t device);

// The device of a tensor and its current stream, for the duration of a call.
struct Device {
  torch::stable::accelerator::DeviceGuard guard;
  cudaStream_t stream;
  mutable bool allow_pdl = true;  // if false, LAUNCH_PDL launches normally

  explicit Device(const Tensor& t) : guard(t.get_device_index()), index(t.get_device_index()) {
    void* current = nullptr;
    TORCH_ERROR_CODE_CHECK(aoti_torch_get_current_cuda_stream(t.get_device_index(), &current));
    stream = static_cast<cudaStream_t>(current);
  }
  template <class... Parameters, class... Arguments>
  void launch_pdl(void (*kernel)(Parameters...), dim3 grid, dim3 block, Arguments&&... arguments) const {
    cudaLaunchAttribute early;
    early.id = cudaLaunchAttributeProgrammaticStreamSerialization, early.val.programmaticStreamSerializationAllowed = 1;
    cudaLaunchConfig_t config{};
    config.gridDim = grid, config.blockDim = block, config.stream = stream, config.attrs = &early;
    config.numAttrs = allow_pdl && chain_started && pdl_supported(index);
    cudaLaunchKernelEx(&config, kernel, arguments...);
    chain_started = true;
  }
  int64_t multiprocessors() const { return attribute(cudaDevAttrMultiProcessorCount); }
  int64_t l2_bytes() const { return attribute(cudaDevAttrL2CacheSize); }
  static void throw_on_error(cudaError_t error) {
    if (error != cudaSuccess) throw std::runtime_error(std::string("facerender: CUDA: ") + cudaGetErrorString(error));
  }
  static void launched() { throw_on_error(cudaGetLastError()); }

 private:
  int32_t index;
  mutable bool chain_started = false;

  static int64_t attribute(cudaDeviceAttr which) {
    int device = 0, value = 0;
    throw_on_error(cudaGetDevice(&device));
    throw_on_error(cudaDeviceGetAttribute(&value, which, device));
    return value;
  }
};
#endif

// One thread for each of `count` elements of each image. A kernel loops over the images beyond the grid's limit.
inline dim3 grid_for(int64_t count, int64_t images) {
  return dim3(unsigned((count + kBlock - 1) / kBlock), unsigned(images < 65535 ? images : 65535));
}
__device__ inline int64_t global_thread_id() { return int64_t(blockIdx.x) * blockDim.x + threadIdx.x; }

// The same value, opaque to the optimizer. It prevents rematerialization at every use (pointers, from 64-bit products)
// and hoisting out of a loop that has no registers to spare (values that depend on the lane).
template <class T>
__device__ inline T* launder(T* p) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+l"(p));
#endif
  return p;
}
// Restores what `launder` hides: that a non-null pointer points to global memory, which saves generic addressing.
template <class T>
__device__ inline T* assume_global(T* p) {
#ifdef __CUDA_ARCH__
  __builtin_assume(__isGlobal(p));
#endif
  return p;
}
__device__ inline int32_t launder(int32_t i) {
#ifdef __CUDA_ARCH__
  asm volatile("" : "+r"(i));
#endif
  return i;
}
struct alignas(16) Chunk16 {  // the unit of 16-byte stores
  uint32_t words[4];
};

// Ranges of memory that one kernel fills with one 32-bit word at the start of a chain. They begin at multiples of 16
// bytes and consist of whole words.
struct FillList {
  Chunk16* chunks[6];
  int64_t words[6];
  int ranges = 0;

  template <class T>
  void add(T* p, int64_t count) {
    if (count) chunks[ranges] = reinterpret_cast<Chunk16*>(p), words[ranges++] = count * int64_t(sizeof(T)) / 4;
  }
};
// The part of block `block` of `blocks`.
template <uint32_t kWord>
__device__ inline void fill_ranges(const FillList& fills, int32_t block, int32_t blocks) {
  const int64_t first = int64_t(block) * kBlock + threadIdx.x;
  NO_UNROLL
  for (int k = 0; k < fills.ranges; ++k) {
    Chunk16* const chunks = fills.chunks[k];
    const int64_t words = fills.words[k];
    for (int64_t i = first; i < words / 4; i += int64_t(blocks) * kBlock) chunks[i] = {{kWord, kWord, kWord, kWord}};
    if (first < words % 4) chunks[words / 4].words[first] = kWord;
  }
}
template <uint32_t kWord>
__global__ void __launch_bounds__(kBlock) fill(const __grid_constant__ FillList fills) {
  pdl_trigger();
  pdl_wait();
  fill_ranges<kWord>(fills, int32_t(blockIdx.x), int32_t(gridDim.x));
}
// Two blocks per multiprocessor saturate the memory and leave room for the blocks of the next kernel.
inline int64_t fill_blocks(const Device& device, const FillList& fills) {
  const int64_t most = fills.ranges ? *std::max_element(fills.words, fills.words + fills.ranges) : 0;
  return most ? std::min(most / 4 / kBlock + 1, std::max<int64_t>(2 * device.multiprocessors(), 1)) : 0;
}
template <uint32_t kWord>
void launch_fill(const Device& device, const FillList& fills) {
  if (const int64_t blocks = fill_blocks(device, fills)) {
    LAUNCH_PDL((fill<kWord>), unsigned(blocks), kBlock, device, fills);
    device.launched();
  }
}

#ifndef FACERENDER_SHIM
// Whether the device runs code with griddepcontrol: it may run code that was translated from older PTX. Also sets the
// shared-memory carveout of `fill` to what `draw` and the backward kernels use: a multiprocessor's carveout does not
// change while it runs a block, and the next kernel's blocks should fit beside those of `fill`.
inline bool pdl_supported(int32_t device) {
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

// A bit for each lane of the warp below this one.
__device__ inline uint32_t lanemask_lt() {
#ifdef __CUDA_ARCH__
  uint32_t lanes;
  asm volatile("mov.u32 %0, %%lanemask_lt;" : "=r"(lanes));  // volatile: reading it again is cheaper than a register
  return lanes;
#else
  return (1u << threadIdx.x % kWarp) - 1;
#endif
}

}  // namespace facerender
