// Just enough of CUDA to run the kernels of csrc/cuda on the CPU, so that their tests need no GPU. Included by
// csrc/cuda/launch.h in place of CUDA's headers.
//
// The threads of a block are fibers that take turns, first to last in one launch and last to first in the next, so that
// a missing barrier shows in one of the two. A fiber that waits (at a barrier, a ballot, a shuffle) yields until the
// others have arrived. Blocks run one after the other. This cannot show races that neither order meets, nor speed.
#pragma once

#include <ucontext.h>

#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <stdexcept>
#include <vector>

#define __global__ static
#define __device__
#define __shared__ static
#define __grid_constant__
#define __launch_bounds__(...)

struct dim3 {
  unsigned x, y, z;
  dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

namespace cuda_shim {

struct Barrier {
  unsigned members = 0, arrived = 0, generation = 0;
};
struct Fiber {
  ucontext_t context;
  std::unique_ptr<char[]> stack{new char[1 << 16]};
  bool done = false, waits_for_block = false;
  unsigned generation = 0;  // of the block's barrier, while the fiber waits there
};
struct Block {
  ucontext_t scheduler;
  std::vector<Fiber> fibers;
  std::function<void()> body;
  Barrier all;
  std::vector<Barrier> warps;
  std::vector<uint64_t> mailbox;  // one per thread, for ballots and shuffles
  unsigned current = 0;
};
inline Block* block = nullptr;
inline dim3 block_index, block_size, grid_size;

inline void yield() { swapcontext(&block->fibers[block->current].context, &block->scheduler); }
inline void release_if_complete(Barrier& b) {
  if (b.members && b.arrived == b.members) b.arrived = 0, ++b.generation;
}
inline void wait(Barrier& b) {
  const unsigned generation = b.generation;
  ++b.arrived;
  release_if_complete(b);
  while (b.generation == generation) yield();
}
inline void run_fiber() {
  block->body();
  block->fibers[block->current].done = true;
  --block->all.members, release_if_complete(block->all);
  Barrier& warp = block->warps[block->current / 32];
  --warp.members, release_if_complete(warp);
  swapcontext(&block->fibers[block->current].context, &block->scheduler);
}

inline void launch(dim3 grid, dim3 size, const std::function<void()>& body) {
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.y > 65535 || grid.z > 65535 || size.x == 0 || size.x > 1024)
    throw std::runtime_error("cuda_shim: invalid launch configuration");
  static bool backwards = true;
  backwards = !backwards;
  grid_size = grid, block_size = size;
  Block b;
  b.fibers.resize(size.x);
  b.body = body;
  block = &b;
  for (unsigned number = 0; number < grid.x * grid.y * grid.z; ++number) {
    block_index = dim3(number % grid.x, number / grid.x % grid.y, number / grid.x / grid.y);
    b.all = Barrier{size.x};
    b.warps.assign((size.x + 31) / 32, Barrier{});
    b.mailbox.assign(size.x, 0);
    for (unsigned t = 0; t < size.x; ++t) {
      ++b.warps[t / 32].members;
      Fiber& f = b.fibers[t];
      f.done = f.waits_for_block = false;
      getcontext(&f.context);
      f.context.uc_stack.ss_sp = f.stack.get();
      f.context.uc_stack.ss_size = 1 << 16;
      f.context.uc_link = nullptr;
      makecontext(&f.context, run_fiber, 0);
    }
    const unsigned warps = unsigned(b.warps.size());
    for (unsigned left = size.x, steps = 0; left;)
      for (unsigned turn = 0; turn < warps; ++turn) {  // runs each warp as far as it gets without the others
        const unsigned first = (backwards ? warps - 1 - turn : turn) * 32,
                       last = first + 32 < size.x ? first + 32 : size.x;
        for (bool goes = true; goes;) {
          goes = false;
          for (unsigned lane = first; lane < last; ++lane) {
            b.current = backwards ? first + last - 1 - lane : lane;
            Fiber& f = b.fibers[b.current];
            if (f.done || (f.waits_for_block && b.all.generation == f.generation)) continue;
            swapcontext(&b.scheduler, &f.context);
            left -= f.done;
            goes = goes || !f.waits_for_block;
            if (++steps > 100000000)
              throw std::runtime_error("cuda_shim: a kernel's threads wait for each other forever");
          }
        }
      }
  }
  block = nullptr;
}

struct ThreadIndex {
  struct X {
    operator unsigned() const { return block->current; }
  } x;
};

}  // namespace cuda_shim

inline cuda_shim::ThreadIndex threadIdx;
#define blockIdx cuda_shim::block_index
#define blockDim cuda_shim::block_size
#define gridDim cuda_shim::grid_size

inline void __syncthreads() {
  using cuda_shim::block;
  cuda_shim::Fiber& me = block->fibers[block->current];
  me.waits_for_block = true, me.generation = block->all.generation;
  cuda_shim::wait(block->all);
  block->fibers[block->current].waits_for_block = false;
}

inline void __syncwarp() { cuda_shim::wait(cuda_shim::block->warps[cuda_shim::block->current / 32]); }

// Exchanges up to 8 bytes between the lanes of a warp: returns those of all 32 lanes.
template <class T>
inline std::vector<uint64_t> exchange(T value) {
  using cuda_shim::block;
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  const unsigned first = block->current / 32 * 32;
  cuda_shim::Barrier& warp = block->warps[block->current / 32];
  if (warp.members != 32) throw std::runtime_error("cuda_shim: a warp operation names lanes that have ended");
  block->mailbox[block->current] = bits;
  cuda_shim::wait(warp);
  std::vector<uint64_t> all(block->mailbox.begin() + first, block->mailbox.begin() + first + 32);
  cuda_shim::wait(warp);
  return all;
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  unsigned mask = 0;
  const std::vector<uint64_t> all = exchange<uint64_t>(predicate);
  for (int l = 0; l < 32; ++l) mask |= unsigned(all[l] != 0) << l;
  return mask;
}
template <class T>
inline T __shfl_sync(unsigned, T value, int lane) {
  const uint64_t bits = exchange(value)[lane & 31];
  T out;
  memcpy(&out, &bits, sizeof(T));
  return out;
}
template <class T>
inline T __shfl_xor_sync(unsigned, T value, unsigned mask) {
  const unsigned lane = cuda_shim::block->current % 32;
  const uint64_t bits = exchange(value)[lane ^ mask];
  T out;
  memcpy(&out, &bits, sizeof(T));
  return out;
}
template <class T>
inline unsigned __match_any_sync(unsigned, T value) {
  unsigned mask = 0;
  const std::vector<uint64_t> all = exchange(value);
  uint64_t bits = 0;
  memcpy(&bits, &value, sizeof(T));
  for (int l = 0; l < 32; ++l) mask |= unsigned(all[l] == bits) << l;
  return mask;
}
inline int __ffs(int a) { return __builtin_ffs(a); }
inline int __ffsll(long long a) { return __builtin_ffsll(a); }
inline int __popc(unsigned a) { return __builtin_popcount(a); }
inline int __syncthreads_or(int predicate) {
  using cuda_shim::block;
  block->mailbox[block->current] = predicate != 0;
  __syncthreads();
  int any = 0;
  for (uint64_t one : block->mailbox) any |= int(one);
  __syncthreads();
  return any;
}

template <class T>
inline T atomicAdd(T* p, T v) {
  const T old = *p;
  *p = old + v;
  return old;
}
template <class T>
inline T atomicOr(T* p, T v) {
  const T old = *p;
  *p = old | v;
  return old;
}
template <class T>
inline T atomicAnd(T* p, T v) {
  const T old = *p;
  *p = old & v;
  return old;
}
template <class T>
inline T atomicExch(T* p, T v) {
  const T old = *p;
  *p = v;
  return old;
}
template <class T>
inline T atomicCAS(T* p, T compare, T v) {
  const T old = *p;
  if (old == compare) *p = v;
  return old;
}
template <class T>
inline T atomicMin(T* p, T v) {
  const T old = *p;
  *p = v < old ? v : old;
  return old;
}
template <class T>
inline T atomicMax(T* p, T v) {
  const T old = *p;
  *p = v > old ? v : old;
  return old;
}

#define LAUNCH(kernel, grid, block_, stream, ...) cuda_shim::launch(grid, block_, [&] { kernel(__VA_ARGS__); })
#define LAUNCH_PDL(kernel, grid, block_, device, ...) (device).launch_pdl(grid, block_, [&] { kernel(__VA_ARGS__); })

namespace facerender {
inline bool has_waited;
inline void pdl_wait() { has_waited = true; }
inline void pdl_trigger() {}
struct Device {
  int stream = 0;
  mutable bool allow_pdl = true, chain_started = false;
  explicit Device(const Tensor&) {}
  static int64_t setting(const char* name, int64_t otherwise) {
    const char* wanted = getenv(name);
    return wanted ? atoll(wanted) : otherwise;
  }
  // None by default, so that every launch has many blocks per multiprocessor.
  int64_t multiprocessors() const { return setting("FACERENDER_SHIM_MULTIPROCESSORS", 0); }
  int64_t l2_bytes() const { return setting("FACERENDER_SHIM_L2_BYTES", 1 << 30); }
  void launch_pdl(dim3 grid, dim3 size, const std::function<void()>& body) const {
    has_waited = false;
    cuda_shim::launch(grid, size, body);
    if (chain_started && !has_waited)
      throw std::runtime_error("cuda_shim: a kernel of a chain has not waited for the one before");
    chain_started = true;
  }
  static void launched() {}
};
}  // namespace facerender
