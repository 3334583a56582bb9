#include "probe_bind.h"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include "probe.h"

namespace ossature {

namespace nb = nanobind;
using namespace nb::literals;

void bind_probe(nb::module_& module) {
    module.def(
        "read_seconds",
        [](std::uintptr_t data, std::int64_t bytes, int threads) {
            nb::gil_scoped_release release;
            return read_seconds(reinterpret_cast<const void*>(data), bytes, threads);
        },
        "data"_a, "bytes"_a, "threads"_a, "Seconds in which the threads read the bytes once.");
    module.def("dot_products", &dot_products, "The dot products that this machine can run, fastest first.");
    module.def("dot_rate", &dot_rate, "name"_a, "threads"_a, "seconds"_a, nb::call_guard<nb::gil_scoped_release>(),
               "Operations a second that the threads reach in one dot product.");
}

} // namespace ossature
