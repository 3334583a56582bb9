#include "threads.h"

#include <pthread.h>
#include <sys/mman.h>

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "platform.h"

namespace ossature {
namespace {

// Between the kernels of one token pass some 10 µs, between tokens under a millisecond: a worker that spins so long
// keeps its core warm through a reply, and sleeps soon after it.
constexpr std::chrono::microseconds spinning{200};

class Pool {
  public:
    explicit Pool(int count) : scratch_(static_cast<std::size_t>(count)) {
        for (void*& memory : scratch_) {
            memory = mmap(nullptr, scratch_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (memory == MAP_FAILED) throw std::bad_alloc();
        }
        for (int thread = 1; thread < count; ++thread) workers_.emplace_back([this, thread] { work(thread); });
    }

    ~Pool() {
        stopping_ = true;
        call();
        for (std::thread& worker : workers_) worker.join();
        for (void* memory : scratch_) munmap(memory, scratch_bytes);
    }

    void run(std::int64_t items, Task task, void* context) {
        if (workers_.empty() || items <= 1) {
            for (std::int64_t item = 0; item < items; ++item) task(context, item, 0);
            return;
        }
        task_ = task;
        context_ = context;
        items_ = items;
        next_.store(0, std::memory_order_relaxed);
        busy_.store(static_cast<int>(workers_.size()), std::memory_order_relaxed);
        call();
        claim(0);
        while (busy_.load(std::memory_order_acquire) > 0) relax();
    }

    int size() const { return static_cast<int>(scratch_.size()); }
    void* scratch(int thread) const { return scratch_[static_cast<std::size_t>(thread)]; }

  private:
    void call() {
        generation_.fetch_add(1, std::memory_order_seq_cst);
        if (asleep_.load(std::memory_order_seq_cst) == 0) return;
        { const std::lock_guard<std::mutex> lock(mutex_); }
        wake_.notify_all();
    }

    void claim(int thread) {
        for (std::int64_t item; (item = next_.fetch_add(1, std::memory_order_relaxed)) < items_;)
            task_(context_, item, thread);
    }

    void work(int thread) {
        for (std::uint64_t seen = 0;; ++seen) {
            wait_beyond(seen);
            if (stopping_) return;
            claim(thread);
            busy_.fetch_sub(1, std::memory_order_release);
        }
    }

    void wait_beyond(std::uint64_t seen) {
        const auto until = std::chrono::steady_clock::now() + spinning;
        do {
            for (int i = 0; i < 64; ++i) {
                if (generation_.load(std::memory_order_acquire) != seen) return;
                relax();
            }
        } while (std::chrono::steady_clock::now() < until);
        std::unique_lock<std::mutex> lock(mutex_);
        asleep_.fetch_add(1, std::memory_order_seq_cst);
        wake_.wait(lock, [&] { return generation_.load(std::memory_order_seq_cst) != seen; });
        asleep_.fetch_sub(1, std::memory_order_seq_cst);
    }

    std::vector<void*> scratch_;
    std::vector<std::thread> workers_;
    Task task_ = nullptr;
    void* context_ = nullptr;
    std::int64_t items_ = 0;
    std::atomic<bool> stopping_{false};
    alignas(64) std::atomic<std::int64_t> next_{0};
    alignas(64) std::atomic<int> busy_{0};
    alignas(64) std::atomic<std::uint64_t> generation_{0};
    std::atomic<int> asleep_{0};
    std::mutex mutex_;
    std::condition_variable wake_;
};

std::mutex turn;
std::unique_ptr<Pool> pool;
int wanted = 1;

void before_fork() { turn.lock(); }
void in_parent() { turn.unlock(); }
void in_child() {
    (void)pool.release(); // its workers stayed behind in the parent: joining them would never end
    turn.unlock();
}

Pool& current() {
    static const int registered = pthread_atfork(before_fork, in_parent, in_child);
    (void)registered;
    if (!pool || pool->size() != wanted) {
        pool.reset();
        pool = std::make_unique<Pool>(wanted);
    }
    return *pool;
}

} // namespace

void parallel(std::int64_t items, Task task, void* context) {
    const std::lock_guard<std::mutex> lock(turn);
    current().run(items, task, context);
}

int threads() { return wanted; }

void set_threads(int count) {
    if (count < 1 || count > 1024)
        throw std::invalid_argument("a pool has 1 to 1024 threads, not " + std::to_string(count));
    const std::lock_guard<std::mutex> lock(turn);
    wanted = count;
}

void* scratch(int thread) { return pool->scratch(thread); }

} // namespace ossature
