// The tables of the MXFP4 format. Source: OCP Microscaling Formats (MX) Specification v1.0, sections 5.2 and 5.4.1.
#include <cmath>
#include <cstring>
#include <limits>

#include "ops.h"

namespace ossature {
namespace {

Mxfp4Tables make() {
    const float magnitudes[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    Mxfp4Tables tables;
    for (int scale = 0; scale < 256; ++scale) {
        for (int code = 0; code < 16; ++code) {
            const float magnitude = code < 8 ? magnitudes[code] : -magnitudes[code - 8];
            const float value = scale == 255 ? std::numeric_limits<float>::quiet_NaN() : std::ldexp(magnitude, scale - 127);
            tables.floats[scale][code] = value;
            std::uint32_t bits;
            std::memcpy(&bits, &value, sizeof bits);
            // Exact: an E2M1 value has one bit behind its leading one.
            tables.halves[scale][code].bits = tables.halves[scale][code + 16].bits = static_cast<std::uint16_t>(bits >> 16);
        }
    }
    return tables;
}

} // namespace

const Mxfp4Tables mxfp4_tables = make();

} // namespace ossature
