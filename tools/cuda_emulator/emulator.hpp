// Owns the execution of CUDA kernels on a CPU: included before the text of a kernel, which compiles unchanged.
//
// The threads of a block are fibers that run one after the other, each until its next barrier. Between two barriers any
// order of the threads is legal, so the scheduler permutes them: a kernel that lacks a barrier gives other results.
// Shared memory is filled with NaN for each block, and on the heap, where the address sanitizer watches its ends.
#ifndef CUDA_EMULATOR_HPP
#define CUDA_EMULATOR_HPP

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__x86_64__) || defined(_WIN32)
#include <ucontext.h>
#endif
#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

// ---------------------------------------------------------------------------------------------------------------------
// Qualifiers and built-in types

#define __CUDACC__ 1
#define __CUDA_ARCH__ 900
#define __device__
#define __host__
#define __global__
#define __constant__ const
#define __forceinline__ inline __attribute__((always_inline))
#define __noinline__ __attribute__((noinline))
#define __launch_bounds__(...)
#define __align__(bytes) alignas(bytes)

#define EMULATED_VECTORS(number, name, bytes)                                                   \
    struct name##2 { alignas(2 * bytes) number x; number y; };                                  \
    struct name##3 { number x, y, z; };                                                         \
    struct name##4 { alignas(4 * bytes > 16 ? 16 : 4 * bytes) number x; number y, z, w; };      \
    inline name##2 make_##name##2(number x, number y) { return {x, y}; }                        \
    inline name##3 make_##name##3(number x, number y, number z) { return {x, y, z}; }           \
    inline name##4 make_##name##4(number x, number y, number z, number w) { return {x, y, z, w}; }
EMULATED_VECTORS(float, float, 4)
EMULATED_VECTORS(double, double, 8)
EMULATED_VECTORS(int, int, 4)
EMULATED_VECTORS(unsigned, uint, 4)
#undef EMULATED_VECTORS

inline float __int_as_float(int bits) {
    float number;
    memcpy(&number, &bits, sizeof(number));
    return number;
}

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};

static dim3 threadIdx, blockIdx, blockDim, gridDim;
static const int warpSize = 32;

namespace emulator {

// ---------------------------------------------------------------------------------------------------------------------
// Fibers: one stack each, and a switch that saves the registers which a call preserves.

typedef void (*Entry)();
constexpr size_t stack_bytes = 256 << 10;

#if defined(__x86_64__) && !defined(_WIN32)
extern "C" __attribute__((visibility("hidden"))) void emulator_switch(void** saved, void* loaded);
asm(R"(
.text
.type emulator_switch, @function
emulator_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
)");

struct Context {
    void* stack_pointer = nullptr;
    void start(char* stack, Entry entry) {
        void** top = reinterpret_cast<void**>(stack + stack_bytes) - 1;
        *top = nullptr;  // the caller of the first function: none
        *--top = reinterpret_cast<void*>(entry);
        for (int k = 0; k < 6; ++k) *--top = nullptr;
        stack_pointer = top;
    }
    static void change(Context& from, Context& to) { emulator_switch(&from.stack_pointer, to.stack_pointer); }
};
#else
struct Context {
    ucontext_t context;
    void start(char* stack, Entry entry) {
        getcontext(&context);
        context.uc_stack.ss_sp = stack;
        context.uc_stack.ss_size = stack_bytes;
        context.uc_link = nullptr;
        makecontext(&context, entry, 0);
    }
    static void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
};
#endif

// ---------------------------------------------------------------------------------------------------------------------
// The block that runs now

enum Waiting { nothing, barrier, warp, finished };

struct Thread {
    Context context;
    char* stack = nullptr;
    Waiting waiting = nothing;
    int line = 0;            // of the barrier it waits at
    unsigned mask = 0;       // lanes that it waits for
    unsigned long long exchanged[2] = {0, 0};  // what it offers to its warp; in turn, as not all have read the last one
    bool votes[2] = {false, false};
    int turn = 0;
    void* fake_stack = nullptr;
};

constexpr int most_threads = 1024;
static Thread threads[most_threads];
static int thread_count, current;
static Context scheduler;
static const void* scheduler_stack;
static size_t scheduler_stack_bytes;
static void* scheduler_fake_stack;
static char* dynamic_shared;
static char message[256];
static bool is_stopped;  // by a thread, which left the reason in the message

static void (*call_kernel)(const void*, void**);
static const void* kernel_pointer;
static void** kernel_arguments;

static void set_thread(int number) {
    current = number;
    threadIdx = {number % blockDim.x, number / blockDim.x % blockDim.y, number / blockDim.x / blockDim.y};
}

static void leave(Thread& thread, bool for_ever = false) {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_ever ? nullptr : &thread.fake_stack, scheduler_stack, scheduler_stack_bytes);
#endif
    (void)for_ever;
    Context::change(thread.context, scheduler);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(thread.fake_stack, &scheduler_stack, &scheduler_stack_bytes);
#endif
}

static void enter(int number) {
    Thread& thread = threads[number];
    thread.waiting = nothing;
    set_thread(number);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(&scheduler_fake_stack, thread.stack, stack_bytes);
#endif
    Context::change(scheduler, thread.context);
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(scheduler_fake_stack, nullptr, nullptr);
#endif
}

static void thread_main() {
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    call_kernel(kernel_pointer, kernel_arguments);
    threads[current].waiting = finished;
    leave(threads[current], true);
}

static void wait(Waiting what, int line, unsigned mask = 0) {
    Thread& thread = threads[current];
    thread.waiting = what;
    thread.line = line;
    thread.mask = mask;
    leave(thread);
}

// The lanes of a mask have all arrived: they may go on. Lanes that have returned no longer count.
static bool release_warp(int first) {
    bool any = false;
    for (int l = 0; l < warpSize && first + l < thread_count; ++l) {
        Thread& thread = threads[first + l];
        if (thread.waiting != warp) continue;
        bool all = true;
        for (int m = 0; m < warpSize && first + m < thread_count; ++m) {
            const Thread& other = threads[first + m];
            if (thread.mask >> m & 1) all = all && (other.waiting == warp || other.waiting == finished);
        }
        if (!all) continue;
        for (int m = 0; m < warpSize && first + m < thread_count; ++m)
            if (thread.mask >> m & 1 && threads[first + m].waiting == warp) threads[first + m].waiting = nothing;
        any = true;
    }
    return any;
}

// Order of the threads between two barriers: 0 ascending, 1 descending, others random from that seed.
static unsigned long long random_state;
static void permute(int (&order)[most_threads], int seed) {
    for (int k = 0; k < thread_count; ++k) order[k] = seed == 1 ? thread_count - 1 - k : k;
    for (int k = thread_count - 1; seed > 1 && k > 0; --k) {
        random_state = random_state * 6364136223846793005ull + 1442695040888963407ull;
        const int other = int((random_state >> 33) % (k + 1)), kept = order[k];
        order[k] = order[other];
        order[other] = kept;
    }
}

// Lets the threads of a warp, or of all of them, go on to their next barrier or exchange.
static bool enter_threads(const int* order, int only_warp = -1) {
    bool any = false;
    for (int k = 0; k < thread_count; ++k)
        if (threads[order[k]].waiting == nothing && (only_warp < 0 || order[k] / warpSize == only_warp)) {
            enter(order[k]);
            any = true;
        }
    return any;
}

// From one exchange between lanes to the next, all the warps side by side; or each as far as it can, before the others.
static bool advance_together(const int* order) {
    bool any = enter_threads(order);
    for (int first = 0; first < thread_count; first += warpSize) any |= release_warp(first);
    return any;
}
static bool advance_by_warps(const int* order, int seed) {
    const int warps = (thread_count + warpSize - 1) / warpSize;
    bool any = false;
    for (int n = 0; n < warps; ++n) {
        const int chosen = seed == 1 ? warps - 1 - n : n;
        while (enter_threads(order, chosen) | release_warp(chosen * warpSize)) any = true;
    }
    return any;
}

static bool run_block(int seed) {
    static int order[most_threads];
    for (int k = 0; k < thread_count; ++k) {
        Thread& thread = threads[k];
        if (!thread.stack) thread.stack = static_cast<char*>(aligned_alloc(64, stack_bytes));
#if defined(__SANITIZE_ADDRESS__)
        __asan_unpoison_memory_region(thread.stack, stack_bytes);
#endif
        thread.waiting = nothing;
        thread.turn = 0;
        thread.context.start(thread.stack, thread_main);
    }
    for (;;) {
        permute(order, seed);
        for (bool progress = true; progress;) progress = seed > 1 ? advance_together(order) : advance_by_warps(order, seed);
        if (is_stopped) {
            is_stopped = false;
            return false;
        }
        int line = 0, waiting = 0;
        for (int k = 0; k < thread_count; ++k) {
            Thread& thread = threads[k];
            if (thread.waiting == warp) {
                snprintf(message, sizeof(message), "thread %d waits for ever for the lanes %x of its warp", k, thread.mask);
                return false;
            }
            if (thread.waiting != barrier) continue;
            if (line && thread.line != line) {
                snprintf(message, sizeof(message), "divergent barriers: threads wait at lines %d and %d", line, thread.line);
                return false;
            }
            line = thread.line;
            ++waiting;
        }
        if (!waiting) return true;
        if (waiting != thread_count) {
            snprintf(message, sizeof(message), "%d of %d threads returned while the others wait at a barrier (line %d)",
                     thread_count - waiting, thread_count, line);
            return false;
        }
        for (int k = 0; k < thread_count; ++k) threads[k].waiting = nothing;
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// Shared memory

static long long block_number;  // counts all the blocks that ever ran

struct Shared {
    void* memory = nullptr;
    long long block = -1;
    // What a declaration of a static shared variable stands for: filled with NaN when the first thread of a block comes by.
    template <class T>
    T& variable() {
        if (block != block_number) {
            block = block_number;
            free(memory);
            memory = aligned_alloc(64, (sizeof(T) + 63) / 64 * 64);
            memset(memory, 0xff, sizeof(T));
        }
        return *static_cast<T*>(memory);
    }
};

// ---------------------------------------------------------------------------------------------------------------------
// Launches

struct Launch {
    dim3 grid, block;
    unsigned long long shared_bytes;
    int seed;
};

template <int... numbers>
struct Numbers {};
template <int count, int... rest>
struct CountTo : CountTo<count - 1, count - 1, rest...> {};
template <int... rest>
struct CountTo<0, rest...> {
    typedef Numbers<rest...> Result;
};

template <class... Arguments, int... k>
static void call(void (*kernel)(Arguments...), void** arguments, Numbers<k...>) {
    kernel(*static_cast<Arguments*>(arguments[k])...);
}

// The sizes of a kernel's arguments, then 0.
template <class... Arguments>
static const size_t* argument_sizes(void (*)(Arguments...)) {
    static const size_t sizes[] = {sizeof(Arguments)..., 0};
    return sizes;
}

// Runs all the blocks of a grid; returns what went wrong, or null.
template <class... Arguments>
static const char* run(void (*kernel)(Arguments...), const Launch& launch, void** arguments, const size_t* sizes, int count) {
    const size_t expected[] = {sizeof(Arguments)..., 0};
    if (count != int(sizeof...(Arguments))) {
        snprintf(message, sizeof(message), "the kernel takes %d arguments but got %d", int(sizeof...(Arguments)), count);
        return message;
    }
    for (int k = 0; k < count; ++k)
        if (sizes[k] != expected[k]) {
            snprintf(message, sizeof(message), "argument %d takes %zu bytes but got %zu", k, expected[k], sizes[k]);
            return message;
        }
    call_kernel = [](const void* pointer, void** values) {
        call(reinterpret_cast<void (*)(Arguments...)>(const_cast<void*>(pointer)), values,
             typename CountTo<int(sizeof...(Arguments))>::Result());
    };
    kernel_pointer = reinterpret_cast<const void*>(kernel);
    kernel_arguments = arguments;
    gridDim = launch.grid;
    blockDim = launch.block;
    thread_count = int(blockDim.x * blockDim.y * blockDim.z);
    random_state = launch.seed;
    bool succeeded = true;
    for (unsigned z = 0; succeeded && z < gridDim.z; ++z)
        for (unsigned y = 0; succeeded && y < gridDim.y; ++y)
            for (unsigned x = 0; succeeded && x < gridDim.x; ++x) {
                blockIdx = {x, y, z};
                ++block_number;
                dynamic_shared = static_cast<char*>(malloc(launch.shared_bytes + 1));
                memset(dynamic_shared, 0xff, launch.shared_bytes);
                succeeded = run_block(launch.seed);
                free(dynamic_shared);
            }
    return succeeded ? nullptr : message;
}

// ---------------------------------------------------------------------------------------------------------------------
// Exchanges between the lanes of a warp

static int lane() { return current % warpSize; }

template <class T>
static T exchange(unsigned mask, T value, int source, int line) {
    static_assert(sizeof(T) <= 8, "shuffles exchange up to 8 bytes");
    Thread& self = threads[current];
    const int turn = self.turn ^= 1;
    memcpy(&self.exchanged[turn], &value, sizeof(T));
    wait(warp, line, mask);
    const int other = current - lane() + source;
    T result = value;
    if (source >= 0 && source < warpSize && other < thread_count) memcpy(&result, &threads[other].exchanged[turn], sizeof(T));
    return result;
}

static unsigned ballot(unsigned mask, bool vote, int line) {
    Thread& self = threads[current];
    const int turn = self.turn ^= 1;
    self.votes[turn] = vote;
    wait(warp, line, mask);
    unsigned result = 0;
    const int first = current - lane();
    for (int l = 0; l < warpSize && first + l < thread_count; ++l)
        if (mask >> l & 1 && threads[first + l].votes[turn]) result |= 1u << l;
    return result;
}

// What each of the 32 lanes of a warp offers, for all of them: memory that stays as it is until the exchange after next.
template <class T>
static const T* exchange_with_warp(const T& offered) {
    static T all[2][most_threads];
    Thread& self = threads[current];
    const int turn = self.turn ^= 1;
    all[turn][current] = offered;
    wait(warp, 0, 0xffffffffu);
    return all[turn] + (current - lane());
}

// Ends the launch, as an illegal instruction of a GPU does.
static void stop(const char* reason) {
    snprintf(message, sizeof(message), "%s", reason);
    is_stopped = true;
    threads[current].waiting = finished;
    leave(threads[current], true);
}

// Source lane of a shuffle within groups of `width` lanes, or the own lane past their ends.
static int shuffled(int distance, int width) {
    const int target = lane() + distance, group = lane() / width;
    return target >= group * width && target < (group + 1) * width ? target : lane();
}

}  // namespace emulator

#define __syncthreads() emulator::wait(emulator::barrier, __LINE__)
#define __syncwarp(...) emulator::wait(emulator::warp, __LINE__, 0xffffffffu)
#define __ballot_sync(mask, vote) emulator::ballot(mask, vote, __LINE__)
#define __any_sync(mask, vote) (emulator::ballot(mask, vote, __LINE__) != 0)
#define __all_sync(mask, vote) (emulator::ballot(mask, !(vote), __LINE__) == 0)

template <class T>
static T __shfl_sync(unsigned mask, T value, int source, int width = 32) {
    return emulator::exchange(mask, value, emulator::lane() / width * width + source % width, 0);
}
template <class T>
static T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {
    return emulator::exchange(mask, value, emulator::shuffled((emulator::lane() ^ bits) - emulator::lane(), width), 0);
}
template <class T>
static T __shfl_down_sync(unsigned mask, T value, int distance, int width = 32) {
    return emulator::exchange(mask, value, emulator::shuffled(distance, width), 0);
}
template <class T>
static T __shfl_up_sync(unsigned mask, T value, int distance, int width = 32) {
    return emulator::exchange(mask, value, emulator::shuffled(-distance, width), 0);
}

// Atomic functions: one fiber runs at a time.
#define EMULATED_ATOMIC(name, expression)                                                       \
    template <class T>                                                                          \
    static T name(T* address, T value) {                                                        \
        const T before = *address;                                                              \
        *address = expression;                                                                  \
        return before;                                                                          \
    }
EMULATED_ATOMIC(atomicAdd, before + value)
EMULATED_ATOMIC(atomicMin, value < before ? value : before)
EMULATED_ATOMIC(atomicMax, value > before ? value : before)
EMULATED_ATOMIC(atomicExch, value)
#undef EMULATED_ATOMIC
template <class T>
static T atomicCAS(T* address, T expected, T value) {
    const T before = *address;
    if (before == expected) *address = value;
    return before;
}

#endif
