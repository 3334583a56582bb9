// Every kernel of every instruction set that this machine can run, without Python: what runs under sanitizers and in
// an emulator. The arguments, where there are any, are the sets that the machine must be found to have, best first; in
// an emulator of processors `emulated` comes before them.
#include <cstdio>
#include <stdexcept>

#include "../platform.h"
#include "../probe.h"
#include "../threads.h"
#include "kernel_tests.h"

namespace ossature::test {
namespace {

std::string joined(const std::vector<std::string>& names) {
    std::string all;
    for (const std::string& name : names) all += (all.empty() ? "" : " ") + name;
    return all;
}

bool refused(const std::string& name) {
    try {
        kernels(name);
    } catch (const std::invalid_argument&) {
        return true;
    }
    return false;
}

// What was built but cannot run here is refused, and what cannot be timed here is not offered.
void the_processor_is_known(Report& report) {
    const Set here{"", nullptr};
    const std::vector<std::string> runs = usable();
    for (const std::string& name : built()) {
        bool found = false;
        for (const std::string& one : runs) found |= one == name;
        if (!found) report.claim("refused here: " + name, here, "kernels() gave it", refused(name));
    }
    for (const std::string& name : dot_products()) {
        now_running("dot product " + name, here, "");
        report.claim("can be timed: " + name, here, "", dot_rate(name, 1, 1e-4) > 0);
    }
    const Memory bytes(1 << 16);
    now_running("reading", here, "");
    report.claim("can be timed: reading", here, "", read_seconds(bytes.data(), 1 << 16, 1) >= 0);
}

int main(int count, char** arguments) {
    name_what_crashed();
    const bool emulated = count > 1 && std::string(arguments[1]) == "emulated";
    const std::vector<std::string> expected(arguments + 1 + emulated, arguments + count);
    std::printf("usable: %s\n", joined(usable()).c_str());
    if (!expected.empty() && expected != usable()) {
        std::printf("expected: %s\n", joined(expected).c_str());
        return 1;
    }
    Sets sets;
    for (const std::string& name : usable()) sets.push_back({name, &kernels(name)});
    set_threads(2);
    Report report;
    the_processor_is_known(report);
    rows_are_exact(report, sets);
    linear_is_exact(report, sets);
    experts_are_exact(report, sets);
    attention_is_exact(report, sets);
    // qemu 7.2 ends with a failed assertion when a forked child starts a thread, whatever the program.
    bits_are_the_same(report, sets, emulated ? 1 : 2);
    return report.print() ? 0 : 1;
}

} // namespace
} // namespace ossature::test

int main(int count, char** arguments) { return ossature::test::main(count, arguments); }
