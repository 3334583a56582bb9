// Gives the extension module the functions of probe.h.
#pragma once

#include <nanobind/nanobind.h>

namespace ossature {

void bind_probe(nanobind::module_& module);

} // namespace ossature
