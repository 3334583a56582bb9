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

// Between the kernels of one token pass some 10 µs: who waits spins so long, and then sleeps. Where two virtual
// processors share a real one, a thread that spins keeps the other from the work that it waits for.
constexpr std::chrono::microseconds spinning{200};

constexpr std::int64_t worth_waking = 1 << 17;

// The state of a job in one word, so that whoever claims an item learns at once of which job it is: a worker that was
// not scheduled for a while may come when its job is over, and neither the caller nor the next job waits for it.
// From the top: 24 bits number of the job, 20 bits items, 20 bits next item; the last runs on past the items.
constexpr int item_bits = 20;
constexpr std::int64_t most_items = (1 << item_bits) - 4096;

struct Claim {
    std::uint64_t job;
    std::int64_t items, item;

    explicit Claim(std::uint64_t ticket)
        : job(ticket >> (2 * item_bits)), items(static_cast<std::int64_t>(ticket >> item_bits & ((1 << item_bits) - 1))),
          item(static_cast<std::int64_t>(ticket & ((1 << item_bits) - 1))) {}
};

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
        task_ = task;
        context_ = context;
        done_.store(0, std::memory_order_relaxed);
        ++job_;
        ticket_.store(job_ << (2 * item_bits) | static_cast<std::uint64_t>(items) << item_bits, std::memory_order_seq_cst);
        call();
        claim(0);
        if (spin([&] { return done_.load(std::memory_order_acquire) == items; })) return;
        std::unique_lock<std::mutex> lock(mutex_);
        caller_asleep_.store(true, std::memory_order_seq_cst);
        finished_.wait(lock, [&] { return done_.load(std::memory_order_seq_cst) == items; });
        caller_asleep_.store(false, std::memory_order_seq_cst);
    }

    int size() const { return static_cast<int>(scratch_.size()); }
    void* scratch(int thread) const { return scratch_[static_cast<std::size_t>(thread)]; }

  private:
    void call() {
        if (asleep_.load(std::memory_order_seq_cst) == 0) return;
        { const std::lock_guard<std::mutex> lock(mutex_); }
        wake_.notify_all();
    }

    bool is_over() const {
        const Claim now(ticket_.load(std::memory_order_seq_cst));
        return now.item >= now.items;
    }

    // Task and context are those of the claimed item: its job is not over before the item is done.
    void claim(int thread) {
        while (!is_over()) {
            const Claim mine(ticket_.fetch_add(1, std::memory_order_acq_rel));
            if (mine.item >= mine.items) return;
            task_(context_, mine.item, thread);
            if (done_.fetch_add(1, std::memory_order_seq_cst) + 1 == mine.items && caller_asleep_.load()) {
                { const std::lock_guard<std::mutex> lock(mutex_); }
                finished_.notify_one();
            }
        }
    }

    void work(int thread) {
        while (wait()) claim(thread);
    }

    // Whether the condition came true within the time that it is worth spinning.
    template <class Condition>
    static bool spin(const Condition& condition) {
        const auto until = std::chrono::steady_clock::now() + spinning;
        do {
            for (int i = 0; i < 64; ++i) {
                if (condition()) return true;
                relax();
            }
        } while (std::chrono::steady_clock::now() < until);
        return false;
    }

    // Until there is something to claim; false when the pool ends.
    bool wait() {
        const auto called = [&] { return stopping_ || !is_over(); };
        if (!spin(called)) {
            std::unique_lock<std::mutex> lock(mutex_);
            asleep_.fetch_add(1, std::memory_order_seq_cst);
            wake_.wait(lock, called);
            asleep_.fetch_sub(1, std::memory_order_seq_cst);
        }
        return !stopping_;
    }

    std::vector<void*> scratch_;
    std::vector<std::thread> workers_;
    Task task_ = nullptr;
    void* context_ = nullptr;
    std::uint64_t job_ = 0;
    std::atomic<bool> stopping_{false};
    alignas(64) std::atomic<std::uint64_t> ticket_{0};
    alignas(64) std::atomic<std::int64_t> done_{0};
    std::atomic<int> asleep_{0};
    std::atomic<bool> caller_asleep_{false};
    std::mutex mutex_;
    std::condition_variable wake_, finished_;
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

void parallel(std::int64_t items, std::int64_t work, Task task, void* context) {
    const std::lock_guard<std::mutex> lock(turn);
    Pool& pool = current();
    if (items <= 1 || work < worth_waking || pool.size() == 1) {
        for (std::int64_t item = 0; item < items; ++item) task(context, item, 0);
        return;
    }
    if (items > most_items) throw std::length_error("a job of more than a million items");
    pool.run(items, task, context);
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
