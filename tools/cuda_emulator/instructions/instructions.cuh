// Stands in for the header of the same name in native/, where these functions are inline PTX. Written from the manual of
// PTX, not from the kernels that call them.

// cvt.f32.f16: sign, 5 bits of exponent, 10 of mantissa.
inline float from_float16(unsigned short bits) {
    const int exponent = bits >> 10 & 31, mantissa = bits & 1023;
    const float size = exponent == 31  ? (mantissa ? NAN : INFINITY)
                       : exponent == 0 ? ldexpf(mantissa, -24)
                                       : ldexpf(1024 + mantissa, exponent - 25);
    return bits >> 15 ? -size : size;
}
