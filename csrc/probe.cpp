#include "probe.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <stdexcept>
#include <thread>

#include "probe_loops.h"

namespace ossature {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::int64_t page = 4096;
constexpr std::int64_t rounds = 10000; // of a dot loop between two looks at the clock: some 50 microseconds

double seconds_between(Clock::time_point from, Clock::time_point to) {
    return std::chrono::duration<double>(to - from).count();
}

// work(i) on a thread of its own for each i < threads; they begin together, once all are there.
template <class Work>
void together(int threads, const Work& work) {
    if (threads < 1) throw std::invalid_argument("threads must be at least 1");
    std::atomic<int> missing{threads};
    std::vector<std::thread> running;
    running.reserve(static_cast<std::size_t>(threads));
    const auto run = [&](int i) {
        --missing;
        while (missing > 0) std::this_thread::yield();
        work(i);
    };
    try {
        for (int i = 0; i < threads; ++i) running.emplace_back(run, i);
    } catch (...) { // no more threads to be had: those that wait have to end before `missing` does
        missing = 0;
        for (std::thread& thread : running) thread.join();
        throw;
    }
    for (std::thread& thread : running) thread.join();
}

} // namespace

double read_seconds(const void* data, std::int64_t bytes, int threads) {
    struct Part {
        Clock::time_point begin, end;
        std::uint64_t sum;
    };
    static_assert(page % read_step == 0, "a part is whole steps of the loop");
    ReadLoop* const read = read_loop();
    const std::int64_t pages = bytes / page;
    std::vector<Part> parts(static_cast<std::size_t>(std::max(threads, 1)));
    together(threads, [&](int i) {
        const std::int64_t first = pages * i / threads, last = pages * (i + 1) / threads;
        Part part;
        part.begin = Clock::now();
        part.sum = read(static_cast<const unsigned char*>(data) + first * page, (last - first) * page);
        part.end = Clock::now();
        parts[static_cast<std::size_t>(i)] = part;
    });
    Clock::time_point begin = parts[0].begin, end = parts[0].end;
    for (const Part& part : parts) {
        begin = std::min(begin, part.begin);
        end = std::max(end, part.end);
    }
    return seconds_between(begin, end);
}

std::vector<std::string> dot_products() {
    std::vector<std::string> names;
    for (const DotProduct& product : dot_loops()) names.emplace_back(product.name);
    return names;
}

double dot_rate(const std::string& name, int threads, double seconds) {
    const std::vector<DotProduct> products = dot_loops();
    const auto found =
        std::find_if(products.begin(), products.end(), [&](const DotProduct& product) { return name == product.name; });
    if (found == products.end()) throw std::invalid_argument(name + " is no dot product that this machine can run");
    DotLoop* const loop = found->loop;
    std::vector<double> rates(static_cast<std::size_t>(std::max(threads, 1)));
    together(threads, [&](int i) {
        alignas(64) unsigned char sums[dot_room];
        loop(rounds, sums); // wide registers may need a moment to be powered
        std::int64_t operations = 0;
        const Clock::time_point begin = Clock::now();
        double passed = 0;
        do {
            operations += loop(rounds, sums);
            passed = seconds_between(begin, Clock::now());
        } while (passed < seconds);
        rates[static_cast<std::size_t>(i)] = static_cast<double>(operations) / passed;
    });
    double total = 0;
    for (const double rate : rates) total += rate;
    return total;
}

} // namespace ossature
