//! Seeded random weights and inputs for whole networks.

use undiffuse::Result;
use undiffuse::tensor::Dims;

/// Uniform values in `-scale .. scale`, of a stream.
pub fn fill(stream: u32, out: &mut [f32], scale: f32) {
    let mut s = stream.wrapping_mul(2_654_435_761).wrapping_add(1);
    for v in out {
        s = s.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        *v = ((s >> 8) as f32 / (1 << 23) as f32 - 1.0) * scale;
    }
}

/// Values of variance 1 stay so through matrices; vectors are small numbers around 0.
pub fn weights(name: &str, dims: &Dims, out: &mut [f32]) -> Result<()> {
    let fan_in = if dims.rank() > 1 { dims.positions() } else { 25 };
    let stream = name.bytes().fold(0u32, |h, b| h.wrapping_mul(31).wrapping_add(u32::from(b)));
    fill(stream, out, (3.0 / fan_in as f32).sqrt());
    Ok(())
}
